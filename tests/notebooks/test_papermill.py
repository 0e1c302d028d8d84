"""Every chapter runs from top to bottom by the book's own pipeline."""

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from press import engine, notebooks, staleness

ROOT = Path(__file__).parents[2]
CHAPTERS = notebooks.chapters(ROOT)
TIME_LIMIT_S = 600  # of one chapter; the budget is 60 s on two free cores, which these are not

pytestmark = [
    pytest.mark.skipif(not CHAPTERS, reason="there are no chapters yet"),
    pytest.mark.timeout(TIME_LIMIT_S * max(1, len(CHAPTERS))),
]


def test_papermill_runs_every_chapter(tmp_path, stored, same_as_other_runs):
    """`labutils execute` at smoke; chapters side by side."""
    report = tmp_path / "junit.xml"
    command = [sys.executable, "-m", "press", "execute", "--profile", "smoke", "--force"]
    command += ["--timeout", str(TIME_LIMIT_S), "--junit", str(report)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    cases = ET.parse(report).findall(".//testcase")
    assert sorted(case.get("name") for case in cases) == CHAPTERS
    assert not [case.get("name") for case in cases if len(case)]  # none failed, none skipped
    for chapter in CHAPTERS:
        record = engine.read_record(chapter, "smoke", ROOT)
        assert record["profile"] == "smoke"
        assert record["fingerprint"] == staleness.fingerprint(chapter, ROOT)
        # seconds of training prove nothing
        assert {claim["verdict"] for claim in record["claims"]} == {"not judged"}
        same_as_other_runs(record, "papermill")
