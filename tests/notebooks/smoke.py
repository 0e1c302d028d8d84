"""Smoke runs of the book's notebooks, and what is remembered of those that were green.

The memory is a file for each notebook in `_build/smoke`. Without it, every notebook runs.
"""

import contextlib
import functools
import hashlib
import json
import os
import platform
import subprocess
import sys
import xml.etree.ElementTree as ET
from importlib import metadata
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from labutils.claims import RecordError
from press import notebooks, reader, records, staleness

ROOT = Path(__file__).parents[2]
TIMED = {"seconds", "time", "cost"}  # words in the name of what a clock measured
TIME_LIMIT_S = 600  # of one notebook; its budget is a tenth, on a core that nobody else uses


def longest_first(root=ROOT):
    """Names of all notebooks, those with the longest recorded runs first."""
    seconds = dict.fromkeys(notebooks.chapters(root), 0)
    for slug in seconds:
        with contextlib.suppress(RecordError):  # other tests name it
            record = records.read_record(slug, "small", root)
            seconds[slug] = record.duration_s if record else 0
    return sorted(seconds, key=lambda slug: (-seconds[slug], slug))


def run(slug, folder, root=ROOT):
    """Execute a notebook at smoke by nbval, where each code cell is a test; return its Record.

    Outputs are not compared. `folder` takes the record and the report.
    """
    report, results = folder / f"{slug}.xml", folder / "results"
    file = notebooks.path(slug, root)
    command = [sys.executable, "-m", "pytest", "--nbval-lax", str(file), "-q"]
    command += ["-p", "no:cacheprovider", "-p", "no:xdist", "--junit-xml", str(report)]
    command += ["--nbval-kernel-name", "python3", "--rootdir", str(root), "-c", os.devnull]
    command += ["--nbval-cell-timeout", str(TIME_LIMIT_S)]
    done = subprocess.run(
        command,
        cwd=root,
        env=environment("smoke", results, root),
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    suite = ET.parse(report).find(".//testsuite")
    assert int(suite.get("tests")) == len(notebooks.code_cells(notebooks.read(file)))
    assert suite.get("skipped") == "0"
    return reader.read(results / f"{slug}.smoke.json")


def environment(profile, results, root=ROOT):
    """Variables of a notebook's process, on one core."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        "LABUTILS_PROFILE": profile,
        "OMP_NUM_THREADS": "1",
        "LABUTILS_RESULTS": str(results),
        "PYTHONPATH": str(root),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }


def rehearse(slug, folder, profile, cell, after=0):
    """Execute a notebook with a cell of the test after so many of its own.

    Returns its Record and the notebook as it was executed. `folder` takes the record.
    """
    source = nbformat.from_dict(notebooks.read(notebooks.path(slug)))
    source.cells.insert(after, nbformat.v4.new_code_cell(cell, id="rehearsal"))
    where = {"metadata": {"path": notebooks.path(slug).parent}}
    client = NotebookClient(source, timeout=TIME_LIMIT_S, kernel_name="python3", resources=where)
    path = {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests")))}  # for the cell
    client.execute(env=environment(profile, folder) | path)
    return reader.read(folder / f"{slug}.{profile}.json"), source


@contextlib.contextmanager
def once(slug, kind, *files):
    """Skip a test that was green with the same notebook and the same of these files of tests."""
    code = b"".join(Path(file).read_bytes() for file in (__file__, *files))
    content = hashlib.sha256(code).hexdigest()
    stamp, now = _memory(slug, ROOT).with_suffix(f".{kind}"), f"{key(slug)} {content}\n"
    if stamp.exists() and stamp.read_text("utf-8") == now:
        pytest.skip(f"was green, nothing changed; `rm {stamp.relative_to(ROOT)}` runs it")
    yield
    notebooks.write({stamp: now})


def key(slug, root=ROOT):
    """What a smoke run depends on, as one digest: its code, labutils, packages, the machine.

    Wider than the fingerprint of records, which leaves out what cannot change a number, but can
    stop a notebook.
    """
    cells = [
        [sorted(notebooks.tags(cell)), cell["source"]]
        for _, cell in notebooks.code_cells(notebooks.read(notebooks.path(slug, root)))
    ]
    content = hashlib.sha256(json.dumps([cells, _surroundings()]).encode())
    for file in sorted((root / "labutils").rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            content.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return content.hexdigest()[:32]


@functools.cache
def _surroundings():
    """A digest of the machine, Python and all installed packages."""
    packages = sorted(f"{found.name}=={found.version}" for found in metadata.distributions())
    content = [platform.node(), platform.machine(), platform.python_version(), packages]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


def remembered(slug, root=ROOT):
    """What `remember` wrote of the last green run, or an empty dict."""
    try:
        return json.loads(_memory(slug, root).read_text("utf-8"))
    except FileNotFoundError:
        return {}


def remember(slug, record, root=ROOT):
    """Keep that this run was green, and its values."""
    content = {
        "key": key(slug, root),
        "fingerprint": staleness.fingerprint(slug, root),
        "surroundings": _surroundings(),
        "finished": record.finished,
        "timeless": timeless(record),
    }
    notebooks.write({_memory(slug, root): json.dumps(content, indent=1) + "\n"})


def timeless(record):
    """Return what a record says without seconds and memory, as text.

    Equal to the byte for runs of the same code and seeds on the same device and threads. Claims and
    numbers on seconds are left out too: their unit is s, or a word of their name tells.
    """
    content = json.loads(record.to_json())
    for name in ("run", "outputs", "history", "digest"):  # outputs may print seconds
        del content[name]
    content["claims"] = [c for c in content["claims"] if not _timed(c["id"], c["unit"])]
    numbers = content["numbers"].items()
    content["numbers"] = {name: n for name, n in numbers if not _timed(name, n["unit"])}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _timed(name, unit):
    return unit == "s" or not TIMED.isdisjoint(name.split("-"))


def _memory(slug, root):
    return root / "_build" / "smoke" / f"{slug}.json"


def differences(slug, record, root=ROOT):
    """{claim or number: (then, now)} where the remembered run got others by the same code, or {}.

    The same code is that of the same fingerprint. So this also finds a fingerprint that overlooks
    something on which a number depends.
    """
    last = remembered(slug, root)
    same = (staleness.fingerprint(slug, root), _surroundings())
    if (last.get("fingerprint"), last.get("surroundings")) != same or "timeless" not in last:
        return {}
    then, now = _said(last["timeless"]), _said(timeless(record))
    return {
        name: (then.get(name), now.get(name))
        for name in {*then, *now}
        if then.get(name) != now.get(name)
    }


def _said(text):
    content = json.loads(text)
    claims = {f"claim {claim['id']}": claim["values"] for claim in content.pop("claims")}
    return claims | {f"number {n}": v for n, v in content.pop("numbers").items()} | content
