"""Pools of pictures with right and wrong captions, and a CLIP that trains in seconds.

`evaluation.predict` gives unit features: of images by `model.encode_image`, of tokens by
`model.encode_text`.
"""

import functools
import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labutils import checks, models
from labutils.augment import weak
from labutils.data import emoji
from labutils.training import cosine_schedule, train

RIGHT, WRONG, WORTHLESS = range(3)  # kinds of captions
STAMPS = ("img", "click here", "photo", "page", "untitled", "download", "screenshot", "item")
NUMBERS = 300  # a worthless caption is a stamp and a number below this one
WORDS = re.compile(r"\w+")


@functools.cache
def pictures() -> tuple[emoji.EmojiSet, Tensor]:
    """The core styles, and their pictures as ink: uint8 (N, 3, 32, 32), white paper is 0."""
    data = emoji.load(emoji.CORE)
    return data, 255 - emoji.on_background(data.rgba, (255, 255, 255))


class Pairs(NamedTuple):
    """int64 (N,): picture (in `pictures`), its concept, kind of caption; texts; tokens (N, 12)."""

    picture: Tensor
    concept: Tensor
    kind: Tensor
    caption: tuple[str, ...]
    tokens: Tensor


def noisy_pool(seed: int, picture: Tensor, size: int, right=1.0, worthless=0.0, tail=None) -> Pairs:
    """`size` pairs of the pictures (M,), int64 into `pictures`; what kind a caption is, is drawn.

    All pictures come equally often (but for one). With `tail`, concept r = 0, 1, ... of a random
    order has the weight 1 / (r + tail). A right caption is the concept's name or, half of the time,
    one or two keywords; a wrong one is the right one of a pair of another family. right, worthless:
    probabilities, the rest is wrong; they change neither pictures nor right captions, and a greater
    `right` spoils fewer of the same. ValueError for other shares, or pairs of one family alone.
    """
    checks.fit("seed >= 0, picture int (M,), size >= 1", seed, picture, size)
    data, _ = pictures()
    rng = np.random.default_rng(seed)
    shown = rng.permutation(picture.numpy())
    chosen = torch.from_numpy(np.resize(shown, size))
    if tail is not None:
        _, place, count = np.unique(data.concept[shown], return_inverse=True, return_counts=True)
        weight = rng.permutation(1 / (np.arange(len(count)) + tail))[place] / count[place]
        chosen = torch.from_numpy(rng.choice(shown, size, p=weight / weight.sum()))
    concepts = [data.concepts[c] for c in data.concept[chosen].tolist()]
    family, other = np.array([c.family for c in concepts]), rng.integers(size, size=size)
    if min(right, worthless, 1 - right - worthless) < -1e-9 or len({*family.tolist()}) < 2:
        shares = f"shares in 0..1 that sum to at most 1, got {right} and {worthless}"
        raise ValueError(f"noisy_pool expects pairs of two families or more, and {shares}")
    while len(same := np.flatnonzero(family[other] == family)):
        other[same] = rng.integers(size, size=len(same))
    own = [_right_caption(*row) for row in zip(concepts, rng.random((size, 4)), strict=True)]
    stamped = [f"{STAMPS[k % 8]} {k // 8}" for k in rng.integers(8 * NUMBERS, size=size)]
    luck = torch.from_numpy(rng.random(size))
    kind = (luck >= right).long() + (luck >= 1 - worthless) * (luck >= right)
    texts = np.array([own, [own[k] for k in other], stamped])[kind, np.arange(size)].tolist()
    return Pairs(chosen, data.concept[chosen], kind, tuple(texts), tokenise(texts))


def _right_caption(concept: emoji.Concept, luck: np.ndarray) -> str:
    words = concept.keywords
    some = [words[int(u * len(words))] for u in luck[2 : 3 + (luck[1] < 0.5)]]
    return concept.name if luck[0] < 0.5 else ", ".join(dict.fromkeys(some))


@functools.cache
def vocabulary() -> dict[str, int]:
    """Number, from 1, of each lower-case word of names, keywords and worthless captions."""
    texts = [text for c in emoji.concepts_and_styles()[0] for text in (c.name, *c.keywords)]
    texts += [*STAMPS, *map(str, range(NUMBERS))]
    found = dict.fromkeys(word for text in texts for word in WORDS.findall(text.lower()))
    return {word: k for k, word in enumerate(found, 1)}


