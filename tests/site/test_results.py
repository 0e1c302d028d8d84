"""Scoreboard, cards and tables of claims against the records in results/."""

import csv
import json
import re

import pytest
from building import ROOT

from press import notebooks, staleness

BOARD = "book/scoreboard.html"
NUMBER = re.compile(r"[−+-]?\d[\d,]*(?:\.\d+)?(?:e[−+-]?\d+)?")


def numbers(text):
    return [float(n.replace("−", "-").replace(",", "")) for n in NUMBER.findall(text)]


def rounded(shown, value):
    """Whether a shown number is a value, rounded to at least two digits."""
    if abs(value) < 0.001:
        return shown == pytest.approx(value, rel=0.06)
    return shown == pytest.approx(value, abs=0.00501)


@pytest.fixture(scope="module")
def recorded():
    """{(chapter, profile): record} of what is stored."""
    found = {}
    for profile in ("small", "full"):
        for file in sorted((ROOT / "results" / profile).glob("*.json")):
            found[file.stem, profile] = json.loads(file.read_text("utf-8"))
    assert found
    return found


@pytest.fixture
def board(browser, address):
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.goto(f"{address}/{BOARD}")
    yield page
    page.close()


def anchor(chapter, profile, claim):
    return f"claim-{chapter}-{claim['id']}" + ("" if profile == "small" else f"-{profile}")


def test_every_claim_has_a_row_with_its_numbers(board, recorded):
    rows = dict(
        board.locator("table.claims-table tbody tr").evaluate_all(
            "rows => rows.map(row => [row.id, [...row.cells].map(cell => cell.innerText)])"
        )
    )
    expected = set()
    for (chapter, profile), record in recorded.items():
        fresh = record["fingerprint"] == staleness.fingerprint(chapter, ROOT)
        for claim in record["claims"]:
            name = anchor(chapter, profile, claim)
            expected.add(name)
            assert name in rows, "no permanent link"
            verdict, statement, paper, ours, run = rows[name]
            assert claim["verdict"] == verdict.split("\n")[0][2:]
            if "$" not in claim["statement"]:
                shown = statement.replace("\xa0", " ").replace("’", "'")
                assert claim["statement"] in shown
            if claim["paper"]:
                assert numbers(paper)[0] == pytest.approx(claim["paper"]["value"])
                assert claim["paper"]["source"] in paper
            difference = claim["difference"]
            shown = re.search(r"difference (\S+) \[(\S+), (\S+)\]", ours).groups()
            for text, key in zip(shown, ("mean", "low", "high"), strict=True):
                assert rounded(numbers(text)[0], difference[key]), (name, text, difference[key])
            assert f"n = {difference['n']}" in ours
            assert f"{100 * difference['confidence']:g}" in ours
            assert profile in run
            assert record["finished"][:10] in run
            assert record["environment"]["device"] in run
            assert record["environment"]["torch"] in run
            assert ("fresh" if fresh else "stale") in run
    assert set(rows) == expected


def test_every_run_has_a_row_also_those_that_are_missing(board, recorded):
    rows = board.locator("table.runs-table tbody tr").evaluate_all(
        "rows => rows.map(r => [...r.cells].map(c => c.innerText))"
    )
    cards = (ROOT / "book/chapters.yml").read_text("utf-8").count("- name:")
    assert len(rows) == 2 * cards
    done = [row for row in rows if "not yet run" not in row[2] and "in preparation" not in row[2]]
    assert len(done) == len(recorded)
    for row in rows:
        if row not in done:
            assert not any(row[3:]), "a run that is missing shows results"


def test_claims_can_be_sorted_and_filtered(board):
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
    board.get_by_label("Verdict").select_option("inconclusive")
    left = board.locator("table.claims-table tbody tr:visible td:first-child").all_inner_texts()
    assert 0 < len(left) < total
    assert all("inconclusive" in text for text in left)
    board.get_by_role("button", name="Show all").click()
    board.get_by_text(f"{total} of {total} claims").wait_for()


def test_downloads_hold_every_claim(site, recorded):
    with (site / "results.csv").open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert len(lines) == sum(len(record["claims"]) for record in recorded.values())
    for line in lines:
        record = recorded[line["chapter"], line["profile"]]
        claim = next(c for c in record["claims"] if c["id"] == line["claim"])
        assert float(line["difference"]) == claim["difference"]["mean"]
        assert line["verdict"] == claim["verdict"]
    everything = json.loads((site / "results.json").read_text("utf-8"))
    for record in everything["records"]:
        record.pop("stale")
    assert everything["records"] == [*recorded.values()] or sorted(
        json.dumps(r, sort_keys=True) for r in everything["records"]
    ) == sorted(json.dumps(r, sort_keys=True) for r in recorded.values())


def test_tables_of_claims_in_chapters_equal_the_records_and_link_to_the_board(
    browser, address, recorded
):
    for (chapter, profile), record in recorded.items():
        if profile != "small":
            continue
        page = browser.new_page()
        page.goto(f"{address}/notebooks/{chapter}.html")
        rows = page.locator(".tag_claims table tbody tr").evaluate_all(
            "rows => rows.map(r => [[...r.cells].map(c => c.innerText.trim()),"
            " r.querySelector('a')?.getAttribute('href')])"
        )
        shown = {cells[1]: (cells[2:], link) for cells, link in rows}
        for claim in record["claims"]:
            (paper, ours, verdict), link = shown[claim["statement"]]
            difference = claim["difference"]
            values = numbers(ours)[:3]
            for value, key in zip(values, ("mean", "low", "high"), strict=True):
                assert value == pytest.approx(difference[key], abs=0.00501), claim["id"]
            assert verdict == claim["verdict"]
            if claim["paper"]:
                assert numbers(paper)[0] == pytest.approx(claim["paper"]["value"])
            assert link == f"../{BOARD}#{anchor(chapter, profile, claim)}"
        page.close()


def test_landing_page_counts_what_the_ledger_holds(browser, address, recorded):
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.goto(f"{address}/book/index.html")
    counts = {}
    for (chapter, _), record in recorded.items():
        if record["fingerprint"] == staleness.fingerprint(chapter, ROOT):
            for claim in record["claims"]:
                counts[claim["verdict"]] = counts.get(claim["verdict"], 0) + 1
    line = page.locator(".verdict-line").inner_text()
    for verdict, number in counts.items():
        assert f"{number} {verdict}" in line
    total = sum(len(record["claims"]) for record in recorded.values())
    assert f"{sum(counts.values()) or total} claims" in line
    assert ("has changed since" in line) == (sum(counts.values()) < total)
    assert page.locator("li.chapter-card").count() == 5
    boxes = page.locator("li.chapter-card").evaluate_all(
        "cards => cards.map(c => c.getBoundingClientRect().bottom)"
    )
    assert max(boxes) <= 900, "the cards do not fit on one screen"
    for chapter in notebooks.chapters(ROOT):
        card = page.locator("li.chapter-card", has=page.locator(f"a[href*='{chapter}.html']"))
        assert card.locator(".card-figure img").evaluate("e => e.decode().then(() => 1)") == 1
        assert card.get_by_role("link", name="Run in Colab").count() == 1
        assert re.search(r"small: .+; full: .+", card.locator(".card-times").inner_text())
    page.close()


def test_superseded_runs_show(board):
    lines = sum(
        len(file.read_text("utf-8").splitlines())
        for file in (ROOT / "results/history").rglob("*.jsonl")
    )
    assert board.locator("table.old-table tbody tr").count() == lines
