"""The claims ledger: what it refuses, what it judges, what it writes."""

import json
import math
import os
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from labutils import claims
from labutils.claims import Ledger, judge
from labutils.statistics import Interval, LedgerError

ENVIRONMENT = {"python": "3.11.7", "torch": "2.11.0", "device": "cpu (a processor, 1 threads)"}


def make(profile="small", seeds=(0, 1, 2), settings=None):
    settings = {"batch_size": 128} if settings is None else settings
    return Ledger("rs2", profile, seeds, settings, ENVIRONMENT, "0123456789abcdef")


def claim(book, name="rs2-beats-static", **changes):
    options = {
        "where": "Figure 1",
        "values": {"RS2": [76.2, 76.9, 75.8], "static": [75.1, 75.0, 74.2]},
        "direction": "greater",
        "paper": {"value": 15.1, "unit": "points", "source": "Figure 1 (CIFAR-10)"},
    }
    return book.claim(name, "RS2 beats a static subset", **(options | changes))


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"paper": {"value": 15.1, "unit": "points"}}, "paper's value needs its source"),
        ({"paper": {"value": 15.1, "source": "  "}}, "paper's value needs its source"),
        ({"paper": {"source": "Table 1"}}, "paper's value must be a finite number"),
        ({"paper": {"value": math.nan, "source": "Table 1"}}, "must be a finite number"),
        ({"values": {"a": [1.0, math.nan, 2.0], "b": [1.0, 2.0, 3.0]}}, "'a'.*NaN or infinity"),
        ({"values": {"a": [1.0, 2.0, 3.0], "b": [1.0, 2.0, math.inf]}}, "'b'.*NaN or infinity"),
        ({"values": {"a": [1.0, 2.0, 3.0], "b": [1.0, 2.0]}}, "'b': 2 values for 3 seeds"),
        ({"values": {"a": [1.0] * 4, "b": [2.0] * 4}}, "'a': 4 values for 3 seeds"),
        ({"values": {"a": [1.0, 2.0, 3.0]}}, r"two arms, got \['a'\]"),
        ({"values": {k: [1.0, 2.0, 3.0] for k in "abc"}}, "two arms, got"),
        ({"direction": "better"}, "'better' is not one of .*greater.*less.*equivalent"),
        ({"direction": "equivalent"}, "needs a margin above 0"),
        ({"direction": "equivalent", "margin": -1.0}, "needs a margin above 0"),
        ({"where": " "}, "say where the paper makes it"),
    ],
)
def test_refused_claims_are_named_and_not_recorded(changes, message):
    book = make()
    with pytest.raises(LedgerError, match=message) as caught:
        claim(book, **changes)
    assert "claim 'rs2-beats-static'" in str(caught.value)
    assert not book.claims


def test_one_seed_of_nan_is_refused_too():
    values = {"a": [math.nan], "b": [1.0]}
    with pytest.raises(LedgerError, match="'a'.*NaN"):
        claim(make(seeds=(0,)), values=values)


def test_duplicate_names_are_refused():
    book = make()
    claim(book)
    before = json.dumps(book.claims)
    with pytest.raises(LedgerError, match="'rs2-beats-static' is already in the ledger"):
        claim(book, direction="less")
    assert json.dumps(book.claims) == before


@pytest.mark.parametrize("name", ["", "RS2", "rs2_beats", "a--b", "-a", "a b", "ä", "a\n"])
def test_bad_names_are_refused(name):
    with pytest.raises(LedgerError, match="lower-case words"):
        claim(make(), name)
    with pytest.raises(LedgerError, match="lower-case words"):
        make().number(name, 1.0)


@pytest.mark.parametrize("value", [math.nan, math.inf, np.float32("nan"), torch.tensor(math.inf)])
def test_numbers_that_are_not_finite_are_refused(value):
    book = make()
    with pytest.raises(LedgerError, match="'steps' is (nan|inf); only finite"):
        book.number("steps", value)
    assert not book.numbers


# --- verdicts ------------------------------------------------------------------------------------

