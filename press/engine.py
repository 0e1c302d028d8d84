"""The engine: executes notebooks as jobs, on this machine or on a Dask cluster.

A job is one notebook with given profile and seeds, executed in a process of its own and a scratch
folder. Without seeds, the stored notebook and record are replaced, only after the whole run
succeeded. With seeds, each seed is a job; their records are kept as they come and merged into one.
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

import filelock
import psutil
from joblib import cpu_count

import labutils
from labutils.claims import Record, RecordError
from press import PressError, digests, notebooks, outputs, records, staleness
from press.words import count, duration, memory, table

RUNNING = "_build/running"
MOST_MB = 20  # of an executed notebook; those of the book have a few
POLL_S, REPORT_S = 0.2, 60  # how often a run is looked at, and reports
STOP = threading.Event()  # set: what runs here ends

# Runs papermill's command line. It ends itself when the process that started it is gone, so that a
# killed engine leaves nothing behind: neither the kernel nor the processes that this one started.
_PAPERMILL = """
import os, psutil, sys, threading, time
parent = int(sys.argv.pop(1))
def watch():
    while os.getppid() == parent:
        time.sleep(0.5)
    for child in psutil.Process().children(recursive=True):
        try:
            if "resource_tracker" not in " ".join(child.cmdline()):  # ends last, and cleans up
                child.kill()
        except psutil.Error:
            continue
    os._exit(1)
threading.Thread(target=watch, daemon=True).start()
from papermill.cli import papermill
papermill()
"""


def say(text):
    """Print for whoever watches; a run goes on when its reader has left."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115


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

    @property
    def label(self):
        return self.notebook if self.seed is None else f"{self.notebook}, seed {self.seed}"

    @property
    def file_name(self):
        return self.label.replace(", seed ", ".seed-")

    @property
    def checkpoints(self):
        """Where an interrupted run leaves what the next one goes on from."""
        return Path(self.root, "_build", "checkpoints", f"{self.profile}-{self.file_name}")


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


def run_job(job, threads=None):
    """Execute a job on whatever machine this is; return its ``Outcome``. Stores nothing."""
    started, outcome = time.monotonic(), Outcome(job.label, "failed")
    try:
        # inside the book's folder, where the next run finds and removes what a killed one left
        base = Path(job.root, RUNNING, f"{job.profile}-{job.notebook}")
        with tempfile.TemporaryDirectory(dir=base if base.is_dir() else None) as scratch:
            _Run(job, outcome, Path(scratch)).run(threads)
    except Exception as error:
        outcome.note = str(error)
        if not isinstance(error, PressError | RecordError | OSError):
            outcome.note = f"{type(error).__name__}: {error}"
            outcome.details = traceback.format_exc()
    outcome.seconds = time.monotonic() - started
    return outcome


