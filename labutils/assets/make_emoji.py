"""Rebuild the emoji pictures and their words from public packages of npm.

Run ``python labutils/assets/make_emoji.py [FOLDER]``. It fetches the packages named below with
``npm pack`` (kept in the cache folder of the data), renders every drawing with ``resvg-py``, writes
``emoji-*.npz.xz`` and ``emoji.json`` into FOLDER (default: beside this file), and says whether the
pixels are the shipped ones. About five minutes on one core.
"""

import hashlib
import io
import json
import lzma
import re
import subprocess
import tarfile
from pathlib import Path

import numpy as np

from labutils import emoji
from labutils.data import DataError

# The pictures are those of these versions.
PACKAGES = {
    "noto": ("@iconify-json/noto", "1.2.9"),
    "noto-v1": ("@iconify-json/noto-v1", "1.2.5"),
    "fluent-emoji-flat": ("@iconify-json/fluent-emoji-flat", "1.2.6"),
    "emojione": ("@iconify-json/emojione", "1.2.3"),
    "twemoji": ("@iconify-json/twemoji", "1.2.5"),
    "fluent-emoji-high-contrast": ("@iconify-json/fluent-emoji-high-contrast", "1.2.6"),
    "emojione-monotone": ("@iconify-json/emojione-monotone", "1.2.1"),
    "openmoji": ("@iconify-json/openmoji", "1.2.29"),
}
WORDS = ("emojibase-data", "17.0.0")

RENDER_SIZE, SIZE = 128, 32
GENDERS = {0: "woman", 1: "man"}
# Code points that change the person's gender or direction, and those that say who a person is.
MODIFIERS, PERSONS = {"2640", "2642", "27A1"}, {"1F468", "1F469", "1F9D1"}
# Pixels are words of four bytes: with these settings LZMA uses that, and beats lossless WebP.
XZ = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 2, "lp": 2, "pb": 2}]


class Package:
    """JSON files of one npm package, fetched on first use."""

    def __init__(self, name: str, version: str, folder: Path):
        self.archive = folder / f"{name.lstrip('@').replace('/', '-')}-{version}.tgz"
        if not self.archive.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            command = ["npm", "pack", "--silent", f"{name}@{version}"]
            try:
                subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
            except FileNotFoundError as error:
                raise DataError("npm is not installed; it fetches the packages") from error
            except subprocess.CalledProcessError as error:
                raise DataError(f"{' '.join(command)} failed: {error.stderr.strip()}") from error

    def json(self, path: str):
        with tarfile.open(self.archive) as archive:
            return json.load(archive.extractfile(f"package/{path}"))


# Words


def read_concepts(words: Package) -> list[dict]:
    """Every emoji without skin tone, in the order of Unicode; no letters, tones, hair alone."""
    groups = words.json("meta/groups.json")
    shortcodes = [words.json(f"en/shortcodes/{name}.json") for name in ("github", "iamcal")]
    concepts = []
    for entry in sorted(words.json("en/data.json"), key=lambda entry: entry.get("order", 0)):
        group = groups["groups"].get(str(entry.get("group")))
        if group in (None, "component"):
            continue
        name, code_points = entry["label"], entry["hexcode"]
        aliases = set()
        for table in shortcodes:
            found = table.get(code_points, [])
            aliases |= {found} if isinstance(found, str) else set(found)
        aliases = {re.sub("[-_]", " ", alias) for alias in aliases} - {name.lower()}
        concepts.append(
            {
                "name": name,
                "keywords": sorted(entry.get("tags", [])),
                "aliases": sorted(aliases),
                "group": group,
                "subgroup": groups["subgroups"][str(entry["subgroup"])],
                "gender": GENDERS.get(entry.get("gender")),
                "code_points": code_points,
            }
        )
    return concepts


