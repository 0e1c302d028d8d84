"""The pipeline: execute chapters, build the site, fetch data, tell what is fresh.

``python -m press`` is its command line. A chapter runs in its own process, in a scratch folder;
the stored notebook and record are replaced only after the whole run succeeded.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
import zipfile
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from labutils import PROFILES
from press import notebooks, staleness

DEFAULT_MEMORY_MB = 2000  # of a chapter that has not run before
POLL_S = 0.2
ARCHIVE = "learning-from-less.zip"
NOT_IN_ARCHIVE = {".buildinfo", ".nojekyll", "objects.inv"}  # of use to other programs only

# Runs papermill's command line. It ends itself when the pipeline that started it is gone, so that
# a killed pipeline leaves no kernel behind (kernels watch their parent in the same way).
_PAPERMILL = """
import os, threading, time
parent = int(os.environ["LABUTILS_PIPELINE"])
def watch():
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
threading.Thread(target=watch, daemon=True).start()
from papermill.cli import papermill
papermill()
"""


class PipelineError(Exception):
    """The pipeline was asked for something impossible; the message says what is possible."""


# --- records and freshness -----------------------------------------------------------------------


def record_path(chapter, profile, root):
    """Return where the record of a chapter lies: committed results, or _build for ``smoke``."""
    folder = root / "_build" / "results" if profile == "smoke" else root / "results"
    return folder / notebooks.theme(chapter, root) / f"{chapter}.{profile}.json"


def executed_path(chapter, profile, root):
    """Return where the executed notebook is stored: in place for ``small``, else in _build."""
    if profile == "small":
        return notebooks.path(chapter, root)
    return root / "_build" / "executed" / profile / f"{chapter}.ipynb"


def failed_path(chapter, profile, root):
    """Return where the partial notebook of a failed run is kept."""
    return root / "_build" / "executed" / profile / f"{chapter}.failed.ipynb"


def read_record(chapter, profile, root):
    """Return the record as a dict, None if there is none; ``PipelineError`` if it is damaged."""
    file = record_path(chapter, profile, root)
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise PipelineError(
            f"{file} is not a record ({error}); restore it, or delete it and execute {chapter}"
        ) from None


def history_path(chapter, profile, root):
    """Return where the replaced records of a chapter are kept, one per line."""
    return record_path(chapter, profile, root).with_suffix(".history.jsonl")


def keep_superseded(chapter, profile, root, fingerprint):
    """Append what the present record says to the history, if other code is about to replace it.

    Kept is who measured what with which verdict; the values of each seed are left to the history of
    the repository. A run of the same code replaces its record without a trace.
    """
    old = None if profile == "smoke" else read_record(chapter, profile, root)
    if old is None or old.get("fingerprint") == fingerprint:
        return
    kept = {key: old[key] for key in old if key not in ("settings", "code", "numbers", "claims")}
    kept["claims"] = [
        {key: value for key, value in claim.items() if key != "values"}
        for claim in old.get("claims", ())
    ]
    file = history_path(chapter, profile, root)
    before = file.read_text(encoding="utf-8") if file.is_file() else ""
    line = json.dumps(kept, allow_nan=False, ensure_ascii=False)
    notebooks.write_text(f"{before}{line}\n", file)


def why_stale(chapter, profile, root):
    """Return in words why a chapter has to run, or None if its record and outputs are fresh."""
    record = read_record(chapter, profile, root)
    if record is None:
        return "not run yet"
    if record.get("fingerprint") != staleness.fingerprint(chapter, root):
        then, now = record.get("code") or {}, staleness.fingerprint_parts(chapter, root)
        changed = sorted(name for name in {*then, *now} if then.get(name) != now.get(name))
        names = ["its code cells" if name == "notebook" else name for name in changed]
        return f"changed since: {', '.join(names)}" if then and names else "its code changed since"
    if profile == "small":
        cells = notebooks.code_cells(notebooks.read(notebooks.path(chapter, root)))
        if any(cell["source"].strip() and not cell.get("execution_count") for _, cell in cells):
            return "its stored outputs are incomplete"
    return None


def _checked(chapters, profile, root):
    if profile not in PROFILES:
        raise PipelineError(f"unknown profile {profile!r}; the profiles are: {', '.join(PROFILES)}")
    valid = notebooks.chapters(root)
    unknown = [chapter for chapter in chapters if chapter not in valid]
    if unknown:
        raise PipelineError(
            f"unknown chapter {', '.join(map(repr, unknown))}; "
            f"the chapters are: {', '.join(valid) or 'none yet'}"
        )
    return list(dict.fromkeys(chapters)) or valid


# --- execute -------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """How a chapter's run ended. ``status``: executed, fresh, failed or stopped."""

    chapter: str
    status: str
    note: str = ""  # one line for the summary
    seconds: float = 0.0
    peak_memory_mb: float | None = None
    details: str = ""  # of a failure: cell, source and traceback