class _Run:
    """A job while it is executed."""

    def __init__(self, job, outcome, scratch):
        self.job, self.outcome, self.scratch = job, outcome, scratch
        self.started, self.reports = time.monotonic(), 0
        self.package, self.notebook = _package(job), notebooks.parse(job.source, job.notebook)
        self.input, self.output = scratch / "input.ipynb", scratch / "output.ipynb"
        self.log, self.results, self.said = scratch / "log", scratch / "results", scratch / "said"
        (scratch / "tmp").mkdir()
        # of interrupted runs of the same code before this one
        self.keeps = job.profile != "smoke" and Path(job.root).is_dir()
        if self.keeps:  # or `labutils.kept` takes it for a drive that is not there
            job.checkpoints.parent.mkdir(parents=True, exist_ok=True)
        self.spent_file = job.checkpoints / f"seconds-{job.fingerprint}"
        self.spent = 0.0
        with contextlib.suppress(OSError, ValueError):  # there is none, or it is damaged
            self.spent = float(self.spent_file.read_text())
        for file in digests.damaged(job.checkpoints):
            file.unlink()
            say(f"{job.label}: {file} was damaged; what it held is computed again")
        for file in job.checkpoints.rglob("*.tmp"):
            file.unlink()  # of a run that was killed while it wrote

    @property
    def seconds(self):
        return time.monotonic() - self.started

    def run(self, threads):
        """Run papermill to its end; fill in the outcome. Whatever happens here, it ends."""
        threads = threads or int(os.environ.get("OMP_NUM_THREADS") or 1)
        if self.job.profile == "smoke":
            threads = 1  # its jobs take less time than to start processes for them
        say(f"{self.job.label}: started at {self.job.profile}, {count(threads, 'thread')}")
        process = self._start(threads)
        try:
            while process.poll() is None and not STOP.wait(POLL_S):
                self._watch(process)
        finally:
            end(process, self.results)
            self._save_spent()
            if self.output.is_file():
                self.outcome.executed = self.output.read_text(encoding="utf-8")
        if process.returncode:
            explained = outputs.explain(self.output, self.log, process.returncode)
            self.outcome.note, self.outcome.details = explained
        elif (size := self.output.stat().st_size / 2**20) > MOST_MB:
            raise PressError(f"outputs of {size:.0f} MB, expected {MOST_MB} at most: show less")
        else:
            self.outcome.record = self._record()
            self.outcome.status = "executed"

    def _start(self, threads):
        """Start papermill in a process of its own; return the process."""
        self.input.write_text(self.job.source, encoding="utf-8")
        path = [str(self.package), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {
            **os.environ,
            "LABUTILS_PROFILE": self.job.profile,
            # What is kept of an interrupted run is of use to the same code and torch only.
            "LABUTILS_CODE": f"{self.job.fingerprint} torch {metadata.version('torch')}",
            "LABUTILS_RESULTS": str(self.results),
            "LABUTILS_HEADLESS": str(self.said),
            # An interrupted run goes on from here; a smoke run is too short to be worth it.
            "LABUTILS_CHECKPOINTS": str(self.job.checkpoints) if self.keeps else "",
            "OMP_NUM_THREADS": str(threads),
            "TMPDIR": str(self.scratch / "tmp"),  # of a killed kernel, too, it goes
            "PYTHONPATH": os.pathsep.join(path),
            "PYTHONHASHSEED": "0",
            # This Python's kernel, whatever kernels and start-up files the user has.
            "JUPYTER_PREFER_ENV_PATH": "1",
            "IPYTHONDIR": str(self.scratch / "ipython"),
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        }
        options = ["--kernel", "python3", "--no-progress-bar", "--log-level", "ERROR"]
        if self.job.seed is not None:
            options += ["--language", "python", "--parameters_yaml", f"seeds: [{self.job.seed}]"]
        command = [sys.executable, "-c", _PAPERMILL, str(os.getpid()), self.input.name]
        with self.log.open("wb") as stream:
            return subprocess.Popen(
                [*command, self.output.name, *options],  # papermill formats braces in a path
                env=environment, cwd=self.scratch,
                stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
                start_new_session=True,  # Ctrl-C reaches the engine, which then ends this one
            )  # fmt: skip

    def _watch(self, process):
        """Measure memory; now and then, say how far it is."""
        used = 0
        for member in tree(process):
            with contextlib.suppress(psutil.Error):
                used += member.memory_info().rss
        self.outcome.peak_memory_mb = max(self.outcome.peak_memory_mb or 0, round(used / 2**20))
        if self.seconds // REPORT_S > self.reports:
            self.reports = self.seconds // REPORT_S
            self._save_spent()
            say(f"{self.job.label}: {self._progress()}")

    def _progress(self):
        """Return in words how far the run is."""
        total, done, said = len(notebooks.code_cells(self.notebook)), 0, ""
        with contextlib.suppress(OSError, notebooks.NotebookError):
            cells = [cell for _, cell in notebooks.code_cells(notebooks.read(self.output))]
            states = [cell["metadata"].get("papermill", {}).get("status") for cell in cells]
            done = min(states.count("completed"), total)
        with contextlib.suppress(OSError):  # what the notebook's longest loop reported
            said = self.said.read_text(encoding="utf-8").strip().rpartition("\n")[2]
        return f"{done} of {total} cells after {duration(self.seconds)}" + f"; {said}" * bool(said)

    def _save_spent(self):
        """Remember the time spent, for the run that goes on from the checkpoints of this one."""
        if self.keeps and self.job.checkpoints.is_dir():
            with contextlib.suppress(OSError):  # a full disk may have room for what matters
                notebooks.write({self.spent_file: f"{self.spent + self.seconds:.1f}\n"})

    def _record(self):
        """Return the record that the notebook saved, with what only the engine knows."""
        file = self.results / f"{self.job.notebook}.{self.job.profile}.json"
        if not file.exists():
            raise PressError("no record: the claims cell of a notebook must end with `lab.save()`")
        seeds = {} if self.job.seed is None else {"seeds": [self.job.seed]}
        return replace(
            records.read(file, notebook=self.job.notebook, profile=self.job.profile, **seeds),
            title=outputs.title(self.notebook),
            fingerprint=self.job.fingerprint,
            code=self.job.code,
            duration_s=round(self.spent + self.seconds, 1),
            peak_memory_mb=self.outcome.peak_memory_mb,
        )


def _package(job):
    """Return the folder whose labutils the job imports; ``PressError`` if its code is other."""
    package = Path(job.root)
    if (package / "labutils" / "__init__.py").is_file():
        if staleness.fingerprint(job.notebook, package) != job.fingerprint:
            raise PressError("its code changed since this run was started; run it again")
    elif package_digest(package := Path(labutils.__file__).parents[1]) != job.package:
        raise PressError(
            f"the worker's labutils ({package}) differs from the book's; install the same version "
            "of the book's package on all machines"
        )
    digests.check_assets(package / "labutils")
    return package


def tree(process):
    """Return a process (a ``Popen``) and all that it started, as far as they are there."""
    with contextlib.suppress(psutil.Error):
        top = psutil.Process(process.pid)
        return [top, *top.children(recursive=True)]
    return []


def _started(results):
    """Return what runs for a run, in a session of its own or without a parent too."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):  # such as those of other users
            if process.environ().get("LABUTILS_RESULTS") == str(results):
                found.append(process)
    return found


def end(process, results):
    """End a process and everything that it started; `results`: the run's LABUTILS_RESULTS.

    Trackers of resources end by themselves when all others are gone: they remove semaphores and
    shared memory.
    """
    own = tree(process) if process.poll() is None else []  # another may have its number by now
    members = {*own, *_started(results)}
    for member in members:
        with contextlib.suppress(psutil.Error):
            if "resource_tracker" not in " ".join(member.cmdline()):
                member.kill()
    process.wait()
    psutil.wait_procs(members, timeout=10)
    for member in _started(results):
        with contextlib.suppress(psutil.Error):
            member.kill()


@contextlib.contextmanager
def _cluster(address):
    """Give the executor of a Dask cluster."""
    import distributed  # an extra

    try:
        client = distributed.Client(address, timeout="20s")
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise PressError(
            f"no Dask scheduler answers at {address} ({reason}); expected an address such as "
            "tcp://10.0.0.1:8786, which `dask scheduler` prints"
        ) from None
    with client:
        yield client.get_executor(pure=False)


def _run_all(jobs, outcomes, processes, dask):
    """Run jobs side by side; as each one ends, store what it brought and say so."""
    threads = None if dask else max(1, cpu_count() // processes)
    STOP.clear()
    with _cluster(dask) if dask else ThreadPoolExecutor(processes) as pool:
        futures = {pool.submit(run_job, job, threads): job for job in jobs}
        try:
            for done, future in enumerate(as_completed(futures), 1):
                job = futures[future]
                try:
                    outcome = future.result()
                except Exception as error:  # of the pool: a job reports its own
                    outcome = Outcome(job.label, "failed", f"its worker was lost: {error}")
                try:
                    outcome = _store(job, outcome)
                except OSError as error:  # a full disk, a folder that is read-only
                    outcome.status, outcome.note = "failed", f"it could not be stored: {error}"
                outcomes[job.label] = outcome
                note = f" ({outcome.note})" * bool(outcome.note)
                so_far = f"; {done} of {len(jobs)} jobs done" * (len(jobs) > 1)
                after = duration(outcome.seconds)
                say(f"{job.label}: {outcome.status} after {after}{note}{so_far}")
        except BaseException:  # interrupted: nothing waits or runs on
            STOP.set()
            for future in futures:
                future.cancel()
            raise


@contextlib.contextmanager
def reserved(notebook, profile, root):
    """Give a run of a notebook a scratch folder, and refuse a second run at the same time."""
    folder = Path(root, RUNNING, f"{profile}-{notebook}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(f"{folder}.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise PressError("another run of this notebook and profile is under way") from None
    try:
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
        places = (records.executed_path, records.history_path, records.record_path)
        files = [place(notebook, profile, root) for place in places]
        notebooks.recover(_journal(notebook, profile, root), files)
        folder.mkdir()
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()


def _journal(notebook, profile, root):
    """Return the file that is there while a run's outputs and record are put in place."""
    return Path(root, RUNNING, f"{profile}-{notebook}.journal")


def execute(names=(), profile="small", *, seeds=None, jobs=None, dask=None, force=False, root=None):
    """Execute notebooks (default: all) at a profile; return one ``Outcome`` per job.

    Without ``seeds`` a job is a whole notebook, with ``seeds`` one seed of a notebook. jobs: how
    many run side by side here (default: one notebook, or a seed per core; one for ``full``); they
    share the cores. dask: address of a running Dask scheduler, whose workers then do the jobs.
    force: run what is fresh or finished, too. Raises ``PressError`` for an unknown notebook and for
    a cluster that does not answer; when interrupted, reports and raises ``KeyboardInterrupt``.
    """
    root, sweep = notebooks.book_root(root).resolve(), seeds is not None
    planned, waiting, outcomes = {}, [], {}
    for name in names:
        notebooks.path(name, root)  # or say now that there is none
    if os.environ.get("LABUTILS_CHECKPOINTS"):
        say("LABUTILS_CHECKPOINTS is for notebooks run by hand; here _build/checkpoints is used")
    with contextlib.ExitStack() as stack:
        try:
            for name in dict.fromkeys(names) or notebooks.chapters(root):
                try:
                    stack.enter_context(reserved(name, profile, root))
                    planned[name] = jobs_of(name, profile, seeds, root)
                    waiting += _to_run(planned[name], outcomes, force)
                except (PressError, OSError, UnicodeError) as error:
                    outcomes[name] = Outcome(name, "failed", str(error))
            alone = not sweep or profile == "full"
            processes = min(jobs or (1 if alone else cpu_count()), max(1, len(waiting)))
            if sweep:
                at = f"the cluster at {dask}" if dask else count(processes, "worker")
                say(f"{len(waiting)} of {count(len(outcomes), 'job')} to run on {at}")
            _run_all(waiting, outcomes, processes, dask)
            again = [job for job in waiting if sweep and outcomes[job.label].status == "failed"]
            if again:
                say(f"trying again: {'; '.join(job.label for job in again)}")
                _run_all(again, outcomes, processes, dask)
        finally:
            _report(outcomes)
    problems = [problem for made in planned.values() if sweep and (problem := _merge(made))]
    if problems:
        raise PressError("\n".join(problems))
    return list(outcomes.values())


def jobs_of(name, profile, seeds, root):
    """Return the jobs of a notebook: one, or one per seed."""
    file = notebooks.path(name, root)
    source = file.read_text(encoding="utf-8")
    notebooks.parse(source, file)  # or say now what is wrong with it
    code, fingerprint = staleness.fingerprint_parts(name, root), staleness.fingerprint(name, root)
    job = Job(name, profile, None, source, code, fingerprint, package_digest(root), str(root))
    return [job] if seeds is None else [replace(job, seed=seed) for seed in seeds]


def _to_run(jobs, outcomes, force):
    """Return those jobs that have to run; the others have their outcome at once."""
    found = []
    for job in jobs:
        if job.seed is None:
            reason = records.why_stale(job.notebook, job.profile, Path(job.root))
        else:
            try:
                reason = None if _part(job) else "not run yet"
            except RecordError as error:  # damaged, or of something else
                reason = str(error)
        if force:
            shutil.rmtree(job.checkpoints, ignore_errors=True)
        if reason or force:
            say(f"{job.label}: {reason or 'forced'}")
            found.append(job)
        state = ("stopped", "interrupted") if reason or force else ("fresh", "nothing changed")
        outcomes[job.label] = Outcome(job.label, *state)
    return found


def _report(outcomes):
    """Print the failures and the table of all jobs."""
    rows = []
    for o in outcomes.values():
        if o.status == "failed":
            say(f"\n{o.label} failed: {o.note}\n{o.details}".rstrip())
        took, used = duration(o.seconds or None), memory(o.peak_memory_mb)
        rows.append((o.label, o.status, took, used, o.note))
    say("\n" + table(("notebook", "status", "time", "peak memory", "note"), rows))


def _seed_path(job):
    """Return where the record of one seed is kept; other code has another folder."""
    folder = Path(job.root, "_build", "sweep", job.profile, f"{job.notebook}-{job.fingerprint}")
    return folder / f"seed-{job.seed}.json"


def _part(job):
    """Return the finished record of one seed, None if there is none. Raises ``RecordError``."""
    expected = {name: getattr(job, name) for name in ("notebook", "profile", "fingerprint")}
    return records.read(_seed_path(job), seeds=[job.seed], **expected)


def _store(job, outcome):
    """Keep what a job brought; return its outcome, a failure if nothing may be replaced."""
    root = Path(job.root)
    failed = records.failed_path(job.file_name, job.profile, root)
    source = notebooks.path(job.notebook, root)
    in_place = records.executed_path(job.notebook, job.profile, root) == source
    edited = in_place and source.read_text(encoding="utf-8") != job.source
    if outcome.status == "executed" and job.seed is None and edited:
        outcome.note = f"{source.relative_to(root)} was edited while it ran; nothing was replaced"
        outcome.status, outcome.details = "failed", "Run it again."
    if outcome.status == "executed":
        files = _files(job, outcome, root)
        notebooks.write(files, _journal(job.notebook, job.profile, root))
        notebooks.rewrite_setup_cells(root, [job.notebook])  # they say how long a run takes
        failed.unlink(missing_ok=True)
        shutil.rmtree(job.checkpoints, ignore_errors=True)
    elif outcome.executed:
        notebooks.write({failed: outcome.executed})
        outcome.details += f"\nThe partial notebook is kept in {failed.relative_to(root)}"
    outcome.executed = None
    return outcome


def _files(job, outcome, root):
    """Return ``{path: text}`` of what a finished job leaves, the record last."""
    name, profile, record = job.notebook, job.profile, outcome.record
    if job.seed is not None:
        return {_seed_path(job): record.to_json()}
    stored = outputs.stored_form(
        *(notebooks.parse(s, name) for s in (job.source, outcome.executed))
    )
    files = {records.executed_path(name, profile, root): stored}
    history = records.history_path(name, profile, root)
    text = records.history_after(record, root)
    if text:
        files[history] = text
    outcome.record = records.sealed(record, stored, text)
    return files | {records.record_path(name, profile, root): outcome.record.to_json()}


def _merge(jobs):
    """Merge the finished seeds of a notebook into one record and show its claims.

    Returns in words why they cannot be merged, or None.
    """
    finished = []
    for job in jobs:
        with contextlib.suppress(RecordError):  # it was to be run again, and failed
            finished += filter(None, [_part(job)])
    if not finished:
        return None
    try:
        merged, root = records.merge(finished), Path(jobs[0].root)
    except PressError as error:
        return f"{jobs[0].notebook}: {error}"
    path = records.merged_path(merged.notebook, merged.profile, root)
    notebooks.write({path: merged.to_json()})
    claims = merged.table().assign(claim=[claim.id for claim in merged.claims])
    say("\n" + claims.to_string(index=False))
    say(f"\nThe record of {count(len(finished), 'seed')} is {path.relative_to(root)}")
    return None
