import torch
from diversification import choose, divdis_loss

x, y, unlabelled = torch.randn(64, 20), torch.randint(3, (64,)), torch.randn(256, 20)
heads = torch.nn.Linear(20, 2 * 3)  # two heads, three classes
labelled, other = (heads(z).unflatten(1, (2, 3)).transpose(0, 1) for z in (x, unlabelled))

loss = divdis_loss(labelled, y, other, lam1=1.0, lam2=1.0)
best, asked = choose(labelled.softmax(2), y, m=8)
print(f"loss {loss:.2f}; labels of images {asked.tolist()} choose head {best}")
