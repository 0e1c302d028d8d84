"""The archive, unpacked and opened from disk, without a server."""

import zipfile

import pytest

from press.book import ARCHIVE


@pytest.fixture(scope="module")
def folder(book, tmp_path_factory):
    target = tmp_path_factory.mktemp("unpacked with spaces")
    with zipfile.ZipFile(book / "_build" / ARCHIVE) as packed:
        assert packed.testzip() is None
        packed.extractall(target)
    (top,) = target.iterdir()
    return top


@pytest.fixture
def page(browser):
    """A page that fails the test on errors and on requests to any host."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    problems = []
    page.on("console", lambda m: m.type == "error" and problems.append(m.text))
    page.on("pageerror", lambda e: problems.append(str(e)))
    page.on(
        "request",
        lambda r: r.url.startswith(("file:", "data:", "blob:")) or problems.append(r.url),
    )
    yield page
    page.close()
    assert problems == []


def test_navigation(page, folder):
    page.goto((folder / "index.html").as_uri())
    page.wait_for_url("**/book/index.html")
    page.locator(".bd-sidebar-primary").get_by_role("link", name="Scoreboard").click()
    page.wait_for_url("**/book/scoreboard.html")
    assert page.locator("article h1").inner_text().startswith("Scoreboard")
    page.locator("table.runs-table a[href*='#claims-of-']").first.click()
    page.wait_for_url("**/book/themes/*.html#claims-of-*")
    page.get_by_role("link", name="In the notebook").first.click()
    page.wait_for_url("**/notebooks/*/*.html#table-of-claims")
    page.locator("a.right-next").click()
    page.locator("article h1").first.wait_for()


def test_mathematics_and_figures(page, folder):
    page.goto((folder / "notebooks/choosing-data/rs2.html").as_uri())
    assert page.locator(".math").count() > 10
    assert page.locator(".math:not(:has(.katex-html))").count() == 0
    figure = page.locator("article figure img").first
    figure.scroll_into_view_if_needed()
    figure.evaluate("e => e.decode()")


def test_it_offers_itself_to_nobody_who_has_it(folder):
    for file in folder.rglob("*.html"):
        assert ARCHIVE not in file.read_text("utf-8"), file.name


def test_search(page, folder):
    page.goto((folder / "book/index.html").as_uri())
    page.keyboard.press("Control+k")
    page.locator("#pst-search-dialog input").wait_for()
    page.keyboard.type("stratified")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=stratified")
    results = page.locator("#search-results ul.search li a")
    results.first.wait_for()
    results.first.click()
    page.wait_for_url(lambda url: "search.html" not in url)
    assert page.locator("article h1").count() > 0
