"""What the benchmarks share: turns, ratios, tables, files."""

import itertools
import json
import sys

from benchmarks import sides


def test_sides_take_turns_and_ratios_are_taken_within_a_turn():
    calls, speed = [], iter([1, 1, 4, 2, 8, 4, 6, 2])

    def side(name):
        return lambda: calls.append(name) or next(speed)

    found = sides.in_turns({"ours": side("ours"), "peer": side("peer")}, 3)
    assert calls == ["ours", "peer"] * 4  # the first turn warms up
    assert found == {"ours": [4, 8, 6], "peer": [2, 4, 2]}
    assert sides.ratios(found["ours"], found["peer"]) == [2, 2, 3]
    assert sides.ratio(found["ours"], found["peer"]) == "2.0 (2.0 to 3.0)"


def test_a_table_says_where_we_are_behind_and_what_is_missing():
    assert sides.ratio([1, 2], [4, 4]) == "**0.38 (0.25 to 0.50)**"
    assert sides.ratio([1, 8], [4, 4]) == "1.12 (0.25 to 2.00)"
    assert sides.ratio([1], None) == "–"
    assert sides.table(["a", "b"], [["1", "2"]]) == ["| a | b |", "| --- | ---: |", "| 1 | 2 |"]
    found = sides.machine("numpy", "no-such-package") | {"repetitions": 3, "load_before": 4.0}
    text = sides.origin(found)
    assert "3 turns beside other work" in text
    assert f"numpy {found['versions']['numpy']}" in text
    assert "not installed: no-such-package" in text


def test_a_rate_counts_items_for_as_long_as_asked(monkeypatch):
    calls = []
    monkeypatch.setattr(sides, "clock", itertools.count(100.0, 2.0).__next__)
    assert sides.rate(lambda: calls.append(1), 10, at_least=5.0)() == 30 / 6
    assert len(calls) == 3


def test_the_command_writes_result_page_and_figure(tmp_path, monkeypatch):
    def draw(result, file):
        file.write_text(str(result["width"]))

    def measure(repetitions):
        return {"width": repetitions}

    def command(*options):
        monkeypatch.setattr(sys, "argv", ["x", *options])
        sides.main("wide", measure, lambda result: f"{result['width']} cm\n", draw=draw)

    (tmp_path / "benchmarks").mkdir()
    monkeypatch.setattr(sides, "ROOT", tmp_path)
    command("--repetitions", "2", "--dry-run")
    page, stored = tmp_path / "book/generated/wide.md", tmp_path / "benchmarks/wide.json"
    assert not page.exists()
    command("--repetitions", "2")
    assert page.read_text("utf-8") == "2 cm\n"
    assert page.with_suffix(".svg").read_text("utf-8") == "2"
    found = json.loads(stored.read_text("utf-8"))
    assert found.keys() >= {"date", "cpu", "python", "versions", "repetitions", "took_s"}
    page.unlink()
    command("--page")
    assert page.read_text("utf-8") == "2 cm\n"
