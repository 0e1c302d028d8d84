"""The site: built from stored outputs, packed; the data sets; what is fresh."""

import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

from labutils import PROFILES
from labutils.claims import RecordError
from press import PressError, catalogue, notebooks, records
from press.words import duration, memory, plain, table

ARCHIVE = "learning-from-less.zip"
NOT_IN_ARCHIVE = {".buildinfo", ".nojekyll", "objects.inv"}  # of use to other programs only
MARKS = ("WARNING", "ERROR", "CRITICAL", "SEVERE")


def book(root=None, archive=False):
    """Build the site into ``_build/html``; return the path of its first page.

    Renews the table of contents.
    With ``archive``, also pack it into ``_build/learning-from-less.zip``, whose pages open from
    disk without a server. Nothing is executed; warnings are errors. Raises ``PressError`` with the
    warnings if there are any; the whole output is in ``_build/book.log``.
    """
    root = notebooks.book_root(root).resolve()
    started, build = time.monotonic(), root / "_build"
    page, log = build / "html" / "index.html", build / "book.log"
    print(
        "Building the site from the stored outputs; the output goes to _build/book.log", flush=True
    )
    catalogue.write_toc(root)
    status = _run_sphinx(root, log)
    if status or not page.is_file():
        # Sphinx remembers pages that it has read, and would not warn about them a second time.
        shutil.rmtree(build / ".doctrees", ignore_errors=True)
        lines = plain(log.read_text(encoding="utf-8", errors="replace")).splitlines()
        warnings = [line for line in lines if any(mark in line for mark in MARKS)]
        shown = "\n".join(dict.fromkeys(warnings or lines[-40:]))
        raise PressError(
            f"the site was not built:\n{shown}\nThe whole output is in {log.relative_to(root)}"
        )
    print(f"The site is built ({duration(time.monotonic() - started)}). Open it:")
    print(f"  {page.as_uri()}")
    print("or serve it, then open http://localhost:8000:")
    print(f"  python -m http.server 8000 --directory '{page.parent}'", flush=True)
    if archive:
        print("To read without a server, unpack this and open index.html:")
        print(f"  {pack(page.parent, build / ARCHIVE)}", flush=True)
    return page


def _run_sphinx(root, log):
    """Build with Jupyter Book, its output in ``log``; return the exit status."""
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    command += ["build", str(root), "--path-output", str(root), "--warningiserror", "--keep-going"]
    path = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]  # for press.site
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "NO_COLOR": "1"}
    log.parent.mkdir(exist_ok=True)
    with log.open("wb") as stream:
        done = subprocess.run(
            command, env=environment, cwd=root, stdout=stream, stderr=subprocess.STDOUT
        )
    return done.returncode


def pack(folder, file):
    """Pack all files of a folder into a zip file that appears whole or not at all."""
    scratch = file.with_suffix(".tmp")
    with zipfile.ZipFile(scratch, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name not in NOT_IN_ARCHIVE:
                packed.write(path, Path(file.stem) / path.relative_to(folder))
    scratch.replace(file)
    return file


# --- data ----------------------------------------------------------------------------------------


def fetch_data(names=()):
    """Fetch data sets (default: all) and print what lies where; return True if all are there."""
    from labutils import data

    unknown = [name for name in names if name not in data.NAMES]
    if unknown:
        raise PressError(
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
    """Return the table of all records: fresh or stale, verdicts, time, memory, date, why."""
    root = notebooks.book_root(root)
    rows = []
    for name in notebooks.chapters(root):
        found = [_status(name, profile, root) for profile in PROFILES]
        rows += list(filter(None, found)) or [(name, "-", "not run", "-", "-", "-", "-", "")]
    if not rows:
        return "There are no notebooks yet."
    header = (
        "notebook",
        "profile",
        "state",
        "verdicts",
        "time",
        "peak memory",
        "date",
        "why stale",
    )
    return table(header, rows)


def _status(name, profile, root):
    """Return the row of a record, None if there is none."""
    try:
        record = records.read_record(name, profile, root)
    except RecordError as error:
        return (name, profile, "stale", "-", "-", "-", "-", error)
    if record is None:
        return None
    stale = records.why_stale(name, profile, root)
    return (
        name,
        profile,
        "stale" if stale else "fresh",
        records.verdict_counts(record),
        duration(record.duration_s),
        memory(record.peak_memory_mb),
        record.finished[:10],
        stale or "",
    )
