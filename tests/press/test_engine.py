"""The engine on throw-away notebooks: what is stored, kept, skipped, tried again, reported."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from joblib import cpu_count
from throwaway import Book, record

from press import PressError, engine, notebooks, reader, records, staleness

REPOSITORY = Path(__file__).parents[2]

NOISY = """\
import sys, time
from labutils.helper import double
for _ in range(3):
    print("a line", flush=True)
    time.sleep(0.05)
print("10 %\\r100 %")
object()"""

FIGURE = """\
from IPython.display import SVG, display
import datetime
display(SVG(f"<svg xmlns='http://www.w3.org/2000/svg'><metadata>"
            f"<dc:date xmlns:dc='d'>{datetime.datetime.now()}</dc:date></metadata></svg>"))"""

THREADS = 'import os\nprint(os.environ["OMP_NUM_THREADS"], os.environ["LABUTILS_PROFILE"])'

# The good notebook and the bad one that waits for it finish only when they run at the same time.
MEET = """\
import pathlib, time
pathlib.Path({folder!r}, {me!r}).touch()
end = time.monotonic() + 60
while not pathlib.Path({folder!r}, {other!r}).exists():
    assert time.monotonic() < end, "alone"
    time.sleep(0.05)"""

# The process that runs the notebook, and the one that started it.
PAPERMILL = "import os, psutil, time\npapermill = psutil.Process().parent().pid\n"
WORKER = "import os, psutil, time\nworker = psutil.Process().parent().parent().pid\n"


def bytes_of(book, name):
    files = [records.record_path(name, "small", book.root), book.notebook(name)]
    return [file.read_bytes() if file.exists() else None for file in files]


def by_label(outcomes):
    return {outcome.label: outcome for outcome in outcomes}


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def heed_signals():
    """Shells start background jobs with SIGINT ignored, nohup with SIGHUP; children inherit it."""
    for kind in (signal.SIGINT, signal.SIGHUP):
        signal.signal(kind, signal.SIG_DFL)


def start(book, *words):
    """Start the command line in a book."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "press", *words],
        cwd=book.root,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: [
            signal.signal(s, signal.SIG_DFL) for s in (signal.SIGINT, signal.SIGHUP)
        ],
    )


def working(book):
    """Processes that still work in the book's folder, those of the tests apart."""
    found = []
    for process in psutil.process_iter():
        try:
            inside = str(book.root) in f"{process.cmdline()} {process.cwd()}"
            if inside and process.status() != psutil.STATUS_ZOMBIE and process.pid != os.getpid():
                found.append(process)
        except psutil.Error:
            continue
    return found


