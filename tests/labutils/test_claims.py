"""The claims ledger: what it refuses, what it judges, what it writes."""

import json
import math
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from labutils.claims import Ledger, RecordError
from press import reader

ENVIRONMENT = {"python": "3.11.7", "torch": "2.11.0", "device": "cpu (a processor, 1 threads)"}


def make(profile="small", seeds=(0, 1, 2), settings=None):
    settings = {"batch_size": 128} if settings is None else settings
    return Ledger("rs2", profile, seeds, settings, ENVIRONMENT)


def claim(book, name="rs2-beats-static", **changes):
    options = {
        "source": "paper",
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
        ({"paper": {"value": 15.1, "unit": "points"}}, "paper: expected .* its source"),
        ({"paper": {"value": 15.1, "source": "  "}}, "paper: expected .* its source"),
        ({"paper": {}}, "paper: expected .* its source"),
        ({"paper": {"source": "Table 1"}}, "paper: expected a finite value"),
        ({"paper": {"value": math.nan, "source": "Table 1"}}, "paper: expected a finite value"),
        ({"values": {"a": [1.0, math.nan, 2.0], "b": [1.0, 2.0, 3.0]}}, "values.a: .*finite.*nan"),
        ({"values": {"a": [1.0, 2.0, 3.0], "b": [1.0, 2.0, math.inf]}}, "values.b: .*finite.*inf"),
        ({"values": {"a": [1.0, 2.0, 3.0], "b": [1.0, 2.0]}}, r"values.b: .*3 seeds.*\[1.0, 2.0\]"),
        ({"values": {"a": [1.0] * 4, "b": [2.0] * 4}}, "values.a: .*each of 3 seeds"),
        ({"values": {"a": [1.0, 2.0, 3.0]}}, r"arms: expected two names.*\['a'\]"),
        ({"values": {k: [1.0, 2.0, 3.0] for k in "abc"}}, "arms: expected two names"),
        ({"direction": "better"}, "one of .*greater.*less.*equivalent.*, found 'better'"),
        ({"direction": "equivalent"}, "a margin above 0"),
        ({"direction": "equivalent", "margin": -1.0}, "a margin above 0 .*found -1.0"),
        ({"where": " "}, "where the paper makes the claim"),
        ({"source": "theirs"}, "one of .*paper.*ours.*, found 'theirs'"),
    ],
)
def test_refused_claims_are_named_and_not_recorded(changes, message):
    book = make()
    with pytest.raises(RecordError, match=message) as caught:
        claim(book, **changes)
    assert "claim 'rs2-beats-static'" in str(caught.value)
    assert not book.claims


def test_one_seed_of_nan_is_refused_too():
    values = {"a": [math.nan], "b": [1.0]}
    with pytest.raises(RecordError, match=r"values\.a: .*finite.*nan"):
        claim(make(seeds=(0,)), values=values)


def test_duplicate_names_are_refused():
    book = make()
    claim(book)
    before = list(book.claims)
    with pytest.raises(RecordError, match="'rs2-beats-static': expected a name that no other"):
        claim(book, direction="less")
    assert book.claims == before


@pytest.mark.parametrize("name", ["", "RS2", "rs2_beats", "a--b", "-a", "a b", "ä", "a\n"])
def test_bad_names_are_refused(name):
    with pytest.raises(RecordError, match="lower-case words"):
        claim(make(), name)
    with pytest.raises(RecordError, match="lower-case words"):
        make().number(name, 1.0)


@pytest.mark.parametrize("value", [math.nan, math.inf, np.float32("nan"), torch.tensor(math.inf)])
def test_numbers_that_are_not_finite_are_refused(value):
    book = make()
    with pytest.raises(RecordError, match=r"'steps': expected .*finite.*, found .*(nan|inf)"):
        book.number("steps", value)
    assert not book.numbers


