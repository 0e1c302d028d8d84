"""Every chapter keeps the contract and runs from top to bottom, by papermill and by nbval."""

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from labutils import notebooks, pipeline

ROOT = Path(__file__).parents[2]
CHAPTERS = notebooks.chapters(ROOT)
TIME_LIMIT_S = 300  # of one chapter; the budget is 60 s on two free cores, here several share them

needs_chapters = pytest.mark.skipif(not CHAPTERS, reason="there are no chapters yet")


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_contract(chapter):
    found = notebooks.problems(chapter, ROOT)
    assert not found, f"{chapter}:\n" + "\n".join(found)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_technique_cells_load_as_a_module(chapter):
    module = notebooks.load(chapter, ROOT)
    assert [value for value in vars(module).values() if callable(value)]


@pytest.fixture
def stored():
    """Fails the test if it changes a stored notebook or record."""

    def content():
        files = [*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("results/*/*.json")]
        return {file.relative_to(ROOT): file.read_bytes() for file in files}

    before = content()
    yield
    assert content() == before


@needs_chapters
@pytest.mark.timeout(TIME_LIMIT_S * max(1, len(CHAPTERS)))
def test_papermill_runs_every_chapter(tmp_path, stored):
    """`labutils execute` at smoke; chapters side by side."""
    report = tmp_path / "junit.xml"
    command = [sys.executable, "-m", "labutils", "execute", "--profile", "smoke", "--force"]
    command += ["--timeout", str(TIME_LIMIT_S), "--junit", str(report)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    cases = ET.parse(report).findall(".//testcase")
    assert sorted(case.get("name") for case in cases) == CHAPTERS
    assert not [case.get("name") for case in cases if len(case)]  # none failed, none skipped
    for chapter in CHAPTERS:
        record = pipeline.read_record(chapter, "smoke", ROOT)
        assert record["profile"] == "smoke"
        assert record["fingerprint"] == notebooks.fingerprint(chapter, ROOT)
        # seconds of training prove nothing
        assert {claim["verdict"] for claim in record["claims"]} == {"not judged"}


@needs_chapters
@pytest.mark.timeout(TIME_LIMIT_S * max(1, len(CHAPTERS)))
def test_nbval_runs_every_chapter(tmp_path, stored):
    """Each code cell is one test of nbval; outputs are not compared."""
    report, results = tmp_path / "junit.xml", tmp_path / "results"
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "notebooks", "-p", "no:cacheprovider"]
    command += ["--nbval-cell-timeout", str(TIME_LIMIT_S), "--junit-xml", str(report), "-q"]
    command += ["--nbval-kernel-name", "python3"]
    command += ["-n", str(min(pipeline.cores(), len(CHAPTERS))), "--dist", "loadfile"]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        "LABUTILS_PROFILE": "smoke",
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
        record = json.loads((results / "smoke" / f"{chapter}.json").read_text())
        assert record["profile"] == "smoke"