@dataclass
class _Run:
    """One chapter being executed."""

    chapter: str
    profile: str
    root: Path
    threads: int
    scratch: Path
    memory_mb: float  # what it is expected to need
    expected_s: float | None
    restart: bool  # from nothing, whatever an interrupted run left
    started: float = field(default_factory=time.monotonic)
    peak_bytes: int = 0

    def __post_init__(self):
        import psutil

        self.source = notebooks.path(self.chapter, self.root)
        self.source_bytes = self.source.read_bytes()
        self.code = staleness.fingerprint_parts(self.chapter, self.root)
        self.fingerprint = staleness.fingerprint(self.chapter, self.root)
        self.input = self.scratch / "input.ipynb"
        self.output = self.scratch / "output.ipynb"
        self.results = self.scratch / "results"
        self.input.write_bytes(self.source_bytes)
        self.total = len(notebooks.code_cells(notebooks.read(self.input)))
        self.done, self._seen = 0, None
        self.checkpoints = self.root / "_build" / "checkpoints" / f"{self.profile}-{self.chapter}"
        if self.restart or self.profile == "smoke":
            shutil.rmtree(self.checkpoints, ignore_errors=True)
        # of interrupted runs of the same code before this one: it goes on from their checkpoints
        self._spent = self.checkpoints / f"seconds-{self.fingerprint}"
        self.spent = float(self._spent.read_text()) if self._spent.exists() else 0.0
        self.log = self.scratch / "papermill.log"
        self.process = start_papermill(
            self.input,
            self.output,
            folder=self.source.parent,
            log=self.log,
            environment=kernel_environment(
                self.scratch, self.profile, self.threads, self.root, self.fingerprint
            )
            # An interrupted run goes on from here; a smoke run is too short to be worth it.
            | {"LABUTILS_CHECKPOINTS": str(self.checkpoints) if self.profile != "smoke" else ""},
        )
        self.tree = psutil.Process(self.process.pid)

    @property
    def seconds(self):
        return time.monotonic() - self.started

    def said(self):
        """Return the last line that the chapter reported, or an empty text."""
        with contextlib.suppress(OSError):
            text = (self.scratch / "progress.log").read_text(encoding="utf-8")
            return text.strip().rpartition("\n")[2]
        return ""

    def save_spent(self):
        """Remember the time spent, for the run that goes on from the checkpoints of this one."""
        if self.checkpoints.is_dir():
            notebooks.write_text(f"{self.spent + self.seconds:.1f}\n", self._spent)

    def watch(self):
        """Measure memory and progress; return True while the process runs."""
        total = tree_bytes(self.tree)
        self.peak_bytes = max(self.peak_bytes, total)
        with contextlib.suppress(OSError, notebooks.NotebookError, KeyError):
            changed = self.output.stat().st_mtime_ns
            if changed != self._seen:
                self._seen = changed
                self.save_spent()
                cells = notebooks.code_cells(notebooks.read(self.output))
                states = [cell["metadata"]["papermill"]["status"] for _, cell in cells]
                self.done = states.count("completed")
        return self.process.poll() is None

    def kill(self):
        """End the process and everything that it started."""
        end(self.process)

    def finish(self):
        """Store notebook and record of a process that ended; return the ``Outcome``."""
        if self.process.returncode:
            return self.fail(*explain(self.output, self.log, self.process.returncode))
        record_file = self.results / f"{self.chapter}.{self.profile}.json"
        if not record_file.is_file():
            return self.fail(
                f"no record: the chapter did not write {self.profile}/{self.chapter}.json",
                "Its claims cell must save the ledger into the folder LABUTILS_RESULTS.",
            )
        if self.source.read_bytes() != self.source_bytes:
            return self.fail(
                f"notebooks/{self.chapter}.ipynb was edited while it ran; nothing was replaced",
                "Run the chapter again.",
            )
        record = json.loads(record_file.read_text(encoding="utf-8"))
        notebook = stored_form(notebooks.read(self.input), notebooks.read(self.output))
        memory = round(self.peak_bytes / 2**20)
        record["title"] = record.get("title") or _title(notebook)
        record["fingerprint"], record["code"] = self.fingerprint, self.code
        record["duration_s"] = round(self.spent + self.seconds, 1)
        record["peak_memory_mb"] = memory
        text = json.dumps(record, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
        keep_superseded(self.chapter, self.profile, self.root, self.fingerprint)
        notebooks.write(notebook, executed_path(self.chapter, self.profile, self.root))
        notebooks.write_text(text, record_path(self.chapter, self.profile, self.root))
        failed_path(self.chapter, self.profile, self.root).unlink(missing_ok=True)
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        return Outcome(self.chapter, "executed", "", self.seconds, memory)

    def fail(self, note, details):
        """Keep the partial notebook; return the ``Outcome`` of a failure."""
        self.save_spent()
        if self.output.is_file():
            kept = failed_path(self.chapter, self.profile, self.root)
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.output, kept)
            details += f"\nThe partial notebook is kept in {kept.relative_to(self.root)}"
        memory = round(self.peak_bytes / 2**20)
        return Outcome(self.chapter, "failed", note, self.seconds, memory, details.strip())


