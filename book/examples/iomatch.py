import torch
from iomatch import OpenSetNetwork, iomatch_terms

encoder = torch.nn.Module()  # any network with `features` and a last layer `classifier`
encoder.features, encoder.classifier = torch.nn.Linear(20, 32), torch.nn.Linear(32, 6)
x, y, weak, strong = torch.randn(12, 20), torch.randint(6, (12,)), *torch.randn(2, 84, 20)

network = OpenSetNetwork(encoder)
outputs = network(torch.cat([x, weak, strong]))
labelled, detectors, inliers, open_set, _, _ = iomatch_terms(outputs, y, tau_p=0.95, tau_q=0.5)
print(f"{labelled + detectors + inliers.mean() + open_set.mean():.2f}")
