"""One meaning, many art styles: small pictures of emoji by several artists, and words for them.

The page *Emoji in many styles* is the data card.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import lzma
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from labutils.data.download import ASSETS, reading

# The files of the package by the licence and kind of their styles.
CORE = ("noto", "noto-v1", "fluent-emoji-flat", "emojione", "twemoji")
MONOCHROME = ("fluent-emoji-high-contrast", "emojione-monotone")
SHARE_ALIKE = ("openmoji",)
STYLES = CORE + MONOCHROME + SHARE_ALIKE
FILES = {"emoji-core": CORE, "emoji-monochrome": MONOCHROME, "emoji-share-alike": SHARE_ALIKE}

SIZE = 32


@dataclass(frozen=True)
class Concept:
    """What a picture shows, in words of people (Unicode CLDR).

    ``name`` is unique. ``keywords`` and ``aliases`` (other names, shortcodes) are sorted and may be
    empty. Every concept belongs to one of 9 groups and, within it, to a subgroup. ``gender`` is
    "woman", "man" or None where the name says none. ``code_points`` is the emoji in hexadecimal.
    Concepts with the same number ``family`` differ in gender or direction only, or some style draws
    them with the very same picture: keep them together when you split.
    """

    name: str
    keywords: tuple[str, ...]
    aliases: tuple[str, ...]
    group: str
    subgroup: str
    gender: str | None
    code_points: str
    family: int


@dataclass(frozen=True)
class EmojiSet:
    """Pictures with what they show and who drew them.

    ``rgba`` is uint8 ``(N, 4, 32, 32)``, colours not premultiplied and zero where alpha is zero.
    ``concept`` and ``style``, int64 ``(N,)``, are indices into ``concepts`` (always all of them, so
    that indices mean the same in every set) and ``style_names``. A concept has at most one picture
    in a style. Pictures are sorted by style, then by concept.
    """

    rgba: Tensor
    concept: Tensor
    style: Tensor
    style_names: tuple[str, ...]
    concepts: tuple[Concept, ...]

    def __len__(self) -> int:
        return len(self.concept)

    def to(self, device: torch.device | str) -> EmojiSet:
        """The same on ``device``."""
        moved = {name: getattr(self, name).to(device) for name in ("rgba", "concept", "style")}
        return dataclasses.replace(self, **moved)


def load(styles: Sequence[str] = CORE) -> EmojiSet:
    """Read the pictures of ``styles``, in that order.

    ``styles`` are names of :data:`STYLES`. The core styles are permissively licensed and in colour.
    :data:`MONOCHROME` and :data:`SHARE_ALIKE` styles come only when they are named; pictures made
    from the latter must be shared under their licence. Raises ``ValueError`` for unknown, repeated
    or no names and :class:`labutils.data.DataError` when a file of the package is damaged.
    """
    styles = tuple(styles)
    if not styles or not set(styles) <= set(STYLES) or len(set(styles)) < len(styles):
        raise ValueError(f"load expects distinct styles of {', '.join(STYLES)}; got {styles}")
    rgba, concept, style = [], [], []
    for number, name in enumerate(styles):
        file = next(file for file, members in FILES.items() if name in members)
        pixels, concepts, numbers, names = _read(file)
        mine = numbers == names.index(name)
        rgba.append(pixels[mine])
        concept.append(concepts[mine].astype(np.int64))
        style.append(np.full(int(mine.sum()), number))
    return EmojiSet(
        rgba=torch.from_numpy(np.concatenate(rgba)).permute(0, 3, 1, 2).contiguous(),
        concept=torch.from_numpy(np.concatenate(concept)),
        style=torch.from_numpy(np.concatenate(style)),
        style_names=styles,
        concepts=concepts_and_styles()[0],
    )


@functools.cache
def concepts_and_styles() -> tuple[tuple[Concept, ...], tuple[SimpleNamespace, ...]]:
    """All concepts, and all styles in the order of :data:`STYLES`.

    A style has name, title, author, source, licence (an SPDX identifier), licence_url, the package
    and version that its pictures are from, their number `pictures`, and sha256 of their content.
    """
    path = ASSETS / "emoji.json"
    with reading(path):
        found = json.loads(path.read_text(encoding="utf-8"))
        concepts = tuple(
            Concept(**row | {"keywords": tuple(row["keywords"]), "aliases": tuple(row["aliases"])})
            for row in found["concepts"]
        )
        return concepts, tuple(SimpleNamespace(**row) for row in found["styles"])


def on_background(rgba: Tensor, colour: Tensor | Sequence[int]) -> Tensor:
    """Composite pictures on one colour: ``rgb a + colour (1 - a)``, rounded to nearest.

    ``rgba`` is uint8 ``(N, 4, H, W)``; ``colour`` is ``(3,)``, whole numbers 0..255. Returns uint8
    RGB ``(N, 3, H, W)``. Raises ``ValueError`` for other pictures and colours.
    """
    colour = torch.as_tensor(colour, device=rgba.device)
    if rgba.dtype != torch.uint8 or rgba.ndim != 4 or rgba.shape[1] != 4:
        raise ValueError(f"on_background expects uint8 (N, 4, H, W), got {rgba.dtype} {rgba.shape}")
    if colour.shape != (3,) or ((colour < 0) | (colour > 255) | (colour % 1 != 0)).any():
        raise ValueError(f"on_background expects a colour (3,) in 0..255, got {colour.tolist()}")
    rgb, alpha = rgba[:, :3].int(), rgba[:, 3:].int()
    background = colour.int().view(3, 1, 1)
    # Adding half the divisor before the integer division rounds to nearest; 255 is odd: no ties.
    return ((rgb * alpha + background * (255 - alpha) + 127) // 255).to(torch.uint8)


@functools.cache
def _read(file: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[str, ...]]:
    """Arrays of one file: rgba ``(N, 32, 32, 4)``, concept, style ``(N,)``, names of its styles.

    The file is an uncompressed ``.npz`` within ``.xz``, whose checksum finds any damage.
    """
    path = ASSETS / f"{file}.npz.xz"
    with reading(path):
        arrays = np.load(io.BytesIO(lzma.decompress(path.read_bytes())), allow_pickle=False)
        names = tuple(str(name) for name in arrays["style_names"])
        return arrays["rgba"], arrays["concept"], arrays["style"], names
