import torch
from dfn import keep_share, keep_threshold

scores = torch.randn(1000)  # cosine of image and text, by a model trained on clean pairs

best = keep_share(scores, share=0.2)
print(len(best), len(keep_threshold(scores, threshold=1.0)))
