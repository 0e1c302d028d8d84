"""The catalogue: what it takes from where, what it refuses, and the table of contents."""

import re
from pathlib import Path

import nbformat
import pytest
import yaml

from press import catalogue
from press.catalogue import CatalogueError

ROOT = Path(__file__).resolve().parents[2]
ROWS = """\
themes:
- slug: pictures
  title: Pictures
  question: What do pictures teach?
  papers:
  - {slug: first, short: One, key: a2020, kind: chapter, near: first, code: none,
     idea: look, figure: fig-a}
  - {slug: second, short: Two, key: b2021, kind: lab, near: first, code: none, idea: look twice}
  - {slug: third, short: Three, key: c2022, kind: reading, near: first, code: none, idea: look away}
- slug: sounds
  title: Sounds
  question: What do sounds teach?
  papers:
  - {slug: fourth, short: Four, key: d2023, kind: lab, near: first, code: none, idea: listen}
"""
BIBLIOGRAPHY = """\
@misc{a2020, author = {Ada, Ann}, title = {{ALL} \\& {Nothing}}, year = {2020}, eprint = {2001.1}}
@misc{b2021, author = {von Bo, Bea and G{\\"u}l, Cem}, title = {B}, year = {2021}, url = {b.org}}
@misc{c2022, author = {C, C and D, D and E, E}, title = {C}, year = {2022}}
"""


def add_notebook(root, name, heading="# A title"):
    file = root / "notebooks" / f"{name}.ipynb"
    file.parent.mkdir(parents=True, exist_ok=True)
    make = nbformat.v4
    cells = [make.new_code_cell("# no title")]
    cells += [make.new_markdown_cell(f"(label)=\n{heading}\n## Part\n")]
    nbformat.write(make.new_notebook(cells=cells), file)


@pytest.fixture
def book(tmp_path):
    """A book of four papers in two themes; the first has a notebook."""
    (tmp_path / "book/_templates").mkdir(parents=True)
    (tmp_path / "book/catalogue.yml").write_text(ROWS, "utf-8")
    (tmp_path / "book/references.bib").write_text(BIBLIOGRAPHY, "utf-8")
    field = "@misc{d2023, author = {D, D}, title = {D}, year = {2023}}"
    (tmp_path / "book/field-map.bib").write_text(field, "utf-8")
    template = (ROOT / "book/_templates/_toc.yml").read_text("utf-8")
    (tmp_path / "book/_templates/_toc.yml").write_text(template, "utf-8")
    add_notebook(tmp_path, "pictures/first", "# One: to look")
    return tmp_path


def change(book, old, new):
    file = book / "book/catalogue.yml"
    assert old in file.read_text("utf-8")
    file.write_text(file.read_text("utf-8").replace(old, new, 1), "utf-8")


def test_titles_and_authors_come_from_the_bibliographies(book):
    first, second, third, fourth = catalogue.load(book).papers
    assert first.title == "ALL & Nothing"
    assert [first.cited, second.cited, third.cited] == [
        "Ada 2020",
        "von Bo & Gül 2021",
        "C et al. 2022",
    ]
    assert [first.link, second.link, third.link] == ["https://arxiv.org/abs/2001.1", "b.org", ""]
    assert fourth.cited == "D 2023"


def test_the_title_of_a_notebook_is_its_first_heading(book):
    found = catalogue.load(book)
    assert found.paper("first").heading == "One: to look"
    assert found.paper("first").docname == "notebooks/pictures/first"
    assert found.paper("second").heading is None, "it is to come"
    assert [paper.slug for paper in found.notebooks] == ["first"]