def test_a_claim_over_the_first_seeds_says_over_how_many(tmp_path):
    book = make(seeds=(0, 1, 2, 3))
    with pytest.raises(RecordError, match=r"values.RS2: .*each of 4 seeds"):
        claim(book)  # three values: not by accident
    claim(book, num_seeds=3)
    four = {"RS2": [76.2, 76.9, 75.8, 77.0], "static": [75.1, 75.0, 74.2, 75.2]}
    claim(book, "all-seeds", values=four)
    with pytest.raises(RecordError, match=r"values.RS2: .*each of 3 seeds"):
        claim(book, "too-many", values=four, num_seeds=3)
    with pytest.raises(RecordError, match=r"values.static: .*each of 3 seeds"):
        claim(book, "unequal", values=four | {"RS2": four["RS2"][:3]}, num_seeds=3)
    assert [c.n for c in book.claims] == [3, 4]
    assert [c.difference.n for c in book.claims] == [3, 4]
    assert book.table()["n"].tolist() == [3, 4]
    assert book.verdicts()["rs2-beats-static"].verdict == "reproduced"
    assert reader.read(book.save(tmp_path)).claims == book.claims


def test_a_run_with_fewer_seeds_has_all_of_them_in_such_a_claim():
    book = make(seeds=(5,))
    claim(book, values={"a": [1.0], "b": [2.0]}, num_seeds=10)
    assert book.claims[0].n == 1
    assert "n" not in book.table()  # as many as all others


# --- verdicts ------------------------------------------------------------------------------------


def verdicts(book):
    return {name: found.verdict for name, found in book.verdicts().items()}


def test_the_difference_is_first_minus_second():
    book = make()
    claim(book)
    values = {"static": [75.1, 75.0, 74.2], "RS2": [76.2, 76.9, 75.8]}
    claim(book, "static-below-rs2", values=values, direction="less")
    claim(book, "static-beats-rs2", values=values)
    assert list(verdicts(book).values()) == ["reproduced", "reproduced", "not reproduced"]
    first, second, _ = (claim.difference for claim in book.claims)
    assert first.mean == pytest.approx((1.1 + 1.9 + 1.6) / 3)
    assert (second.low, second.high) == pytest.approx((-first.high, -first.low))
    assert book.claims[1].arms == ["static", "RS2"]


def test_equivalence_uses_a_90_percent_interval():
    book = make()
    values = {"a": [0.0, 0.1, 0.2], "b": [0.0, 0.0, 0.0]}
    claim(book, "same", values=values, direction="equivalent", margin=0.28)
    claim(book, "more", values=values)
    same, more = (claim.difference for claim in book.claims)
    assert (same.confidence, more.confidence) == (0.9, 0.95)
    assert more.low < same.low < same.high < 0.28 < more.high
    assert verdicts(book) == {"same": "reproduced", "more": "inconclusive"}


def test_two_seeds_are_inconclusive_and_one_has_no_interval():
    book = make(seeds=(0, 1))
    claim(book, values={"a": [9.0, 9.1], "b": [1.0, 1.1]})
    assert book.claims[0].difference.n == 2
    assert verdicts(book) == {"rs2-beats-static": "inconclusive"}
    book = make(seeds=(0,))
    claim(book, values={"a": [9.0], "b": [1.0]})
    assert book.claims[0].difference is None
    assert verdicts(book) == {"rs2-beats-static": "not judged"}
    assert "one seed" in book.table().to_string()


def test_smoke_is_not_judged():
    book = make(profile="smoke")
    claim(book)
    assert verdicts(book) == {"rs2-beats-static": "not judged"}
    assert book.claims[0].difference.n == 3


WEAK = {"a": [1.0, 2.0, 3.0], "b": [0.0, 0.1, 1.9]}  # p about 0.03


def test_primary_claims_share_their_level_and_others_do_not():
    book = make()
    claim(book, "alone", values=WEAK)
    claim(book, "first", values=WEAK, primary=True)
    assert verdicts(book) == {"alone": "reproduced", "first": "reproduced"}
    claim(book, "second", values=WEAK, primary=True)
    found = book.verdicts()
    assert {name: v.verdict for name, v in found.items()} == {
        "alone": "reproduced", "first": "inconclusive", "second": "inconclusive",
    }  # fmt: skip
    assert found["first"].adjusted == pytest.approx(2 * found["first"].p)
    assert found["alone"].adjusted == found["alone"].p == found["first"].p


