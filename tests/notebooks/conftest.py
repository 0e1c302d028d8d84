"""Fixtures of the tests of the chapters."""

import json
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def stored():
    """Fails the test if it changes a stored notebook or record."""

    def content():
        files = [*ROOT.glob("notebooks/*/*.ipynb"), *ROOT.glob("results/*/*.json")]
        return {file.relative_to(ROOT): file.read_bytes() for file in files}

    before = content()
    yield
    assert content() == before


@pytest.fixture
def same_as_other_runs(tmp_path_factory):
    """A function that fails if another test of this session got other values for the same seeds.

    Whoever comes second compares. Seconds differ, and so may sums over more threads.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "records"

    def compare(record, runner):
        mine = folder / record["chapter"]
        mine.mkdir(parents=True, exist_ok=True)
        (mine / f"{runner}.tmp").write_text(json.dumps(record))
        os.replace(mine / f"{runner}.tmp", mine / f"{runner}.json")
        for file in mine.glob("*.json"):
            other = json.loads(file.read_text())
            if other["environment"] == record["environment"]:
                assert values(other) == values(record), (record["chapter"], file.stem, runner)

    return compare


def values(record):
    return {c["id"]: c["values"] for c in record["claims"] if c["unit"] != "s"}