def test_notebooks_are_read_in_the_order_of_the_catalogue(book):
    add_notebook(book, "sounds/fourth")
    add_notebook(book, "pictures/second")
    assert [p.slug for p in catalogue.load(book).notebooks] == ["first", "second", "fourth"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("slug: second", "slug: Second One", "slug is 'Second One'; expected words"),
        ("slug: second", "slug: 2", "row 2: slug is 2; expected words joined by hyphens"),
        ("slug: second", "slug: first", "slug is 'first'; expected .* in one row only"),
        ("short: Two", "short: ' '", "row 'second': short is ' '; expected a short name"),
        ("short: Two", "short: One", "short is 'One'; expected .* in one row only"),
        ("key: b2021", "key: b2012", "row 'second': key is 'b2012'; expected a key of book/ref"),
        ("key: b2021", "key: a2020", "key is 'a2020'; expected .* in one row only"),
        ("kind: lab", "kind: labs", "kind is 'labs'; expected one of chapter, lab, reading"),
        ("kind: lab, ", "", "row 'second': kind is None; expected one of chapter, lab, reading"),
        ("kind: lab, near: first", "kind: lab, near: fourth", "one of the chapters first$"),
        ("near: first, code: none, idea: look twice", "near: first, idea: look twice",
         "row 'second': code is None; expected OWNER/NAME on GitHub, or none"),
        ("code: none, idea: look twice", "code: nowhere, idea: look twice", "code is 'nowhere'"),
        ("idea: look twice", "idea: look twice.", "idea is 'look twice.'; expected .* full stop"),
        ("idea: look twice", f"idea: {'a' * 121}", "expected a line of at most 120 letters"),
        ("figure: fig-a", "figure: 3", "row 'first': figure is 3; expected the name of a figure"),
        ("figure: fig-a", "learned: no stop", "expected a sentence of at most 250 letters"),
        ("idea: look twice", "idea: look, colour: red", "colour is unknown; known are"),
        ("papers:", "rows:", "KeyError.'papers'.; expected themes with slug, title, question"),
        ("question: What do pictures teach?", "", "KeyError.'question'"),
        ("- {slug: second", "- {slug: [second", "expected themes with slug, title"),
        ("kind: chapter", "kind: reading", "near is 'first'; expected one of the chapters"),
    ],
)  # fmt: skip
def test_a_row_that_is_wrong_is_named_with_its_field_and_what_was_expected(book, old, new, message):
    change(book, old, new)
    with pytest.raises(CatalogueError, match=message) as caught:
        catalogue.load(book)
    assert str(caught.value).startswith("book/catalogue.yml")


@pytest.mark.parametrize("name", ["pictures/new", "sounds/second", "pictures/third"])
def test_a_notebook_without_its_row_gives_the_line_to_add(book, name):
    """Also one in the folder of another theme, and one whose row is a reading."""
    add_notebook(book, name)
    folder, _, slug = name.partition("/")
    with pytest.raises(
        CatalogueError, match=f"under {folder} in book/catalogue.yml; add"
    ) as caught:
        catalogue.load(book)
    line = str(caught.value).splitlines()[1]
    assert yaml.safe_load(line)[0]["slug"] == slug


def test_a_notebook_needs_a_title(book):
    add_notebook(book, "pictures/second", "Words")
    with pytest.raises(
        CatalogueError, match=r"pictures/second.ipynb has no title; begin its first"
    ):
        catalogue.load(book)


def test_a_slug_without_a_row_is_named(book):
    with pytest.raises(CatalogueError, match="no row with the slug 'fifth'; correct it or add one"):
        catalogue.load(book).paper("fifth")


def test_contents_list_the_themes_that_have_notebooks(book):
    def themes(text):
        part = yaml.safe_load(text)["parts"][1]
        assert part["caption"] == "Chapters and labs"
        return {
            entry["file"]: [page["file"] for page in entry["sections"]]
            for entry in part["chapters"]
        }

    assert themes(catalogue.toc(book)) == {"book/themes/pictures": ["notebooks/pictures/first"]}
    add_notebook(book, "sounds/fourth")
    assert themes(catalogue.toc(book))["book/themes/sounds"] == ["notebooks/sounds/fourth"]


def test_the_contents_of_the_book_are_those_of_its_catalogue():
    renew = "run `python -m press.catalogue` and commit _toc.yml"
    assert (ROOT / "_toc.yml").read_text("utf-8") == catalogue.toc(ROOT), renew


def test_every_theme_of_the_book_has_its_page():
    """Also those without a notebook, so that a first lab needs no other file."""
    for theme in catalogue.load(ROOT).themes:
        text = (ROOT / f"{theme.docname}.md").read_text("utf-8")
        assert f"\n# {theme.title}\n\n```{{theme}} {theme.slug}\n" in text
        assert f"```{{scoreboard}} {theme.slug}\n" in text
        assert len(re.findall(r"\w+", text)) > 45, "a paragraph introduces the theme"


def test_every_paper_of_the_book_links_to_a_page_of_the_web():
    for paper in (paper for theme in catalogue.load(ROOT).themes for paper in theme.papers):
        assert re.match(r"https?://", paper.link), paper