def kernel_environment(scratch, profile, threads, package, code):
    """Return the environment in which a chapter runs headless; ``scratch`` is its own folder.

    ``package`` is the folder that holds labutils: the chapter imports the labutils whose
    fingerprint is recorded.
    """
    return {
        **os.environ,
        "LABUTILS_PROFILE": profile,
        "LABUTILS_CODE": code,
        "LABUTILS_RESULTS": str(scratch / "results"),
        "LABUTILS_HEADLESS": str(scratch / "progress.log"),
        "LABUTILS_PIPELINE": str(os.getpid()),
        "OMP_NUM_THREADS": str(threads),
        "PYTHONPATH": os.pathsep.join(
            [str(package), *filter(None, [os.environ.get("PYTHONPATH")])]
        ),
        "PYTHONHASHSEED": "0",
        # This Python's kernel, whatever kernels and start-up files the user has.
        "JUPYTER_PREFER_ENV_PATH": "1",
        "IPYTHONDIR": str(scratch / "ipython"),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }


def start_papermill(source, output, *, folder, log, environment, options=()):
    """Start executing a notebook in a process of its own, in ``folder``; return the process."""
    arguments = ["--kernel", "python3", "--cwd", str(folder), *options]
    arguments += ["--no-progress-bar", "--log-level", "ERROR"]
    with log.open("wb") as stream:
        return subprocess.Popen(
            [sys.executable, "-c", _PAPERMILL, str(source), str(output), *arguments],
            env=environment,
            cwd=source.parent,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches the pipeline, which then ends this one
        )


