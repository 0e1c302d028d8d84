"""How readers find the notebooks: the navigation, the cards, the pages of the themes."""

import re
from collections import Counter

import pytest
from building import ROOT

from press import catalogue
from press.site import directives, records

CARDS = {"width": 1400, "height": 900}


@pytest.fixture(scope="module")
def themes():
    """The themes that have a notebook."""
    return records.themes(ROOT)


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
            assert side.get_by_role("link", name=paper.heading, exact=True).is_visible()


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
    counts, ours = Counter(), 0
    for run in fresh:
        for claim in run.record.claims:
            if claim.source == "paper":
                counts[run.record.verdicts()[claim.id].verdict] += 1
            else:
                ours += 1
    stale = sum(len(run.record.claims) for run in records.all_runs(ROOT) if run.stale)
    line = at("book/index").locator(".verdict-line").inner_text()
    for verdict, number in counts.items():
        assert f"{number} {verdict}" in line
    assert f"{counts.total() if fresh else stale} claims" in line
    assert (f"and {ours} of our own" in line) == bool(ours)
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
        assert re.search(r"small: .+; full: .+", card.locator(".card-times").inner_text())


def test_every_lab_is_linked_from_the_landing_page_under_its_theme(at, themes):
    lines = at("book/index").locator("ul.lab-links li").all_inner_texts()
    labs = {t.title: [p.short for p in t.notebooks if p.kind == "lab"] for t in themes}
    assert lines == [f"{title}: {', '.join(found)}" for title, found in labs.items() if found]
