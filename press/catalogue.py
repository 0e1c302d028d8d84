"""The catalogue: one row per paper. The table of contents and half of the site are made from it.

book/catalogue.yml holds what neither a run nor a bibliography knows: theme, short name, kind,
neighbour and idea of each paper. `python -m press.catalogue` writes _toc.yml anew.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import jinja2
import yaml

from press import notebooks

FILE, TOC = "book/catalogue.yml", "_toc.yml"
BIBLIOGRAPHIES = ("book/references.bib", "book/field-map.bib")
KINDS = ("chapter", "lab", "reading")
UNIQUE = ("slug", "short", "key")
LETTERS = 120  # of an idea, at most


class CatalogueError(notebooks.NotebookError):
    """The catalogue cannot be used; the message names the row, the field and what it should be."""


@dataclass(frozen=True)
class Paper:
    """One row; title, cited (Chen & Mueller 2024, Xu et al. 2024), link are from a bibliography.

    docname: the page of its notebook. heading: the title of that; None where there is none (yet).
    """

    slug: str
    short: str
    key: str
    kind: str
    near: str
    idea: str
    title: str
    cited: str
    link: str
    docname: str
    heading: str | None
    figure: str | None = None


@dataclass(frozen=True)
class Theme:
    """Papers in the order of reading; notebooks: those that have one. docname: the theme's page."""

    slug: str
    title: str
    question: str
    docname: str
    papers: list[Paper]
    notebooks: list[Paper]


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
        """The row of a slug. Raises CatalogueError if there is none."""
        for paper in self.papers:
            if paper.slug == slug:
                return paper
        raise CatalogueError(f"{FILE} has no row with the slug {slug!r}; correct it or add one")


def load(root) -> Catalogue:
    """Read the catalogue of a book. Raises CatalogueError for the first thing that is wrong."""
    from pybtex.database import parse_file

    root, entries, themes = Path(root), {}, []
    try:
        content = yaml.safe_load((root / FILE).read_text("utf-8"))["themes"]
        heads = [{key: theme[key] for key in ("slug", "title", "question")} for theme in content]
        placed = [(theme["slug"], dict(row)) for theme in content for row in theme["papers"]]
    except (OSError, yaml.YAMLError, TypeError, KeyError, ValueError) as error:
        raise CatalogueError(
            f"{FILE}: {error!r}; expected themes with slug, title, question and rows of papers"
        ) from None
    for name in BIBLIOGRAPHIES:
        entries |= dict(parse_file(root / name).entries.items())
    _check([row for _, row in placed], entries)
    own = {(theme, row["slug"]) for theme, row in placed if row["kind"] != "reading"}
    headings = _headings(root, own)
    for head in heads:
        slug = head["slug"]
        papers = [_paper(r, t, entries[r["key"]], headings) for t, r in placed if t == slug]
        found = [paper for paper in papers if paper.heading]
        themes.append(Theme(**head, docname=f"book/themes/{slug}", papers=papers, notebooks=found))
    return Catalogue(themes)


def _check(rows, entries) -> None:
    chapters = [row["slug"] for row in rows if row.get("kind") == "chapter" and row.get("slug")]
    idea = f"a line of at most {LETTERS} letters without a full stop"
    expected = {
        "slug": (re.compile(r"[a-z0-9]+(-[a-z0-9]+)*").fullmatch, "words joined by hyphens"),
        "short": (str.strip, "a short name"),
        "key": (entries.__contains__, f"a key of {' or '.join(BIBLIOGRAPHIES)}"),
        "kind": (KINDS.__contains__, f"one of {', '.join(KINDS)}"),
        "near": (chapters.__contains__, f"one of the chapters {', '.join(map(str, chapters))}"),
        "idea": (re.compile(rf".{{1,{LETTERS}}}(?<!\.)").fullmatch, idea),
        "figure": (str.strip, "the name of a figure in the notebook"),
    }
    for row in rows:
        place = f"{FILE}, row {row.get('slug')!r}"
        if odd := set(row) - set(expected):
            raise CatalogueError(
                f"{place}: {odd.pop()} is unknown; known are {', '.join(expected)}"
            )
        for field in [name for name in expected if name != "figure" or name in row]:
            value, (good, words) = row.get(field), expected[field]
            once = field not in UNIQUE or sum(other.get(field) == value for other in rows) == 1
            if not isinstance(value, str) or not good(value) or not once:
                words += ", in one row only" * (field in UNIQUE)
                raise CatalogueError(f"{place}: {field} is {value!r}; expected {words}")


def _headings(root, placed) -> dict[str, str]:
    """{slug: first heading} of all notebooks; each must be among `placed`, (theme, slug)."""
    found = {}
    for file in sorted((root / "notebooks").glob("*/*.ipynb")):
        slug, folder, name = file.stem, file.parent.name, file.relative_to(root).as_posix()
        if (folder, slug) not in placed:
            raise CatalogueError(
                f"{name} has no row of kind chapter or lab under {folder} in {FILE}; add there\n"
                f"  - {{slug: {slug}, short: NAME, key: KEY, kind: lab, near: CHAPTER, idea: IDEA}}"
            )
        cells = [c for c in notebooks.read(file)["cells"] if c["cell_type"] == "markdown"]
        heading = re.search(r"^# +(.+)", "\n".join(c["source"] for c in cells), re.MULTILINE)
        if not heading:
            raise CatalogueError(f"{name} has no title; begin its first cell with `# TITLE`")
        found[slug] = heading[1].strip()
    return found


def _paper(row, theme, entry, headings) -> Paper:
    from pybtex.richtext import Text

    names = [" ".join(map(str, [*person.rich_prelast_names, *person.rich_last_names]))
             for person in entry.persons["author"]]  # fmt: skip
    several = len(names) > 2 or names[-1] == "others"
    eprint = entry.fields.get("eprint")
    return Paper(
        **row,
        title=str(Text.from_latex(entry.fields["title"])),
        cited=f"{f'{names[0]} et al.' if several else ' & '.join(names)} {entry.fields['year']}",
        link=f"https://arxiv.org/abs/{eprint}" if eprint else entry.fields.get("url", ""),
        docname=f"notebooks/{theme}/{row['slug']}",
        heading=headings.get(row["slug"]),
    )


def toc(root) -> str:
    """The text of _toc.yml. Themes without a notebook have no place in it."""
    loader = jinja2.FileSystemLoader(Path(root) / "book/_templates")
    jinja = jinja2.Environment(loader=loader, trim_blocks=True, keep_trailing_newline=True)
    return jinja.get_template(TOC).render(themes=load(root).themes)


def write_toc(root) -> None:
    """Write _toc.yml, unless it is as the catalogue says."""
    file, text = Path(root) / TOC, toc(root)
    if not file.exists() or file.read_text("utf-8") != text:
        notebooks.write_text(text, file)


if __name__ == "__main__":
    write_toc(notebooks.book_root())
