"""What readers take home: the box under a title, the list of techniques, anchors, downloads."""

import re

import pytest
from building import ROOT

from press import book as books
from press import catalogue, notebooks, standalone

PAPERS = {paper.slug: paper for paper in catalogue.load(ROOT).notebooks}
PHONE = {"width": 390, "height": 844}


@pytest.fixture
def tab(browser):
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    yield tab
    tab.close()


def test_every_notebook_has_its_file_in_the_site(site):
    files = {file.name for file in (site / standalone.FOLDER).iterdir()}
    assert files == {f"{slug.replace('-', '_')}.py" for slug in PAPERS}
    for slug, paper in PAPERS.items():
        text = (site / standalone.FOLDER / f"{slug.replace('-', '_')}.py").read_text("utf-8")
        assert standalone.of(slug, ROOT).body in text
        assert paper.heading in text.splitlines()[0]


def test_the_box_has_file_use_tests_and_claims(tab, address):
    tab.goto(f"{address}/notebooks/choosing-data/rs2.html")
    box = tab.locator(".take-it")
    title = tab.locator("article h1").bounding_box()
    assert 0 < box.bounding_box()["y"] - title["y"] < 300
    with tab.expect_download() as got:
        box.get_by_role("link", name="rs2.py", exact=True).click()
    assert "class RS2Sampler" in got.value.path().read_text("utf-8")
    shown = box.locator("pre").inner_text().strip()
    assert shown == standalone.of("rs2", ROOT).use
    assert box.get_by_role("link", name="test_rs2_sampling.py").count() == 1
    assert re.search(r"Claims that rest on it: \d+", box.inner_text())
    box.get_by_role("link", name="All techniques").click()
    tab.wait_for_url("**/book/techniques.html")


def test_the_page_of_techniques_is_in_the_navigation_and_leads_to_each_name(tab, address, site):
    tab.goto(f"{address}/book/index.html")
    tab.locator(".bd-sidebar-primary").get_by_role("link", name="Techniques", exact=True).click()
    tab.wait_for_url("**/book/techniques.html")
    found = dict(tab.locator("table.techniques a").evaluate_all(
        "links => links.map(e => [new URL(e.href).pathname + new URL(e.href).hash, e.innerText])"
    ))  # fmt: skip
    for slug, paper in PAPERS.items():
        technique = standalone.of(slug, ROOT)
        page = (site / f"{paper.docname}.html").read_text("utf-8")
        for name, (_, words) in technique.defined.items():
            anchor = f"{technique.module}.{name}"
            assert f'id="{anchor}"' in page, anchor
            assert not words or found[f"/{paper.docname}.html#{anchor}"] == name
    tab.locator("table.techniques a", has_text="nt_xent_loss").first.click()
    tab.wait_for_url("**/simclrv2.html#simclrv2.nt_xent_loss")
    cell = tab.locator("div.cell", has_text="def nt_xent_loss").first
    assert 0 <= cell.bounding_box()["y"] < 300


def test_on_a_phone_nothing_sticks_out(tab, address):
    tab.set_viewport_size(PHONE)
    for page in ("book/techniques", "notebooks/shift/lls"):
        tab.goto(f"{address}/{page}.html")
        assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        for part in tab.locator(".take-it, table.techniques").all():
            box = part.bounding_box()
            assert box["x"] + box["width"] <= PHONE["width"], page


def test_cells_show_no_marks_for_tools_and_equations_by_their_numbers(site):
    for slug, paper in PAPERS.items():
        page = (site / f"{paper.docname}.html").read_text("utf-8")
        code = "\n".join(re.findall(r"<pre>.*?</pre>", page, re.DOTALL))
        assert "# fmt:" not in code, slug
        assert "{eq}" not in code, slug
        numbers = standalone.equation_numbers(notebooks.read(notebooks.path(slug, ROOT)))
        for label, number in numbers.items():
            place = re.search(rf'id="equation-{label}">.*?class="eqno">\((\d+)\)', page, re.DOTALL)
            assert int(place[1]) == number, label


def test_the_header_offers_the_whole_book_where_the_site_has_it(tab, address, site, tmp_path):
    tab.goto(f"{address}/notebooks/choosing-data/rs2.html")
    tab.get_by_role("button", name="Download this page").click()
    with tab.expect_download() as got:
        tab.get_by_role("link", name="Whole book, offline, .zip").click()
    assert got.value.suggested_filename == books.ARCHIVE
    assert tab.get_by_text("Whole book, .pdf").count() == 0  # not printed here
    page = tmp_path / "book" / "a.html"
    page.parent.mkdir()
    page.write_text((site / "book/index.html").read_text("utf-8"), "utf-8")
    (tmp_path / books.PDF).touch()
    for _ in range(2):
        books.offer(tmp_path)
        assert page.read_text("utf-8").count(f'href="../{books.PDF}" download') == 1
        assert books.ARCHIVE not in page.read_text("utf-8")
    (tmp_path / books.PDF).unlink()
    books.offer(tmp_path)
    assert "whole-book" not in page.read_text("utf-8")
