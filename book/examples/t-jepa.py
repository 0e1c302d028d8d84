import copy

import torch
from t_jepa import Encoder, Predictor, beside_token, draw_masks, follow, jepa_loss

encoder, rows = Encoder(8, d=16, heads=2, depth=1, token=True), torch.randn(64, 8)
slow, predictor = copy.deepcopy(encoder), Predictor(9, 16, 16, heads=2, depth=1, out=16)

masks = draw_masks(len(rows), 8, 3, num_targets=2, size=2, generator=torch.Generator())
loss = jepa_loss(encoder, slow, predictor, rows, *beside_token(*masks))
follow(slow, encoder, momentum=0.99)  # after each step
print(f"{loss:.2f}")
