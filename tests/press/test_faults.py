"""Full disks, lost drives, wrong clocks, kills: nothing is lost, nothing stays, one clear error."""

import ast
import contextlib
import errno
import os
import random
import re
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import psutil
import pytest
from test_engine import bytes_of, start, wait_for, working

from labutils import claims, kept
from labutils.start import start as start_lab
from press import engine, notebooks, outputs, reader

ROOT = Path(__file__).parents[2]


def full(monkeypatch, after):
    """Let the disk be full after so many files; half of the next one is written."""
    write, done = Path.write_bytes, []

    def half(self, content):
        done.append(self)
        if len(done) <= after:
            return write(self, content)
        write(self, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", half)


def job(k, log):
    with Path(log).open("a") as stream:
        stream.write(f"{k} ")
    return k * k


# --- disks ----------------------------------------------------------------------------------------


def test_a_disk_that_fills_up_while_jobs_are_kept_costs_no_finished_one(tmp_path, monkeypatch):
    monkeypatch.setenv("LABUTILS_CHECKPOINTS", str(tmp_path / "kept"))
    lab = start_lab("any", {"num_seeds": (1, 1, "", "")}, profile="smoke")
    jobs = [(k, str(tmp_path / "log")) for k in range(4)]
    with monkeypatch.context() as patch:
        full(patch, after=2)
        with pytest.raises(OSError, match="No space left on device"):
            lab.map(job, jobs, "jobs")
    left = [file.suffix for file in (tmp_path / "kept").rglob("*") if file.is_file()]
    assert left == [".pt", ".pt"]
    assert lab.map(job, jobs, "jobs") == [0, 1, 4, 9]
    assert (tmp_path / "log").read_text() == "0 1 2 2 3 "


def test_a_run_does_not_end_because_its_seconds_cannot_be_noted(tmp_path, monkeypatch):
    def refused(contents):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(notebooks, "write", refused)
    job = types.SimpleNamespace(checkpoints=tmp_path)
    run = types.SimpleNamespace(keeps=True, job=job, spent_file=None, spent=0.0, seconds=1.0)
    engine._Run._save_spent(run)


def test_a_book_that_is_read_only_costs_a_line_for_each_notebook(book, monkeypatch, capsys):
    book.chapter("a", "1")

    def refused(self, *options, **more):
        raise OSError(errno.EROFS, "Read-only file system", str(self))

    monkeypatch.setattr(Path, "mkdir", refused)
    (outcome,) = engine.execute(root=book.root)
    assert outcome.status == "failed"
    assert "Read-only file system" in outcome.note
    assert "Traceback" not in capsys.readouterr().out


@pytest.mark.parametrize("place", ["a drive that is not mounted", "a file"])
def test_a_folder_for_checkpoints_that_cannot_be_is_named(tmp_path, monkeypatch, place):
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" if place == "a file" else tmp_path / "drive" / "My folder"
    monkeypatch.setenv("LABUTILS_CHECKPOINTS", str(folder))
    with pytest.raises(NotADirectoryError, match=r"LABUTILS_CHECKPOINTS names.* Mount the drive"):
        kept.save(1, folder / "rs2-small-key" / "run.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    kept.save(1, tmp_path / "elsewhere" / "run.pt")  # is nobody's drive
    (tmp_path / "drive").mkdir()
    monkeypatch.setenv("LABUTILS_CHECKPOINTS", str(tmp_path / "drive" / "new"))
    kept.save(1, tmp_path / "drive" / "new" / "rs2-small-key" / "run.pt")


def test_execute_says_that_it_has_its_own_checkpoints(book, monkeypatch, capsys):
    monkeypatch.setenv("LABUTILS_CHECKPOINTS", "/somewhere")
    engine.execute(root=book.root)
    assert capsys.readouterr().out.startswith("LABUTILS_CHECKPOINTS is for notebooks run by hand")


def test_a_notebook_that_is_a_link_stays_one(tmp_path):
    (tmp_path / "real").write_text("old")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "real")
    notebooks.write({link: "new"})
    assert link.is_symlink()
    assert (tmp_path / "real").read_text() == "new"


# --- clocks ---------------------------------------------------------------------------------------


def test_nothing_is_measured_or_decided_by_a_clock_that_can_be_set():
    """Such a clock tells the date of a record and of a release, and nothing else."""
    settable, found = {"time", "now", "utcnow", "today", "st_mtime", "st_ctime", "getmtime"}, set()
    for file in [*ROOT.glob("labutils/**/*.py"), *ROOT.glob("press/*.py")]:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in settable:
                found.add(f"{file.relative_to(ROOT)}: {ast.unparse(node)}")
    assert found <= {"labutils/claims.py: datetime.now", "press/release.py: datetime.now"}


@pytest.mark.parametrize("year", [1970, 2100])
def test_a_record_of_a_wrong_clock_is_a_record(tmp_path, monkeypatch, year):
    class Clock(claims.datetime):
        @classmethod
        def now(cls, zone):
            return cls(year, 1, 1, tzinfo=zone)

    monkeypatch.setattr(claims, "datetime", Clock)
    ledger = claims.Ledger("a", "small", [0], {}, {"device": "cpu"})
    found = reader.read(ledger.save(tmp_path))
    assert found.finished.startswith(f"{year}-01-01")
    assert 0 <= found.duration_s < 60


# --- kills and two at once ------------------------------------------------------------------------


def test_a_file_is_whole_whoever_writes_it_and_whenever_they_are_killed(tmp_path):
    file, contents = tmp_path / "file", [letter * 100_000 for letter in (b"a", b"b")]
    claims.place(contents[0], file)
    for _ in range(10):
        children = []
        for content in contents:
            if (child := os.fork()) == 0:
                while True:
                    claims.place(content, file)
            children.append(child)
        time.sleep(random.uniform(0, 0.05))
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        assert file.read_bytes() in contents


def test_the_end_of_a_run_ends_all_that_it_started(tmp_path):
    """Processes in sessions of their own, too; a tracker of resources ends by itself, at last."""
    results, cleaned = tmp_path / "results", tmp_path / "cleaned"
    tracker = "import sys; sys.stdin.read(); open(sys.argv[1], 'w').close()"
    environment = {**os.environ, "LABUTILS_RESULTS": str(results)}
    top = subprocess.Popen(
        ["sh", "-c", 'sleep 300 | "$@"', "sh", sys.executable, "-S", "-c", tracker, str(cleaned),
         "resource_tracker"],
        env=environment, start_new_session=True,
    )  # fmt: skip
    apart = subprocess.Popen(["sleep", "300"], env=environment, start_new_session=True)
    other = subprocess.Popen(["sleep", "300"])
    wait_for(lambda: len(psutil.Process(top.pid).children(recursive=True)) == 2)
    engine.end(top, results)
    assert apart.poll() is not None
    assert cleaned.exists()
    assert engine._started(results) == []
    assert other.poll() is None
    other.kill()
    other.wait()


# --- what papermill leaves ------------------------------------------------------------------------

LOUD = "import sys; open(sys.argv[3], 'w').write('x' * (engine_most + 1))"


def test_outputs_that_are_too_large_are_refused(book, monkeypatch):
    book.chapter("a", "1")
    (job,) = engine.jobs_of("a", "smoke", None, book.root)
    most = engine.MOST_MB * 2**20
    monkeypatch.setattr(engine, "_PAPERMILL", LOUD.replace("engine_most", str(most)))
    outcome = engine.run_job(job, 1)
    assert outcome.status == "failed"
    assert outcome.note == "outputs of 20 MB, expected 20 at most: show less"


def test_a_log_that_ends_with_a_line_of_dashes_is_quoted_by_its_last_words(tmp_path):
    (tmp_path / "log").write_text("CellTimeoutError: a cell took too long\n--------------\n")
    line, _ = outputs.explain(tmp_path / "none.ipynb", tmp_path / "log", 1)
    assert line == "papermill: CellTimeoutError: a cell took too long"


# --- soak: needs root or minutes; `make soak` -----------------------------------------------------


@pytest.fixture
def small_disk():
    """A function that mounts a disk of one megabyte at a folder, and returns the folder."""
    mounted = []

    def mount(folder):
        folder.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("only root can mount a disk")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.soak
def test_a_full_disk_keeps_the_earlier_file_and_no_half_of_the_next(tmp_path, small_disk):
    folder = small_disk(tmp_path / "disk")
    kept.save(b"a" * 600_000, folder / "run.pt")
    for save in (lambda: kept.save(b"b" * 600_000, folder / "run.pt"),
                 lambda: claims.place(b"b" * 600_000, folder / "a.small.json")):  # fmt: skip
        with pytest.raises(OSError, match="No space left on device"):
            save()
        assert [file.name for file in folder.iterdir()] == ["run.pt"]
    assert kept.load(folder / "run.pt") == b"a" * 600_000


@pytest.mark.soak
@pytest.mark.parametrize("mode", ["full", "ro"])
@pytest.mark.parametrize("place", ["_build", "results/theme", "notebooks/theme"])
def test_a_run_on_a_full_or_read_only_disk_replaces_nothing(book, small_disk, capsys, place, mode):
    book.chapter("a", "print('x' * 100_000)")
    source = book.notebook("a").read_text()
    folder = small_disk(book.root / place)
    book.notebook("a").write_text(source)  # where the disk hides it
    if mode == "ro":
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    else:
        with (folder / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(4096))
    before = bytes_of(book, "a")
    (outcome,) = engine.execute(root=book.root)
    assert outcome.status == "failed"
    assert "\n" not in outcome.note
    assert bytes_of(book, "a") == before
    assert "Traceback" not in capsys.readouterr().out


WORK = """\
import numpy, joblib, os, time
def work(x, k):
    open({folder!r} + f"/began-{{k}}", "w").close()
    if {kill}:
        os.kill(os.getpid(), 9)
    time.sleep(300)
joblib.Parallel(2)(joblib.delayed(work)(numpy.zeros(1_000_000), k) for k in range(2))"""


def shared(processes):
    """Semaphores and memory that one of the processes shares with others."""
    pids = "|".join(str(process.pid) for process in processes)
    own = re.compile(rf"sem\.\w+-({pids})-|joblib_memmapping_folder_({pids})_")
    return [path.name for path in Path("/dev/shm").iterdir() if own.match(path.name)]


@pytest.mark.soak
@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGHUP, signal.SIGINT])
def test_a_killed_run_leaves_no_worker_semaphore_or_file(book, monkeypatch, tmp_path, kind):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    book.chapter("a", WORK.format(folder=str(book.root), kill=False))
    process = start(book, "execute")
    wait_for(lambda: all((book.root / f"began-{k}").exists() for k in range(2)), 300)
    processes = working(book)
    assert shared(processes)  # or there is nothing to be left
    process.send_signal(kind)
    process.communicate(timeout=90)
    wait_for(lambda: not working(book))
    wait_for(lambda: not shared(processes), 30)
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.soak
def test_a_worker_that_is_killed_for_memory_ends_the_run_with_a_line(book):
    book.chapter("a", WORK.format(folder=str(book.root), kill=True))
    (outcome,) = engine.execute(root=book.root)
    assert outcome.status == "failed"
    assert outcome.note.startswith("cell 2: TerminatedWorkerError")
    assert not working(book)
