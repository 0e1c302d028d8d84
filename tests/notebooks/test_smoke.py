"""The smoke runs' memory: what makes a notebook run again, and what a run must not change."""

import json
from dataclasses import replace

import pytest
import smoke
import throwaway
import tiny

from labutils.claims import Claim, Record


@pytest.fixture
def book(tmp_path):
    root = tiny.make_book(tmp_path / "a book")
    tiny.write(root)
    return root


def record(first=1.0, seconds=2.0):
    rows = {"better": ("points", first), "faster": ("s", seconds)}
    claims = [
        Claim(name, name, "ours", False, "", ["A", "B"], "greater", 0.0, unit,
              {"A": [value], "B": [0.0]}, None)
        for name, (unit, value) in rows.items()
    ]  # fmt: skip
    return Record("tiny", "smoke", [0], {}, {"torch": "2"}, claims, {}, "2026-01-02", 3.0)


def edit(root, name, old, new):
    file = root / name
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new), "utf-8")


NOTEBOOK = "notebooks/theme/tiny.ipynb"


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        (NOTEBOOK, "0.1 + 0.2", "0.1 + 0.3"),
        (NOTEBOOK, '"parameters"\n', '"parameters", "raises-exception"\n'),
        ("labutils/plots.py", "import", "# a comment\nimport"),
        ("labutils/claims.py", "p: corrected", "p:  corrected"),
    ],
)
def test_a_change_of_code_runs_a_notebook_again(book, name, old, new):
    before = smoke.key("tiny", book)
    assert smoke.key("tiny", book) == before
    edit(book, name, old, new)
    assert smoke.key("tiny", book) != before


def test_other_packages_run_a_notebook_again(book, monkeypatch):
    before = smoke.key("tiny", book)
    monkeypatch.setattr(smoke, "_surroundings", lambda: "another machine")
    assert smoke.key("tiny", book) != before


def test_prose_outputs_and_numbers_of_cells_do_not(book):
    before = smoke.key("tiny", book)
    edit(book, NOTEBOOK, "# Tiny", "# A tiny notebook")
    edit(book, NOTEBOOK, '"execution_count": null', '"execution_count": 3')
    assert smoke.key("tiny", book) == before


def test_a_green_run_is_remembered_until_the_code_changes(book):
    assert smoke.remembered("tiny", book) == {}
    smoke.remember("tiny", record(), book)
    assert smoke.remembered("tiny", book)["key"] == smoke.key("tiny", book)
    edit(book, NOTEBOOK, "0.1 + 0.2", "0.1 + 0.3")
    assert smoke.remembered("tiny", book)["key"] != smoke.key("tiny", book)


def test_other_values_by_the_same_code_are_found(book):
    assert smoke.differences("tiny", record(), book) == {}, "nothing to compare with"
    smoke.remember("tiny", record(), book)
    assert smoke.differences("tiny", record(seconds=9.0), book) == {}, "seconds may differ"
    found = smoke.differences("tiny", record(first=1.5), book)
    assert found == {"claim better": ({"A": [1.0], "B": [0.0]}, {"A": [1.5], "B": [0.0]})}
    fewer = replace(record(), claims=record().claims[1:])
    assert smoke.differences("tiny", fewer, book) == {
        "claim better": ({"A": [1.0], "B": [0.0]}, None)
    }
    edit(book, NOTEBOOK, "0.1 + 0.2", "0.1 + 0.3")
    assert smoke.differences("tiny", record(first=1.5), book) == {}, "the code is another"


@pytest.mark.notebook
def test_a_run_returns_the_record_and_leaves_the_notebook(book, tmp_path):
    before = (book / NOTEBOOK).read_bytes()
    found = smoke.run("tiny", tmp_path, book)
    assert (found.notebook, found.profile, found.seeds) == ("tiny", "smoke", [0])
    assert (book / NOTEBOOK).read_bytes() == before
    assert not (book / "_build").exists()


@pytest.mark.notebook
def test_a_notebook_that_fails_fails_with_its_traceback(book, tmp_path):
    tiny.write(book, numbers="width = 1 / 0")
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        smoke.run("tiny", tmp_path, book)


def test_two_runs_differ_in_what_a_clock_measured_alone():
    def run(seconds, value):
        (claim,) = throwaway.record().claims
        numbers = {
            "width": {"value": value, "unit": "cm"},
            "net-seconds": {"value": seconds, "unit": "%"},
            "short": {"value": seconds, "unit": "s"},
        }
        return throwaway.record(
            claims=[claim, replace(claim, id="cheaper", unit="s", margin=seconds)],
            numbers=numbers, duration_s=seconds, finished=f"{seconds}", peak_memory_mb=seconds,
            outputs=f"{seconds}", history=f"{seconds}",
        )  # fmt: skip

    assert smoke.timeless(run(1.0, 2.0)) == smoke.timeless(run(7.0, 2.0))
    assert smoke.timeless(run(1.0, 2.0)) != smoke.timeless(run(1.0, 2.0 + 1e-15))
    claims = json.loads(smoke.timeless(run(1.0, 2.0)))["claims"]
    assert [claim["id"] for claim in claims] == ["better"]
