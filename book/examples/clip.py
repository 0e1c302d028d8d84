import torch
from clip import CLIP, BagOfTokens, ConvTower, Tokenizer, clip_loss, learn_merges

captions = ["a red apple", "a green pear", "a red rose", "a blue sky"]
images = torch.rand(4, 3, 32, 32)

tokenizer = Tokenizer(learn_merges(captions, num_merges=20), context_length=16)
model = CLIP(ConvTower(32, [8, 16], 64), BagOfTokens(tokenizer.vocab_size, 32, 64))
loss = clip_loss(*model(images, tokenizer(captions)))
print(f"{loss:.2f}")
