"""The catalogue: one row per paper. The table of contents and half of the site are made from it.

book/catalogue.yml holds what neither a run nor a bibliography knows: theme, short name, kind,
neighbour and idea of each paper. `python -m press.catalogue` writes _toc.yml anew.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
import yaml

from press import notebooks, outputs

FILE, TOC = "book/catalogue.yml", "_toc.yml"
BIBLIOGRAPHIES = ("book/references.bib", "book/field-map.bib")
KINDS, UNIQUE = ("chapter", "lab", "reading"), ("slug", "short", "key")


class CatalogueError(notebooks.NotebookError):
    """The catalogue cannot be used; the message names the row, the field and what it should be."""


@dataclass(frozen=True)
class Paper:
    """One row; title, cited (Chen & Mueller 2024, Xu et al. 2024), link are from a bibliography.

    code: address of the official code; None where none was found.
    docname: the page of its notebook. heading: the title of that; None where there is none (yet).
    """

    theme: "Theme"
    slug: str
    short: str
    key: str
    kind: str
    near: str
    code: str | None
    idea: str
    title: str
    cited: str
    link: str
    docname: str
    heading: str | None
    figure: str | None = None
    learned: str | None = None

    @property
    def state(self):
        """Its kind, or "to-come" for a notebook that is not written yet."""
        return "to-come" if self.kind != "reading" and not self.heading else self.kind


@dataclass(frozen=True)
class Theme:
    """Papers in the order of reading. docname: the theme's page."""

    slug: str
    title: str
    question: str
    docname: str
    papers: list[Paper] = field(default_factory=list, repr=False, compare=False)

    @property
    def notebooks(self) -> list[Paper]:
        """The papers that have one."""
        return [paper for paper in self.papers if paper.heading]


@dataclass(frozen=True)
class Catalogue:
    """All themes in the order of the book."""

    themes: list[Theme]

    @property
    def papers(self) -> list[Paper]:
        return [paper for theme in self.themes for paper in theme.papers]

    @property
    def notebooks(self) -> list[Paper]:
        return [paper for theme in self.themes for paper in theme.notebooks]

    def paper(self, slug: str) -> Paper:
        """The paper of a slug. Raises CatalogueError if there is none."""
        return _row(self.papers, slug)

    def theme(self, slug: str) -> Theme:
        """The theme of a slug. Raises CatalogueError if there is none."""
        return _row(self.themes, slug)


def _row(rows, slug):
    for row in rows:
        if row.slug == slug:
            return row
    raise CatalogueError(f"{FILE} has no row with the slug {slug!r}; correct it or add one")


def load(root) -> Catalogue:
    """Read the catalogue of a book. Raises CatalogueError for the first thing that is wrong."""
    from pybtex.database import parse_file

    root, entries, themes = Path(root), {}, []
    try:
        for theme in yaml.safe_load((root / FILE).read_text("utf-8"))["themes"]:
            head = [theme["slug"], theme["title"], theme["question"]]
            themes.append(
                (Theme(*head, f"book/themes/{head[0]}"), list(map(dict, theme["papers"])))
            )
    except (OSError, yaml.YAMLError, TypeError, KeyError, ValueError) as error:
        raise CatalogueError(
            f"{FILE}: {error!r}; expected themes with slug, title, question and rows of papers"
        ) from None
    for name in BIBLIOGRAPHIES:
        entries |= dict(parse_file(root / name).entries.items())
    _check([row for _, rows in themes for row in rows], entries)
    headings = _headings(root)
    for theme, rows in themes:
        theme.papers.extend(_paper(row, theme, entries, headings) for row in rows)
    for docname in headings:  # those that no row has taken
        theme, slug = docname.split("/")[1:]
        raise CatalogueError(
            f"{docname}.ipynb has no row of kind chapter or lab under {theme} in {FILE}; add there"
            f"\n  - {{slug: {slug}, short: NAME, key: KEY, kind: lab, near: CHAPTER, code: none,"
            " idea: IDEA}"
        )
    return Catalogue([theme for theme, _ in themes])


