"""Rebuild the emoji pictures and their words from public packages of npm.

Run ``python -m studies.make_emoji [FOLDER]``. It fetches the packages named below with
``npm pack`` (kept in the cache folder of the data), renders every drawing with ``resvg-py``, writes
``emoji-*.npz.xz`` and ``emoji.json`` into FOLDER (default: the package's assets), and says whether
the pixels are the shipped ones. Within five minutes on one core.
"""

import hashlib
import io
import json
import lzma
import re
import subprocess
import sys
import tarfile
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np

from labutils.data import DataError, cache_folder, emoji
from labutils.progress import progress_bar

ASSETS = Path(__file__).parent.parent / "labutils" / "assets"

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

# Names that changed since a style was drawn, where the words do not know the former name.
RENAMED = {"flag: Türkiye": {"turkey"}}

RENDER_SIZE, SIZE = 128, emoji.SIZE
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
    shortcodes = [
        words.json(f"en/shortcodes/{name}.json")
        for name in ("cldr", "github", "iamcal", "joypixels")
    ]
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
        aliases = {re.sub("[-_]", " ", alias).strip() for alias in aliases} - {name, name.lower()}
        aliases = {a for a in aliases if len(a) > 2 and not a.isdigit()}
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


def find_icons(style: Package, concepts: list[dict], names: dict[str, set]) -> dict[int, str]:
    """The SVG text for the index of every concept that the style draws.

    By code points without variation selectors where the package has a table of them. Otherwise by
    the names of the icons: first every concept takes the icon of its own name, then those left over
    look under its name, aliases and other ``names`` (by code points) among all icons and renamed
    icons. A picture serves a second concept only if the two differ in gender or direction alone.
    """
    icons, table = style.json("icons.json"), style.json("chars.json")
    found: dict[int, str] = {}
    if table:
        by_points = {_plain(points): name for points, name in table.items()}
        for index, concept in enumerate(concepts):
            if name := by_points.get(_plain(concept["code_points"])):
                found[index] = svg_text(icons, name)
        return found
    owner: dict[str, str] = {}  # of each picture: whose gender and direction may vary
    families = [_without_gender(concept["code_points"]) for concept in concepts]
    for index, concept in enumerate(concepts):
        if slug(concept["name"]) in icons["icons"]:
            found[index] = svg_text(icons, slug(concept["name"]))
            owner[found[index]] = families[index]
    for index, concept in enumerate(concepts):
        others = {slug(alias) for alias in concept["aliases"]} | RENAMED.get(concept["name"], set())
        if concept["group"] == "flags":
            others |= {f"flag-for-{name}" for name in others}
        others |= names.get(_plain(concept["code_points"]), set())
        for name in (slug(concept["name"]), *sorted(others)) if index not in found else ():
            svg = svg_text(icons, name)
            if svg and owner.setdefault(svg, families[index]) == families[index]:
                found[index] = svg
                break
    return found


def other_names(style: Package) -> dict[str, set]:
    """For code points without variation selectors: the names of its icon in this style."""
    icons, table = style.json("icons.json"), style.json("chars.json")
    names = {_plain(points): {name} for points, name in table.items()}
    by_name = {name: points for points, known in names.items() for name in known}
    for alias, target in icons["aliases"].items():
        if target["parent"] in by_name and not target.get("hFlip"):
            names[by_name[target["parent"]]].add(alias)
    return names


def _plain(code_points: str) -> str:
    return "-".join(point for point in code_points.upper().split("-") if point != "FE0F")


def slug(name: str) -> str:
    """The name of an icon: ``twelve o\u2019clock`` is ``twelve-oclock``.

    Flags are called ``flag-for-france``.
    """
    name = unicodedata.normalize("NFKD", name.lower().replace("flag: ", "flag for "))
    name = name.replace("*", "asterisk").replace("#", "pound")
    name = re.sub("[\u0300-\u036f\u2019'.]", "", name.replace("&", "and"))
    return re.sub("[^a-z0-9]+", "-", name).strip("-")


def svg_text(icons: dict, name: str) -> str | None:
    """A whole SVG document for one icon of an Iconify set; None if the set has no such icon.

    Its picture is square; a drawing that is not keeps its proportions and stands in the middle.
    """
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
        f'width="{RENDER_SIZE}" height="{RENDER_SIZE}" '
        f'viewBox="{box["left"]} {box["top"]} {box["width"]} {box["height"]}">{body}</svg>'
    )


def render(svg: str) -> np.ndarray:
    """One drawing as uint8 ``(32, 32, 4)``: rendered at 128 pixels, then shrunk by a box filter."""
    import resvg_py
    from PIL import Image

    png = resvg_py.svg_to_bytes(svg_string=svg, width=RENDER_SIZE, height=RENDER_SIZE)
    picture = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
    # PIL weights colours by alpha here: invisible pixels do not bleed into the visible ones.
    return np.asarray(picture.resize((SIZE, SIZE), Image.Resampling.BOX))


def make(folder: Path, packages: Path, only: Callable[[dict], bool] | None = None) -> None:
    """Write the files of the data set into ``folder`` from packages kept in ``packages``.

    With ``only``, concepts for which it is false are left out.
    """
    words = Package(*WORDS, packages)
    styles = {name: Package(*PACKAGES[name], packages) for name in emoji.STYLES}
    concepts, names = read_concepts(words), other_names(styles["noto"])
    pictures = {}
    for name, style in styles.items():
        icons = find_icons(style, concepts, names)
        chosen = [i for i in sorted(icons) if only is None or only(concepts[i])]
        with progress_bar(len(chosen), name) as bar:
            rgba = np.zeros((len(chosen), SIZE, SIZE, 4), np.uint8)
            for row, index in enumerate(chosen):
                rgba[row] = render(icons[index])
                bar.update()
        pictures[name] = rgba, np.array(chosen, np.int16)
    licences = {name: style.json("info.json") for name, style in styles.items()}
    write(Path(folder), concepts, pictures, licences)


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


def main() -> None:
    """Rebuild everything, and compare with what is shipped."""
    shipped = {style.name: style.sha256 for style in emoji.concepts_and_styles()[1]}
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ASSETS
    folder.mkdir(parents=True, exist_ok=True)
    make(folder, cache_folder() / "emoji-packages")
    built = json.loads((folder / "emoji.json").read_text(encoding="utf-8"))["styles"]
    different = [style["name"] for style in built if style["sha256"] != shipped[style["name"]]]
    for style in built:
        verdict = "DIFFERENT from" if style["name"] in different else "the same as"
        print(f"{style['name']}: {style['pictures']} pictures, {verdict} the shipped ones")
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
