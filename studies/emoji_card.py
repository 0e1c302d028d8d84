"""Counts and the picture of the data card *Emoji in many styles*, computed from the shipped files.

Run ``python -m studies.emoji_card``; it writes ``emoji.md`` and ``emoji.webp`` into
``book/generated``.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from statistics import mean

import torch
from PIL import Image

from labutils.data import emoji

GENERATED = Path(__file__).parent.parent / "book" / "generated"
TABLES = GENERATED / "emoji.md"
PICTURE = GENERATED / "emoji.webp"

SHOWN = (
    "grinning face", "dog face", "cat", "octopus", "rose", "red apple", "hamburger", "bicycle",
    "airplane", "house", "umbrella", "violin", "soccer ball", "key", "red heart", "robot",
)  # fmt: skip
NEAR = 0.05  # root mean square difference, of pixels on white scaled to 0..1


def table(head: tuple[str, ...], rows) -> str:
    """A table in Markdown; cells that are not text are counts."""
    cells = [[c if isinstance(c, str) else f"{c:,}" for c in row] for row in rows]
    rule = ["---" if isinstance(c, str) else "---:" for c in rows[0]]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, rule, *cells])


def styles() -> str:
    """One row for each style."""
    file_of = {name: file for file, names in emoji.FILES.items() for name in names}
    rows = [
        (
            f"`{s.name}`", s.title, f"[{s.author}]({s.source})",
            f"[{s.licence}]({s.licence_url})", f"`{file_of[s.name]}`", s.pictures,
        )
        for s in emoji.concepts_and_styles()[1]
    ]  # fmt: skip
    return table(("style", "set", "author", "licence", "file", "pictures"), rows)


def groups() -> str:
    """Concepts of every group, and how many of them each core style draws."""
    dataset = emoji.load()
    names = [c.group for c in dataset.concepts]
    rows = []
    for group in dict.fromkeys(names):
        in_group = torch.tensor([name == group for name in names])[dataset.concept]
        counts = [int((in_group & (dataset.style == s)).sum()) for s in range(len(emoji.CORE))]
        rows.append((group, Counter(names)[group], *counts))
    rows.append(("all", *(sum(row[k] for row in rows) for k in range(1, 2 + len(emoji.CORE)))))
    return table(("group", "concepts", *(f"`{name}`" for name in emoji.CORE)), rows)


def near_pairs(dataset: emoji.EmojiSet) -> tuple[int, int]:
    """Pairs of pictures within one style that are the same, and that are nearly the same."""
    pixels = emoji.on_background(dataset.rgba, (255, 255, 255)).float().div_(255).flatten(1)
    same = near = 0
    for number in range(len(dataset.style_names)):
        rows = pixels[dataset.style == number]
        distance = torch.cdist(rows, rows) / rows.shape[1] ** 0.5
        pairs = torch.triu(torch.ones_like(distance, dtype=torch.bool), diagonal=1)
        candidates = (pairs & (distance < NEAR)).nonzero()
        equal = (rows[candidates[:, 0]] == rows[candidates[:, 1]]).all(1)
        same, near = same + int(equal.sum()), near + len(candidates)
    return same, near


def summary() -> str:
    """Sentences with the remaining counts."""
    dataset = emoji.load()
    concepts = dataset.concepts
    same, near = near_pairs(dataset)
    drawn = dataset.concept.bincount(minlength=len(concepts))
    return (
        f"There are {len(concepts):,} concepts in {len({c.group for c in concepts})} groups and "
        f"{len({c.subgroup for c in concepts})} subgroups, with "
        f"{mean(len(c.keywords) for c in concepts):.1f} keywords and "
        f"{mean(len(c.aliases) for c in concepts):.1f} aliases on average; "
        f"{sum(not c.keywords for c in concepts):,} have no keyword. They form "
        f"{len({c.family for c in concepts}):,} families. The core file holds {len(dataset):,} "
        f"pictures; {int((drawn == len(emoji.CORE)).sum()):,} concepts are drawn in all "
        f"{len(emoji.CORE)} core styles and {int((drawn == 1).sum()):,} in one only. Within a core "
        f"style, {same:,} pairs of pictures are the same pixel by pixel and {near:,} nearly so "
        f"(root mean square difference on white below {NEAR} of the range)."
    )


def render() -> str:
    """All of it in Markdown, in sections that the page includes one by one."""
    parts = {"summary": summary(), "styles": styles(), "groups": groups()}
    return (
        "\n\n".join(f"<!-- {n} -->\n\n{text}\n\n<!-- end {n} -->" for n, text in parts.items())
        + "\n"
    )


def picture() -> Image.Image:
    """Some concepts, one in a column, in several styles, one in a row; white where none is drawn.

    The share-alike style is left out, so that the picture is not bound to its licence.
    """
    dataset = emoji.load(emoji.CORE + emoji.MONOCHROME)
    index = {c.name: i for i, c in enumerate(dataset.concepts)}
    rgb = emoji.on_background(dataset.rgba, (255, 255, 255))
    gap = 4
    side = emoji.SIZE + gap
    height = side * len(dataset.style_names) + gap
    sheet = torch.full((3, height, side * len(SHOWN) + gap), 255).byte()
    for row in range(len(dataset.style_names)):
        for column, name in enumerate(SHOWN):
            found = ((dataset.style == row) & (dataset.concept == index[name])).nonzero()
            if len(found):
                top, left = gap + row * side, gap + column * side
                sheet[:, top : top + emoji.SIZE, left : left + emoji.SIZE] = rgb[found[0, 0]]
    return Image.fromarray(sheet.permute(1, 2, 0).numpy())


def main() -> None:
    """Write the tables and the picture."""
    TABLES.write_text(render(), encoding="utf-8")
    picture().save(PICTURE, lossless=True, quality=100, method=6)
    print(TABLES.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
