"""Scoreboard, tables of claims and downloads against the records in results/."""

import csv
import json
import re
from dataclasses import asdict

import pytest
from building import ROOT

from labutils.statistics import VERDICTS
from press import reader, staleness

BOARD = "book/scoreboard.html"
NUMBER = re.compile(r"[−+-]?\d[\d,]*(?:\.\d+)?(?:e[−+-]?\d+)?")
ROWS = "rows => rows.map(row => [row.id, [...row.cells].map(cell => cell.innerText)])"


def numbers(text):
    return [float(n.replace("−", "-").replace(",", "")) for n in NUMBER.findall(text)]


def rounded(shown, value):
    """Whether a shown number is a value, rounded to at least two digits."""
    if abs(value) < 0.001:
        return shown == pytest.approx(value, rel=0.06) or shown == round(value, 3)
    return shown == pytest.approx(value, abs=0.00501)


def shows(text, p):
    """Whether a text shows a p-value: three digits of it, or that it is small."""
    return "< 0.001" in text if p < 0.001 else numbers(text)[0] == pytest.approx(p, abs=0.000501)


def anchor(slug, profile, claim):
    return f"claim-{slug}-{claim.id}" + ("" if profile == "small" else f"-{profile}")


@pytest.fixture(scope="module")
def recorded():
    """{(theme, slug, profile): Record} of what is stored, replications left out."""
    found = {}
    for file in sorted((ROOT / "results").glob("*/*.json")):
        slug, profile, *device = file.stem.split(".")
        if not device:
            found[file.parent.name, slug, profile] = reader.read(file)
    assert found
    return found


@pytest.fixture(scope="module")
def themes(recorded):
    return sorted({theme for theme, _, _ in recorded})


@pytest.fixture
def at(browser, address):
    """at(page of the site): a tab that shows it."""
    tabs = []

    def at(name):
        tabs.append(browser.new_page(viewport={"width": 1400, "height": 900}))
        tabs[-1].goto(f"{address}/{name}")
        return tabs[-1]

    yield at
    for tab in tabs:
        tab.close()


def test_every_claim_has_a_row_with_its_numbers_on_the_page_of_its_theme(at, recorded, themes):
    for theme in themes:
        page = at(f"book/themes/{theme}.html")
        rows = dict(page.locator("table.claims-table tbody tr").evaluate_all(ROWS))
        expected = set()
        for (place, slug, profile), record in recorded.items():
            if place != theme:
                continue
            fresh = record.fingerprint == staleness.fingerprint(slug, ROOT)
            for claim in record.claims:
                name = anchor(slug, profile, claim)
                expected.add(name)
                assert name in rows, "no permanent link"
                check_row(rows[name], profile, record, claim)
                assert ("stale" in rows[name][5]) == (not fresh)
        assert set(rows) == expected


def check_row(row, profile, record, claim):
    statement, whose, paper, ours, p, shown = row
    verdict, difference = record.verdicts()[claim.id], claim.difference
    assert shown.split("\n")[0].split(" stale")[0] == f"{shown[0]} {verdict.verdict}"
    assert claim.statement in statement.replace("\xa0", " ")
    assert whose == claim.source + (" ● primary" if claim.primary else "")
    assert profile in statement
    assert record.finished[:10] in statement
    if claim.paper:
        assert numbers(paper)[0] == pytest.approx(claim.paper["value"])
        assert claim.paper["source"] in paper
    found = re.search(r"difference (\S+) \[(\S+), (\S+)\]", ours).groups()
    for text, key in zip(found, ("mean", "low", "high"), strict=True):
        value = getattr(difference, key)
        assert rounded(numbers(text)[0], value), (claim.id, text, value)
    assert f"n = {difference.n}" in ours
    assert f"{100 * difference.confidence:g}" in ours
    assert (p == "") if verdict.adjusted is None else shows(p, verdict.adjusted)
    assert ("corrected" in p) == (claim.primary and verdict.adjusted is not None)


