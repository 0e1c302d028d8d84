"""The map of the field: its data, the page without scripts, and its search and filters."""

import re
from collections import Counter

import pytest
from building import ROOT
from pybtex.database import parse_file

from press import catalogue

PAGE = "book/field-map.html"


@pytest.fixture(scope="module")
def themes():
    return catalogue.load(ROOT).themes


@pytest.fixture(scope="module")
def papers(themes):
    return [paper for theme in themes for paper in theme.papers]


@pytest.fixture(scope="module")
def bibliographies():
    """The entries of references.bib and of field-map.bib, by key."""
    return [dict(parse_file(ROOT / name).entries.items()) for name in catalogue.BIBLIOGRAPHIES]


def plain(title):
    """The letters and digits of a title, for comparisons."""
    return re.sub(r"[^a-z0-9]", "", title.lower().replace("\\&", ""))


def kind(paper):
    """What the filter calls a paper's kind."""
    return "to-come" if paper.kind != "reading" and not paper.heading else paper.kind


def test_no_title_stands_twice(papers):
    assert [t for t, n in Counter(plain(p.title) for p in papers).items() if n > 1] == []


def test_every_paper_has_an_entry_with_authors_year_and_source(papers, bibliographies):
    entries = bibliographies[0] | bibliographies[1]
    for paper in papers:
        entry = entries[paper.key]
        assert plain(entry.fields["title"]) == plain(paper.title)
        assert entry.persons["author"], paper.key
        assert re.fullmatch(r"20[12]\d", entry.fields["year"]), paper.key
        assert re.fullmatch(r"\d{4}\.\d{5}", entry.fields["eprint"]), paper.key
        posted = 2000 + int(entry.fields["eprint"][:2])
        assert posted <= int(entry.fields["year"]), f"{paper.key} is older than its preprint"


def test_no_paper_has_two_entries_and_no_entry_is_left_over(papers, bibliographies):
    references, field = bibliographies
    both = [*references.values(), *field.values()]
    for name in ("title", "eprint"):
        values = [plain(entry.fields[name]) for entry in both if name in entry.fields]
        assert [value for value, n in Counter(values).items() if n > 1] == [], name
    assert set(field) <= {paper.key for paper in papers}


@pytest.fixture
def open_map(browser, address, show):
    """open_map(**options of the context): the page in a context of its own."""
    contexts = []

    def open_map(**options):
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        if options.get("java_script_enabled", True):
            show(page, PAGE)
        else:
            page.goto(f"{address}/{PAGE}")
        return page

    yield open_map
    for context in contexts:
        context.close()


def control(page, label):
    return page.locator("#map-controls").get_by_label(label)


def shown(page):
    """Titles of the papers that can be seen; the count beside the controls must agree."""
    titles = page.locator("li.paper:visible .title a").all_inner_texts()
    total = page.locator("li.paper").count()
    assert (
        page.locator("#map-controls [role=status]").inner_text()
        == f"{len(titles)} of {total} papers"
    )
    return set(titles)


def titles_of(papers, kinds=None, **fields):
    return {
        p.title
        for p in papers
        if kinds in (None, kind(p)) and all(getattr(p, name) == v for name, v in fields.items())
    }


def test_filters_by_kind_and_by_chapter(open_map, papers):
    page = open_map()
    assert shown(page) == titles_of(papers)
    control(page, "Kind").select_option("to-come")
    assert shown(page) == titles_of(papers, kinds="to-come")
    control(page, "Chapter").select_option("lls")
    assert shown(page) == titles_of(papers, kinds="to-come", near="lls")
    control(page, "Kind").select_option("")
    assert shown(page) == titles_of(papers, near="lls")
    page.get_by_role("button", name="Show all").click()
    page.get_by_text(f"{len(papers)} of {len(papers)} papers").wait_for()
    assert shown(page) == titles_of(papers)


