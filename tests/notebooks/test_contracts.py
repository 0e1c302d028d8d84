"""Every chapter keeps the book's contract."""

from pathlib import Path

import pytest

from press import contract, notebooks, technique

ROOT = Path(__file__).parents[2]
CHAPTERS = notebooks.chapters(ROOT)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_contract(chapter):
    found = contract.problems(chapter, ROOT)
    assert not found, f"{chapter}:\n" + "\n".join(found)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_technique_cells_load_as_a_module(chapter):
    module = technique.load(chapter, ROOT)
    assert [value for value in vars(module).values() if callable(value)]
