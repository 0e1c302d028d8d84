import torch
from simcore import centres_of, rounds

target = torch.randn(200, 32) + 1  # features of your few images
pool = torch.nn.functional.normalize(torch.randn(5000, 32))  # of an open pool

similarity = centres_of(target, number=20, seed=0) @ pool.T
chosen, takes = rounds(similarity, budget=100)
print(chosen[:8].tolist())
