import torch
from rs2 import RS2Sampler

data = torch.utils.data.TensorDataset(torch.arange(1000))

sampler = RS2Sampler(len(data), ratio=0.1, generator=torch.Generator().manual_seed(0))
loader = torch.utils.data.DataLoader(data, batch_size=50, sampler=sampler)
for _ in range(3):  # every pass has 100 other examples, until all were seen
    print([batch[:5].tolist() for (batch,) in loader])
