"""Sweeps on throw-away chapters: one job per seed, merged records, lost workers, a Dask cluster."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from labutils.claims import Ledger
from labutils.statistics import paired_interval
from press import engine, notebooks, staleness, sweep
from press.__main__ import main

# A chapter without torch: it draws two arms from its seed and saves a ledger of its own.
DRAW = """\
import os, random
from pathlib import Path
from labutils.claims import Ledger
lab = Ledger("01-a", os.environ["LABUTILS_PROFILE"], seeds, {"n": 1}, {"torch": "2"}, "f")
rngs = [random.Random(k) for k in seeds]
lab.claim("better", "A beats B", where="here", direction="greater",
          values={"A": [r.gauss(1, 0.3) for r in rngs], "B": [r.gauss(0, 0.3) for r in rngs]})
lab.number("width", 2.0 + seeds[0], "cm");"""
SAVE = "lab.save(Path.cwd()).name"
LOG = "with open({file!r}, 'a') as f: f.write(f'{{seeds[0]}} ')"


@pytest.fixture
def chapter(book):
    """A function that writes chapter 01-a with cells before its end, and a log of its runs."""
    book.log = book.root / "log"

    def write(*cells):
        parameters = ("parameters", 'profile = "small"\nseeds = None')
        log = LOG.format(file=str(book.log))
        return book.write("01-a", parameters, *cells, DRAW, SAVE, log)

    book.chapter_of = write
    return book


def record(book, profile="small"):
    return json.loads(sweep.record_path("01-a", profile, book.root).read_text())


def expected(seeds):
    import random

    rngs = [random.Random(k) for k in seeds]
    return [r.gauss(1, 0.3) for r in rngs], [r.gauss(0, 0.3) for r in rngs]


# --- seeds ----------------------------------------------------------------------------------------


def test_lists_of_seeds():
    assert sweep.parse_seeds("0-3") == [0, 1, 2, 3]
    assert sweep.parse_seeds("7") == [7]
    assert sweep.parse_seeds("5, 0-2,9") == [5, 0, 1, 2, 9]


@pytest.mark.parametrize("text", ["", "a", "3-1", "-1", "1,,2", "0-2,1", "1.5"])
def test_bad_lists_of_seeds(text):
    with pytest.raises(ValueError, match="is not a list of seeds|names a seed twice"):
        sweep.parse_seeds(text)
    shown = CliRunner().invoke(main, ["sweep", "01-a", "--seeds", text])
    assert shown.exit_code == 2
    assert "seed" in shown.output


# --- merging --------------------------------------------------------------------------------------


def single(seed, rival="B", **changes):
    ledger = Ledger("01-a", "small", [seed], {"n": 1}, {"device": f"cpu {seed % 2}"}, "f")
    ledger.claim(
        "better", f"A beats {rival}", where="here", direction="greater",
        values={"A": [1.0 + 0.1 * seed], rival: [0.0]}, paper={"value": 3, "source": "Table 1"},
    )  # fmt: skip
    ledger.number("width", 2.0 + seed, "cm")
    made = ledger.record() | {"duration_s": 10.0, "peak_memory_mb": 100 + seed}
    return made | changes


def test_merged_claims_are_judged_by_the_ledger():
    merged = sweep.merge([single(2), single(0), single(1)])
    assert merged["seeds"] == [0, 1, 2]
    (claim,) = merged["claims"]
    assert claim["values"] == {"A": [1.0, 1.1, 1.2], "B": [0.0, 0.0, 0.0]}
    interval = paired_interval([1.0, 1.1, 1.2], [0.0, 0.0, 0.0])
    assert claim["difference"]["low"] == pytest.approx(interval.low)
    assert claim["verdict"] == "reproduced"
    assert claim["paper"] == {"value": 3, "source": "Table 1"}
    assert merged["numbers"]["width"] == {"value": 3.0, "unit": "cm", "values": [2.0, 3.0, 4.0]}
    assert merged["duration_s"] == 30.0
    assert merged["peak_memory_mb"] == 102
    assert merged["environment"] == {"device": "cpu 0, cpu 1"}
    assert merged["not_merged"] == []


def test_one_seed_has_no_verdict():
    (claim,) = sweep.merge([single(4)])["claims"]
    assert claim["verdict"] == "not judged"
    assert claim["difference"] is None


def test_arms_that_each_run_chose_for_itself_carry_all_names():
    merged = sweep.merge([single(0), single(1, rival="C"), single(2)])
    (claim,) = merged["claims"]
    assert claim["arms"] == ["A", "B or C"]
    assert claim["statement"] == "A beats B or C"
    assert claim["values"]["B or C"] == [0.0, 0.0, 0.0]


def test_what_some_seeds_lack_is_listed():
    lacking = single(1, claims=[], numbers={})
    merged = sweep.merge([single(0), lacking])
    assert merged["claims"] == []
    assert merged["not_merged"] == ["claim better", "number width"]


@pytest.mark.parametrize("key", ["settings", "fingerprint", "profile"])
def test_records_of_other_runs_are_refused(key):
    with pytest.raises(engine.PipelineError, match=f"differ in {key}"):
        sweep.merge([single(0), single(1, **{key: "another"})])
    with pytest.raises(engine.PipelineError, match="share a seed"):
        sweep.merge([single(0), single(0)])


# --- jobs on this machine -------------------------------------------------------------------------


def test_local_sweep_retries_merges_and_goes_on(chapter, capsys):
    flaky = f"""\