# --- whole notebooks ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A book after one run of good and bad notebooks, two at a time; `before`: the bad one's files.

    The good one has run before: its record is superseded.
    """
    folder = tmp_path_factory.mktemp("ran")
    book = Book(folder / "a {good} 'Büch\"lein' 本")  # papermill formats paths
    book.temporary = folder / "tmp"
    book.temporary.mkdir()
    (meeting := book.root / "meeting").mkdir()
    meet = {"folder": str(meeting), "me": "good", "other": "bad"}
    apart = "import subprocess\nsubprocess.Popen(['sleep', '300'], start_new_session=True);"
    book.chapter("good", NOISY, FIGURE, THREADS, MEET.format(**meet) + "\n" + apart)
    meet |= {"me": "bad", "other": "good"}
    bad = "raise ValueError('wrong \\x1b[31mcolour\\x00')"
    book.chapter("bad", MEET.format(**meet), bad, "y = 2")
    book.chapter("dead", "import os\nos.kill(os.getpid(), 9)", "y = 2")
    book.write("silent", "x = 1")
    file = str(book.notebook("edited"))
    book.chapter(
        "edited", f"p = __import__('pathlib').Path({file!r})\np.write_text(p.read_text() + ' ')"
    )
    notebooks.write({records.record_path("good", "small", book.root): record("good").to_json()})
    book.before = {name: bytes_of(book, name) for name in notebooks.chapters(book.root)}
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HOME", raising=False)
        patch.setenv("LANG", "C")
        patch.setenv("TMPDIR", str(book.temporary))
        book.outcomes = by_label(engine.execute(jobs=2, root=book.root))
    return book


def test_success_stores_notebook_and_record(ran):
    outcome = ran.outcomes["good"]
    assert (outcome.status, outcome.note) == ("executed", "")
    stored = records.read_record("good", "small", ran.root)
    assert stored == outcome.record
    assert stored.title == "About good"
    assert stored.fingerprint == staleness.fingerprint("good", ran.root)
    assert stored.code == staleness.fingerprint_parts("good", ran.root)
    assert 0 < stored.duration_s < 120
    assert 30 < stored.peak_memory_mb < 2000  # a kernel and papermill
    cells = notebooks.read(ran.notebook("good"))["cells"]
    assert [cell["execution_count"] for cell in cells[1:]] == [1, 2, 3, 4, 5]
    assert [cell["id"] for cell in cells] == ["title", "c0", "c1", "c2", "c3", "c4"]
    threads = max(1, cpu_count() // 2)
    assert cells[3]["outputs"][0]["text"] == f"{threads} small\n"


def test_the_superseded_record_is_in_the_history(ran):
    (old,) = records.read_history("good", "small", ran.root)
    assert old.fingerprint == "f"
    assert records.read_history("bad", "small", ran.root) == []


def test_stored_notebook_keeps_nothing_volatile(ran):
    notebook = notebooks.read(ran.notebook("good"))
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    stream, value = notebook["cells"][1]["outputs"]
    assert stream["text"] == "a line\na line\na line\n100 %\n"
    assert value["data"]["text/plain"] == "<object at 0x...>"
    assert "papermill" not in ran.notebook("good").read_text()
    (figure,) = notebook["cells"][2]["outputs"]
    assert "<svg" in figure["data"]["image/svg+xml"]
    assert "date" not in figure["data"]["image/svg+xml"]


def test_a_second_run_gives_the_same_bytes_with_all_cores(ran):
    first = ran.notebook("good").read_bytes()
    (outcome,) = engine.execute(["good"], force=True, root=ran.root)
    assert outcome.status == "executed"
    threads = f"{max(1, cpu_count() // 2)} small".encode()
    again = ran.notebook("good").read_bytes()
    assert again.replace(f"{cpu_count()} small".encode(), threads) == first
    assert len(records.read_history("good", "small", ran.root)) == 1  # the same code: no trace


@pytest.mark.parametrize("name", ["bad", "dead", "silent"])
def test_failure_leaves_stored_files_and_keeps_the_partial_notebook(ran, name):
    assert ran.outcomes[name].status == "failed"
    assert bytes_of(ran, name) == ran.before[name]
    partial = notebooks.read(records.failed_path(name, "small", ran.root))
    assert partial["cells"]
    assert f"{name}.failed.ipynb" in ran.outcomes[name].details


def test_failure_names_cell_and_error(ran):
    bad, dead, silent = (ran.outcomes[name] for name in ("bad", "dead", "silent"))
    assert bad.note.startswith("cell 3: ValueError: wrong")
    assert "raise ValueError" in bad.details
    assert "\x1b" not in bad.note + bad.details
    assert dead.note == "cell 2: the kernel died (out of memory?)"
    assert "os.kill" in dead.details
    assert silent.note.startswith("no record")


def test_an_edit_during_the_run_is_not_overwritten(ran):
    assert ran.outcomes["edited"].status == "failed"
    assert "notebooks/theme/edited.ipynb was edited while it ran" in ran.outcomes["edited"].note
    assert ran.notebook("edited").read_bytes() == ran.before["edited"][1] + b" "
    assert not records.record_path("edited", "small", ran.root).exists()


def test_a_run_that_stores_elsewhere_does_not_mind_an_edit(book):
    """`small` may store its outputs while `smoke` of the same notebook runs."""
    book.chapter("a", "1")
    (job,) = engine.jobs_of("a", "smoke", None, book.root)
    book.notebook("a").write_text(job.source + " ")
    made = record("a", profile="smoke", fingerprint=job.fingerprint)
    outcome = engine.Outcome("a", "executed", record=made, executed=job.source)
    assert engine._store(job, outcome).status == "executed"
    assert book.notebook("a").read_text() == job.source + " "
    assert records.read_record("a", "smoke", book.root) == outcome.record


def test_nothing_is_left_running_or_lying_about(ran):
    assert working(ran) == []
    assert list(ran.temporary.iterdir()) == []
    assert [p for p in (ran.root / "_build" / "running").iterdir() if p.is_dir()] == []
    assert sorted(p.name for p in ran.notebook("good").parent.iterdir()) == [
        f"{name}.ipynb" for name in sorted(ran.before)
    ]


def test_what_is_fresh_is_skipped(ran, capsys):
    stored = bytes_of(ran, "good")
    (outcome,) = engine.execute(["good"], root=ran.root)
    assert outcome.status == "fresh"
    assert bytes_of(ran, "good") == stored
    assert "good      fresh" in capsys.readouterr().out


def test_a_reader_of_the_output_that_goes_away_does_not_end_a_run(book, monkeypatch):
    class Gone:
        def write(self, text):
            raise BrokenPipeError

    book.write("a", "1")
    with engine.reserved("a", "small", book.root):
        monkeypatch.setattr(sys, "stdout", Gone())
        (outcome,) = engine.execute(root=book.root)
    assert outcome.note == "another run of this notebook and profile is under way"


def test_one_unreadable_notebook_costs_only_itself(book):
    book.notebook("a").write_text("{")
    book.write("b", "x = 1")
    with engine.reserved("b", "small", book.root):
        outcomes = by_label(engine.execute(root=book.root))
    assert "a.ipynb is not a Jupyter notebook" in outcomes["a"].note
    assert "another run of this notebook and profile is under way" in outcomes["b"].note
    assert {outcome.status for outcome in outcomes.values()} == {"failed"}


def test_an_unknown_notebook_is_refused(book):
    book.write("a", "1")
    with pytest.raises(PressError, match="'b'; the notebooks are: a"):
        engine.execute(["a", "b"], root=book.root)


def test_lines_say_how_far_a_run_is(book, monkeypatch, capsys):
    monkeypatch.setattr(engine, "REPORT_S", 0.5)
    said = "trainings: 5 of 9 after 01:00, 00:48 left"
    book.chapter(
        "a",
        f"import os\nopen(os.environ['LABUTILS_HEADLESS'], 'w').write('10 of 10\\n{said}\\n')",
        "import time\ntime.sleep(3)",
    )
    (outcome,) = engine.execute(root=book.root)
    assert outcome.status == "executed"
    first, second, *lines, last = capsys.readouterr().out.partition("\n\n")[0].splitlines()
    assert first == "a: not run yet"
    assert second.startswith("a: started at small, ")
    assert any(re.fullmatch(rf"a: 1 of 3 cells after [\d.]+ s; {said}", line) for line in lines)
    assert last.startswith("a: executed after ")


CHECKPOINT = """\
import os, pathlib
folder = pathlib.Path(os.environ["LABUTILS_CHECKPOINTS"])
resumed = (folder / "half").exists()
folder.mkdir(parents=True, exist_ok=True)
(folder / "half").touch()
print("resumed" if resumed else "from nothing")
assert resumed, 'interrupted'"""


def test_an_interrupted_run_goes_on_from_its_checkpoints(book):
    book.chapter("a", CHECKPOINT)
    folder = book.root / "_build" / "checkpoints" / "small-a"
    (first,) = engine.execute(root=book.root)
    assert "interrupted" in first.note
    assert sorted(file.name.split("-")[0] for file in folder.iterdir()) == ["half", "seconds"]
    (second,) = engine.execute(root=book.root)
    assert second.status == "executed"
    printed = notebooks.read(book.notebook("a"))["cells"][1]["outputs"][0]["text"]
    assert printed == "resumed\n"
    stored = records.read_record("a", "small", book.root)
    assert stored.duration_s > second.seconds + 0.5 * first.seconds  # both runs count
    assert not folder.exists()


def test_force_begins_from_nothing(book, monkeypatch):
    book.chapter("a", "1")
    folder = book.root / "_build" / "checkpoints" / "small-a"
    folder.mkdir(parents=True)
    left = []

    def run_job(job, threads):
        left.append(folder.exists())
        return engine.Outcome(job.label, "failed")

    monkeypatch.setattr(engine, "run_job", run_job)
    engine.execute(root=book.root)
    engine.execute(force=True, root=book.root)
    assert left == [True, False]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "jobs"),
    [(signal.SIGKILL, 1), (signal.SIGINT, 1), (signal.SIGTERM, 2), (signal.SIGHUP, 1)],
)
def test_a_killed_run_leaves_everything_as_it_was(book, kind, jobs):
    names = ["a", "b"][:jobs]
    for name in names:
        begin = f"open({str(book.root / f'began-{name}')!r}, 'w').close()"
        more = "import subprocess, time\nsubprocess.Popen(['sleep', '300'])"  # as joblib's workers
        book.chapter(name, more, begin, "time.sleep(300)")
    old = records.record_path("a", "small", book.root)
    notebooks.write({old: record("a").to_json()})
    before = bytes_of(book, "a")
    process = start(book, "execute", "--jobs", str(jobs))
    wait_for(lambda: all((book.root / f"began-{name}").exists() for name in names))
    process.send_signal(kind)
    output, _ = process.communicate(timeout=90)
    assert process.returncode == (-kind if kind == signal.SIGKILL else 130)
    assert bytes_of(book, "a") == before
    wait_for(lambda: not working(book))  # no kernel goes on working for nobody
    if kind != signal.SIGKILL:
        assert "stopped" in output
        assert "Traceback" not in output
    with engine.reserved("a", "small", book.root):  # and the next run starts afresh
        (folder,) = (p for p in (book.root / "_build" / "running").iterdir() if p.is_dir())
        assert list(folder.iterdir()) == []


# --- seeds ----------------------------------------------------------------------------------------


def merged(book):
    return reader.read(records.merged_path("a", "small", book.root))


def expected(seeds):
    rngs = [random.Random(seed) for seed in seeds]
    return {arm: [r.gauss(m, 0.3) for r in rngs] for arm, m in (("A", 3), ("B", 0))}


def sweep(book, seeds, **options):
    outcomes = engine.execute(["a"], seeds=seeds, root=book.root, **options)
    assert [o.label for o in outcomes] == [f"a, seed {seed}" for seed in seeds]
    return [o.status for o in outcomes], outcomes


def test_a_sweep_tries_again_merges_and_goes_on(book, capsys):
    log = book.root / "log"
    book.seeded(
        "a",
        f"with open({str(log)!r}, 'a') as f: f.write(f'{{seeds[0]}} ')\nimport pathlib\n"
        f"once, mended = (pathlib.Path({str(book.root)!r}, name) for name in ('once', 'mended'))\n"
        "assert seeds[0] != 0 or once.exists() or once.touch(), 'the first try'\n"
        "assert seeds[0] != 1 or mended.exists(), 'always'",
    )
    statuses, outcomes = sweep(book, [0, 1], jobs=2)
    assert statuses == ["executed", "failed"]
    assert outcomes[1].note == "cell 3: AssertionError: always"
    assert "_build/executed/small/a.seed-1.failed.ipynb" in outcomes[1].details
    out = capsys.readouterr().out
    assert "2 of 2 jobs to run on 2 workers" in out
    assert "a, seed 0: failed after" in out
    assert "(cell 3: AssertionError: the first try)" in out
    assert "trying again: a, seed" in out
    assert merged(book).seeds == [0]
    # what is finished is kept; the rest, and more, runs now
    (book.root / "mended").touch()
    statuses, _ = sweep(book, [0, 1, 2], jobs=1)
    assert statuses == ["fresh", "executed", "executed"]
    assert sorted(log.read_text().split()) == ["0", "0", "1", "1", "1", "2"]
    (claim,) = merged(book).claims
    assert claim.values == expected([0, 1, 2])
    assert merged(book).verdicts()["better"].verdict == "reproduced"
    assert merged(book).numbers["width"]["values"] == [2.0, 3.0, 4.0]
    assert merged(book).fingerprint == staleness.fingerprint("a", book.root)
    assert "The record of 3 seeds is _build/sweep/small/a.json" in capsys.readouterr().out
    # the book's own files stay as they were
    assert not (book.root / "results").exists()
    cells = notebooks.code_cells(notebooks.read(book.notebook("a")))
    assert all(cell["outputs"] == [] for _, cell in cells)


def test_force_runs_the_seeds_asked_for_and_no_others(book, monkeypatch):
    book.seeded("a")
    ran = []

    def run_job(job, threads):
        ran.append(job.seed)
        raise OSError("the network is gone")

    monkeypatch.setattr(engine, "run_job", run_job)
    for job in engine.jobs_of("a", "small", [0, 1, 2], book.root):
        made = record("a", [job.seed], fingerprint=job.fingerprint)
        engine._store(job, engine.Outcome(job.label, "executed", record=made))
    assert sweep(book, [0, 1])[0] == ["fresh", "fresh"]
    assert merged(book).seeds == [0, 1]
    sweep(book, [1], force=True)
    assert ran == [1, 1]  # its worker was lost, and it was tried again
    assert sweep(book, [0, 1, 2])[0] == ["fresh"] * 3  # a failure takes no finished seed away


@pytest.mark.slow
def test_a_killed_job_loses_nothing_that_was_finished(book):
    """What runs seed 1 is killed once; seed 0 is not run again."""
    book.seeded(
        "a",
        PAPERMILL + f"import pathlib\nroot = pathlib.Path({str(book.root)!r})\n"
        "with open(root / 'log', 'a') as f: f.write(f'{seeds[0]} ')\n"
        "if seeds[0] == 1 and not (root / 'killed').exists():\n"
        "    while not list(root.glob('_build/sweep/small/*/seed-0.json')): time.sleep(0.05)\n"
        "    (root / 'killed').touch()\n"
        "    os.kill(papermill, 9)\n"
        "    time.sleep(60)",
    )
    assert sweep(book, [0, 1], jobs=2)[0] == ["executed", "executed"]
    assert sorted((book.root / "log").read_text().split()) == ["0", "1", "1"]
    assert merged(book).claims[0].values == expected([0, 1])


@pytest.mark.slow
def test_a_killed_sweep_leaves_nothing_running_and_goes_on(book):
    book.seeded(
        "a",
        f"import pathlib, time\nroot = pathlib.Path({str(book.root)!r})\n"
        "(root / f'began-{seeds[0]}').touch()\n"
        "while seeds[0] == 1 and not (root / 'go on').exists(): time.sleep(0.05)",
    )
    process = start(book, "sweep", "a", "--seeds", "0,1", "--jobs", "2")
    began = book.root / "began-1"
    wait_for(lambda: began.exists() and list(book.root.glob("_build/sweep/small/*/seed-0.json")))
    process.kill()
    process.communicate()
    wait_for(lambda: not working(book))
    (book.root / "go on").touch()
    assert sweep(book, [0, 1])[0] == ["fresh", "executed"]


def test_a_job_whose_code_is_not_the_workers_is_refused(book, monkeypatch):
    book.seeded("a")
    (job,) = engine.jobs_of("a", "small", [0], book.root)
    helper = book.root / "labutils" / "helper.py"
    book.notebook("a").write_text(book.notebook("a").read_text().replace("profile = ", "other = "))
    outcome = engine.run_job(job)
    assert (outcome.status, outcome.record) == ("failed", None)
    assert "changed since this run was started" in outcome.note
    # a worker that cannot see the book has a package of its own
    elsewhere = replace(job, root=str(book.root / "nowhere"))
    assert "differs from the book's" in engine.run_job(elsewhere).note
    assert helper.exists()


# --- a Dask cluster -------------------------------------------------------------------------------


@pytest.fixture
def cluster(tmp_path):
    """A scheduler and two workers of one thread each, as processes: (address, workers)."""
    distributed = pytest.importorskip("distributed")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    file = tmp_path / "scheduler.json"

    def start(command, *more):
        command = [
            sys.executable,
            "-m",
            f"distributed.cli.{command}",
            "--scheduler-file",
            str(file),
        ]
        return subprocess.Popen(
            [*command, *more], env=environment, cwd=tmp_path,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    processes = [start("dask_scheduler", "--port", "0", "--no-dashboard")]
    try:
        wait_for(file.exists)
        plain = ("--nthreads", "1", "--no-nanny", "--no-dashboard")
        workers = [start("dask_worker", *plain) for _ in range(2)]
        processes += workers
        address = json.loads(file.read_text())["address"]
        with distributed.Client(address) as client:
            client.wait_for_workers(2, timeout=120)
        yield address, workers
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.mark.slow
def test_a_dask_cluster_survives_the_death_of_a_worker_and_runs_whole_notebooks(book, cluster):
    address, workers = cluster
    book.seeded(
        "a",
        WORKER + f"import pathlib\nroot = pathlib.Path({str(book.root)!r})\n"
        "with open(root / 'log', 'a') as f: f.write(f'{seeds and seeds[0]} ')\n"
        "with open(root / 'workers', 'a') as f: f.write(f'{worker} ')\n"
        "if seeds and seeds[0] == 2 and not (root / 'killed').exists():\n"
        "    (root / 'killed').touch()\n"
        "    os.kill(worker, 9)\n"
        "    time.sleep(60)",
    )
    assert sweep(book, range(4), dask=address)[0] == ["executed"] * 4
    used = set(map(int, (book.root / "workers").read_text().split()))
    assert used == {worker.pid for worker in workers}
    wait_for(lambda: sum(worker.poll() is not None for worker in workers) == 1)
    runs = (book.root / "log").read_text().split()
    assert set(runs) == {"0", "1", "2", "3"}
    assert len(runs) <= 6  # at most the job beside the one that died was done twice
    assert merged(book).claims[0].values == expected(range(4))
    wait_for(lambda: not working(book))
    (outcome,) = engine.execute(["a"], dask=address, root=book.root)
    assert outcome.status == "executed"
    assert records.why_stale("a", "small", book.root) is None


def test_a_cluster_that_does_not_answer(book, monkeypatch):
    distributed = pytest.importorskip("distributed")

    def fail(address, timeout):
        raise OSError("Timed out trying to connect")

    monkeypatch.setattr(distributed, "Client", fail)
    book.seeded("a")
    with pytest.raises(PressError, match="no Dask scheduler answers at tcp://nowhere"):
        sweep(book, [0], dask="tcp://nowhere:1")