def tokenise(texts: Sequence[str]) -> Tensor:
    """Numbers of the first 12 known words of each text, int64 (N, 12), filled up with 0."""
    checks.fit("texts", texts)
    known, rows = vocabulary(), np.zeros((len(texts), 12), np.int64)
    for row, text in zip(rows, texts, strict=True):
        found = [known[word] for word in WORDS.findall(text.lower()) if word in known][:12]
        row[: len(found)] = found
    return torch.from_numpy(rows)


class SmallClip(nn.Module):
    """Two convolutions of patches; the mean of word vectors."""

    def __init__(self, generator: torch.Generator):
        super().__init__()
        with torch.random.fork_rng(devices=[]):  # layers draw from the global generator when made
            self.image = nn.Sequential(
                nn.Conv2d(3, 32, 4, stride=4, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
                nn.Conv2d(32, 64, 2, stride=2, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
                nn.Flatten(), nn.Linear(64 * 4 * 4, 64, bias=False),
            )  # fmt: skip
            self.word, self.text = nn.Embedding(len(vocabulary()) + 1, 64), nn.Linear(64, 64)
        models.initialise(self, generator)
        nn.init.normal_(self.word.weight, std=0.1, generator=generator)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def encode_image(self, images: Tensor) -> Tensor:
        """Unit rows (N, 64) of images (N, 3, 32, 32) in 0..255."""
        return F.normalize(self.image(images.float() / 255), dim=1)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Unit rows (N, 64) of tokens (N, L); 0 fills up."""
        inside = (tokens > 0).unsqueeze(2)
        mean = (self.word(tokens) * inside).sum(1) / inside.sum(1).clamp(min=1)
        return F.normalize(self.text(mean), dim=1)


def clip_loss(u: Tensor, v: Tensor, scale: Tensor | float) -> Tensor:
    """Mean cross-entropy of the rows and columns of s u v^T; row k of u, v (N, d) is a pair."""
    checks.fit("u float (N, d), v float (N, d)", u, v)
    logits, target = scale * u @ v.T, torch.arange(len(u), device=u.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def train_small_clip(images, tokens, steps, seed, rate=3e-3, batch=128, rows=None) -> SmallClip:
    """Towers from scratch, trained on pairs of images (N, 3, 32, 32) and tokens (N, L).

    rows: which pairs each step takes, int64 (steps, batch); left out, random ones, and all where
    there are fewer than `batch`. AdamW, the rate falls along half a cosine; images are shifted by
    up to 2 pixels, their channels scaled by 0.8 to 1.2. Returns them in evaluation mode.
    """
    draw, device = torch.Generator().manual_seed(seed), images.device
    augmentation = torch.Generator(device).manual_seed(seed)
    model = SmallClip(draw).to(device)
    if rows is None:
        drawn = [torch.randperm(len(images), generator=draw)[:batch] for _ in range(steps)]
        rows = torch.stack(drawn)

    def step_loss(chosen):
        shifted = weak.pad_crop_flip(images[chosen], 2, augmentation, flip=False)
        gain = 0.8 + 0.4 * weak.uniform(augmentation, len(chosen), 3, 1, 1)
        u, v = model.encode_image(shifted * gain), model.encode_text(tokens[chosen])
        return clip_loss(u, v, model.log_scale.clamp(max=math.log(100)).exp())

    optimizer = torch.optim.AdamW(model.parameters(), rate, fused=True)
    inputs, schedule = [rows.to(device)], cosine_schedule(rate, steps)
    train(model, step_loss, steps, optimizer, schedule, inputs=inputs, generators=[augmentation])
    return model.eval()


def recall_at_k(scores: Tensor, target: Tensor, k: int) -> float:
    """Percent of rows of scores (N, M) whose target (N,) is among the best k; a tie is a miss."""
    checks.fit("scores (N, M), target int (N,), k >= 1", scores, target, k)
    ahead = (scores >= scores.gather(1, target[:, None])).sum(1)  # and itself
    return 100 * (ahead <= k).double().mean().item()