# (direction, margin) -> bounds of an interval and the verdict that they deserve
VERDICTS = [
    ("greater", 0.0, 0.1, 2.0, "reproduced"),
    ("greater", 0.0, -2.0, -0.1, "not reproduced"),
    ("greater", 0.0, -0.1, 2.0, "inconclusive"),
    ("greater", 1.0, 1.1, 2.0, "reproduced"),
    ("greater", 1.0, 0.5, 2.0, "inconclusive"),
    ("greater", 1.0, 0.5, 0.9, "not reproduced"),
    ("greater", 0.0, 0.0, 1.0, "inconclusive"),
    ("less", 0.0, -2.0, -0.1, "reproduced"),
    ("less", 0.0, 0.1, 2.0, "not reproduced"),
    ("less", 0.0, -2.0, 0.1, "inconclusive"),
    ("less", 1.0, -3.0, -1.1, "reproduced"),
    ("less", 1.0, -3.0, -0.9, "inconclusive"),
    ("less", 1.0, -0.9, 0.5, "not reproduced"),
    ("equivalent", 1.0, -0.9, 0.9, "reproduced"),
    ("equivalent", 1.0, 0.2, 0.9, "reproduced"),
    ("equivalent", 1.0, 0.2, 1.1, "inconclusive"),
    ("equivalent", 1.0, -1.1, 1.1, "inconclusive"),
    ("equivalent", 1.0, 1.1, 3.0, "not reproduced"),
    ("equivalent", 1.0, -3.0, -1.1, "not reproduced"),
]


@pytest.mark.parametrize(("direction", "margin", "low", "high", "verdict"), VERDICTS)
def test_verdicts(direction, margin, low, high, verdict):
    assert judge(Interval((low + high) / 2, low, high, 0.95, 3), direction, margin) == verdict
    assert (
        judge(Interval((low + high) / 2, low, high, 0.95, 2), direction, margin) == "inconclusive"
    )


def test_the_difference_is_first_minus_second():
    book = make()
    assert claim(book) == "reproduced"
    values = {"static": [75.1, 75.0, 74.2], "RS2": [76.2, 76.9, 75.8]}
    assert claim(book, "static-below-rs2", values=values, direction="less") == "reproduced"
    assert claim(book, "static-beats-rs2", values=values) == "not reproduced"
    first, second, _ = (book.claims[k]["difference"] for k in book.claims)
    assert first["mean"] == pytest.approx((1.1 + 1.9 + 1.6) / 3)
    assert (second["low"], second["high"]) == pytest.approx((-first["high"], -first["low"]))
    assert book.claims["static-below-rs2"]["arms"] == ["static", "RS2"]


def test_equivalence_uses_a_90_percent_interval():
    book = make()
    values = {"a": [0.0, 0.1, 0.2], "b": [0.0, 0.0, 0.0]}
    claim(book, "same", values=values, direction="equivalent", margin=0.28)
    claim(book, "more", values=values)
    same, more = book.claims["same"]["difference"], book.claims["more"]["difference"]
    assert (same["confidence"], more["confidence"]) == (0.9, 0.95)
    assert more["low"] < same["low"] < same["high"] < 0.28 < more["high"]
    assert book.claims["same"]["verdict"] == "reproduced"


def test_two_seeds_are_inconclusive_and_one_has_no_interval():
    book = make(seeds=(0, 1))
    assert claim(book, values={"a": [9.0, 9.1], "b": [1.0, 1.1]}) == "inconclusive"
    assert book.claims["rs2-beats-static"]["difference"]["n"] == 2
    book = make(seeds=(0,))
    assert claim(book, values={"a": [9.0], "b": [1.0]}) in ("inconclusive", "not judged")
    assert book.claims["rs2-beats-static"]["difference"] is None


def test_smoke_is_not_judged():
    book = make(profile="smoke")
    assert claim(book) == "not judged"
    assert book.claims["rs2-beats-static"]["difference"]["n"] == 3


def test_table_shows_paper_ours_and_verdict():
    book = make()
    claim(book)
    claim(book, "without-paper", paper=None)
    table = book.table()
    assert table["verdict"].tolist() == ["reproduced", "reproduced"]
    text = table.to_string()
    assert "+15.1 points" in text
    assert "+1.53 [" in text


# --- the record ----------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _no_other_folder(monkeypatch):
    monkeypatch.delenv("LABUTILS_RESULTS", raising=False)