import pathlib
once, mended = (pathlib.Path({str(chapter.root)!r}, name) for name in ("once", "mended"))
assert seeds[0] != 1 or once.exists() or once.touch(), "the first try"
assert seeds[0] != 2 or mended.exists(), "always" """
    chapter.chapter_of(flaky)
    outcomes = sweep.sweep("01-a", [0, 1, 2], workers=2, root=chapter.root)
    assert [o.status for o in outcomes] == ["executed", "executed", "failed"]
    assert outcomes[2].note == "cell 3: AssertionError: always"
    out = capsys.readouterr().out
    assert "seed 1 failed: cell 3: AssertionError: the first try" in out
    assert "trying again: seed" in out
    assert record(chapter)["seeds"] == [0, 1]
    # what is finished is kept; the rest, and more, runs now
    (chapter.root / "mended").touch()
    outcomes = sweep.sweep("01-a", [0, 2, 3], workers=2, root=chapter.root)
    assert [o.status for o in outcomes] == ["fresh", "executed", "executed"]
    assert sorted(chapter.log.read_text().split()) == ["0", "1", "2", "3"]
    (claim,) = record(chapter)["claims"]
    assert [claim["values"]["A"], claim["values"]["B"]] == list(expected([0, 2, 3]))
    assert record(chapter)["fingerprint"] == staleness.fingerprint("01-a", chapter.root)
    # seeds run again by force are those that were asked for
    kept = {file.name for file in sweep.folder_of("01-a", "small", chapter.root).iterdir()}
    sweep.sweep("01-a", [3], workers=1, force=True, root=chapter.root)
    assert chapter.log.read_text().split().count("3") == 2
    assert {f.name for f in sweep.folder_of("01-a", "small", chapter.root).iterdir()} == kept
    # the book's own files stay as they were
    assert not (chapter.root / "results").exists()
    cells = notebooks.code_cells(notebooks.read(chapter.notebook("01-a")))
    assert all(cell["outputs"] == [] for _, cell in cells)


def test_a_killed_worker_loses_nothing_that_was_finished(chapter):
    """The worker of seed 2 is killed once; seeds 0 and 1 are not run again."""
    kill = f"""\
