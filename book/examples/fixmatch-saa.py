import torch
from fixmatch_saa import DistributionAlignment, fixmatch_loss

weak, strong = torch.randn(64, 10) * 3, torch.randn(64, 10, requires_grad=True)
labelled_shares = torch.full((10,), 0.1)

align = DistributionAlignment(labelled_shares)
loss, mask = fixmatch_loss(align(weak), strong, threshold=0.95)
print(f"loss {loss:.3f}, {mask.mean():.0%} of the unlabelled images pass the threshold")
