"""The start of a notebook: profile, settings, seeds, streams, the map over jobs, checkpoints."""

import json
import os
import platform
import random
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch

from labutils import __version__
from labutils import start as start_module
from labutils.start import PROFILES, start
from press import reader

SETTINGS = {
    "batch_size": (16, 64, 128, "512", "fits a small GPU"),
    "num_seeds": (1, 3, 5, "3", "paired"),
}


def column(profile):
    return {name: row[PROFILES.index(profile)] for name, row in SETTINGS.items()}


@pytest.fixture(autouse=True)
def _untouched(monkeypatch):
    """No environment from outside, and torch's threads as they were."""
    for name in ("PROFILE", "RESULTS", "CHECKPOINTS"):
        monkeypatch.delenv(f"LABUTILS_{name}", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("LABUTILS_HEADLESS", "1")
    monkeypatch.setenv("LABUTILS_CODE", "0123456789abcdef")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def begin(**options):
    return start("rs2", **({"settings": SETTINGS} | options))


# --- profile, settings, seeds --------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES)
def test_profile_chooses_settings_and_seeds(profile):
    lab = begin(profile=profile)
    assert lab.profile == profile
    assert vars(lab.settings) == column(profile)
    assert lab.seeds == tuple(range(column(profile)["num_seeds"]))
    assert lab.device == torch.device("cpu")


def test_the_default_profile_is_small():
    assert begin().profile == "small"


def test_environment_overrides_the_parameters_cell(monkeypatch):
    monkeypatch.setenv("LABUTILS_PROFILE", "smoke")
    lab = begin(profile="full")
    assert (lab.profile, lab.settings.batch_size) == ("smoke", 16)
    monkeypatch.setenv("LABUTILS_PROFILE", "")
    assert begin(profile="full").profile == "full"


@pytest.mark.parametrize("from_environment", [False, True])
def test_unknown_profiles_are_refused_with_the_list(monkeypatch, from_environment):
    if from_environment:
        monkeypatch.setenv("LABUTILS_PROFILE", "tiny")
    with pytest.raises(ValueError, match=r"unknown profile 'tiny'; .*smoke, small, full"):
        begin(profile="small" if from_environment else "tiny")


def test_a_notebook_without_full_has_shorter_rows():
    settings = {name: (*row[:2], *row[3:]) for name, row in SETTINGS.items()}
    assert vars(begin(settings=settings).settings) == column("small")
    with pytest.raises(ValueError, match=r"unknown profile 'full'; choose one of: smoke, small$"):
        begin(settings=settings, profile="full")


@pytest.mark.parametrize("row", [(1, 2, 3), (1, 2, 3, 4, 5, 6), (1, 2, "paper", "why"), [1, 2], 7])
def test_rows_of_other_lengths_are_refused(row):
    with pytest.raises(ValueError, match=r"one row per knob, name: .smoke, small, full, paper"):
        begin(settings=SETTINGS | {"extra": row})


def test_the_table_shows_all_profiles_beside_the_paper():
    table = begin().settings_table()
    assert list(table.columns) == ["smoke", "small", "full", "paper", "why"]
    assert table.loc["batch_size"].tolist() == ["16", "64", "128", "512", "fits a small GPU"]
    short = {name: (*row[:2], *row[3:]) for name, row in SETTINGS.items()}
    assert list(begin(settings=short).settings_table()) == ["smoke", "small", "paper", "why"]


def test_given_seeds_are_taken():
    lab = begin(seeds=[7, 3])
    assert lab.seeds == (7, 3)
    assert lab.ledger.seeds == [7, 3]


@pytest.mark.parametrize("seeds", [[], [1, 1], [-1], [0.5], ["0"], [None]])
def test_bad_seeds_are_refused(seeds):
    with pytest.raises(ValueError, match="distinct integers >= 0, got"):
        begin(seeds=seeds)


def test_provenance_line(capsys):
    begin(seeds=[0, 1])
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    for part in (
        "rs2", "profile small", "seeds 0, 1", "cpu (", "1 threads",
        f"torch {metadata.version('torch')}", f"labutils {__version__}",
        f"Python {platform.python_version()}",
    ):  # fmt: skip
        assert part in out


def test_record_carries_what_start_knows(tmp_path, monkeypatch):
    monkeypatch.setenv("LABUTILS_RESULTS", str(tmp_path))
    record = reader.read(begin(profile="smoke").save())
    assert record.settings == column("smoke")
    assert record.environment["torch"] == metadata.version("torch")
    assert set(record.environment) == {
        "python", "torch", "torchvision", "numpy", "labutils", "device", "platform",
    }  # fmt: skip


def test_a_notebook_run_by_hand_leaves_the_committed_record_alone(tmp_path, monkeypatch):
    monkeypatch.delenv("LABUTILS_RESULTS", raising=False)
    for name, folder in ((None, Path("results")), (tmp_path, tmp_path / "_build" / "results")):
        monkeypatch.setattr(start_module, "find_root", lambda name=name: name)
        assert begin(profile="smoke").folder == folder
    assert begin(profile="smoke").save() == tmp_path / "_build" / "results/rs2.smoke.json"


@pytest.mark.parametrize(("asked", "threads"), [("2", 2), ("1,4", 1), ("", joblib.cpu_count())])
def test_threads_are_those_asked_for_or_those_there_are(monkeypatch, asked, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    begin()
    assert torch.get_num_threads() == threads


# --- streams -------------------------------------------------------------------------------------


def draws(streams):
    return {k: torch.rand(50, generator=g).tolist() for k, g in vars(streams).items()}


def test_streams_repeat_and_differ():
    lab = begin()
    first = draws(lab.streams(0))
    assert {"split", "initialisation", "augmentation"} <= set(first)
    assert draws(lab.streams(0)) == first == draws(begin(profile="full", seeds=[9]).streams(0))
    everything = [tuple(d) for seed in range(20) for d in draws(lab.streams(seed)).values()]
    assert len(set(everything)) == len(everything)


def test_streams_are_uncorrelated():
    lab = begin()
    rows = [
        torch.rand(4000, generator=g).numpy()
        for seed in range(6)
        for g in vars(lab.streams(seed)).values()
    ]
    correlation = np.corrcoef(rows) - np.eye(len(rows))
    assert np.abs(correlation).max() < 5 / np.sqrt(4000)


def test_using_one_stream_leaves_the_others_alone():
    lab = begin()
    expected = draws(lab.streams(3))
    streams = lab.streams(3)
    torch.rand(1000, generator=streams.split)
    after = draws(streams)
    assert after["split"] != expected["split"]
    assert {k: v for k, v in after.items() if k != "split"} == {
        k: v for k, v in expected.items() if k != "split"
    }


def test_global_generators_are_left_alone():
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    lab = begin()
    lab.streams(0)
    lab.map(lambda x: x, [(1,), (2,)], "jobs")
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.random.get_state()[1].tolist() == states[2]  # noqa: NPY002


# --- map -----------------------------------------------------------------------------------------


def test_map_in_this_process():
    here = []
    jobs = [(k, 2 * k) for k in range(7)]
    result = begin().map(lambda a, b: here.append(a) or a * b, iter(jobs), "jobs")
    assert result == [a * b for a, b in jobs]
    assert here == list(range(7))
    assert begin().map(lambda: 1, [], "no jobs") == []


def test_map_in_this_process_passes_errors_on():
    def job(k):
        return 1 / (2 - k)

    with pytest.raises(ZeroDivisionError):
        begin().map(job, [(k,) for k in range(4)], "jobs")


def test_map_with_two_processes(monkeypatch):
    """The order of the jobs is kept, whichever ends first; an error arrives with its message."""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    lab = begin()
    assert torch.get_num_threads() == 2

    def job(k):
        import os
        import time

        import torch

        time.sleep(0.3 if k == 0 else 0)
        generator = lab.streams(k).sampling
        return k, os.getpid(), torch.get_num_threads(), torch.rand(3, generator=generator)

    results = lab.map(job, [(k,) for k in range(6)], "jobs")
    assert [k for k, *_ in results] == list(range(6))
    processes = {pid for _, pid, *_ in results}
    assert len(processes) == 2
    assert os.getpid() not in processes
    assert all(threads == 1 for _, _, threads, _ in results)
    for k, _, _, drawn in results:
        assert torch.equal(drawn, torch.rand(3, generator=lab.streams(k).sampling))
    assert torch.get_num_threads() == 2

    def broken(k):
        if k == 2:
            raise ValueError(f"job {k} went wrong")
        return k

    with pytest.raises(ValueError, match="job 2 went wrong"):
        lab.map(broken, [(k,) for k in range(4)], "jobs")
    assert lab.map(broken, [(0,), (1,)], "jobs") == [0, 1]


def test_map_on_a_card_measures_the_first_job_and_shares_the_card_for_the_others(monkeypatch):
    lab, seen, said = replace(begin(), device=torch.device("cuda")), [], []
    monkeypatch.setattr(start_module.capture, "workers", lambda *asked: seen.append(asked) or 2)
    monkeypatch.setattr(start_module, "log", said.append)

    def job(k):
        import os
        import time

        time.sleep(0.3 if k < 2 else 0)
        return k, os.getpid()

    results = lab.map(job, [(k,) for k in range(6)], "jobs")
    assert [k for k, _ in results] == list(range(6))
    assert results[0][1] == os.getpid()
    assert len({pid for _, pid in results[1:]} - {os.getpid()}) == 2
    ((device, jobs, seconds),) = seen
    assert (device, jobs) == (lab.device, 5)
    assert 0.3 <= seconds < 5
    assert said == ["jobs: 2 at a time on the card"]
    assert lab.map(job, [(7,)], "one job") == [(7, os.getpid())]
    assert len(said) == 1


def test_map_shows_progress_unless_headless(monkeypatch, capsys):
    begin().map(abs, [(1,)], "some jobs")
    assert "some jobs" not in capsys.readouterr().err
    monkeypatch.delenv("LABUTILS_HEADLESS")
    begin().map(abs, [(1,)], "some jobs")
    assert "some jobs" in capsys.readouterr().err


# --- checkpoints ---------------------------------------------------------------------------------


def test_no_checkpoints_unless_asked():
    assert begin().checkpoint("a-run") is None


def test_checkpoint_path_depends_on_settings_and_code(tmp_path, monkeypatch):
    monkeypatch.setenv("LABUTILS_CHECKPOINTS", str(tmp_path))
    path = begin().checkpoint("a-run")
    assert path == begin(seeds=[5]).checkpoint("a-run")  # the run's name tells seeds apart
    assert path.is_relative_to(tmp_path)
    assert path.name == "a-run.pt"
    others = {begin().checkpoint("another"), begin(profile="full").checkpoint("a-run")}
    small = SETTINGS | {"batch_size": (16, 65, 128, "512", "")}
    others.add(begin(settings=small).checkpoint("a-run"))
    monkeypatch.setenv("LABUTILS_CODE", "fedcba9876543210")
    others.add(begin().checkpoint("a-run"))
    assert len(others | {path}) == 5
    full = SETTINGS | {"batch_size": (16, 64, 1, "512", "")}  # another profile does not matter
    assert begin(settings=full).checkpoint("a-run") == begin().checkpoint("a-run")


# --- finished jobs are kept -----------------------------------------------------------------------


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A folder for checkpoints, and no headless mode: what is said goes to stdout."""
    monkeypatch.setenv("LABUTILS_CHECKPOINTS", str(tmp_path))
    monkeypatch.delenv("LABUTILS_HEADLESS")
    return tmp_path


def test_finished_jobs_are_not_run_again(kept, capsys):
    def job(k):
        if k == 3 and not (kept / "go on").exists():
            raise KeyboardInterrupt
        with (kept / "ran").open("a") as stream:
            stream.write(str(k))
        return {"k": k, "drawn": torch.rand(2, generator=lab.streams(k).sampling)}

    arguments = [(k,) for k in range(5)]
    lab = begin()
    with pytest.raises(KeyboardInterrupt):
        lab.map(job, arguments, "jobs")
    (kept / "go on").touch()
    lab = begin()
    lab.ledger.number("changes-nothing", 1.0)
    results = lab.map(job, arguments, "jobs")
    assert (kept / "ran").read_text() == "01234"
    assert "jobs: 3 of 5 jobs were finished before" in capsys.readouterr().out
    lab = begin()
    again = lab.map(job, arguments, "jobs")
    assert (kept / "ran").read_text() == "01234"
    for k, (one, other) in enumerate(zip(results, again, strict=True)):
        assert one["k"] == other["k"] == k
        assert torch.equal(one["drawn"], other["drawn"])
    for other in ({"seeds": [7]}, {"profile": "full"}):  # a job may look at either
        lab = begin(**other)
        lab.map(job, arguments, "jobs")
    assert (kept / "ran").read_text() == "01234" * 3


def test_a_result_that_another_session_writes_meanwhile_is_not_lost(kept, monkeypatch):
    lab, load = begin(), start_module.kept.load
    double = lambda k: 2 * k  # noqa: E731
    assert lab.map(double, [(1,)], "jobs") == [2]
    files = lab._files(double, [(1,), (5,)], "jobs")

    def slow_load(file):
        start_module.kept.save(10, files[1])
        return load(file)

    monkeypatch.setattr(start_module.kept, "load", slow_load)
    assert lab.map(double, [(1,), (5,)], "jobs") == [2, 10]


def test_another_function_does_not_get_the_result(kept):
    lab = begin()
    for factor in (2, 3):
        assert lab.map(lambda x, f=factor: x * f, [(4,)], "jobs") == [4 * factor]
    assert lab.map(lambda x: x - 1, [(4,)], "jobs") == [3]
    assert lab.map(lambda x: x - 1, [(5,)], "jobs") == [4]


@pytest.mark.slow
def test_killed_at_random_moments_ends_with_the_same_record(tmp_path):
    """20 times SIGKILL in the middle of a map over trainings; all numbers equal bit for bit."""
    script = Path(__file__).with_name("killed_notebook.py")
    environment = {**os.environ, "PYTHONPATH": str(script.parents[2])}
    del environment["LABUTILS_HEADLESS"]
    command = [sys.executable, script, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    killed = json.loads(done.stdout.splitlines()[-1])
    assert killed.pop("whole") == 0
    assert sum(killed.values()) == 20
    records = {}
    for name in ("whole", *killed):
        record = reader.read(tmp_path / f"{name}.results" / "killed.small.json")
        records[name] = replace(record, finished="", duration_s=0.0)
    assert records["whole"].verdicts()["falls"].verdict == "reproduced"
    assert all(record == records["whole"] for record in records.values())


def test_jobs_in_processes_are_kept_too(kept, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")

    def job(k):
        import os

        return os.getpid(), k

    first = begin().map(job, [(k,) for k in range(4)], "jobs")
    assert os.getpid() not in {pid for pid, _ in first}
    assert begin().map(job, [(k,) for k in range(4)], "jobs") == first
    more = begin().map(job, [(k,) for k in range(5)], "jobs")
    assert more[:4] == first
    assert more[4][1] == 4


def test_what_cannot_be_kept_is_said_and_computed(kept, capsys):
    lab = begin()
    assert lab.map(lambda: abs, [()], "odd results") == [abs]
    assert "a result holds a builtins.builtin_function_or_method: not kept" in (
        capsys.readouterr().out
    )
    stream = Path(os.devnull).open()  # noqa: SIM115
    assert lab.map(lambda s: 1, [(stream,)], "odd arguments") == [1]
    assert "odd arguments: results are not kept, for the jobs depend on a" in (
        capsys.readouterr().out
    )
    stream.close()
    assert list(kept.rglob("*.pt")) == []


def test_a_lone_job_runs_on_one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    lab = begin()
    assert lab.map(torch.get_num_threads, [()], "jobs") == [1]
    assert torch.get_num_threads() == 2


def test_without_the_notebook_the_packages_code_counts(kept, monkeypatch):
    monkeypatch.delenv("LABUTILS_CODE")
    path = begin().checkpoint("a-run")
    assert path == begin().checkpoint("a-run")
    monkeypatch.setattr(start_module, "package_digest", lambda: "another")
    assert begin().checkpoint("a-run") != path


def test_profiles_are_the_books():
    assert start_module.PROFILES == ("smoke", "small", "full")
