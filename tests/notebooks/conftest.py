"""Fixtures of the tests of the notebooks."""

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
