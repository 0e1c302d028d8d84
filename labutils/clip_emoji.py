"""`clip-emoji`: a small CLIP that comes with the book, for the labs that only use one.

``python -m studies.train_clip_emoji`` made it from three styles, so that all others are new to it:
choose with emojione, test on the rest. Of 4 % of the concept families it saw no picture. Loss,
towers and tokenizer from scratch are in the chapter on CLIP, with whose code the study trained.
"""

from __future__ import annotations

import functools
import hashlib
import html
import json
import re
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labutils import checks
from labutils.data import emoji
from labutils.data.download import ASSETS, reading

NAME = "labs-clip-emoji"
STYLES = ("noto", "noto-v1", "fluent-emoji-flat")  # of training
WIDTH, OUTPUT, CONTEXT = 128, 128, 16

VISIBLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
SYMBOL = {b: k for k, b in enumerate(VISIBLE + sorted(set(range(256)) - set(VISIBLE)))}
QUOTES = str.maketrans("‘’“”", "''\"\"")
WORD = re.compile(r"'(?:s|t|re|ve|m|ll|d)|[^\W\d_]+|\d|(?:[^\w\s]|_)+")


class Tokenizer:
    """Lists of texts to token numbers (N, CONTEXT), int64: start, byte pairs, end, zeros.

    merges: pairs of symbols (M, 2) in the order of learning. The end is the largest number.
    """

    def __init__(self, merges):
        self.merges = {chr(a) + chr(b): 512 + k for k, (a, b) in enumerate(merges)}
        self.start, self.end = 512 + len(self.merges), 513 + len(self.merges)
        self.known: dict[str, list[int]] = {}

    def encode_word(self, word: str) -> list[int]:
        if word in self.known:
            return self.known[word]
        text = "".join(chr(SYMBOL[byte]) for byte in word.encode())  # a letter for each symbol
        text = text[:-1] + chr(ord(text[-1]) + 256)  # marks the end of the word
        while pairs := [p for p in map("".join, pairwise(text)) if p in self.merges]:
            first = min(pairs, key=self.merges.__getitem__)
            text = text.replace(first, chr(self.merges[first]))
        return self.known.setdefault(word, [ord(symbol) for symbol in text])

    def __call__(self, texts: list[str]) -> Tensor:
        checks.fit("texts", texts)
        rows = torch.zeros(len(texts), CONTEXT, dtype=torch.int64)
        for row, text in zip(rows, texts, strict=True):
            words = WORD.findall(html.unescape(html.unescape(text)).translate(QUOTES).lower())
            tokens = [token for word in words for token in self.encode_word(word)][: CONTEXT - 2]
            row[: len(tokens) + 2] = torch.tensor([self.start, *tokens, self.end])
        return rows


class ClipEmoji(nn.Module):
    """Three convolutions for pictures; for texts one block of attention without order or mask.

    The factor s of the cosines is ``logit_scale.exp()``. seen: bool, for each of `emoji`'s
    concepts, whether a picture of it was in training.
    """

    def __init__(self, merges, seen):
        super().__init__()
        self.tokenizer, self.seen = Tokenizer(merges), torch.as_tensor(seen)
        layers: list[nn.Module] = []
        for before, width in ((3, 32), (32, 64), (64, 128)):
            convolution = nn.Conv2d(before, width, 3, stride=2, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(width), nn.ReLU()]
        self.visual = nn.Sequential(*layers, nn.Flatten())
        self.visual_proj = nn.Linear(128 * 4 * 4, OUTPUT, bias=False)
        self.token_embedding = nn.Embedding(self.tokenizer.end + 1, WIDTH)
        self.block = nn.TransformerEncoderLayer(
            WIDTH, 4, 4 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.text_proj = nn.Linear(WIDTH, OUTPUT, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(1 / 0.07).log())

    def image_features(self, images: Tensor) -> Tensor:
        """Pictures (N, 3, 32, 32) in 0..255 to what stands before the projection, (N, 2048)."""
        pixels = images.float() / 63.75 - 2
        return self.visual(pixels.contiguous(memory_format=torch.channels_last))

    def encode_image(self, images: Tensor) -> Tensor:
        """Pictures (N, 3, 32, 32) in 0..255 to unit features (N, OUTPUT)."""
        return F.normalize(self.visual_proj(self.image_features(images)), dim=-1)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Tokens (N, L) to unit features (N, OUTPUT)."""
        place = torch.arange(tokens.shape[1], device=tokens.device)
        inside = place < tokens.argmax(1, keepdim=True)  # from the start to before the end
        x = self.block(self.token_embedding(tokens), src_key_padding_mask=~inside)
        x = x * inside.unsqueeze(2)
        return F.normalize(self.text_proj(x.sum(1) / inside.sum(1, keepdim=True)), dim=-1)


def load_clip() -> ClipEmoji:
    """The network, frozen, in evaluation mode, on the CPU; float32, stored as float16.

    Raises DataError if the file is not the one that its record describes.
    """
    path = ASSETS / f"{NAME}.npz"
    with reading(path), np.load(path) as arrays:
        described = json.loads(path.with_suffix(".json").read_text("utf-8"))
        if hashlib.sha256(path.read_bytes()).hexdigest() != described["sha256"]:
            raise ValueError(f"not the file that {NAME}.json describes")
        with torch.random.fork_rng(devices=[]):  # layers draw from the global generator when made
            model = ClipEmoji(arrays["merges"], arrays["seen"])
        weights = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        model.load_state_dict(weights, strict=False)
    return model.eval().requires_grad_(False)


@functools.cache
def features(style: str) -> SimpleNamespace:
    """Pictures of a style on white: unit features `u` (N, OUTPUT), `concept` (N,)."""
    dataset, model = emoji.load((style,)), load_clip()
    images = emoji.on_background(dataset.rgba, (255, 255, 255))
    before = torch.cat([model.image_features(part) for part in images.split(500)])
    u = F.normalize(model.visual_proj(before), dim=-1)
    return SimpleNamespace(u=u, concept=dataset.concept)
