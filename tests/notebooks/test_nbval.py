"""Every chapter runs from top to bottom by nbval, each code cell as one test."""

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from press import engine, notebooks

ROOT = Path(__file__).parents[2]
CHAPTERS = notebooks.chapters(ROOT)
TIME_LIMIT_S = 600  # of one chapter; the budget is 60 s on two free cores, which these are not

pytestmark = [
    pytest.mark.skipif(not CHAPTERS, reason="there are no chapters yet"),
    pytest.mark.timeout(TIME_LIMIT_S * max(1, len(CHAPTERS))),
]


def test_nbval_runs_every_chapter(tmp_path, stored, same_as_other_runs):
    """Each code cell is one test of nbval; outputs are not compared."""
    report, results = tmp_path / "junit.xml", tmp_path / "results"
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "notebooks", "-p", "no:cacheprovider"]
    command += ["--nbval-cell-timeout", str(TIME_LIMIT_S), "--junit-xml", str(report), "-q"]
    command += ["--nbval-kernel-name", "python3", "--timeout", str(TIME_LIMIT_S)]
    command += ["-n", str(min(engine.cores(), len(CHAPTERS))), "--dist", "loadfile"]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        "LABUTILS_PROFILE": "smoke",
        "OMP_NUM_THREADS": "1",
        "LABUTILS_RESULTS": str(results),
        "PYTHONPATH": str(ROOT),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    suite = ET.parse(report).find(".//testsuite")
    cells = [
        cell
        for chapter in CHAPTERS
        for _, cell in notebooks.code_cells(notebooks.read(notebooks.path(chapter, ROOT)))
    ]
    assert int(suite.get("tests")) == len(cells)
    assert suite.get("skipped") == "0"
    for chapter in CHAPTERS:  # the cells really ran: each chapter wrote its record
        record = json.loads((results / f"{chapter}.smoke.json").read_text())
        assert record["profile"] == "smoke"
        same_as_other_runs(record, "nbval")
