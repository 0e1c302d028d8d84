"""The site: built from stored outputs, packed. The data sets. What is fresh or stale."""

import os
import re
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

ARCHIVE, PDF = "learning-from-less.zip", "learning-from-less.pdf"
DOWNLOADS = {PDF: "Whole book, .pdf", ARCHIVE: "Whole book, offline, .zip"}
NOT_IN_ARCHIVE = {".buildinfo", ".nojekyll", "objects.inv"}  # of use to other programs only
# The menu of downloads in the header of a page, and what of it leads to the whole book
MENU = re.compile(r"(btn-download-pdf-button.*?</button>\s*</li>)(.*?)(?=</ul>)", re.DOTALL)
ITEM = """<li class="whole-book"><a class="btn btn-sm dropdown-item" href="{}" download>
<span class="btn__icon-container"><i class="fas fa-download"></i></span>
<span class="btn__text-container">{}</span></a></li>"""
MARKS = ("WARNING", "ERROR", "CRITICAL", "SEVERE")


def book(root=None, archive=False):
    """Build the site into ``_build/html``; return the path of its first page.

    Renews the table of contents. With ``archive``, also packs the site into a zip file, whose pages
    open from disk without a server. Raises ``PressError`` with Sphinx's warnings if there are any.
    """
    root = notebooks.book_root(root).resolve()
    started, build = time.monotonic(), root / "_build"
    page, log = build / "html" / "index.html", build / "book.log"
    print("Building the site; the output goes to _build/book.log", flush=True)
    catalogue.write_toc(root)
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    command += ["build", str(root), "--path-output", str(root), "--warningiserror", "--keep-going"]
    path = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]  # for press.site
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "NO_COLOR": "1"}
    build.mkdir(exist_ok=True)
    for name in DOWNLOADS:  # of the pages before
        (page.parent / name).unlink(missing_ok=True)
    with log.open("wb") as stream:
        done = subprocess.run(command, env=environment, cwd=root, stdout=stream, stderr=stream)
    if done.returncode or not page.is_file():
        # Sphinx remembers pages that it has read, and would not warn about them a second time.
        shutil.rmtree(build / ".doctrees", ignore_errors=True)
        lines = plain(log.read_text(encoding="utf-8", errors="replace")).splitlines()
        warnings = [line for line in lines if any(mark in line for mark in MARKS)]
        shown = "\n".join(dict.fromkeys(warnings or lines[-40:]))
        raise PressError(f"the site was not built:\n{shown}\nAll of it is in _build/book.log")
    print(f"The site is built ({duration(time.monotonic() - started)}). Open {page.as_uri()}")
    print(
        f"or serve it: python -m http.server 8000 --bind 127.0.0.1 --directory '{page.parent}'",
        flush=True,
    )
    offer(page.parent)
    if archive:
        file = pack(page.parent, build / ARCHIVE)
        offer(page.parent, file)
        print(f"To read without a server, unpack {file}", flush=True)
    if found := records.malformed(root):
        raise PressError(
            "the site is there, but these files are left out of it:\n" + "\n".join(found)
        )
    return page


def offer(site, *files):
    """Copy files into a site; name all downloads of the whole book there in its pages' headers."""
    for file in files:
        shutil.copy(file, site)
    there = {name: words for name, words in DOWNLOADS.items() if (site / name).is_file()}
    for page in site.rglob("*.html"):
        top, text = "../" * (len(page.relative_to(site).parts) - 1), page.read_text("utf-8")
        items = "".join(ITEM.format(top + name, words) for name, words in there.items())
        if (new := MENU.sub(lambda m, items=items: m[1] + items, text)) != text:
            page.write_text(new, "utf-8")


def pack(folder, file):
    """Pack all files of a folder into a zip file that appears whole or not at all."""
    scratch = file.with_suffix(".tmp")
    with zipfile.ZipFile(scratch, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name not in NOT_IN_ARCHIVE:
                packed.write(path, Path(file.stem) / path.relative_to(folder))
    scratch.replace(file)
    return file


def fetch_data(names=()):
    """Fetch data sets (default: all), say where each lies; return whether all are there."""
    from labutils import data
    from labutils.data import images

    complete = True
    for name in names or data.NAMES:
        try:
            folder = data.fetch(name)
            images.read(name)  # which checks what the files hold
            print(f"{name}: {folder}", flush=True)
        except (data.DataError, ValueError) as error:  # no network; an unknown name
            print(f"{name}: {error}", file=sys.stderr)
            complete = False
    return complete


HEADER = ("notebook", "profile", "state", "verdicts", "time", "peak memory", "date", "why stale")


def status(root=None):
    """Return the table of all records: fresh or stale, verdicts, time, memory, date, why."""
    root, rows = notebooks.book_root(root), []
    for name in notebooks.chapters(root):
        found = [_status(name, profile, root) for profile in PROFILES]
        rows += list(filter(None, found)) or [(name, "-", "not run", "-", "-", "-", "-", "")]
    return table(HEADER, rows) if rows else "There are no notebooks yet."


def _status(name, profile, root):
    """Return the row of a record, None if there is none."""
    try:
        record = records.read_record(name, profile, root)
    except RecordError as error:
        return (name, profile, "stale", "-", "-", "-", "-", error)
    if record is None:
        return None
    why, counts = records.why_stale(name, profile, root), records.verdict_counts(record)
    state = "stale" if why else "fresh"
    took, used = duration(record.duration_s), memory(record.peak_memory_mb)
    return (name, profile, state, counts, took, used, record.finished[:10], why or "")