def end(process):
    """End a process (a ``Popen``) and everything that it started."""
    import psutil

    processes = []
    with contextlib.suppress(psutil.Error):
        processes = [psutil.Process(process.pid)]
        processes += processes[0].children(recursive=True)
    for member in processes:
        with contextlib.suppress(psutil.Error):
            member.kill()
    process.wait()
    psutil.wait_procs(processes, timeout=3)


def tree_bytes(process):
    """Return the resident memory of a psutil process and all its descendants."""
    import psutil

    total = 0
    with contextlib.suppress(psutil.Error):
        for member in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                total += member.memory_info().rss
    return total


def where(output):
    """Return the number and cell at which an executed notebook stopped, or (None, None)."""
    with contextlib.suppress(OSError, notebooks.NotebookError):
        # cells that papermill adds for parameters and errors must not shift the numbers
        cells = [cell for cell in notebooks.read(output)["cells"] if not _of_papermill(cell)]
        states = [cell["metadata"].get("papermill", {}) for cell in cells]
        for key in ("exception", "start_time"):
            numbers = [number for number, state in enumerate(states) if state.get(key)]
            if numbers:
                return numbers[-1] + 1, cells[numbers[-1]]
    return None, None


def _of_papermill(cell):
    return notebooks.tags(cell) & {"papermill-error-cell-tag", "injected-parameters"}


def explain(output, log, status):
    """Return why papermill ended with an exit status: one line, and the details."""
    number, cell = where(output)
    log = log.read_text(encoding="utf-8", errors="replace")
    last = (log.strip().splitlines() or ["no message"])[-1]
    if number is None:
        return plain(f"papermill: {last}"), plain(log.strip()[-4000:])
    errors = [o for o in cell.get("outputs", ()) if o["output_type"] == "error"]
    if errors:
        text = errors[0]["evalue"].strip().splitlines()
        what = f"{errors[0]['ename']}: {text[0] if text else ''}"
        trace = "\n".join(errors[0]["traceback"])
    elif status < 0:
        what, trace = f"papermill was ended by signal {-status}", ""
    elif "DeadKernelError" in log:
        what, trace = "the kernel died (out of memory?)", ""
    else:
        what, trace = last, log.strip()[-4000:]
    return f"cell {number}: {plain(what)}", f"{_numbered(number, cell)}\n\n{plain(trace)}"


def _numbered(number, cell):
    lines = cell["source"].splitlines()
    shown = "\n".join(f"    {line}" for line in lines[:15])
    return f"Cell {number}:\n{shown}" + (f"\n    ... {len(lines) - 15} more" * (len(lines) > 15))


def plain(text):
    """Return a text without terminal colours and without what XML forbids."""
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "", text)


def _title(notebook):
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            for line in cell["source"].splitlines():
                if line.startswith("# "):
                    return line.removeprefix("# ").strip()
    return ""