def _check(rows, entries) -> None:
    chapters = [str(row.get("slug")) for row in rows if row.get("kind") == "chapter"]
    expected = {
        "slug": (r"[a-z0-9]+(-[a-z0-9]+)*", "words joined by hyphens"),
        "short": (r".*\S.*", "a short name"),
        "key": (_any(entries), f"a key of {' or '.join(BIBLIOGRAPHIES)}"),
        "kind": (_any(KINDS), f"one of {', '.join(KINDS)}"),
        "near": (_any(chapters), f"one of the chapters {', '.join(chapters)}"),
        "code": (r"none|[\w.-]+/[\w.-]+(/tree/[\w./-]+)?", "OWNER/NAME on GitHub, or none"),
        "idea": (r".{1,120}(?<!\.)", "a line of at most 120 letters without a full stop"),
        "figure": (r".*\S.*", "the name of a figure in the notebook"),
        "learned": (r".{1,250}\.", "a sentence of at most 250 letters"),
    }
    for row in rows:
        place = f"{FILE}, row {row.get('slug')!r}"
        if odd := set(row) - set(expected):
            known = ", ".join(expected)
            raise CatalogueError(f"{place}: {odd.pop()} is unknown; known are {known}")
        for name in [name for name in expected if name in row or name not in ("figure", "learned")]:
            value, (pattern, words) = row.get(name), expected[name]
            once = name not in UNIQUE or [other.get(name) for other in rows].count(value) == 1
            if not (isinstance(value, str) and re.fullmatch(pattern, value) and once):
                words += ", in one row only" * (name in UNIQUE)
                raise CatalogueError(f"{place}: {name} is {value!r}; expected {words}")


def _any(words):
    return "|".join(map(re.escape, words))


def _headings(root) -> dict[str, str]:
    """{docname: first heading} of all notebooks."""
    found = {}
    for file in sorted((root / "notebooks").glob("*/*.ipynb")):
        name = file.relative_to(root)
        found[name.with_suffix("").as_posix()] = heading = outputs.title(notebooks.read(file))
        if not heading:
            raise CatalogueError(f"{name} has no title; begin its first cell with `# TITLE`")
    return found


def _paper(row, theme, entries, headings) -> Paper:
    """A row as a Paper, which takes the heading of its notebook out of the headings."""
    from pybtex.richtext import Text

    entry = entries[row["key"]]
    names = [" ".join(map(str, [*person.rich_prelast_names, *person.rich_last_names]))
             for person in entry.persons["author"]]  # fmt: skip
    several = len(names) > 2 or names[-1] == "others"
    code = None if row["code"] == "none" else f"https://github.com/{row['code']}"
    eprint, docname = entry.fields.get("eprint"), f"notebooks/{theme.slug}/{row['slug']}"
    return Paper(
        theme=theme,
        **row | {"code": code},
        title=str(Text.from_latex(entry.fields["title"])),
        cited=f"{f'{names[0]} et al.' if several else ' & '.join(names)} {entry.fields['year']}",
        link=f"https://arxiv.org/abs/{eprint}" if eprint else entry.fields.get("url", ""),
        docname=docname,
        heading=headings.pop(docname, None) if row["kind"] != "reading" else None,
    )


def toc(root) -> str:
    """The text of _toc.yml. Themes without a notebook have no place in it."""
    return filled(root, TOC, themes=load(root).themes)


def filled(root, template, **values) -> str:
    """A template of plain text with these values."""
    loader = jinja2.FileSystemLoader(Path(root) / "book/_templates")
    jinja = jinja2.Environment(loader=loader, trim_blocks=True, keep_trailing_newline=True)
    return jinja.get_template(template).render(values)


def write_toc(root) -> None:
    """Write _toc.yml, unless it is as the catalogue says."""
    file, text = Path(root) / TOC, toc(root)
    if not file.exists() or file.read_text("utf-8") != text:
        notebooks.write({file: text})


if __name__ == "__main__":
    write_toc(notebooks.book_root())