def test_every_run_has_a_row_also_those_that_are_missing(at, recorded):
    rows = (
        at(BOARD)
        .locator("table.runs-table tbody tr")
        .evaluate_all(
            "rows => rows.map(r => [[...r.cells].map(c => c.innerText),"
            " r.querySelector('a').getAttribute('href')])"
        )
    )
    shown = {
        (link.rsplit("/", 1)[1].removesuffix(".html"), cells[1]): cells for cells, link in rows
    }
    assert len(shown) == len(rows)
    slugs = {path.stem for path in (ROOT / "notebooks").glob("*/*.ipynb")}
    assert {slug for slug, profile in shown if profile == "small"} == slugs
    for (_, slug, profile), record in recorded.items():
        _, _, state, paper, ours, run = shown.pop((slug, profile))
        fresh = record.fingerprint == staleness.fingerprint(slug, ROOT)
        assert ("stale" in state, "fresh" in state) == (not fresh, fresh)
        verdicts = record.verdicts()
        for source, text in (("paper", paper), ("ours", ours)):
            found = [verdicts[c.id].verdict for c in record.claims if c.source == source]
            counts = [f"{found.count(v)} {v}" for v in VERDICTS if v in found]
            assert re.findall(r"\d+ [a-z ]+[a-z]", text) == counts
        for words in (record.finished[:10], record.fingerprint, f"{len(record.seeds)} seed"):
            assert words in run
        assert {record.environment[k] in run for k in ("device", "python", "torch")} == {True}
    for cells in shown.values():
        assert "not yet run" in cells[2]
        assert not any(cells[3:]), "a run that is missing shows results"


def test_claims_can_be_sorted_and_filtered(at, recorded):
    (theme, _, _), _ = max(recorded.items(), key=lambda item: len(item[1].claims))
    board = at(f"book/themes/{theme}.html")
    rows = board.locator("table.claims-table tbody tr:visible")
    total = rows.count()
    head = board.locator("table.claims-table th", has_text="Ours")
    head.get_by_role("button").focus()
    for direction, sign in (("ascending", 1), ("descending", -1)):
        board.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == direction
        ours = [numbers(t.split("[")[0])[0] for t in board.locator(
            "table.claims-table tbody td:nth-child(4)").all_inner_texts()]  # fmt: skip
        assert ours == sorted(ours, key=lambda v: sign * v)
    for control, column, wanted in (("Verdict", 6, "inconclusive"), ("Whose", 2, "ours")):
        board.get_by_label(control).select_option(wanted)
        left = board.locator(f"table.claims-table tbody tr:visible td:nth-child({column})")
        assert 0 < len(left.all_inner_texts()) < total
        assert all(wanted in text for text in left.all_inner_texts())
        board.get_by_role("button", name="Show all").click()
        board.get_by_text(f"{total} of {total} claims").wait_for()


def test_old_address_of_a_claim_leads_to_the_page_of_its_theme(at, recorded):
    for (theme, slug, profile), record in recorded.items():
        name = anchor(slug, profile, record.claims[-1])
        page = at(f"{BOARD}#{name}")
        page.wait_for_url(f"**/book/themes/{theme}.html#{name}")
        assert page.locator(f"[id='{name}']").is_visible()


def test_downloads_hold_every_claim(site, recorded):
    with (site / "results.csv").open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert len(lines) == sum(len(record.claims) for record in recorded.values())
    for line in lines:
        record = recorded[line["theme"], line["notebook"], line["profile"]]
        claim = next(claim for claim in record.claims if claim.id == line["claim"])
        verdict = record.verdicts()[claim.id]
        assert float(line["difference"]) == claim.difference.mean
        assert (line["source"], line["primary"]) == (claim.source, str(claim.primary))
        assert line["verdict"] == verdict.verdict
        for column, p in (("p", verdict.p), ("adjusted_p", verdict.adjusted)):
            assert line[column] == ("" if p is None else str(p))
    everything = json.loads((site / "results.json").read_text("utf-8"))
    found = {}
    for record in everything["records"]:
        theme, verdicts, _ = (record.pop(key) for key in ("theme", "verdicts", "stale"))
        found[theme, record["notebook"], record["profile"]] = record, verdicts
    assert found == {
        key: (asdict(record), {name: asdict(v) for name, v in record.verdicts().items()})
        for key, record in recorded.items()
    }


