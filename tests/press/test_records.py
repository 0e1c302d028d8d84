"""Records as files: what is fresh, what was before, many seeds as one."""

import json
from dataclasses import asdict

import pytest
from throwaway import record

from labutils.claims import RecordError
from labutils.statistics import Verdict, mean_interval
from press import PressError, notebooks, reader, records, staleness


def stored(book, **changes):
    """Store a record of notebook a, fresh unless changed; return its path."""
    now = {
        "fingerprint": staleness.fingerprint("a", book.root),
        "code": staleness.fingerprint_parts("a", book.root),
    }
    path = records.record_path("a", "small", book.root)
    made = records.sealed(record("a", **now | changes), notebooks.read(book.notebook("a")), "")
    notebooks.write({path: made.to_json()})
    return path


@pytest.fixture
def ran(book):
    """A book whose notebook a has a fresh record and stored outputs."""
    book.write("a", "from labutils.helper import double\ndouble(1)")
    text = book.notebook("a").read_text()
    book.notebook("a").write_text(text.replace('"execution_count": null', '"execution_count": 1'))
    stored(book)
    return book


def test_where_things_lie(book):
    book.write("a", "1")
    lie = {
        profile: [
            path("a", profile, book.root).relative_to(book.root).as_posix()
            for path in (records.record_path, records.history_path, records.executed_path)
        ]
        for profile in ("smoke", "small", "full")
    }
    assert lie == {
        "smoke": ["_build/results/theme/a.smoke.json", "_build/results/theme/a.smoke.history.jsonl",
                  "_build/executed/smoke/a.ipynb"],
        "small": ["results/theme/a.small.json", "results/theme/a.small.history.jsonl",
                  "notebooks/theme/a.ipynb"],
        "full": ["results/theme/a.full.json", "results/theme/a.full.history.jsonl",
                 "_build/executed/full/a.ipynb"],
    }  # fmt: skip


# --- fresh or stale -------------------------------------------------------------------------------


def test_a_record_is_stale_when_code_changed_and_the_reason_names_it(ran):
    assert records.why_stale("a", "small", ran.root) is None
    assert records.why_stale("a", "full", ran.root) == "not run yet"
    helper, source = ran.root / "labutils" / "helper.py", ran.notebook("a").read_text()
    before = helper.read_text()
    helper.write_text(before.replace("2 * x", "3 * x"))
    why = records.why_stale("a", "small", ran.root)
    assert why.startswith("changed since: labutils.helper")
    helper.write_text(before + "# a comment\n")
    assert records.why_stale("a", "small", ran.root) is None
    ran.notebook("a").write_text(source.replace("double(1)", "double(2)"))
    assert records.why_stale("a", "small", ran.root) == "changed since: its code cells"
    ran.notebook("a").write_text(source.replace('"execution_count": 1', '"execution_count": null'))
    why = records.why_stale("a", "small", ran.root)
    assert why == "its stored outputs are not those of its run"


def test_many_changes_are_counted(ran):
    stored(ran, fingerprint="old", code={f"labutils.m{k}": "0" for k in range(7)})
    why = records.why_stale("a", "small", ran.root)
    assert why.startswith("changed since: labutils.")
    assert why.count("labutils.") == records.NAMED
    assert why.endswith(" more")


def test_a_record_that_cannot_be_used_is_stale_with_the_reason(ran):
    path = records.record_path("a", "small", ran.root)
    path.write_text('{"notebook": ')
    assert "a.small.json is not a record" in records.why_stale("a", "small", ran.root)
    path.write_text('{"schema": 1}')
    assert "schema: expected 4, found 1" in records.why_stale("a", "small", ran.root)
    with pytest.raises(RecordError, match="schema"):
        records.read_record("a", "small", ran.root)


# --- superseded records ---------------------------------------------------------------------------


def test_the_history_tells_who_measured_what_with_which_verdict(ran):
    file = records.history_path("a", "small", ran.root)
    assert records.read_history("a", "small", ran.root) == []
    old = record("a")
    file.write_text(text := records.history_with(old, file))
    assert records.history_with(old, file) == text  # a write that was cut short leaves no second
    file.write_text(records.history_with(record("a", fingerprint="g"), file))
    first, second = records.read_history("a", "small", ran.root)
    assert (first.fingerprint, second.fingerprint) == ("f", "g")
    assert (first.profile, first.seeds, first.finished) == ("small", [0, 1, 2], old.finished)
    (claim,) = first.claims
    assert (claim["id"], claim["unit"]) == ("better", "points")
    assert {name: claim[name] for name in ("verdict", "p", "adjusted")} == asdict(
        old.verdicts()["better"]
    )
    assert claim["verdict"] == "reproduced"
    assert claim["difference"] == asdict(old.claims[0].difference)
    line = json.loads(text)
    assert not {"settings", "code", "numbers"} & set(line)
    assert "values" not in line["claims"][0]
    assert line["claims"][0]["source"] == "paper"


