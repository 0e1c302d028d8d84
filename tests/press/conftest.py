"""Fixtures of the unit tests."""

import pytest
from throwaway import Book


@pytest.fixture
def book(tmp_path):
    """An empty throw-away book, in a folder with a space in its name."""
    return Book(tmp_path / "a book")