def test_tables_of_claims_in_notebooks_equal_the_records_and_link_to_the_theme(at, recorded):
    for (theme, slug, profile), record in recorded.items():
        if profile != "small":
            continue
        page = at(f"notebooks/{theme}/{slug}.html")
        table = page.locator(".tag_claims table", has_text="verdict").last  # of all, maybe folded
        heads = table.locator("thead th").evaluate_all("all => all.map(h => h.textContent)")
        names = [name.strip().split(":")[0] for name in heads]
        shown = {}
        for cells, link in table.locator("tbody tr").evaluate_all(
            "rows => rows.map(r => [[...r.cells].map(c => c.textContent.trim()),"
            " r.querySelector('a')?.getAttribute('href')])"
        ):
            row = dict(zip(names, cells, strict=True))
            shown[row["claim"]] = row | {"link": link}
        verdicts = record.verdicts()
        for claim in record.claims:
            row, verdict = shown[claim.statement], verdicts[claim.id]
            values = numbers(row["ours"])[:3]
            for value, key in zip(values, ("mean", "low", "high"), strict=True):
                expected = getattr(claim.difference, key)
                assert value == pytest.approx(expected, abs=0.00501), claim.id
            assert row["whose"] == claim.source + (" ●" if claim.primary else "")
            assert row["verdict"] == verdict.verdict
            assert (
                row["p"] == "-" if verdict.adjusted is None else shows(row["p"], verdict.adjusted)
            )
            if claim.paper:
                assert numbers(row["paper"])[0] == pytest.approx(claim.paper["value"])
            page_of_theme = f"../../book/themes/{theme}.html"
            assert row["link"] == f"{page_of_theme}#{anchor(slug, profile, claim)}"


def test_superseded_runs_show(at):
    lines = [
        json.loads(line)
        for file in (ROOT / "results").glob("*/*.history.jsonl")
        for line in file.read_text("utf-8").splitlines()
    ]
    assert lines
    rows = at(BOARD).locator("table.old-table tbody tr").all_inner_texts()
    assert len(rows) == len(lines)
    for line in lines:
        shown = line["fingerprint"], line["finished"][:10], line["environment"]["device"]
        assert any(all(words in row for words in shown) for row in rows)


def test_claims_are_found_by_the_search(at):
    page = at("search.html?q=truncated+schedule")
    page.locator("#search-results ul.search li a").first.wait_for()
    found = page.locator("#search-results ul.search li a").all()
    assert any("book/themes/" in link.get_attribute("href") for link in found)


def test_filters_stand_in_the_address_and_give_way_to_a_claim_that_is_asked_for(at, recorded):
    (theme, slug, profile), record = max(recorded.items(), key=lambda item: len(item[1].claims))
    verdicts = {c.id: v for c in record.claims if (v := record.verdicts()[c.id].verdict)}
    hidden = next(c for c in record.claims if verdicts[c.id] != "inconclusive")
    page = at(f"book/themes/{theme}.html?verdict=inconclusive&source=ours")
    shown = page.locator("table.claims-table tbody tr:visible")
    assert all("inconclusive" in text for text in shown.all_inner_texts())
    page.get_by_label("Whose").select_option("")
    assert page.evaluate("location.search") == "?verdict=inconclusive"
    name = anchor(slug, profile, hidden)
    page.evaluate(f"location.hash = '{name}'")
    row = page.locator(f"[id='{name}']")
    row.wait_for()
    assert 0 <= row.bounding_box()["y"] < 900
    assert page.evaluate("location.search") == ""


def test_own_claims_are_never_red(at, themes):
    colour = "e => getComputedStyle(e).color"
    seen = 0
    for theme in themes:
        page = at(f"book/themes/{theme}.html")
        red = page.evaluate(
            """() => {
                 const probe = document.body.appendChild(document.createElement('span'));
                 probe.className = 'verdict-not-reproduced';
                 return getComputedStyle(probe).color;
               }"""
        )
        for badge in page.locator("tr.ours .verdict-not-reproduced").all():
            seen += 1
            assert badge.evaluate(colour) != red
    assert seen


def test_glued_numbers_below_zero_have_a_minus_sign(site):
    glued = [
        number
        for page in site.glob("notebooks/**/*.html")
        for number in re.findall(r'"pasted-text">([^<]*)', page.read_text("utf-8"))
    ]
    assert [n for n in glued if n.startswith("−")]
    assert not [n for n in glued if n.startswith("-")]
