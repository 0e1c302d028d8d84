"""The stamps of Tux Paint: pictures that have nothing to do with emoji, to test a shift of source.

`stamps` reads them where Debian's package is installed. Of their 804 sentences, the encoders of the
chapter on CLIP find the right one first for 2.0 +- 0.3 % of the pictures, and among the first five
for 5.4 +- 0.4 % (3 seeds; chance: 0.12 and 0.62 %).
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from labutils.data import DataError
from labutils.data.emoji import SIZE

STAMPS_FOLDER = Path("/usr/share/tuxpaint/stamps")


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
