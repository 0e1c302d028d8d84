"""One meaning, many art styles: small pictures of emoji by several artists, and words for them.

:func:`load` reads the pictures that are shipped with the package; :func:`splits` holds out art
styles, concepts and combinations of both; :func:`on_background` composites pictures on colours.
:func:`stamps` reads an independent set of pictures from a system package. The page *Emoji in many
styles* is the data card.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
import io
import json
import lzma
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from labutils.data.images import DataError

# The files of the package by the licence and kind of their styles.
CORE = ("noto", "noto-v1", "fluent-emoji-flat", "emojione", "twemoji")
MONOCHROME = ("fluent-emoji-high-contrast", "emojione-monotone")
SHARE_ALIKE = ("openmoji",)
STYLES = CORE + MONOCHROME + SHARE_ALIKE
FILES = {"emoji-core": CORE, "emoji-monochrome": MONOCHROME, "emoji-share-alike": SHARE_ALIKE}

SIZE = 32
STAMPS_FOLDER = Path("/usr/share/tuxpaint/stamps")


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
class Style:
    """An art style: who drew it, under which licence, and the package that the pictures are from.

    ``licence`` is an SPDX identifier. ``pictures`` counts the pictures in this data set, and
    ``sha256`` is of their pixels and concepts.
    """

    name: str
    title: str
    author: str
    source: str
    licence: str
    licence_url: str
    package: str
    version: str
    pictures: int
    sha256: str


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

    def select(self, indices: Tensor) -> EmojiSet:
        """The pictures at ``indices`` (int64 ``(M,)``, or bool ``(N,)`` for a mask), in order."""
        indices = torch.as_tensor(indices, device=self.concept.device)
        if indices.numel() == 0:
            indices = indices.long()
        if indices.is_floating_point():
            raise TypeError(f"select expects integer indices or a mask, got {indices.dtype}")
        return dataclasses.replace(
            self, rgba=self.rgba[indices], concept=self.concept[indices], style=self.style[indices]
        )

    def to(self, device: torch.device | str) -> EmojiSet:
        """The same on ``device``."""
        return dataclasses.replace(
            self,
            rgba=self.rgba.to(device),
            concept=self.concept.to(device),
            style=self.style.to(device),
        )


def load(styles: Sequence[str] | None = None) -> EmojiSet:
    """Read the pictures of ``styles``, in that order; without it, of :data:`CORE`.

    ``styles`` are names of :data:`STYLES`. The core styles are permissively licensed and in colour.
    :data:`MONOCHROME` and :data:`SHARE_ALIKE` styles come only when they are named; pictures made
    from the latter must be shared under their licence. Raises ``ValueError`` for unknown, repeated
    or no names and :class:`labutils.data.DataError` when a file of the package is damaged.
    """
    if isinstance(styles, str):
        styles = (styles,)
    styles = CORE if styles is None else tuple(styles)
    _check_styles(styles, STYLES)
    if not styles:
        raise ValueError(f"load expects at least one style of: {', '.join(STYLES)}")
    parts = {}
    for file, members in FILES.items():
        if set(members) & set(styles):
            rgba, concept, style, names = _read(file)
            parts |= {name: (rgba, concept, style == names.index(name)) for name in members}
    rgba, concept, style = [], [], []
    for number, name in enumerate(styles):
        pixels, concepts, mask = parts[name]
        rgba.append(pixels[mask])
        concept.append(concepts[mask])
        style.append(np.full(int(mask.sum()), number))
    return EmojiSet(
        rgba=torch.from_numpy(np.concatenate(rgba)).permute(0, 3, 1, 2).contiguous(),
        concept=torch.from_numpy(np.concatenate(concept).astype(np.int64)),
        style=torch.from_numpy(np.concatenate(style).astype(np.int64)),
        style_names=styles,
        concepts=concepts_and_styles()[0],
    )


@functools.cache
def concepts_and_styles() -> tuple[tuple[Concept, ...], tuple[Style, ...]]:
    """All concepts, and all styles in the order of :data:`STYLES`."""
    path = _asset("emoji.json")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        concepts = tuple(
            Concept(**row | {"keywords": tuple(row["keywords"]), "aliases": tuple(row["aliases"])})
            for row in found["concepts"]
        )
        return concepts, tuple(Style(**row) for row in found["styles"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from error


def on_background(rgba: Tensor, colour: Tensor | Sequence[int]) -> Tensor:
    """Composite pictures on one colour, or each on its own colour: ``rgb a + colour (1 - a)``.

    ``rgba`` is uint8 ``(N, 4, H, W)``; ``colour`` is ``(3,)`` or ``(N, 3)``, integers 0..255 (a
    random colour for each picture is an augmentation). Returns uint8 RGB ``(N, 3, H, W)``, rounded
    to nearest. Raises ``TypeError`` and ``ValueError`` for other types, shapes and values.
    """
    if rgba.dtype != torch.uint8:
        raise TypeError(f"on_background expects uint8 pictures, got {rgba.dtype}")
    if rgba.ndim != 4 or rgba.shape[1] != 4:
        raise ValueError(f"on_background expects pictures (N, 4, H, W), got {tuple(rgba.shape)}")
    colour = torch.as_tensor(colour, device=rgba.device)
    if colour.is_floating_point() or colour.dtype == torch.bool:
        raise TypeError(f"on_background expects integer colours 0..255, got {colour.dtype}")
    if tuple(colour.shape) not in ((3,), (len(rgba), 3)):
        raise ValueError(
            f"on_background expects a colour (3,) or ({len(rgba)}, 3) for {len(rgba)} pictures, "
            f"got {tuple(colour.shape)}"
        )
    if colour.numel() and (colour.min() < 0 or colour.max() > 255):
        raise ValueError(
            f"on_background expects colours 0..255, got {int(colour.min())}..{int(colour.max())}"
        )
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
    generator: torch.Generator | None = None,
    *,
    validation_styles: Sequence[str] = ("emojione",),
) -> Splits:
    """Split ``dataset`` by style, by concept, and by combinations of both; see :class:`Splits`.

    About ``concept_share`` of all concepts, and about ``combination_share`` of the pictures of seen
    concepts in the training styles, are held out, drawn with ``generator`` (required; on the CPU).
    Which concepts are drawn depends on the generator and the concepts only, not on the styles: with
    ``validation_styles=()`` the validation styles join the training styles, and the same concepts
    stay held out. Raises ``ValueError`` for styles that the set does not have or that stand in both
    lists, for no training style left, and for impossible shares.
    """
    held_out_styles = _names(held_out_styles)
    validation_styles = _names(validation_styles)
    _check_styles(held_out_styles + validation_styles, dataset.style_names)
    if not set(dataset.style_names) - set(held_out_styles + validation_styles):
        raise ValueError("splits expects at least one style that is not held out, to train on")
    for name, share in (("concept_share", concept_share), ("combination_share", combination_share)):
        if not 0 <= share < 1:
            raise ValueError(f"splits expects {name} in [0, 1), got {share}")
    if generator is None:
        raise ValueError("splits expects a generator, which draws what is held out")
    concept, style = dataset.concept.cpu(), dataset.style.cpu()
    family_of_concept = torch.tensor([c.family for c in dataset.concepts])
    num_families = int(family_of_concept.max()) + 1
    sizes = family_of_concept.bincount(minlength=num_families)

    # One random order of the families, and one of all cells style x family. Both are drawn whole,
    # whatever the styles and shares, so that one choice does not change the other's draw.
    family_order = torch.randperm(num_families, generator=generator)
    cell_order = torch.randperm(num_families * len(STYLES), generator=generator)

    unseen_family = torch.zeros(num_families, dtype=torch.bool)
    before = sizes[family_order].cumsum(0) - sizes[family_order]
    unseen_family[family_order[before < concept_share * len(family_of_concept) - 0.5]] = True

    def in_styles(names):
        numbers = [dataset.style_names.index(name) for name in names]
        return torch.isin(style, torch.tensor(numbers, dtype=torch.int64))

    held_out, validation = in_styles(held_out_styles), in_styles(validation_styles)
    known_style = ~held_out & ~validation
    family = family_of_concept[concept]
    candidates = known_style & ~unseen_family[family]
    number = torch.tensor([STYLES.index(name) for name in dataset.style_names])
    cell = family * len(STYLES) + number[style]
    combination = _draw_combinations(
        candidates, concept, cell, cell_order, combination_share, len(dataset.concepts)
    )
    train = candidates & ~combination
    seen = torch.zeros(len(dataset.concepts), dtype=torch.bool)
    seen[concept[train]] = True
    fields = {
        "train": train,
        "validation_style": validation & seen[concept],
        "held_out_style": held_out & seen[concept],
        "held_out_concepts": known_style & ~seen[concept],
        "held_out_combinations": combination,
        "held_out_both": held_out & ~seen[concept],
    }
    return Splits(
        **{
            name: mask.nonzero().squeeze(1).to(dataset.concept.device)
            for name, mask in fields.items()
        }
    )


def _draw_combinations(candidates, concept, cell, cell_order, share, num_concepts):
    """Mask of pictures in cells taken in ``cell_order`` while every concept keeps a picture."""
    rank = torch.empty_like(cell_order)
    rank[cell_order] = torch.arange(len(cell_order))
    left = concept[candidates].bincount(minlength=num_concepts).tolist()
    members: dict[int, list[int]] = {}
    for index in candidates.nonzero().squeeze(1).tolist():
        members.setdefault(int(cell[index]), []).append(index)
    wanted = round(share * int(candidates.sum()))
    chosen = torch.zeros_like(candidates)
    for key in sorted(members, key=lambda key: int(rank[key])):
        if wanted <= 0:
            break
        concepts = concept[members[key]].tolist()
        if all(left[c] > 1 for c in concepts):
            chosen[members[key]] = True
            wanted -= len(concepts)
            for c in concepts:
                left[c] -= 1
    return chosen


def _names(names: Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _check_styles(names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"unknown style {name!r}; expected some of: {', '.join(known)}")
    if len(set(names)) < len(names):
        raise ValueError(f"styles are named twice: {', '.join(names)}")


# An independent set


@dataclass(frozen=True)
class Stamps:
    """Pictures from another source, each with a sentence and the group of its folder.

    ``rgba`` is uint8 ``(N, 4, 32, 32)``. ``captions`` are English sentences, not all different
    (count a caption with the same words as a hit); ``groups`` are names such as "animals";
    ``names`` are the files without ending, which are unique and sorted.
    """

    rgba: Tensor
    captions: tuple[str, ...]
    groups: tuple[str, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.captions)


def stamps(folder: str | Path = STAMPS_FOLDER) -> Stamps:
    """Read the stamps of Tux Paint, a drawing program for children: a set for testing shift only.

    They come with Debian's package ``tuxpaint-stamps-default`` (GPL 2, 160 MB) and are no part of
    this one. A stamp is ``GROUP/**/NAME.png`` or ``.svg`` (PNG is taken where there are both) with
    ``NAME.txt``, whose first line is the English sentence. Pictures are padded to squares and
    shrunk by a box filter. Raises :class:`labutils.data.DataError` when the folder has no stamps,
    a picture is damaged, or ``resvg-py`` is needed for SVG and not installed: catch it to go on
    without them.
    """
    folder = Path(folder)
    sources = {path.with_suffix(""): path for path in folder.rglob("*.svg")}
    sources |= {path.with_suffix(""): path for path in folder.rglob("*.png")}
    rgba, captions, names = [], [], []
    for stem in sorted(sources, key=lambda stem: stem.relative_to(folder).as_posix()):
        text = stem.parent / f"{stem.name}.txt"
        if not text.is_file():  # mirrored copies have none
            continue
        lines = text.read_text(encoding="utf-8", errors="replace").splitlines()
        if lines and lines[0].strip():
            rgba.append(_read_stamp(sources[stem]))
            captions.append(lines[0].strip())
            names.append(stem.relative_to(folder).as_posix())
    if not names:
        raise DataError(
            f"{folder}: no stamps of Tux Paint there. On Debian and Ubuntu install them with "
            "apt-get install tuxpaint-stamps-default; without them this part is left out."
        )
    return Stamps(
        rgba=torch.from_numpy(np.stack(rgba)).permute(0, 3, 1, 2).contiguous(),
        captions=tuple(captions),
        groups=tuple(name.partition("/")[0] for name in names),
        names=tuple(names),
    )


def _read_stamp(path: Path) -> np.ndarray:
    from PIL import Image, ImageOps

    try:
        content = path.read_bytes()
        if path.suffix == ".svg":
            content = _render_svg(path)
        picture = Image.open(io.BytesIO(content)).convert("RGBA")
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}). Install the package tuxpaint-stamps-default again."
        ) from error
    square = ImageOps.pad(
        picture, (max(picture.size),) * 2, Image.Resampling.NEAREST, color=(0, 0, 0, 0)
    )
    return np.asarray(square.resize((SIZE, SIZE), Image.Resampling.BOX))


def _render_svg(path: Path) -> bytes:
    """An SVG file as PNG, 128 pixels wide."""
    try:
        import resvg_py
    except ModuleNotFoundError as error:
        raise DataError(
            f"{path}: drawings in SVG need the package resvg-py; install it (pip install resvg-py)"
        ) from error
    # Without dots per inch, drawings measured in millimetres have no size.
    return bytes(resvg_py.svg_to_bytes(svg_path=str(path), width=4 * SIZE, dpi=96.0))


# Files of the package


def _asset(name: str) -> Path:
    return Path(str(importlib.resources.files("labutils") / "assets")) / name


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path}: part of the package, but cannot be read ({error}). Install labutils again."
    )


@functools.cache
def _read(file: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[str, ...]]:
    """Arrays of one file: rgba ``(N, 32, 32, 4)``, concept, style ``(N,)``, names of its styles.

    The file is an uncompressed ``.npz`` within ``.xz``, whose checksum finds any damage.
    """
    path = _asset(f"{file}.npz.xz")
    try:
        with np.load(io.BytesIO(lzma.decompress(path.read_bytes())), allow_pickle=False) as arrays:
            names = tuple(str(name) for name in arrays["style_names"])
            return arrays["rgba"], arrays["concept"], arrays["style"], names
    except (OSError, ValueError, KeyError, lzma.LZMAError, zipfile.BadZipFile) as error:
        raise _damaged(path, error) from error
