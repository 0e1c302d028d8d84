"""The engine: executes notebooks as jobs, on this machine's processes or on a Dask cluster.

A job is one notebook with given profile and seeds, executed in a process of its own and a scratch
folder. Without seeds, the stored notebook and record are replaced, only after the whole run
succeeded. With seeds, each seed is a job; their records are kept as they come and merged into one.
"""

import contextlib
import functools
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import dataclass, replace
from pathlib import Path

import filelock
import psutil
from joblib import Parallel, cpu_count, delayed

import labutils
from labutils.claims import Record, RecordError
from press import PressError, notebooks, outputs, records, staleness
from press.words import count, duration, memory, table

POLL_S, REPORT_S = 0.2, 60  # how often a run is looked at, and reports
ATTEMPTS = 2  # of a seed

# Runs papermill's command line. It ends itself when the process that started it is gone, so that a
# killed engine leaves no kernel behind (kernels watch their parent in the same way).
_PAPERMILL = """
import os, sys, threading, time
parent = int(sys.argv.pop(1))
def watch():
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
threading.Thread(target=watch, daemon=True).start()
from papermill.cli import papermill
papermill()
"""


def parse_seeds(text):
    """Return the seeds of ``"0-9"`` or ``"0,3,5-7"`` as a list; ``ValueError`` says what is odd."""
    seeds = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:\s*-\s*(\d+))?\s*", part)
        if not match or (match[2] and int(match[2]) < int(match[1])):
            raise ValueError(f"{text!r} is not a list of seeds such as 0-9 or 0,3,5-7")
        seeds += range(int(match[1]), int(match[2] or match[1]) + 1)
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"{text!r} names a seed twice")
    return seeds


# --- jobs -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """One execution of a notebook, as plain values: a worker need not see this machine's files."""

    notebook: str
    profile: str
    seed: int | None  # None: the seeds that the notebook's profile has
    source: str  # the text of the notebook's file
    code: dict[str, str]
    fingerprint: str
    package: str  # digest of the labutils that the record is about
    root: str  # the book's folder, of use where it can be seen
    threads: int | None = None  # None: as many as the worker's OMP_NUM_THREADS says, or one
    parent: int | None = None  # the process with which the job ends; None for a worker on its own

    @property
    def label(self):
        return self.notebook if self.seed is None else f"{self.notebook}, seed {self.seed}"

    @property
    def file_name(self):
        return self.notebook + ("" if self.seed is None else f".seed-{self.seed}")

    @property
    def checkpoints(self):
        """Where an interrupted run leaves what the next one goes on from."""
        return Path(self.root, "_build", "checkpoints", f"{self.profile}-{self.file_name}")

    @property
    def scratch(self):
        return _scratch(self.notebook, self.profile, self.seed is not None, Path(self.root))


@dataclass
class Outcome:
    """How a job ended. ``status``: executed, fresh, failed or stopped."""

    label: str
    status: str
    note: str = ""  # one line for the summary
    seconds: float = 0.0
    peak_memory_mb: float | None = None
    details: str = ""  # of a failure: cell, source and traceback
    record: Record | None = None
    executed: str | None = None  # text of the notebook as papermill left it


def package_digest(root):
    """Return 16 hex digits that change with any file of the labutils in a folder."""
    files = sorted(Path(root, "labutils").rglob("*.py"))
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:16]


def run_job(job):
    """Execute a job on whatever machine this is; return its ``Outcome``. Stores nothing."""
    started = time.monotonic()
    if job.parent not in (None, os.getpid()):
        _end_with(job.parent)
    try:
        # inside the book's folder, where the next run finds and removes what a killed one left
        base = job.scratch if job.scratch.is_dir() else None
        with tempfile.TemporaryDirectory(prefix="press-", dir=base) as scratch:
            return _Run(job, Path(scratch)).outcome()
    except PressError as error:
        note, details = str(error), ""
    except Exception as error:
        note, details = f"{type(error).__name__}: {error}", traceback.format_exc()
    return Outcome(job.label, "failed", note, time.monotonic() - started, details=details)