def test_table_shows_whose_paper_ours_p_and_verdict():
    book = make()
    claim(book, primary=True)
    claim(book, "without-paper", paper=None, source="ours", where="")
    table = book.table()
    assert table["verdict"].tolist() == ["reproduced", "reproduced"]
    assert table["whose"].tolist() == ["paper ●", "ours"]
    assert table["paper"].tolist() == ["+15.1 points", "-"]
    p = book.verdicts()["rs2-beats-static"].adjusted
    assert table["p"].tolist() == [f"{p:.3f}"] * 2
    assert "+1.53 [" in table.to_string()


# --- the record ----------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _no_other_folder(monkeypatch):
    monkeypatch.delenv("LABUTILS_RESULTS", raising=False)


def recorded():
    book = make()
    claim(book, primary=True)
    claim(
        book, "same", values={"a": np.ones(3), "b": torch.ones(3)}, paper=None, source="ours",
        where="", direction="equivalent", margin=1,
    )  # fmt: skip
    book.number("steps-1", np.int64(100), "steps")
    book.number("share", torch.tensor(0.25))
    return book


def test_record_holds_what_was_measured_and_no_verdict(tmp_path):
    path = recorded().save(tmp_path)
    assert path == tmp_path / "rs2.small.json"
    assert [file.name for file in tmp_path.iterdir()] == ["rs2.small.json"]
    assert path.read_text(encoding="utf-8").endswith("}\n")
    record = json.loads(path.read_text(encoding="utf-8"))
    # the engine adds title, fingerprint, code and peak_memory_mb
    assert set(record) == {
        "schema", "notebook", "profile", "seeds", "run", "environment", "fingerprint", "code",
        "settings", "title", "claims", "numbers", "not_merged", "outputs", "history", "digest",
    }  # fmt: skip
    assert (record["schema"], record["notebook"]) == (4, "rs2")
    assert (record["profile"], record["seeds"]) == ("small", [0, 1, 2])
    assert record["environment"] == ENVIRONMENT
    assert record["settings"] == {"batch_size": 128}
    run = record["run"]
    assert set(run) == {"finished", "duration_s", "peak_memory_mb", "peak_gpu_memory_mb"}
    assert len(run["finished"]) == len("2026-11-23T16:00:00Z")
    assert (run["finished"][10], run["finished"][-1]) == ("T", "Z")
    assert run["duration_s"] >= 0
    first, second = record["claims"]
    assert first == {
        "id": "rs2-beats-static",
        "statement": "RS2 beats a static subset",
        "source": "paper",
        "primary": True,
        "where": "Figure 1",
        "paper": {"value": 15.1, "unit": "points", "source": "Figure 1 (CIFAR-10)"},
        "arms": ["RS2", "static"],
        "direction": "greater",
        "margin": 0.0,
        "unit": "points",
        "values": {"RS2": [76.2, 76.9, 75.8], "static": [75.1, 75.0, 74.2]},
    }
    assert second["paper"] is None
    assert record["numbers"] == {
        "steps-1": {"value": 100, "unit": "steps"},
        "share": {"value": 0.25, "unit": ""},
    }


