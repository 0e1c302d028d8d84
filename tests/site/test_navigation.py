"""How readers find the notebooks: the navigation, the cards, the pages of the themes."""

import re
from collections import Counter

import pytest
import yaml
from building import ROOT

from press import catalogue
from press.site import directives, records

CARDS = {"width": 1400, "height": 900}


@pytest.fixture(scope="module")
def themes():
    """The themes that have a notebook."""
    return [theme for theme in catalogue.load(ROOT).themes if theme.notebooks]


@pytest.fixture
def at(browser, address):
    """at(page of the site): a tab that shows it."""
    tabs = []

    def at(name):
        tabs.append(browser.new_page(viewport=CARDS))
        tabs[-1].goto(f"{address}/{name}.html")
        return tabs[-1]

    yield at
    for tab in tabs:
        tab.close()


def test_navigation_has_every_theme_and_folds_them_once_there_are_many(at, themes):
    page = at("book/index")
    side = page.locator(".bd-sidebar-primary")
    for theme in themes:
        assert side.get_by_role("link", name=theme.title, exact=True).is_visible()
    notebooks = [paper for theme in themes for paper in theme.notebooks]
    for paper in notebooks:
        link = side.locator(f"a[href$='{paper.docname}.html']")
        assert link.is_visible() == (len(notebooks) <= directives.OPEN_THEMES), paper.slug


def test_navigation_shows_the_theme_of_the_notebook_that_is_open(at, themes):
    for theme in themes:
        page = at(theme.notebooks[0].docname)
        side = page.locator(".bd-sidebar-primary")
        assert side.locator("li.active > a.current").inner_text() == theme.notebooks[0].heading
        for paper in theme.notebooks:
            name = paper.heading.replace("'", "\N{RIGHT SINGLE QUOTATION MARK}")
            assert side.get_by_role("link", name=name, exact=True).is_visible()


def test_theme_leads_to_its_notebooks_and_names_those_to_come(at, themes):
    for theme in themes:
        page = at(theme.docname)
        article = page.locator("article")
        assert article.locator(".theme-question").inner_text() == theme.question
        for paper in theme.notebooks:
            assert article.get_by_role("link", name=paper.heading, exact=True).is_visible()
        missing = [p.short for p in theme.papers if p.kind != "reading" and not p.heading]
        named = article.locator("details.to-come li a").all_text_contents()
        assert named == missing
        if missing:
            count = f"{len(missing)} lab{'s' if len(missing) > 1 else ''} to come"
            article.get_by_text(count, exact=True).click()
            assert article.locator("details.to-come li").first.is_visible()


def test_landing_page_counts_the_papers_claims_of_all_fresh_runs_and_ours_apart(at):
    fresh = [run for run in records.all_runs(ROOT) if not run.stale]
    families, claims, ours = {}, 0, 0
    for run in fresh:
        for claim in run.record.claims:
            if claim.source == "paper":
                words = re.sub(r"\(.*?\)|\d[\d.,]*", "", claim.statement)
                verdict = run.record.verdicts()[claim.id].verdict
                families.setdefault((run.paper.slug, words), set()).add(verdict)
                claims += 1
            else:
                ours += 1
    counts = Counter(v.pop() if len(v) == 1 else "mixed" for v in families.values())
    assert counts.total() <= claims
    stale = sum(len(run.record.claims) for run in records.all_runs(ROOT) if run.stale)
    line = at("book/index").locator(".verdict-line").inner_text()
    for verdict, number in counts.items():
        assert f"{number} {verdict}" in line
    assert (f"{counts.total()} statements" if fresh else f"{stale} claims") in line
    assert not fresh or f"in {claims} settings" in line
    assert (f"{ours} comparisons of our own are counted apart" in line) == bool(ours)
    assert ("has changed since" in line or "are stale" in line) == bool(stale)


def test_every_chapter_has_a_card_and_all_fit_on_one_screen(at):
    page = at("book/index")
    chapters = [paper for paper in catalogue.load(ROOT).papers if paper.kind == "chapter"]
    cards = page.locator("li.chapter-card")
    assert cards.count() == len(chapters)
    boxes = cards.evaluate_all("cards => cards.map(c => c.getBoundingClientRect().bottom)")
    assert max(boxes) <= CARDS["height"], "the cards do not fit on one screen"
    for paper in chapters:
        card = cards.filter(has=page.locator(f"a[href$='{paper.docname}.html']"))
        assert card.locator(".card-title").inner_text() == paper.heading
        assert card.locator(".card-figure img").evaluate("e => e.decode().then(() => 1)") == 1
        assert card.get_by_role("link", name="Run in Colab").count() == 1
        times = card.locator(".card-times").inner_text()
        assert re.search(r"\d+ min to read, .+ to run on a (CPU|GPU)", times)
        shown = card.locator(".card-idea").inner_text().replace("\xa0", " ")
        values = records.shown(ROOT, paper.docname).record.numbers
        assert shown == paper.learned.format_map({n: v["value"] for n, v in values.items()})


@pytest.mark.parametrize(("width", "rows"), [(800, [3, 2]), (1300, [3, 2]), (1400, [5])])
def test_no_card_stands_alone_in_a_row(browser, address, width, rows):
    page = browser.new_page(viewport={**CARDS, "width": width})
    page.goto(f"{address}/book/index.html")
    tops = page.locator("li.chapter-card").evaluate_all(
        "cards => cards.map(c => Math.round(c.getBoundingClientRect().top))"
    )
    page.close()
    assert list(Counter(tops).values()) == rows


def test_first_screen_says_for_whom_and_where_to_begin(at):
    page = at("book/index")
    assert "know PyTorch and have trained a classifier" in page.locator("article").inner_text()
    start = page.locator("a.start-button")
    assert re.fullmatch(r"Start with RS2, \d+ minutes", start.inner_text())
    box = start.bounding_box()
    assert box["y"] + box["height"] < CARDS["height"] / 2
    minutes = re.search(r"\d+", start.inner_text().partition(",")[2])[0]
    start.click()
    page.wait_for_url("**/notebooks/choosing-data/rs2.html")
    assert f"about {minutes} min to read" in page.locator(".chapter-badges").inner_text()


def test_first_page_says_who_wrote_it_and_how_to_cite_it(at):
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    words = at("book/index").locator("#authors-version-citation").inner_text()
    for part in (citation["authors"][0]["name"], f"Version {citation['version']}", "CC BY 4.0"):
        assert part in words
    assert f"title   = {{{citation['title']}}}" in words


def test_how_to_use_reads_before_it_runs_and_names_the_clone(at, config):
    page = at("book/how-to-use")
    heads = page.locator("article h2").all_inner_texts()
    assert heads[1].startswith("How to read a chapter")
    assert f"git clone --branch {config['repository']['branch']} {config['repository']['url']}" in (
        page.locator("article").inner_text()
    )


def test_every_lab_is_linked_from_the_landing_page_under_its_theme(at, themes):
    under = at("book/index").locator("ul.lab-links > li")
    labs = {t.title: [p.short for p in t.notebooks if p.kind == "lab"] for t in themes}
    assert [theme.locator("a").all_inner_texts() for theme in under.all()] == [
        [title, *found] for title, found in labs.items() if found
    ]
    for line in under.locator("li").all_inner_texts():
        assert line.partition(": ")[2].endswith("."), line  # what it taught


def test_themes_with_labs_show_how_these_compare_and_others_do_not(at, themes):
    for theme in themes:
        expected = any(paper.kind == "lab" for paper in theme.notebooks)
        found = at(theme.docname).locator("article .admonition", has_text="How the labs compare")
        assert found.count() == expected, theme.slug