def find_families(concepts: list[dict], pictures: dict[str, tuple]) -> list[int]:
    """A number for each concept; equal for concepts that one picture could stand for.

    These are concepts that differ in gender or direction only, by their code points, and concepts
    for which some style of ``pictures`` (style: pixels and their concepts) has identical pixels.
    """
    parent = list(range(len(concepts)))

    def root(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    def join(keys, members):
        first: dict = {}
        for key, member in zip(keys, members, strict=True):
            parent[root(member)] = root(first.setdefault(key, member))

    join((_without_gender(c["code_points"]) for c in concepts), range(len(concepts)))
    for rgba, members in pictures.values():
        join((pixels.tobytes() for pixels in rgba), members.tolist())
    numbers: dict[int, int] = {}
    return [numbers.setdefault(root(i), len(numbers)) for i in range(len(concepts))]


def _without_gender(code_points: str) -> str:
    points = [p for p in code_points.split("-") if p not in {"FE0F", "200D"} | MODIFIERS]
    return "-".join("person" if p in PERSONS else p for p in points)


# Pictures


def find_icons(style: Package, concepts: list[dict]) -> dict[int, str]:
    """The SVG text for the index of every concept that the style draws.

    By code points without variation selectors where the package has a table of them, otherwise by
    the name of the icon, which is the emoji's name in lower case with hyphens.
    """
    icons, table = style.json("icons.json"), style.json("chars.json")
    by_points = {_plain(points): name for points, name in table.items()}
    found = {}
    for index, concept in enumerate(concepts):
        name = by_points.get(_plain(concept["code_points"])) if table else slug(concept["name"])
        svg = name and svg_text(icons, name)
        if svg:
            found[index] = svg
    return found


def _plain(code_points: str) -> str:
    return "-".join(point for point in code_points.upper().split("-") if point != "FE0F")


def slug(name: str) -> str:
    """``flag: Bosnia & Herzegovina`` as ``flag-for-bosnia-and-herzegovina`` and the like."""
    return re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")


def svg_text(icons: dict, name: str) -> str | None:
    """A whole SVG document for one icon of an Iconify set; None if the set has no such icon."""
    flip, entry = False, None
    while entry is None:
        if name in icons["icons"]:
            entry = icons["icons"][name]
        elif name in icons.get("aliases", {}):
            flip ^= icons["aliases"][name].get("hFlip", False)
            name = icons["aliases"][name]["parent"]
        else:
            return None
    box = {
        key: entry.get(key, icons.get(key, default))
        for key, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
    }
    body = entry["body"]
    if flip:
        body = (
            f'<g transform="translate({2 * box["left"] + box["width"]} 0) scale(-1 1)">{body}</g>'
        )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{box["left"]} {box["top"]} {box["width"]} {box["height"]}">{body}</svg>'
    )


def render(svg: str) -> np.ndarray:
    """One drawing as uint8 ``(32, 32, 4)``: rendered at 128 pixels, then shrunk."""
    import resvg_py
    from PIL import Image

    png = resvg_py.svg_to_bytes(svg_string=svg, width=RENDER_SIZE, height=RENDER_SIZE)
    return shrink(np.asarray(Image.open(io.BytesIO(bytes(png))).convert("RGBA")))


def shrink(rgba: np.ndarray) -> np.ndarray:
    """Mean over squares of pixels, of colours weighted by alpha: invisible colours do not count."""
    factor = len(rgba) // SIZE
    squares = rgba.reshape(SIZE, factor, SIZE, factor, 4).astype(np.float64)
    alpha = squares[..., 3:].mean((1, 3))
    colour = (squares[..., :3] * squares[..., 3:]).mean((1, 3)) / np.maximum(alpha, 1e-9)
    pixels = np.concatenate([colour, alpha], axis=-1)
    pixels = (pixels + 0.5).astype(np.uint8)
    pixels[pixels[..., 3] == 0] = 0
    return pixels


# Files


def digest(rgba: np.ndarray, concept: np.ndarray) -> str:
    """Of the pixels and concepts of one style: sha256 of their bytes, little-endian."""
    content = np.ascontiguousarray(rgba).tobytes() + concept.astype("<i2").tobytes()
    return hashlib.sha256(content).hexdigest()


def write(
    folder: Path, concepts: list[dict], pictures: dict[str, tuple], licences: dict[str, dict]
) -> None:
    """Write the files of the data set into ``folder``.

    ``pictures`` gives the pixels, uint8 ``(N, 32, 32, 4)``, and concepts ``(N,)`` of every style;
    ``licences`` the ``info.json`` of its package.
    """
    core = {name: pictures[name] for name in emoji.CORE}
    families = find_families(concepts, core)
    concepts = [c | {"family": f} for c, f in zip(concepts, families, strict=True)]
    styles = []
    for name in emoji.STYLES:
        info, (package, version) = licences[name], PACKAGES[name]
        styles.append(
            {
                "name": name,
                "title": info["name"],
                "author": info["author"]["name"],
                "source": info["author"]["url"],
                "licence": info["license"]["spdx"],
                "licence_url": info["license"]["url"],
                "package": package,
                "version": version,
                "pictures": len(pictures[name][1]),
                "sha256": digest(*pictures[name]),
            }
        )
    rows = {"styles": styles, "concepts": concepts}
    text = ",\n".join(
        f'"{key}": [\n' + ",\n".join(json.dumps(v, ensure_ascii=False) for v in values) + "\n]"
        for key, values in rows.items()
    )
    (folder / "emoji.json").write_text("{\n" + text + "\n}\n", encoding="utf-8")
    for file, members in emoji.FILES.items():
        buffer = io.BytesIO()
        np.savez(
            buffer,
            rgba=np.concatenate([pictures[name][0] for name in members]),
            concept=np.concatenate([pictures[name][1] for name in members]).astype(np.int16),
            style=np.repeat(np.arange(len(members)), [len(pictures[n][1]) for n in members]).astype(
                np.int8
            ),
            style_names=np.array(members),
        )
        content = lzma.compress(buffer.getvalue(), filters=XZ)
        (folder / f"{file}.npz.xz").write_bytes(content)
