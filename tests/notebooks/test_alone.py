"""The files that readers take home: each passes its notebook's tests where labutils is not."""

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import pytest

from press import catalogue, standalone

ROOT = Path(__file__).parents[2]
PAPERS = {paper.slug: paper for paper in catalogue.load(ROOT).notebooks}
FEWEST = {"chapter": 15, "lab": 3}  # tests that pass
TIME_LIMIT_S = 600


def run(*command, **environment):
    return subprocess.run(
        [sys.executable, *map(str, command)], cwd=ROOT, capture_output=True, text=True,
        timeout=TIME_LIMIT_S, env={**os.environ, **environment},
    )  # fmt: skip


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """{slug: Counter of what became of its tests}, and the names of those that failed."""
    report = tmp_path_factory.mktemp("alone") / "report.xml"
    files = {file: slug for slug in PAPERS for file in standalone.tests(slug, ROOT)}
    paths = f"{ROOT}{os.pathsep}{Path(__file__).parent}"
    options = [
        "-q",
        "-p",
        "alone",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "--junit-xml",
        report,
    ]
    done = run("-m", "pytest", *options, "-m", "not slow and not gpu", *files, PYTHONPATH=paths)
    assert report.is_file(), done.stdout + done.stderr
    stems = {f"tests.notebooks.{f.parent.name}.{f.stem}": slug for f, slug in files.items()}
    found = {slug: Counter() for slug in PAPERS}
    for case in ET.parse(report).iter("testcase"):
        kinds = {child.tag for child in case} & {"failure", "error", "skipped"}
        slug = next(s for name, s in stems.items() if case.get("classname").startswith(name))
        found[slug][kinds.pop() if kinds else "passed"] += 1
    return found, done.stdout


@pytest.mark.slow
@pytest.mark.timeout(TIME_LIMIT_S)
@pytest.mark.parametrize("slug", PAPERS)
def test_a_file_passes_the_tests_of_its_technique_without_labutils(slug, outcomes):
    found, output = outcomes
    assert found[slug]["failure"] == found[slug]["error"] == 0, output
    assert found[slug]["passed"] >= FEWEST[PAPERS[slug].kind], found[slug]


RUN = """
import runpy, sys
sys.modules["labutils"] = sys.modules["press"] = None  # to import them is an error
for file in sys.argv[1:]:
    print("==", file)
    runpy.run_path(file, run_name="__main__")
"""


def test_the_examples_run_where_labutils_is_not(tmp_path):
    slugs = [slug for slug in PAPERS if standalone.of(slug, ROOT).example]
    files = standalone.write(tmp_path, ROOT, slugs)
    done = run("-I", "-c", RUN, *files)
    assert done.returncode == 0, done.stdout + done.stderr
    printed = [part.splitlines()[1:] for part in done.stdout.split("== ")[1:]]
    assert len(printed) == len(slugs)
    assert all(printed), done.stdout


def test_a_file_that_imports_labutils_is_found(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    import alone

    for name in ("labutils", "labutils.augment", "press"):
        with pytest.raises(ModuleNotFoundError, match="stands alone"):
            alone.refuse(name)
    assert alone.refuse("json").loads("1") == 1