@functools.cache  # one thread is enough
def _end_with(parent):
    """Let this worker end when the process that it works for is gone."""

    def watch():
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class _Run:
    """A job while it is executed."""

    def __init__(self, job, scratch):
        self.job, self.started, self.reports = job, time.monotonic(), 0
        package = _package(job)
        self.input, self.output = scratch / "input.ipynb", scratch / "output.ipynb"
        self.log, self.results, self.said = scratch / "log", scratch / "results", scratch / "said"
        self.input.write_text(job.source, encoding="utf-8")
        self.total = len(notebooks.code_cells(notebooks.read(self.input)))
        self.done, self.seen, self.peak_mb = 0, None, 0
        # of interrupted runs of the same code before this one
        self.keeps = job.profile != "smoke" and Path(job.root).is_dir()
        self.spent_file = job.checkpoints / f"seconds-{job.fingerprint}"
        before = self.keeps and self.spent_file.exists()
        self.spent = float(self.spent_file.read_text()) if before else 0.0
        threads = job.threads or int(os.environ.get("OMP_NUM_THREADS") or 1)
        say(f"{job.label}: started at {job.profile}, {count(threads, 'thread')}")
        self.process = self._start(scratch, package, threads)

    def _start(self, scratch, package, threads):
        """Start papermill in a process of its own; return the process."""
        path = [str(package), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {
            **os.environ,
            "LABUTILS_PROFILE": self.job.profile,
            "LABUTILS_CODE": self.job.fingerprint,
            "LABUTILS_RESULTS": str(self.results),
            "LABUTILS_HEADLESS": str(self.said),
            # An interrupted run goes on from here; a smoke run is too short to be worth it.
            "LABUTILS_CHECKPOINTS": str(self.job.checkpoints) if self.keeps else "",
            "OMP_NUM_THREADS": str(threads),
            "PYTHONPATH": os.pathsep.join(path),
            "PYTHONHASHSEED": "0",
            # This Python's kernel, whatever kernels and start-up files the user has.
            "JUPYTER_PREFER_ENV_PATH": "1",
            "IPYTHONDIR": str(scratch / "ipython"),
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        }
        options = ["--kernel", "python3", "--no-progress-bar", "--log-level", "ERROR"]
        if self.job.seed is not None:
            options += ["--language", "python", "--parameters_yaml", f"seeds: [{self.job.seed}]"]
        command = [sys.executable, "-c", _PAPERMILL, str(os.getpid())]
        with self.log.open("wb") as stream:
            return subprocess.Popen(
                [*command, str(self.input), str(self.output), *options],
                env=environment,
                cwd=scratch,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the engine, which then ends this one
            )

    @property
    def seconds(self):
        return time.monotonic() - self.started

    def outcome(self):
        """Wait for the end; return the ``Outcome``. Whatever happens here, the process ends."""
        try:
            while self.process.poll() is None:
                self._watch()
                time.sleep(POLL_S)
            return self._ended()
        finally:
            if self.process.poll() is None:
                end(self.process)
                self._save_spent()

    def _watch(self):
        """Measure memory and progress; now and then, say how far it is."""
        self.peak_mb = max(self.peak_mb, round(tree_bytes(self.process) / 2**20))
        with contextlib.suppress(OSError, notebooks.NotebookError, KeyError):
            changed = self.output.stat().st_mtime_ns
            if changed != self.seen:
                self.seen = changed
                cells = notebooks.code_cells(notebooks.read(self.output))
                states = [cell["metadata"]["papermill"]["status"] for _, cell in cells]
                self.done = min(states.count("completed"), self.total)
                self._save_spent()
        if self.seconds // REPORT_S > self.reports:
            self.reports = self.seconds // REPORT_S
            line = f"{self.done} of {self.total} cells after {duration(self.seconds)}"
            with contextlib.suppress(OSError):  # what the notebook's longest loop reported
                said = self.said.read_text(encoding="utf-8").strip().rpartition("\n")[2]
                line += f"; {said}" * bool(said)
            say(f"{self.job.label}: {line}")

    def _save_spent(self):
        """Remember the time spent, for the run that goes on from the checkpoints of this one."""
        if self.keeps and self.job.checkpoints.is_dir():
            notebooks.write({self.spent_file: f"{self.spent + self.seconds:.1f}\n"})

    def _ended(self):
        if self.process.returncode:
            return self._failed(*outputs.explain(self.output, self.log, self.process.returncode))
        try:
            file = self.results / f"{self.job.notebook}.{self.job.profile}.json"
            record = Record.from_json(file.read_text(encoding="utf-8"), file.name)
        except FileNotFoundError:
            return self._failed(
                "no record: the notebook did not save its ledger",
                "Its claims cell must end with `lab.save()`.",
            )
        except RecordError as error:
            return self._failed(f"no valid record: {error}")
        executed = self.output.read_text(encoding="utf-8")
        record = replace(
            record,
            title=record.title or outputs.title(notebooks.read(self.input)),
            fingerprint=self.job.fingerprint,
            code=self.job.code,
            duration_s=round(self.spent + self.seconds, 1),
            peak_memory_mb=self.peak_mb,
        )
        return self._outcome("executed", record=record, executed=executed)

    def _failed(self, note, details=""):
        self._save_spent()
        executed = self.output.read_text(encoding="utf-8") if self.output.is_file() else None
        return self._outcome("failed", note=note, details=details, executed=executed)

    def _outcome(self, status, **more):
        return Outcome(
            self.job.label, status, seconds=self.seconds, peak_memory_mb=self.peak_mb, **more
        )


def _package(job):
    """Return the folder whose labutils the job imports; ``PressError`` if its code is other code.

    Where the book's folder can be seen, the notebook's own fingerprint tells.
    """
    seen = Path(job.root, "labutils", "__init__.py").is_file()
    package = Path(job.root) if seen else Path(labutils.__file__).parents[1]
    if seen and staleness.fingerprint(job.notebook, job.root) != job.fingerprint:
        raise PressError(f"its code in {package} changed since this run was started; run it again")
    if not seen and package_digest(package) != job.package:
        raise PressError(
            f"the worker's labutils ({package}) differs from the book's; install the same version "
            "of the book's package on all machines"
        )
    return package


def tree(process):
    """Return a process (a ``Popen``) and all that it started, as far as they are there."""
    with contextlib.suppress(psutil.Error):
        top = psutil.Process(process.pid)
        return [top, *top.children(recursive=True)]
    return []


def tree_bytes(process):
    """Return the resident memory of a process and of everything that it started."""
    total = 0
    for member in tree(process):
        with contextlib.suppress(psutil.Error):
            total += member.memory_info().rss
    return total


def end(process):
    """End a process and everything that it started."""
    members = tree(process)
    for member in members:
        with contextlib.suppress(psutil.Error):
            member.kill()
    process.wait()
    psutil.wait_procs(members, timeout=3)


def say(line):
    print(line, flush=True)


# --- many jobs ------------------------------------------------------------------------------------


def run_jobs(jobs, processes, dask, ended):
    """Run jobs side by side; call ``ended(job, outcome)`` here as each one ends.

    A pool with a dead worker loses its other jobs too: for those, nothing is called.
    """
    by_label = {job.label: job for job in jobs}
    outcomes = _on_cluster(jobs, dask) if dask else _on_this_machine(jobs, processes)
    while True:
        try:
            outcome = next(outcomes, None)
        except PressError:
            raise
        except Exception as error:  # of the pool: a job reports its own
            say(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}")
            return
        if outcome is None:
            return
        ended(by_label[outcome.label], outcome)


def _on_this_machine(jobs, processes):
    parallel = Parallel(
        n_jobs=processes,
        backend="loky",
        return_as="generator_unordered",
        batch_size=1,
        pre_dispatch="all",
    )
    return parallel(delayed(run_job)(job) for job in jobs)


def _on_cluster(jobs, address):
    """Yield outcomes from a Dask cluster."""
    # Not through joblib: it runs jobs here when the cluster has one slot.
    try:
        import distributed
    except ImportError:
        raise PressError("--dask needs a package: pip install distributed") from None
    try:
        client = distributed.Client(address, timeout="20s")
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise PressError(
            f"no Dask scheduler answers at {address} ({reason}); expected an address such as "
            "tcp://10.0.0.1:8786, which `dask scheduler` prints"
        ) from None
    with client:
        for future in distributed.as_completed(client.map(run_job, jobs, pure=False)):
            if future.status == "finished":
                yield future.result()
            else:
                say(f"a job was lost: {future.exception()}")


@contextlib.contextmanager
def terminable():
    """Let a polite kill (SIGTERM) end a run like Ctrl-C."""
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _scratch(notebook, profile, sweep, root):
    return root / "_build" / "running" / f"{profile}-{notebook}{'-seeds' * sweep}"


@contextlib.contextmanager
def reserved(notebook, profile, root, sweep=False):
    """Give a run of a notebook a scratch folder, and refuse a second run at the same time."""
    folder = _scratch(notebook, profile, sweep, root)
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(f"{folder}.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise PressError("another run of this notebook and profile is under way") from None
    try:
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
        folder.mkdir()
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()


# --- execute --------------------------------------------------------------------------------------


def execute(names=(), profile="small", *, seeds=None, jobs=None, dask=None, force=False, root=None):
    """Execute notebooks (default: all) at a profile; return one ``Outcome`` per job.

    Without ``seeds`` a job is a whole notebook, skipped while its record is fresh; its outputs and
    record are stored in the book. With ``seeds`` each seed of each notebook is a job, skipped when
    it is finished and tried twice; a merged record per notebook is written under ``_build/sweep``.

    jobs: how many run side by side here (default: one notebook, or a seed per core; one for
    ``full``); they share the cores. dask: address of a running Dask scheduler, whose workers then
    do the jobs. force: run all, from nothing. Raises ``PressError`` for an unknown notebook or
    profile and for a cluster that does not answer. When interrupted, ends what runs, reports, and
    raises ``KeyboardInterrupt``.
    """
    root = notebooks.book_root(root).resolve()
    names = records.checked(names, profile, root)
    if not names:
        say("There are no notebooks yet.")
    session = _Session(seeds is not None)
    with terminable(), contextlib.ExitStack() as stack:
        try:
            for name in names:
                session.plan(name, profile, seeds, force, root, stack)
            alone = seeds is None or profile == "full"
            processes = min(jobs or (1 if alone else cpu_count()), max(1, len(session.waiting)))
            session.run(processes, dask)
        finally:
            session.report()
    for name in names if seeds is not None else ():
        _merge(name, profile, seeds, root)
    return list(session.outcomes.values())


class _Session:
    """The jobs of one call: what waits, what became of each, in the order asked for."""

    def __init__(self, sweep):
        self.sweep, self.started = sweep, time.monotonic()
        self.waiting, self.outcomes = [], {}

    def plan(self, name, profile, seeds, force, root, stack):
        """Add the jobs of one notebook; those that need not run have their outcome at once."""
        try:
            stack.enter_context(reserved(name, profile, root, self.sweep))
            made = _jobs(name, profile, seeds, root)
        except PressError as error:
            self.outcomes[name] = Outcome(name, "failed", str(error))
            return
        self.outcomes |= {job.label: Outcome(job.label, "stopped", "interrupted") for job in made}
        for job in made:
            reason = _why_run(job)
            if not reason and not force:
                note = "finished before" if self.sweep else "nothing that it depends on changed"
                self.outcomes[job.label] = Outcome(job.label, "fresh", note)
                continue
            if not self.sweep:
                say(f"{job.label}: {reason or 'fresh, but forced'}")
            if force:
                shutil.rmtree(job.checkpoints, ignore_errors=True)
            self.waiting.append(job)

    def run(self, processes, dask):
        """Run what waits; failed seeds once more."""
        threads = None if dask else max(1, cpu_count() // processes)
        parent = None if dask else os.getpid()
        waiting = [replace(job, threads=threads, parent=parent) for job in self.waiting]
        self.done, self.total = 0, len(waiting)
        at = f"the cluster at {dask}" if dask else count(processes, "worker")
        if self.sweep:
            say(f"{self.total} of {count(len(self.outcomes), 'job')} to run on {at}")
        for attempt in range(ATTEMPTS if self.sweep else 1):
            if attempt and waiting:
                say(f"trying again: {'; '.join(job.label for job in waiting)}")
            run_jobs(waiting, processes, dask, self.ended)
            for job in waiting:
                if self.outcomes[job.label].status == "stopped":
                    self.outcomes[job.label] = Outcome(job.label, "failed", "its worker was lost")
            waiting = [job for job in waiting if self.outcomes[job.label].status == "failed"]

    def ended(self, job, outcome):
        """Store what a job brought and say so."""
        self.outcomes[job.label] = outcome = _store(job, outcome)
        line = f"{job.label}: {outcome.status} after {duration(outcome.seconds)}"
        line += f" ({outcome.note})" if outcome.note else ""
        self.done += outcome.status == "executed"
        if 0 < self.done < self.total:
            left = (time.monotonic() - self.started) / self.done * (self.total - self.done)
            line += f"; {self.done} of {self.total} jobs done, {duration(left)} left"
        say(line)

    def report(self):
        """Print the failures and the table of all jobs."""
        for outcome in self.outcomes.values():
            if outcome.status == "failed":
                say(f"\n{outcome.label} failed: {outcome.note}\n{outcome.details}".rstrip())
        rows = [
            (o.label, o.status, duration(o.seconds or None), memory(o.peak_memory_mb), o.note)
            for o in self.outcomes.values()
        ]
        if rows:
            what = "job" if self.sweep else "notebook"
            say("\n" + table((what, "status", "time", "peak memory", "note"), rows))


def _jobs(name, profile, seeds, root):
    """Return the jobs of a notebook: one, or one per seed."""
    file = notebooks.path(name, root)
    source = file.read_text(encoding="utf-8")
    notebooks.parse(source, file)  # or say now what is wrong with it
    job = Job(
        name, profile, None, source, staleness.fingerprint_parts(name, root),
        staleness.fingerprint(name, root), package_digest(root), str(root),
    )  # fmt: skip
    return [job] if seeds is None else [replace(job, seed=seed) for seed in seeds]


def _seed_path(job):
    root = Path(job.root)
    return records.seed_path(job.notebook, job.profile, job.seed, job.fingerprint, root)


def _why_run(job):
    """Return in words why a job has to run, or None."""
    if job.seed is None:
        return records.why_stale(job.notebook, job.profile, Path(job.root))
    return None if _seed_path(job).exists() else "not run yet"


def _store(job, outcome):
    """Keep what a job brought; return its outcome, a failure if nothing may be replaced."""
    root = Path(job.root)
    failed = records.failed_path(job.file_name, job.profile, root)
    if outcome.status == "executed" and job.seed is None:
        source = notebooks.path(job.notebook, root)
        if source.read_text(encoding="utf-8") != job.source:
            note = f"{source.relative_to(root)} was edited while it ran; nothing was replaced"
            outcome = replace(outcome, status="failed", note=note, details="Run it again.")
    if outcome.status != "executed":
        if outcome.executed:
            notebooks.write({failed: outcome.executed})
            outcome.details += f"\nThe partial notebook is kept in {failed.relative_to(root)}"
        return replace(outcome, details=outcome.details.strip(), executed=None)
    if job.seed is None:
        notebooks.write(_files(job, outcome, root))
    else:
        notebooks.write({_seed_path(job): outcome.record.to_json()})
    failed.unlink(missing_ok=True)
    shutil.rmtree(job.checkpoints, ignore_errors=True)
    return replace(outcome, executed=None)


def _files(job, outcome, root):
    """Return ``{path: content}`` of what a whole notebook's run replaces, the record last."""
    name, profile, record = job.notebook, job.profile, outcome.record
    original, executed = (notebooks.parse(text, name) for text in (job.source, outcome.executed))
    stored = outputs.stored_form(original, executed)
    files = {records.executed_path(name, profile, root): stored}
    old = None
    with contextlib.suppress(RecordError):
        old = records.read_record(name, profile, root)
    if old and old.fingerprint != record.fingerprint and profile != "smoke":
        history = records.history_path(name, profile, root)
        files[history] = records.history_with(old, history)
    return files | {records.record_path(name, profile, root): record.to_json()}


def _merge(name, profile, seeds, root):
    """Merge the finished seeds of a notebook into one record and show its claims."""
    files = [_seed_path(job) for job in _jobs(name, profile, seeds, root)]
    finished = [Record.read(file) for file in files if file.exists()]
    if finished:
        merged, path = records.merge(finished), records.merged_path(name, profile, root)
        notebooks.write({path: merged.to_json()})
        say("\n" + records.claims_table(merged))
        of = count(len(finished), "seed")
        say(f"\nThe record of {of} is {path.relative_to(root)}")
