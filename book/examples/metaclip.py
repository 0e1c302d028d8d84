import numpy as np
from metaclip import balance, chances, match

captions = ["a photo of a cat"] * 900 + ["a photo of an axolotl"] * 9 + ["img 17"] * 91
entries = ["photo", "cat", "axolotl"]  # words that captions should be about

rows = match(captions, entries)
kept = balance(rows, chances(rows, t=20, num_entries=len(entries)), np.random.default_rng(0))
print(len(kept), sum("axolotl" in captions[i] for i in kept))