import os, pathlib, time
root = pathlib.Path({str(chapter.root)!r})
if seeds[0] == 2 and not (root / "killed").exists():
    while len(list(root.glob("_build/sweep/small/*/seed-*.json"))) < 2:
        time.sleep(0.05)
    (root / "killed").touch()
    os.kill(int(os.environ["LABUTILS_PIPELINE"]), 9)
    time.sleep(60)"""
    chapter.chapter_of(kill)
    outcomes = sweep.sweep("01-a", [0, 1, 2], workers=2, root=chapter.root)
    assert [o.status for o in outcomes] == ["executed"] * 3
    assert sorted(chapter.log.read_text().split()) == ["0", "1", "2"]
    assert record(chapter)["seeds"] == [0, 1, 2]


def test_workers_with_another_labutils_are_refused(chapter, monkeypatch):
    chapter.chapter_of()
    job = sweep._job("01-a", "small", 0, chapter.root) | {"code": "other"}
    result = sweep.run_job(job)
    assert result["record"] is None
    assert "labutils" in result["note"]
    assert "differs from the sweep's" in result["note"]


# --- jobs on a Dask cluster -----------------------------------------------------------------------


@pytest.fixture
def cluster(tmp_path):
    """A scheduler and two workers of one thread each, as processes: (address, workers)."""
    pytest.importorskip("distributed")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    file = tmp_path / "scheduler.json"
    options = ["--scheduler-file", str(file)]

    def start(command, *more):
        return subprocess.Popen(
            [sys.executable, "-m", "distributed.cli." + command, *options, *more],
            env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    processes = [start("dask_scheduler", "--port", "0", "--no-dashboard")]
    try:
        wait_for(file.exists)
        plain = ("--nthreads", "1", "--no-nanny", "--no-dashboard")
        workers = [start("dask_worker", *plain) for _ in range(2)]
        processes += workers
        yield json.loads(file.read_text())["address"], workers
    finally:
        for process in processes:
            process.kill()
            process.wait()


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_a_dask_cluster_survives_the_death_of_a_worker(chapter, cluster):
    address, workers = cluster
    kill = f"""\
import os, pathlib, time
pid, once = int(os.environ["LABUTILS_PIPELINE"]), pathlib.Path({str(chapter.root)!r}, "killed")
with open({str(chapter.root / "workers")!r}, "a") as f: f.write(f"{{pid}} ")
if seeds[0] == 2 and not once.exists():
    once.touch()
    os.kill(pid, 9)
    time.sleep(60)"""
    chapter.chapter_of(kill)
    outcomes = sweep.sweep("01-a", range(4), dask=address, root=chapter.root)
    assert [o.status for o in outcomes] == ["executed"] * 4
    used = set(map(int, (chapter.root / "workers").read_text().split()))
    assert used == {worker.pid for worker in workers}
    wait_for(lambda: sum(worker.poll() is not None for worker in workers) == 1)
    runs = chapter.log.read_text().split()
    assert set(runs) == {"0", "1", "2", "3"}
    assert len(runs) <= 5  # at most the job beside the one that died was done twice
    assert record(chapter)["claims"][0]["values"]["A"] == expected(range(4))[0]
    assert not [p for p in psutil.process_iter() if "labutils-sweep-" in joined(p)]


def joined(process):
    """A process's command line."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def test_a_cluster_that_does_not_answer(chapter, monkeypatch):
    distributed = pytest.importorskip("distributed")

    def fail(address, timeout):
        raise OSError("Timed out trying to connect")

    monkeypatch.setattr(distributed, "Client", fail)
    chapter.chapter_of()
    with pytest.raises(engine.PipelineError, match="no Dask scheduler answers at tcp://nowhere"):
        sweep.sweep("01-a", [0], dask="tcp://nowhere:1", root=chapter.root)


def test_a_killed_sweep_leaves_nothing_running_and_goes_on(chapter):
    chapter.chapter_of(
        f"import pathlib, time\nroot = pathlib.Path({str(chapter.root)!r})\n"
        "(root / f'began-{seeds[0]}').touch()\n"
        "while seeds[0] == 1 and not (root / 'go on').exists(): time.sleep(0.05)"
    )
    command = [sys.executable, "-P", "-m", "press", "sweep", "01-a", "--seeds", "0,1"]
    process = subprocess.Popen(
        [*command, "--workers", "2"], cwd=chapter.root, stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    done = sweep.folder_of("01-a", "small", chapter.root) / "seed-0.json"
    wait_for(lambda: done.exists() and (chapter.root / "began-1").exists())
    process.kill()
    process.wait()
    wait_for(lambda: not [p for p in psutil.process_iter() if "labutils-sweep-" in joined(p)])
    (chapter.root / "go on").touch()
    outcomes = sweep.sweep("01-a", [0, 1], root=chapter.root)
    assert [o.status for o in outcomes] == ["fresh", "executed"]


def test_the_command(chapter):
    chapter.chapter_of()
    done = subprocess.run(
        [sys.executable, "-P", "-m", "press", "sweep", "01-a", "--seeds", "3"],
        cwd=chapter.root, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "better  one seed" in done.stdout
    assert "The record of 1 seed is _build/sweep/small/01-a.json" in done.stdout
