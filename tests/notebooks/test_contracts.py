"""Every notebook keeps the book's contract."""

from pathlib import Path

import pytest

from press import catalogue, contract, technique

ROOT = Path(__file__).parents[2]
NOTEBOOKS = [(paper.slug, paper.kind) for paper in catalogue.load(ROOT).notebooks]


@pytest.mark.parametrize(("slug", "kind"), NOTEBOOKS)
def test_a_notebook_keeps_the_contract_of_its_kind(slug, kind):
    found = contract.problems(slug, ROOT, kind)
    assert not found, f"{slug}:\n" + "\n".join(found)


@pytest.mark.parametrize("slug", [slug for slug, _ in NOTEBOOKS])
def test_technique_cells_load_as_a_module(slug):
    module = technique.load(slug, ROOT)
    assert [value for value in vars(module).values() if callable(value)]
