"""The execution of notebooks: ours beside plain papermill and plain nbclient, one after another.

Each side executes the same notebook in a new process with one thread and leaves the executed file
and the record. Ours runs papermill, too; on top of it, it checks code and data, measures memory and
ends whatever a notebook leaves running. A trivial notebook shows what a run costs; the cheapest
notebook of the book, at profile smoke, shows how little of a run that is.

Run ``python -m benchmarks.executor`` (or ``make bench``) on a quiet machine. It writes
``executor.json`` beside this file and the table of the book page.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import sides
from press import engine, notebooks

RESULT = Path(__file__).parent / "executor.json"
CHEAPEST, PROFILE = "dro-ssl", "smoke"
TRIVIAL = "trivial"
# Writes the record that a notebook owes to the engine.
CELL = """\
import os
from pathlib import Path
from labutils.claims import Record
file = Path(os.environ["LABUTILS_RESULTS"], "trivial.smoke.json")
file.parent.mkdir(parents=True, exist_ok=True)
file.write_text(Record(notebook="trivial", profile="smoke", seeds=[0], settings={},
    environment={"device": "cpu"}, claims=[], numbers={}, finished="2026-01-01T00:00:00Z",
    duration_s=0.0, fingerprint=""
    ).to_json())
"""


def trivial_job(folder: Path) -> engine.Job:
    """Of a notebook of one cell, outside of a book."""
    import nbformat

    cell = nbformat.v4.new_code_cell(CELL, id="only")
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python", "language": "python"}}
    source = nbformat.writes(nbformat.v4.new_notebook(cells=[cell], metadata=kernel))
    package = engine.package_digest(sides.ROOT)
    return engine.Job(TRIVIAL, PROFILE, None, source, {}, "", package, str(folder))


def ours(job: engine.Job) -> Callable:
    def run() -> None:
        with contextlib.redirect_stdout(None):
            outcome = engine.run_job(job, threads=1)
        assert outcome.status == "executed", outcome.note

    return run


def plain(job: engine.Job, *command: str) -> Callable:
    """A command that gets the notebook's file, in a folder of its own."""

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "in.ipynb").write_text(job.source, encoding="utf-8")
            environment = {
                **os.environ, "PYTHONPATH": str(sides.ROOT), "OMP_NUM_THREADS": "1",
                "LABUTILS_PROFILE": PROFILE, "LABUTILS_RESULTS": folder,
                "PYDEVD_DISABLE_FILE_VALIDATION": "1", "JUPYTER_PREFER_ENV_PATH": "1",
            }  # fmt: skip
            done = subprocess.run(
                [sys.executable, "-m", *command], cwd=folder, env=environment, capture_output=True,
                text=True,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr[-2000:]
            assert (Path(folder) / f"{job.notebook}.{PROFILE}.json").is_file()

    return run


def executors(job: engine.Job) -> dict[str, Callable]:
    """{side: a call that executes the notebook of a job}."""
    kernel = ("--kernel", "python3", "--no-progress-bar", "--log-level", "ERROR")
    return {
        "ours": ours(job),
        "papermill": plain(job, "papermill", "in.ipynb", "out.ipynb", *kernel),
        "nbclient": plain(
            job, "jupyter", "execute", "--kernel_name=python3", "--output", "out.ipynb", "in.ipynb"
        ),
    }


def measure(repetitions: int, chapter: str | None = CHEAPEST) -> dict:
    """{"rows": {notebook: {side: seconds in each turn}}}."""
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        jobs = [trivial_job(Path(folder))]
        if chapter:
            jobs += engine.jobs_of(chapter, PROFILE, None, notebooks.book_root())
        for job in jobs:
            timed = {
                side: sides.seconds(run, time.perf_counter) for side, run in executors(job).items()
            }
            rows[job.notebook] = sides.in_turns(timed, repetitions)
            print(job.notebook, json.dumps(rows[job.notebook]), flush=True)
    return {"rows": rows}


def render(result: dict) -> str:
    """The table of the book's page."""
    head = ["notebook", "ours, seconds", "papermill's / ours", "nbclient's / ours"]
    body = [
        [f"`{name}`", sides.spread(row["ours"], 1)]
        + [sides.ratio(row[peer], row["ours"]) for peer in ("papermill", "nbclient")]
        for name, row in result["rows"].items()
    ]
    return "\n".join([*sides.table(head, body), "", sides.origin(result), ""])


if __name__ == "__main__":
    sides.main("executor", measure, render, "papermill", "nbclient", repetitions=2)