def stored_form(original, executed):
    """Return the notebook to store: ``original`` with the outputs of ``executed``, made repeatable.

    Text, tags and cell ids stay as the author wrote them. Times, widgets, memory addresses, the
    chunks of a stream and versions of the kernel do not get in, so that two runs that computed the
    same give the same bytes.
    """
    notebook = json.loads(json.dumps(original))
    notebook["nbformat"], notebook["nbformat_minor"] = 4, max(5, notebook["nbformat_minor"])
    for name in notebooks.VOLATILE_METADATA:
        notebook["metadata"].pop(name, None)
    notebook["metadata"]["kernelspec"] = {
        "display_name": "Python 3", "language": "python", "name": "python3"
    }  # fmt: skip
    notebook["metadata"]["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    pairs = zip(notebook["cells"], executed["cells"], strict=True)
    for number, (cell, ran) in enumerate(pairs, 1):
        for name in notebooks.VOLATILE_METADATA:
            cell["metadata"].pop(name, None)
        cell.setdefault("id", f"cell-{number}")
        if cell["cell_type"] == "code":
            cell["execution_count"] = ran["execution_count"]
            cell["outputs"] = _stored_outputs(ran["outputs"])
            if "figure" in cell["metadata"].get("mystnb", {}):  # the figure alone has its name
                cell["outputs"] = [o for o in cell["outputs"] if not _is_value_as_text(o)]
    return notebook


def _is_value_as_text(output):
    """Whether this is what a last line without semicolon shows: the value of a call that draws."""
    return output["output_type"] == "execute_result" and set(output["data"]) == {"text/plain"}


def _stored_outputs(outputs):
    stored = []
    for output in outputs:
        data = output.get("data", {})
        if "application/vnd.jupyter.widget-view+json" in data:
            continue  # a progress bar that lives only in a running kernel
        same_stream = stored and output["output_type"] == "stream" == stored[-1]["output_type"]
        if same_stream and stored[-1]["name"] == output["name"]:
            stored[-1]["text"] += output["text"]
        else:
            stored.append(output)
    for output in stored:
        if output["output_type"] == "stream":
            # what a terminal would show of lines that were written over
            lines = output["text"].split("\n")
            lines = [line.rstrip("\r").rpartition("\r")[2] for line in lines]
            output["text"] = _without_addresses("\n".join(lines))
        data = output.get("data", {})
        if "text/plain" in data:
            data["text/plain"] = _without_addresses(data["text/plain"])
        if "image/svg+xml" in data:
            svg = data["image/svg+xml"]
            data["image/svg+xml"] = re.sub(r"\s*<dc:date\b[^>]*>[^<]*</dc:date>", "", svg)
    return stored


def _without_addresses(text):
    return re.sub(r"\bat 0x[0-9a-fA-F]{6,}", "at 0x...", text)


def execute(
    chapters=(), profile="small", *, jobs=None, force=False, junit=None, timeout=None, root=None
):
    """Execute chapters (default: all) at a profile; return one ``Outcome`` per chapter.

    Chapters whose record is fresh are skipped unless ``force``. An interrupted chapter goes on from
    its training's checkpoints, or starts from nothing with ``force``. ``jobs``: how many run side
    by side (default: as many as there are cores, fewer if memory is short; one for ``full``); the
    cores are divided among them. ``timeout``: seconds after which a chapter is ended and failed.
    ``junit``: path of a JUnit report to write. Raises ``PipelineError`` for an unknown chapter or
    profile. When interrupted, ends the running chapters, reports, and raises ``KeyboardInterrupt``.
    """
    root = notebooks.book_root(root).resolve()
    chapters = _checked(chapters, profile, root)
    if not chapters:
        print("There are no chapters yet.")
    outcomes, waiting = {}, []
    for chapter in chapters:
        reason = why_stale(chapter, profile, root)
        if reason or force:
            waiting.append(chapter)
            print(f"{chapter}: {reason or 'fresh, but forced'}", flush=True)
        else:
            outcomes[chapter] = Outcome(chapter, "fresh", "nothing that it depends on changed")
    try:
        with _terminable():
            _run_all(waiting, profile, root, jobs, force, timeout, outcomes)
    finally:
        for chapter in chapters:
            outcomes.setdefault(chapter, Outcome(chapter, "stopped", "interrupted"))
        ordered = [outcomes[chapter] for chapter in chapters]
        for outcome in ordered:
            if outcome.status == "failed":
                print(f"\n{outcome.chapter} failed: {outcome.note}\n{outcome.details}")
        if ordered:
            print(f"\n{summary(ordered)}", flush=True)
        if junit:
            write_junit(ordered, profile, junit)
    return ordered


@contextlib.contextmanager
def _terminable():
    """Let a polite kill (SIGTERM) end a run like Ctrl-C; only the main thread may say so."""

    def interrupt(*_):
        raise KeyboardInterrupt

    try:
        previous = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def cores():
    """Return how many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        return os.cpu_count() or 1


def _run_all(waiting, profile, root, jobs, force, timeout, outcomes):
    """Run chapters side by side and put their outcomes into ``outcomes``, the longest first."""
    if not waiting:
        return
    import psutil

    earlier = {chapter: read_record(chapter, profile, root) or {} for chapter in waiting}
    most = jobs or (1 if profile == "full" else cores())
    most = min(most, len(waiting))
    threads = max(1, cores() // most)
    queue = sorted(waiting, key=lambda c: -(earlier[c].get("duration_s") or float("inf")))
    need = {c: earlier[c].get("peak_memory_mb") or DEFAULT_MEMORY_MB for c in waiting}
    memory_mb = psutil.virtual_memory().available / 2**20 * 0.9
    running = []
    with _Progress() as progress, contextlib.ExitStack() as stack:
        try:
            while queue or running:
                while queue and len(running) < most:
                    free = memory_mb - sum(run.memory_mb for run in running)
                    # The first that fits; alone, a chapter is tried anyway.
                    fitting = [c for c in queue if need[c] <= free or not running]
                    if not fitting:
                        break
                    chapter = fitting[0]
                    queue.remove(chapter)
                    try:
                        scratch = stack.enter_context(_scratch(chapter, profile, root))
                    except PipelineError as error:
                        outcomes[chapter] = Outcome(chapter, "failed", str(error))
                        continue
                    expected = earlier[chapter].get("duration_s")
                    run = _Run(
                        chapter, profile, root, threads, scratch, need[chapter], expected, force
                    )
                    running.append(run)
                    progress.start(run)
                for run in list(running):
                    outcome = _ended(run, timeout)
                    if outcome:
                        running.remove(run)
                        outcomes[run.chapter] = outcome
                        progress.end(run, outcome)
                progress.update(running)
                time.sleep(POLL_S)
        finally:
            for run in running:
                run.kill()
                run.save_spent()


def _ended(run, timeout):
    """Return the outcome of a run, or None while it goes on within its time limit."""
    if not run.watch():
        return run.finish()
    if not timeout or run.seconds < timeout:
        return None
    number, cell = where(run.output)
    run.kill()
    at = f"cell {number}: " if number else ""
    note = f"{at}stopped at the time limit of {timeout:g} s"
    return run.fail(note, _numbered(number, cell) if number else "")


@contextlib.contextmanager
def _scratch(chapter, profile, root):
    """Give one run of a chapter a folder of its own, and refuse a second run at the same time."""
    import filelock

    folder = root / "_build" / "running" / f"{profile}-{chapter}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(f"{folder}.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise PipelineError("another run of this chapter and profile is under way") from None
    try:
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
        folder.mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()


class _Progress:
    """One line per running chapter on a terminal; elsewhere a line per start, end and minute."""

    def __init__(self):
        self.live = sys.stderr.isatty()
        self.bars, self.minutes = {}, {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for bar in self.bars.values():
            bar.close()

    def start(self, run):
        if self.live:
            from tqdm import tqdm

            self.bars[run.chapter] = tqdm(
                total=run.total,
                desc=run.chapter,
                leave=False,
                bar_format="{desc} |{bar:20}| cell {n_fmt} of {total_fmt}, {elapsed}{postfix}",
            )
        else:
            threads = f"{run.threads} thread{'s' * (run.threads > 1)}"
            print(f"{run.chapter}: started at {run.profile}, {threads}{self._expected(run)}")
            sys.stdout.flush()

    @staticmethod
    def _expected(run):
        return f", last time {duration(run.expected_s)}" if run.expected_s else ""

    def update(self, running):
        for run in running:
            if self.live:
                bar = self.bars[run.chapter]
                bar.n, bar.postfix = run.done, self._expected(run)
                bar.refresh()
            elif int(run.seconds // 60) > self.minutes.get(run.chapter, 0):
                self.minutes[run.chapter] = int(run.seconds // 60)
                done = f"{run.done} of {run.total} cells"
                line = f"{run.chapter}: {done} after {duration(run.seconds)}"
                print("; ".join(filter(None, [line, run.said()])), flush=True)

    def end(self, run, outcome):
        line = f"{run.chapter}: {outcome.status} after {duration(outcome.seconds)}"
        line += f" ({outcome.note})" if outcome.note else ""
        if self.live:
            self.bars.pop(run.chapter).close()
            from tqdm import tqdm

            tqdm.write(line)
        else:
            print(line, flush=True)


def duration(seconds):
    """Return a time in words: ``8.3 s``, ``4 min 05 s``, ``1 h 12 min``."""
    if seconds is None:
        return "-"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def memory(megabytes):
    """Return an amount of memory in words, ``812 MB``."""
    return "-" if megabytes is None else f"{megabytes:.0f} MB"


def table(header, rows):
    """Return an aligned plain-text table."""
    rows = [[str(value) for value in row] for row in [header, *rows]]
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    rows.insert(1, ["-" * width for width in widths])
    lines = ("  ".join(v.ljust(w) for v, w in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def summary(outcomes, what="chapter"):
    """Return the table that ends a run: chapter (or another ``what``), status, time and so on."""
    rows = [
        (
            o.chapter,
            o.status,
            duration(o.seconds) if o.seconds else "-",
            memory(o.peak_memory_mb),
            o.note,
        )
        for o in outcomes
    ]
    return table((what, "status", "time", "peak memory", "note"), rows)


def write_junit(outcomes, profile, file):
    """Write the outcomes as a JUnit report: one test case per chapter."""
    bad = [o for o in outcomes if o.status == "failed"]
    skipped = [o for o in outcomes if o.status in ("fresh", "stopped")]
    suite = ET.Element(
        "testsuite",
        name=f"labutils execute --profile {profile}",
        tests=str(len(outcomes)),
        failures=str(len(bad)),
        errors="0",
        skipped=str(len(skipped)),
        time=f"{sum(o.seconds for o in outcomes):.3f}",
    )
    for o in outcomes:
        case = ET.SubElement(
            suite, "testcase", classname=f"chapters.{profile}", name=o.chapter,
            time=f"{o.seconds:.3f}",
        )  # fmt: skip
        if o in bad:
            ET.SubElement(case, "failure", message=plain(o.note)).text = plain(o.details)
        elif o in skipped:
            ET.SubElement(case, "skipped", message=f"{o.status}: {o.note}")
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    text = ET.tostring(root, encoding="unicode", xml_declaration=True)
    notebooks.write_text(text + "\n", file)


# --- book ----------------------------------------------------------------------------------------


def book(root=None, archive=False):
    """Build the site from stored outputs into ``_build/html``; return the path of its first page.

    With ``archive``, also pack it into ``_build/learning-from-less.zip``, whose pages open from
    disk without a server.

    Nothing is executed; warnings are errors. Raises ``PipelineError`` with the warnings if there
    are any; the whole output is in ``_build/book.log``.
    """
    root = notebooks.book_root(root).resolve()
    log = root / "_build" / "book.log"
    log.parent.mkdir(exist_ok=True)
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    command += ["build", str(root), "--path-output", str(root), "--warningiserror", "--keep-going"]
    environment = {**os.environ, "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}
    print("Building the site from the stored outputs ...", flush=True)
    live, tail, started = sys.stderr.isatty(), deque(maxlen=40), time.monotonic()
    with (
        log.open("w", encoding="utf-8") as stream,
        subprocess.Popen(
            command,
            env=environment,
            cwd=root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
        ) as process,
    ):
        for line in process.stdout:
            line = plain(line).rstrip()
            stream.write(line + "\n")
            if line.strip():
                tail.append(line)
                if live:
                    hint = f"{time.monotonic() - started:4.0f} s  {line.strip()[:60]}"
                    print(f"\r\x1b[K{hint}", end="", file=sys.stderr, flush=True)
    if live:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    page = root / "_build" / "html" / "index.html"
    if process.returncode or not page.is_file():
        # Sphinx remembers pages that it has read, and would not warn about them a second time.
        shutil.rmtree(root / "_build" / ".doctrees", ignore_errors=True)
        lines = log.read_text(encoding="utf-8").splitlines()
        marks = ("WARNING", "ERROR", "CRITICAL", "SEVERE")
        warnings = [line for line in lines if any(mark in line for mark in marks)]
        shown = "\n".join(dict.fromkeys(warnings)) or "\n".join(tail)
        raise PipelineError(
            f"the site was not built:\n{shown}\nThe whole output is in {log.relative_to(root)}"
        )
    print(f"The site is built ({duration(time.monotonic() - started)}). Open it:")
    print(f"  {page.as_uri()}")
    print("or serve it, then open http://localhost:8000:")
    print(f"  python -m http.server 8000 --directory '{page.parent}'", flush=True)
    if archive:
        print("To read without a server, unpack this and open index.html:")
        print(f"  {pack(page.parent, root / '_build' / ARCHIVE)}", flush=True)
    return page


def pack(folder, file):
    """Pack all files of a folder into a zip file that appears whole or not at all."""
    scratch = file.with_suffix(".tmp")
    with zipfile.ZipFile(scratch, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name not in NOT_IN_ARCHIVE:
                packed.write(path, Path(file.stem) / path.relative_to(folder))
    os.replace(scratch, file)
    return file


# --- data ----------------------------------------------------------------------------------------


def fetch_data(names=()):
    """Fetch data sets (default: all) and print what lies where; return True if all are there."""
    from labutils import data

    unknown = [name for name in names if name not in data.NAMES]
    if unknown:
        raise PipelineError(
            f"unknown data set {', '.join(map(repr, unknown))}; "
            f"the data sets are: {', '.join(data.NAMES)}"
        )
    rows, errors = [], []
    for name in names or data.NAMES:
        try:
            rows.append((name, "ready", data.fetch(name)))
        except data.DataError as error:
            rows.append((name, "missing", "see below"))
            errors.append(f"{name}: {error}")
    print(table(("data set", "state", "folder"), rows))
    for error in errors:
        print(f"\n{error}", file=sys.stderr)
    return not errors


# --- status --------------------------------------------------------------------------------------


def status(root=None):
    """Return the table of all chapters and profiles: state, verdicts, time, memory, date."""
    root = notebooks.book_root(root)
    rows = []
    for chapter in notebooks.chapters(root):
        for profile in PROFILES:
            record = read_record(chapter, profile, root)
            if record is None:
                rows.append((chapter, profile, "not run", "-", "-", "-", "-"))
                continue
            stale = why_stale(chapter, profile, root)
            rows.append(
                (
                    chapter,
                    profile,
                    f"stale ({stale})" if stale else "fresh",
                    verdicts(record),
                    duration(record.get("duration_s")),
                    memory(record.get("peak_memory_mb")),
                    record.get("finished", "-")[:10],
                )
            )
    if not rows:
        return "There are no chapters yet."
    return table(("chapter", "profile", "state", "verdicts", "time", "peak memory", "date"), rows)


def verdicts(record):
    """Return the verdicts of a record in words, ``3 reproduced, 1 inconclusive``."""
    counts = {}
    for claim in record.get("claims", ()):
        counts[claim["verdict"]] = counts.get(claim["verdict"], 0) + 1
    order = ("reproduced", "not reproduced", "inconclusive", "not judged")
    found = [f"{counts[verdict]} {verdict}" for verdict in order if verdict in counts]
    return ", ".join(found) or "no claims"