def test_lines_of_the_former_form_stay_readable(ran):
    difference = asdict(record().claims[0].difference)
    line = {
        "schema": 1, "chapter": "01-a", "profile": "small", "seeds": [0], "environment": {},
        "fingerprint": "f", "finished": "2026-01-01T00:00:00Z", "duration_s": 1.5,
        "peak_memory_mb": None, "title": "A",
        "claims": [
            {"id": "better", "statement": "A beats B", "where": "", "paper": None,
             "arms": ["A", "B"], "direction": "greater", "margin": 0.0, "unit": "points",
             "difference": difference, "verdict": "inconclusive"},
            {"id": "other", "statement": "B beats A", "where": "", "paper": None,
             "arms": ["B", "A"], "direction": "greater", "margin": 0.0, "unit": "points",
             "difference": None, "verdict": "not judged"},
        ],
    }  # fmt: skip
    file = records.history_path("a", "small", ran.root)
    file.write_text(json.dumps(line) + "\n")
    (run,) = records.read_history("a", "small", ran.root)
    assert run.duration_s == 1.5
    assert [claim["verdict"] for claim in run.claims] == ["inconclusive", "not judged"]
    assert run.claims[0]["difference"] == asdict(record().claims[0].difference)
    assert run.claims[1]["difference"] is None
    file.write_text(json.dumps(line) + "\n{}\n")
    with pytest.raises(PressError, match=r"history.jsonl, line 2: not a superseded record"):
        records.read_history("a", "small", ran.root)


def test_every_committed_line_of_history_can_be_read():
    root = notebooks.book_root()
    for file in root.glob("results/*/*.history.jsonl"):
        name, profile = file.name.split(".")[:2]
        assert len(records.read_history(name, profile, root)) == len(file.read_text().splitlines())


# --- replications ---------------------------------------------------------------------------------


def test_records_of_other_devices_lie_beside_the_books_own(ran):
    own = records.record_path("a", "small", ran.root)
    assert records.replications("a", "small", ran.root) == []
    own.with_name("a.small.history.jsonl").write_text("")
    own.with_name("a.full.nvidia-h200.json").write_text("another profile")
    own.with_name("ab.small.nvidia-h200.json").write_text("another notebook")
    other = record("a", environment={"device": "NVIDIA H200"})
    own.with_name("a.small.nvidia-h200.json").write_text(other.to_json())
    assert records.replications("a", "small", ran.root) == [other]
    assert records.read_record("a", "small", ran.root) != other
    own.with_name("a.small.nvidia-h200.json").write_text("{")
    with pytest.raises(RecordError, match=r"a\.small\.nvidia-h200\.json is not a record"):
        records.replications("a", "small", ran.root)


# --- in words -------------------------------------------------------------------------------------


def test_verdicts_in_words():
    assert records.verdict_counts(record()) == "1 reproduced"
    assert records.verdict_counts(record(profile="smoke")) == "1 not judged"
    assert records.verdict_counts(record(claims=[])) == "no claims"


# --- merging --------------------------------------------------------------------------------------


def single(seed, rival="B", **changes):
    given = {
        "peak_memory_mb": 100 + seed,
        "environment": {"device": f"cpu (two, {1 + seed % 2} threads)"},
    }
    return record("a", [seed], rival, **given | changes)


def test_merged_claims_are_judged_over_all_seeds():
    merged = records.merge([single(2), single(0), single(1)])
    assert merged.seeds == [0, 1, 2]
    (claim,) = merged.claims
    assert claim.values == {"A": [1.0, 1.1, 1.2], "B": [0.0, 0.0, 0.0]}
    interval = mean_interval([1.0, 1.1, 1.2])
    assert claim.difference.low == pytest.approx(interval.low)
    assert merged.verdicts()["better"].verdict == "reproduced"
    assert (claim.source, claim.primary) == ("paper", True)
    assert claim.paper == {"value": 3, "source": "Table 1"}
    assert merged.numbers["width"] == {"value": 3.0, "unit": "cm", "values": [2.0, 3.0, 4.0]}
    assert merged.duration_s == 30.0
    assert merged.peak_memory_mb == 102
    assert merged.peak_gpu_memory_mb is None
    assert merged.environment == {"device": "cpu (two, 1 threads), cpu (two, 2 threads)"}
    assert merged.not_merged == []
    assert reader.parse(merged.to_json(), "here") == merged  # a valid record


def test_one_seed_has_no_verdict():
    merged = records.merge([single(4)])
    assert merged.verdicts()["better"] == Verdict("not judged")
    assert merged.claims[0].difference is None


def test_arms_that_each_run_chose_for_itself_carry_all_names():
    (claim,) = records.merge([single(0), single(1, rival="C"), single(2)]).claims
    assert claim.arms == ["A", "B or C"]
    assert claim.statement == "A beats B or C"
    assert claim.values["B or C"] == [0.0, 0.0, 0.0]


def test_what_some_seeds_lack_is_listed():
    merged = records.merge([single(0), single(1, claims=[], numbers={})])
    assert merged.claims == []
    assert merged.not_merged == ["claim better", "number width"]


@pytest.mark.parametrize("key", ["settings", "fingerprint", "profile"])
def test_records_of_other_runs_are_refused(key):
    with pytest.raises(PressError, match=f"differ in {key}"):
        records.merge([single(0), single(1, **{key: "another"})])
    with pytest.raises(PressError, match="share a seed"):
        records.merge([single(0), single(0)])