def test_record_has_the_schema(tmp_path):
    book = make()
    claim(book)
    claim(book, "same", values={"a": np.ones(3), "b": torch.ones(3)}, paper=None)
    book.number("steps-1", np.int64(100), "steps")
    book.number("share", torch.tensor(0.25))
    path = book.save(tmp_path)
    assert path == tmp_path / "small" / "rs2.json"
    assert path.read_text(encoding="utf-8").endswith("}\n")
    record = json.loads(path.read_text(encoding="utf-8"))
    # the pipeline adds the title
    assert set(record) == {
        "schema",
        "chapter",
        "profile",
        "seeds",
        "finished",
        "duration_s",
        "peak_memory_mb",
        "peak_gpu_memory_mb",
        "environment",
        "fingerprint",
        "settings",
        "claims",
        "numbers",
    }  # fmt: skip
    assert (record["schema"], record["chapter"]) == (1, "rs2")
    assert (record["profile"], record["seeds"]) == ("small", [0, 1, 2])
    assert record["environment"] == ENVIRONMENT
    assert record["fingerprint"] == "0123456789abcdef"
    assert record["settings"] == {"batch_size": 128}
    assert len(record["finished"]) == len("2026-11-23T16:00:00Z")
    assert record["finished"][10] == "T"
    assert record["finished"][-1] == "Z"
    assert record["duration_s"] >= 0
    first, second = record["claims"]
    assert first | {"difference": None} == {
        "id": "rs2-beats-static",
        "statement": "RS2 beats a static subset",
        "where": "Figure 1",
        "paper": {"value": 15.1, "unit": "points", "source": "Figure 1 (CIFAR-10)"},
        "arms": ["RS2", "static"],
        "direction": "greater",
        "margin": 0.0,
        "unit": "points",
        "values": {"RS2": [76.2, 76.9, 75.8], "static": [75.1, 75.0, 74.2]},
        "difference": None,
        "verdict": "reproduced",
    }
    assert set(first["difference"]) == {"mean", "low", "high", "confidence", "n"}
    assert second["paper"] is None
    assert record["numbers"] == {
        "steps-1": {"value": 100, "unit": "steps"},
        "share": {"value": 0.25, "unit": ""},
    }
    assert [f.name for f in path.parent.iterdir()] == ["rs2.json"]


def test_results_folder_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("LABUTILS_RESULTS", str(tmp_path / "scratch"))
    path = make(profile="smoke").save(tmp_path / "unused")
    assert path == tmp_path / "scratch" / "smoke" / "rs2.json"
    assert not (tmp_path / "unused").exists()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_nan_reaches_the_file(tmp_path, value):
    path = make().save(tmp_path)
    before = path.read_bytes()
    with pytest.raises(LedgerError, match="rs2 is not JSON"):
        make(settings={"rate": value}).save(tmp_path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("place", ["write", "rename"])
def test_a_failing_save_leaves_the_earlier_record(tmp_path, monkeypatch, place):
    book = make()
    path = book.save(tmp_path)
    before = path.read_bytes()
    claim(book)

    def half(self, text, **options):
        with open(self, "w") as stream:
            stream.write(text[: len(text) // 2])
        raise OSError("No space left on device")

    def refused(*arguments):
        raise OSError("No space left on device")

    if place == "write":
        monkeypatch.setattr(Path, "write_text", half)
    else:
        monkeypatch.setattr(os, "replace", refused)
    with pytest.raises(OSError, match="No space"):
        book.save(tmp_path)
    assert path.read_bytes() == before
    monkeypatch.undo()
    assert json.loads(book.save(tmp_path).read_text())["claims"]


# --- numbers in the prose ------------------------------------------------------------------------


@pytest.fixture
def shell():
    InteractiveShell.clear_instance()
    yield InteractiveShell.instance()
    InteractiveShell.clear_instance()


@pytest.mark.parametrize("value", [76.25, 1 / 3, 100, -0.0, 1e-30, np.float64(2.5)])
def test_glued_outputs_are_those_of_myst_nb(shell, value):
    from myst_nb import glue

    with capture_output() as theirs:
        glue("rs2-accuracy-1", float(value) if isinstance(value, float) else value, display=False)
    with capture_output() as ours:
        returned = make().number("rs2-accuracy-1", value, "%")
    assert returned == value
    (theirs,), (ours,) = theirs.outputs, ours.outputs
    assert ours._repr_mime_("application/papermill.record/text/plain")
    assert (ours.data, ours.metadata) == (theirs.data, theirs.metadata)


def test_numbers_outside_a_notebook_print_nothing(capsys, monkeypatch):
    InteractiveShell.clear_instance()
    make().number("steps", 3)
    assert capsys.readouterr().out == ""
    assert not InteractiveShell.initialized()
    monkeypatch.setitem(sys.modules, "IPython.core.interactiveshell", types.ModuleType("absent"))
    assert make().number("steps", 3) == 3


def test_exported_names_are_the_documented_ones():
    assert set(claims.VERDICTS) == {v for *_, v in VERDICTS} | {"not judged"}
    assert set(claims.DIRECTIONS) == {d for d, *_ in VERDICTS}