def test_a_record_read_is_the_record_written(tmp_path):
    book = recorded()
    read = reader.read(book.save(tmp_path))
    assert read.claims == book.claims
    assert read.verdicts() == book.verdicts()
    assert reader.parse(read.to_json(), "again") == read


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.update(schema=1), "schema: expected 4, found 1"),
        (lambda r: r.pop("schema"), "schema: expected 4, found None"),
        (lambda r: r.pop("seeds"), "seeds: expected the fields notebook, profile, seeds"),
        (lambda r: r.update(extra=1), "extra: expected the fields"),
        (lambda r: r.update(seeds="0"), "seeds: expected .*list.*found '0'"),
        (lambda r: r.update(profile=None), "profile: expected"),
        (lambda r: r.update(schema=3, **r.pop("run")), "schema: expected 4, found 3"),
        (lambda r: r.pop("run"), "run: expected the fields .*found None"),
        (lambda r: r["run"].pop("finished"), "run: expected the fields"),
        (lambda r: r["run"].update(duration_s="long"), "duration_s: expected"),
        (lambda r: r["claims"].append(3), r"claims\[2\]: expected the fields id, .*found 3"),
        (lambda r: r["claims"][0].pop("unit"), r"claims\[0\].unit: expected the fields"),
        (lambda r: r["claims"][1].update(source="x"), r"claims\[1\].source: expected .*ours"),
        (lambda r: r["claims"][1].update(direction="up"), r"claims\[1\].direction: expected"),
        (lambda r: r["claims"][0].update(arms=["RS2"]), r"claims\[0\].arms: expected two names"),
        (lambda r: r["claims"][0].update(arms=["RS2", "x"]), r"claims\[0\].arms: expected"),
        (lambda r: r["claims"][0]["values"]["RS2"].pop(), r"values.RS2: expected a finite number"),
        (lambda r: [v.append(1.0) for v in r["claims"][0]["values"].values()], "each of 3 seeds"),
        (lambda r: [v.clear() for v in r["claims"][0]["values"].values()], "each of 3 seeds"),
        (lambda r: r["claims"][0]["values"].update(RS2=3), "values.RS2: expected a finite number"),
        (lambda r: r["claims"][0]["values"].update(RS2=["1"] * 3), "values.RS2: expected a fin"),
        (lambda r: r["numbers"].update(a=1), "numbers.a: expected a finite value and its unit"),
        (lambda r: r.update(seeds=[]), "seeds: expected distinct integers >= 0"),
        (lambda r: r.update(seeds=[0, 1, 1]), "seeds: expected distinct integers >= 0"),
        (lambda r: r.update(seeds=[0, 1, -1]), "seeds: expected distinct integers >= 0"),
        (lambda r: r.update(seeds=[0, 1, True]), "seeds: expected distinct integers >= 0"),
        (lambda r: r.update(seeds=[0, 1, "2"]), "seeds: expected distinct integers >= 0"),
        (lambda r: r.update(seeds=[0, 1, []]), "unhashable"),
        (lambda r: r["environment"].update(torch=2), "environment: expected texts, a device"),
        (
            lambda r: r["claims"][1].update(id="rs2-beats-static"),
            r"claims\[1\].id: expected a name",
        ),
        (lambda r: r["claims"][1].update(id='a" onmouseover="x'), r"claims\[1\].id: expected low"),
        (lambda r: r["claims"][1].update(statement="<img src=x>"), "a sentence without HTML"),
        (lambda r: r["claims"][1].update(arms=[[], {}]), r"claims\[1\].arms: expected"),
        (lambda r: r["run"].update(duration_s=math.inf), "not JSON compliant"),
        (lambda r: r.update(settings={"rate": math.nan}), "not JSON compliant"),
        (
            lambda r: r["run"].update(duration_s=1.0),
            "digest: expected that of the content: it changed",
        ),
        (lambda r: r.update(seeds=[0, 1, 3]), "digest: expected"),
        (lambda r: r["environment"].update(torch="9.9"), "digest: expected"),
        (lambda r: r["claims"][0]["values"].update(RS2=[76.2, 76.9, 75.9]), "digest: expected"),
        (lambda r: r["numbers"]["steps-1"].update(value=101), "digest: expected"),
        (lambda r: r.pop("digest"), "digest: expected .*found None"),
    ],
)
def test_a_malformed_record_is_refused_by_field(tmp_path, change, message):
    path = recorded().save(tmp_path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(RecordError, match=message) as caught:
        reader.read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[1]", b"null", b"3", b"\xff\xfe{}", b"\x80", b"[" * 100_000, b"<<<<<<< a\n{}"],
)
def test_a_file_that_is_no_record_is_refused(tmp_path, content):
    (tmp_path / "rs2.small.json").write_bytes(content)
    with pytest.raises(RecordError, match=r"rs2.small.json") as caught:
        reader.read(tmp_path / "rs2.small.json")
    assert "\n" not in str(caught.value)


def test_a_folder_in_place_of_a_record_is_named(tmp_path):
    with pytest.raises(RecordError, match=f"{tmp_path} cannot be read: Is a directory"):
        reader.read(tmp_path)


def test_the_layout_of_a_record_is_free(tmp_path):
    path = recorded().save(tmp_path)
    before = reader.read(path)
    path.write_text(json.dumps(dict(reversed(json.loads(path.read_text()).items()))))
    assert reader.read(path) == before


def test_a_value_that_is_not_finite_is_refused_when_read(tmp_path):
    path = recorded().save(tmp_path)
    path.write_text(path.read_text().replace("76.9", "NaN"))
    with pytest.raises(
        RecordError, match=r"values.RS2: expected a finite number for each of 3 seeds"
    ):
        reader.read(path)
    path.write_text(recorded().to_json().replace('"value": 100', '"value": Infinity'))
    with pytest.raises(RecordError, match=r"numbers.steps-1: expected a finite value"):
        reader.read(path)


def test_a_flipped_bit_never_gives_another_record(tmp_path):
    path, rng = recorded().save(tmp_path), np.random.default_rng(2)
    whole, own = path.read_bytes(), reader.read(path)
    for place in rng.choice(8 * len(whole), 100, replace=False):
        changed = bytearray(whole)
        changed[place // 8] ^= 1 << (place % 8)
        path.write_bytes(changed)
        try:
            found = reader.read(path)
        except RecordError as error:
            found, text = own, str(error)
            good = text.startswith(f"{path} is not a record: ") and "\n" not in text
        else:
            good = found == own  # only the layout changed
        assert good, (place, found)


def test_results_folder_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("LABUTILS_RESULTS", str(tmp_path / "scratch"))
    path = make(profile="smoke").save(tmp_path / "unused")
    assert path == tmp_path / "scratch" / "rs2.smoke.json"
    assert not (tmp_path / "unused").exists()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_nan_reaches_the_file(tmp_path, value):
    path = make().save(tmp_path)
    before = path.read_bytes()
    with pytest.raises(RecordError, match="rs2 is not JSON"):
        make(settings={"rate": value}).save(tmp_path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("place", ["write", "rename"])
def test_a_failing_save_leaves_the_earlier_record(tmp_path, monkeypatch, place):
    book = make()
    path = book.save(tmp_path)
    before = path.read_bytes()
    claim(book)

    def half(self, content):
        with Path.open(self, "wb") as stream:
            stream.write(content[: len(content) // 2])
        raise OSError("No space left on device")

    def refused(*arguments):
        raise OSError("No space left on device")

    if place == "write":
        monkeypatch.setattr(Path, "write_bytes", half)
    else:
        monkeypatch.setattr(os, "replace", refused)
    with pytest.raises(OSError, match="No space"):
        book.save(tmp_path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
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
    monkeypatch.delitem(sys.modules, "IPython")
    assert make().number("steps", 3) == 3


def test_a_number_keeps_its_value():
    ledger = make()
    assert ledger.number("steps", 3) == ledger.number("steps", 3.0) == 3
    with pytest.raises(RecordError, match="number 'steps': expected the value that it had"):
        ledger.number("steps", 4)
    assert ledger.numbers["steps"]["value"] == 3


def test_a_claim_says_whose_it_is():
    ledger = Ledger("a", "small", [0], {}, {})
    with pytest.raises(TypeError, match="source"):
        ledger.claim("one", "It works", values={"a": [1.0], "b": [0.0]}, direction="greater")
