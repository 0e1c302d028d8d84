"""The book as one PDF: a few pages of it, printed and read back."""

import pytest
from building import ROOT
from pypdf import PdfReader

from press import PressError, notebooks
from press.site import pdf

PARTS = [
    (None, ["book/index"]),
    ("Chapters", ["notebooks/choosing-data/rs2"]),
    ("Reference", ["book/glossary", "book/bibliography"]),
]
PAGES = [page for _, pages in PARTS for page in pages]
TITLES = ["Learning from Less", "RS2: repeated random subsets", "Glossary", "Bibliography"]


@pytest.fixture(scope="module")
def printed(site, browser, tmp_path_factory):
    target = tmp_path_factory.mktemp("printed") / "book.pdf"
    sheets = pdf.write(site, PARTS, target, browser, "A title", "A subtitle")
    reader = PdfReader(target)
    assert len(reader.pages) == sheets
    return reader


@pytest.fixture(scope="module")
def texts(printed):
    """Words of every sheet."""
    return [" ".join(sheet.extract_text().split()) for sheet in printed.pages]


def outline(reader, items=None, level=0):
    """[(level, title, number of the sheet), ...]."""
    for item in reader.outline if items is None else items:
        if isinstance(item, list):
            yield from outline(reader, item, level + 1)
        else:
            yield level, item.title, reader.get_destination_page_number(item)


def test_all_pages_of_the_table_of_contents():
    parts = pdf.contents(ROOT)
    pages = [page for _, pages in parts for page in pages]
    assert pages[0] == "book/index"
    assert len(pages) == len(set(pages)) > 15
    notebooks = (ROOT / "notebooks").glob("*/*.ipynb")
    assert {page for page in pages if page.startswith("notebooks/")} == {
        path.relative_to(ROOT).with_suffix("").as_posix() for path in notebooks
    }
    assert all((ROOT / f"{p}.md").is_file() or (ROOT / f"{p}.ipynb").is_file() for p in pages)


def test_outline_leads_to_the_headings(printed, texts):
    found = list(outline(printed))
    assert [title for level, title, _ in found if title in TITLES] == TITLES
    assert [title for level, title, _ in found if level == 0][1:] == ["Chapters", "Reference"]
    assert sum(level == 2 for level, _, _ in found) > 10
    for _, title, number in found:
        if title not in ("Chapters", "Reference"):
            assert title in texts[number], title
    assert [n for _, _, n in found] == sorted(n for _, _, n in found)


def test_title_contents_and_numbers_of_sheets(printed, texts):
    assert "A title" in texts[0]
    assert "A subtitle" in texts[0]
    front = printed.page_labels.index("1")
    starts = {title: number for _, title, number in outline(printed) if title in TITLES}
    for title, number in starts.items():
        assert f"{title} {printed.page_labels[number]}" in texts[1]
    for number, text in enumerate(texts[front:], 1):
        footer = next(title for title in reversed(TITLES) if starts[title] < front + number)
        assert text.startswith(f"{number}{footer}"), text[:80]  # what is drawn first


def test_links_stay_inside_and_leave_no_path(printed, texts):
    inside, outside = {}, []
    places = {sheet.indirect_reference.idnum: k for k, sheet in enumerate(printed.pages)}
    for number, sheet in enumerate(printed.pages):
        for link in sheet.get("/Annots", ()):
            link = link.get_object()
            if "/Dest" in link:
                inside.setdefault(number, []).append(places[link["/Dest"][0].idnum])
            else:
                outside.append(link["/A"]["/URI"])
    starts = {title: number for _, title, number in outline(printed)}
    assert inside[1] == [starts[title] for title in TITLES]  # of the table of contents
    chapter = range(starts[TITLES[1]], starts["Glossary"])
    goals = [goal for number in chapter for goal in inside.get(number, ())]
    assert sum(starts["Glossary"] <= goal < starts["Bibliography"] for goal in goals) > 5
    assert sum(goal in chapter for goal in goals) > 10
    assert outside
    assert all(address.startswith(("https://", "http://")) for address in outside)


def test_code_and_solutions_are_there_to_the_last_word(printed, texts):
    """Also what the site folds away, and long lines to their ends."""
    whole = "".join("".join(texts).split())
    source = ROOT / "notebooks/choosing-data/rs2.ipynb"
    for _, cell in notebooks.code_cells(notebooks.read(source)):
        for line in cell["source"].replace("  # fmt: skip", "").splitlines():  # not shown
            # Sheets may end between two lines, not inside of one.
            assert "".join(line.split()) in whole, line
    assert whole.count("SolutiontoExercise") >= 3


def test_nothing_is_clipped(browser, site):
    """At the width of a sheet no box hides a part of what it holds, and no navigation shows."""
    with browser.new_context(viewport=pdf.VIEWPORT) as context:
        page = context.new_page()
        page.emulate_media(media="print")
        for name in [
            "notebooks/image-text/clip",
            "book/scoreboard",
            "book/themes/shift",
            "book/api",
            *PAGES,
        ]:
            page.goto((site / f"{name}.html").as_uri())
            page.evaluate(pdf.PREPARE, [])
            assert page.evaluate("document.documentElement.scrollWidth") <= pdf.VIEWPORT["width"]
            clipped = page.evaluate(
                """() => [...document.querySelectorAll('article *')].filter(e =>
                     e.clientWidth && e.scrollWidth > e.clientWidth + 1 && !e.closest('.katex')
                     && getComputedStyle(e).overflowX !== 'visible').map(e => e.outerHTML)"""
            )
            assert clipped == [], name
            for part in (".bd-sidebar-primary", ".bd-sidebar-secondary", ".bd-header-article"):
                assert not page.locator(part).first.is_visible(), part
            assert page.locator("article h1").first.is_visible()


def test_a_page_that_was_not_built_is_named(site, browser, tmp_path):
    with pytest.raises(PressError, match=r"book/nothing.html.*make book"):
        pdf.write(site, [(None, ["book/nothing"])], tmp_path / "book.pdf", browser, "A title")
    assert not any(tmp_path.iterdir())


def test_a_chromium_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setenv("CHROMIUM", "/no/such/chromium")
    with pytest.raises(PressError, match="/no/such/chromium"):
        pdf.find_chromium()
