import torch
from laf import Autoencoder, fit_autoencoder, laf

net = torch.nn.Module()  # any network with `features`
net.features, generator = torch.nn.Linear(20, 16), torch.Generator().manual_seed(0)
kept, forgotten, rows = torch.randn(400, 20), torch.randn(100, 20) + 1, torch.arange(100)
features = [net.features(x).detach() for x in (kept, forgotten)]
models = [fit_autoencoder(Autoencoder(16, 4), e, rows.split(20), generator) for e in features]

pairs = [(kept[k::10], forgotten[k::10]) for k in range(10)]
laf(net, *models, pairs, rates=(1e-3, 1e-3), kappa=1.0, generator=generator)
print([f"{net.features(x).norm(dim=1).mean():.2f}" for x in (kept, forgotten)])
