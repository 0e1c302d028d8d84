"""What all tests share: threads, profiles, and the order in which they run side by side."""

import os
from pathlib import Path

import pytest

# One thread for each worker: several run side by side, and sums do not depend on the machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tests never write into the stored results, and never read data that is not shipped.
os.environ.pop("LABUTILS_PROFILE", None)
os.environ.pop("LABUTILS_RESULTS", None)

TESTS = Path(__file__).parent
SITE = TESTS / "site"
RUNS = [TESTS / "notebooks" / f"test_{name}.py" for name in ("runs", "on_card", "at_full")]
NO_RECORD = {TESTS / "benchmarks", TESTS / "studies"}  # what no record of the book depends on,
STORED = TESTS / "benchmarks" / "test_stored_runs.py"  # but here are pages of the book
BUILT = {"book", "browser", "states"}  # fixtures of tests/site that build one or open a browser


@pytest.hookimpl(tryfirst=True)  # -m and -k see what is added here
def pytest_collection_modifyitems(config, items):
    for item in items:
        if item.path.parent == SITE and not BUILT.isdisjoint(item.fixturenames):
            item.add_marker("browser")
        unrecorded = item.path.parent in NO_RECORD and item.path != STORED
        if unrecorded or item.path.stem.endswith("_mutations"):  # which test the tests
            item.add_marker("slow")
        # Tests are test_fixmatch_saa_*.py, the notebook is fixmatch-saa: -k takes the latter too.
        item.extra_keyword_matches.add(item.path.stem.replace("_", "-"))
    if hasattr(config, "workerinput"):  # of xdist
        share_out(items)


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a GPU")


def share_out(items):
    """Sort the tests for workers that each take the next file: long ones must not come last.

    One worker begins with the site, for which all files of tests/site wait; the others begin with
    notebooks.
    """
    site = next((item.path for item in items if item.get_closest_marker("browser")), None)

    def place(item):
        if item.path in RUNS:
            return 1
        if item.path == site:
            return 0
        return 2 if item.path.parent == SITE or item.get_closest_marker("slow") else 3

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)  # pytest-xdist is not everywhere where the tests for GPUs run
def pytest_xdist_make_scheduler(config, log):
    """`--dist loadfile`, but any worker may take the next notebook, in the order of the tests."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    names = tuple(path.name for path in RUNS)

    class LoadNotebook(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            return nodeid if file.endswith(names) else file

    config.option.loadscopereorder = False
    return LoadNotebook(config, log)