@pytest.mark.parametrize(
    ("words", "short"),
    [
        ("open-set outliers", "IOMatch"),
        ("outliers open-set", "IOMatch"),  # words in any order
        ("federted learning", "FedLabel"),  # a letter is missing
        ("frechet", "Loki"),  # without the accent
        ("menghini", "GRIP"),  # an author
    ],
)
def test_search_finds(open_map, papers, words, short):
    page = open_map()
    control(page, "Search").fill(words)
    found = shown(page)
    assert titles_of(papers, short=short) <= found
    assert len(found) <= 5


def test_search_and_filter_together_and_without_a_match(open_map, papers, themes):
    page = open_map()
    search = control(page, "Search")
    search.fill(themes[0].title)
    control(page, "Kind").select_option("reading")
    of_theme = titles_of(themes[0].papers, kinds="reading")
    assert of_theme <= shown(page) < titles_of(papers, kinds="reading")
    search.fill("qzxwvk")
    assert shown(page) == set()
    assert page.locator("section.theme:visible").count() == 0


def test_keyboard_is_enough(open_map, papers):
    page = open_map()
    control(page, "Search").focus()
    page.keyboard.type("random")
    page.keyboard.press("Enter")  # must not leave the page
    assert shown(page) < titles_of(papers)
    page.keyboard.press("Tab")
    page.keyboard.type("c")  # the first kind with this letter
    assert shown(page) == titles_of(papers, short="RS2")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_text(f"{len(papers)} of {len(papers)} papers").wait_for()


def test_works_from_disk(browser, site, papers):
    page = browser.new_page()
    page.goto((site / PAGE).as_uri())
    control(page, "Kind").select_option("reading")
    assert shown(page) == titles_of(papers, kinds="reading")
    page.close()


def test_without_scripts_all_papers_are_there_and_no_controls(open_map, papers):
    page = open_map(java_script_enabled=False)
    visible = page.locator("li.paper:visible .title a").all_inner_texts()
    assert visible == [paper.title for paper in papers]
    assert not page.locator("#map-controls").is_visible()


def test_print_hides_controls_and_keeps_the_papers(open_map, papers):
    page = open_map()
    page.emulate_media(media="print")
    assert not page.locator("#map-controls").is_visible()
    assert page.locator("li.paper:visible").count() == len(papers)


def test_titles_lead_to_their_references(open_map, papers, bibliographies):
    entries = bibliographies[0] | bibliographies[1]
    page = open_map()
    references = page.locator("li.paper .title a").evaluate_all(
        """links => links.map(link => {
             const entry = document.getElementById(link.getAttribute('href').slice(1));
             return [link.innerText, entry.innerText];
           })"""
    )
    assert len(references) == len(papers)
    for paper, (title, reference) in zip(papers, references, strict=True):
        assert title == paper.title
        assert entries[paper.key].fields["eprint"] in reference
    assert page.locator("div.citation").count() == len(papers)


def test_every_paper_leads_to_its_code_or_says_that_none_was_found(open_map, papers):
    links = open_map().locator("li.paper .code-link")
    shown = links.evaluate_all("all => all.map(e => e.getAttribute('href') || e.innerText)")
    assert shown == [paper.code or "no code found" for paper in papers]
    assert sum(paper.code is not None for paper in papers) > len(papers) / 3


def test_papers_with_a_notebook_lead_to_it(open_map, papers):
    addresses = open_map().locator("li.paper .facts a").evaluate_all("all => all.map(e => e.href)")
    for paper in papers:
        if paper.heading:
            assert any(address.endswith(f"{paper.docname}.html") for address in addresses)


def test_only_the_map_loads_its_scripts(pages, site):
    script = re.compile(r"<script[^>]*uFuzzy")
    with_library = [name for name in pages if script.search((site / name).read_text("utf-8"))]
    assert with_library == [PAGE]
    assert (site / "_static/ufuzzy-1.0.19/LICENSE").is_file()
