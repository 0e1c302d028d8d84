"""One meaning, many art styles: small pictures of emoji by several artists, and words for them.

:func:`load` reads the pictures that are shipped with the package; :func:`splits` holds out art
styles, concepts and combinations of both; :func:`on_background` composites pictures on colours.
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
    them with the very same picture; :func:`splits` never separates them.
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


def load(styles: Sequence[str] | None = None) -> EmojiSet:
    """Read the pictures of ``styles``, in that order; without it, of :data:`CORE`.

    ``styles`` are names of :data:`STYLES`. The core styles are permissively licensed and in colour.
    :data:`MONOCHROME` and :data:`SHARE_ALIKE` styles come only when they are named; pictures made
    from the latter must be shared under their licence. Raises ``ValueError`` for unknown, repeated
    or no names and :class:`labutils.data.DataError` when a file of the package is damaged.
    """
    styles = CORE if styles is None else _names(styles, STYLES)
    if not styles:
        raise ValueError(f"load expects at least one style of: {', '.join(STYLES)}")
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
    """Composite pictures on one colour, or each on its own colour: ``rgb a + colour (1 - a)``.

    ``rgba`` is uint8 ``(N, 4, H, W)``; ``colour`` is ``(3,)`` or ``(N, 3)``, integers 0..255 (a
    random colour for each picture is an augmentation). Returns uint8 RGB ``(N, 3, H, W)``, rounded
    to nearest. Raises ``TypeError`` and ``ValueError`` for other types, shapes and values.
    """
    colour = torch.as_tensor(colour, device=rgba.device)
    if rgba.dtype != torch.uint8 or colour.is_floating_point() or colour.dtype == torch.bool:
        raise TypeError(
            f"on_background expects uint8 pictures and integer colours, got {rgba.dtype} and "
            f"{colour.dtype}"
        )
    shapes = tuple(rgba.shape), tuple(colour.shape)
    if rgba.ndim != 4 or rgba.shape[1] != 4 or shapes[1] not in ((3,), (len(rgba), 3)):
        raise ValueError(
            "on_background expects pictures (N, 4, H, W) and a colour (3,) or (N, 3), got "
            f"{shapes[0]} and {shapes[1]}"
        )
    if ((colour < 0) | (colour > 255)).any():
        raise ValueError(f"on_background expects colours 0..255, got {colour.tolist()}")
    rgb, alpha = rgba[:, :3].int(), rgba[:, 3:].int()
    background = colour.int().expand(len(rgba), 3)[:, :, None, None]
    # Adding half the divisor before the integer division rounds to nearest; 255 is odd: no ties.
    return ((rgb * alpha + background * (255 - alpha) + 127) // 255).to(torch.uint8)


@dataclass(frozen=True)
class Splits:
    """Indices (int64, sorted) into an :class:`EmojiSet`; disjoint. What each tests:

    - ``train``: pictures in the training styles, without those of the next fields.
    - ``validation_style``: seen concepts in styles kept for choosing settings. A concept is *seen*
      when ``train`` holds at least one picture of it.
    - ``held_out_style``: seen concepts in styles that nothing was trained or chosen on: a shift in
      style with known meanings.
    - ``held_out_concepts``: training styles, concepts of which ``train`` holds no picture in any
      style: new meanings in known styles. Whole families are held out, so that no picture of the
      same person as the other gender is left in ``train``.
    - ``held_out_combinations``: a seen concept in a training style, which ``train`` holds only in
      other training styles: can the two be recombined? Whole families of one style are held out.
    - ``held_out_both``: concepts without a picture in ``train``, in the held-out styles: meaning
      and style are both new. Among them are concepts that no training style draws.

    Pictures of unseen concepts in the validation styles are in no field.
    """

    train: Tensor
    validation_style: Tensor
    held_out_style: Tensor
    held_out_concepts: Tensor
    held_out_combinations: Tensor
    held_out_both: Tensor


def splits(
    dataset: EmojiSet,
    held_out_styles: Sequence[str] = ("twemoji",),
    concept_share: float = 0.04,
    combination_share: float = 0.04,
    *,
    generator: torch.Generator,
    validation_styles: Sequence[str] = ("emojione",),
) -> Splits:
    """Split ``dataset`` by style, by concept, and by combinations of both; see :class:`Splits`.

    About ``concept_share`` of all concepts, and about ``combination_share`` of the pictures of seen
    concepts in the training styles, are held out, drawn with ``generator`` (on the CPU). Which
    concepts are drawn does not depend on the styles: with ``validation_styles=()`` the validation
    styles join the training styles, and the same concepts stay held out. Raises ``ValueError`` for
    styles that the set does not have or that are in both lists, no training style, or bad shares.
    """
    held_out_styles = _names(held_out_styles, dataset.style_names)
    validation_styles = _names(validation_styles, dataset.style_names)
    kept = _names((*held_out_styles, *validation_styles), dataset.style_names)  # none named twice
    if len(kept) == len(dataset.style_names):
        raise ValueError("splits expects at least one style that is not held out, to train on")
    if not (0 <= concept_share < 1 and 0 <= combination_share < 1):
        raise ValueError(
            "splits expects concept_share and combination_share in [0, 1), got "
            f"{concept_share} and {combination_share}"
        )
    concept, style = dataset.concept.cpu(), dataset.style.cpu()
    family_of_concept = torch.tensor([c.family for c in dataset.concepts])
    family = family_of_concept[concept]
    sizes = family_of_concept.bincount()  # concepts of each family

    # One random order of the families, and one of all cells style x family. Both are drawn whole,
    # whatever the styles and shares, so that one choice does not change the other's draw.
    family_order = torch.randperm(len(sizes), generator=generator)
    cell_order = torch.randperm(len(sizes) * len(STYLES), generator=generator)

    unseen_family = _draw_families(sizes, family_order, concept_share)
    held_out, validation = (
        torch.tensor([name in names for name in dataset.style_names])[style]
        for names in (held_out_styles, validation_styles)
    )
    known_style = ~held_out & ~validation
    candidates = known_style & ~unseen_family[family]
    number = torch.tensor([STYLES.index(name) for name in dataset.style_names])
    cell = family * len(STYLES) + number[style]
    combination = _draw_combinations(candidates, concept, cell, cell_order, combination_share)
    train = candidates & ~combination
    seen = torch.isin(concept, concept[train])

    masks = {
        "train": train,
        "validation_style": validation & seen,
        "held_out_style": held_out & seen,
        "held_out_concepts": known_style & ~seen,
        "held_out_combinations": combination,
        "held_out_both": held_out & ~seen,
    }
    device = dataset.concept.device
    return Splits(**{name: mask.nonzero()[:, 0].to(device) for name, mask in masks.items()})


def _draw_families(sizes: Tensor, order: Tensor, share: float) -> Tensor:
    """Mask of families, taken in ``order`` until they hold about ``share`` of all concepts."""
    drawn = torch.zeros(len(sizes), dtype=torch.bool)
    before = sizes[order].cumsum(0) - sizes[order]
    drawn[order[before < share * sizes.sum() - 0.5]] = True
    return drawn


def _draw_combinations(
    candidates: Tensor, concept: Tensor, cell: Tensor, cell_order: Tensor, share: float
) -> Tensor:
    """Mask of pictures in cells taken in ``cell_order`` while every concept keeps a picture."""
    rank = cell_order.argsort().tolist()
    left = concept[candidates].bincount(minlength=int(concept.max()) + 1).tolist()
    members: dict[int, list[int]] = {}
    for index in candidates.nonzero()[:, 0].tolist():
        members.setdefault(int(cell[index]), []).append(index)
    wanted = round(share * int(candidates.sum()))
    chosen = torch.zeros_like(candidates)
    for key in sorted(members, key=rank.__getitem__):
        if wanted <= 0:
            break
        concepts = concept[members[key]].tolist()
        if all(left[c] > 1 for c in concepts):
            chosen[members[key]] = True
            wanted -= len(concepts)
            for c in concepts:
                left[c] -= 1
    return chosen


def _names(names: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """`names`, or one name, as a tuple; ValueError unless they are distinct names of `known`."""
    names = (names,) if isinstance(names, str) else tuple(names)
    for name in names:
        if name not in known:
            raise ValueError(f"unknown style {name!r}; expected some of: {', '.join(known)}")
    if len(set(names)) < len(names):
        raise ValueError(f"styles are named twice: {', '.join(names)}")
    return names


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
