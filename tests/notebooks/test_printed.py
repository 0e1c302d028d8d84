"""What a notebook shows is what its record says; neither is edited by hand."""

import pytest

from press import consistency, notebooks, records


@pytest.mark.parametrize("slug", notebooks.chapters())
def test_shown_numbers_claims_and_provenance_are_those_of_the_record(slug):
    found = consistency.problems(slug)
    assert not found, f"{slug}:\n" + "\n".join(found)


@pytest.mark.parametrize("slug", notebooks.chapters())
def test_outputs_and_history_are_those_that_the_record_was_stored_with(slug):
    root = notebooks.book_root()
    record = records.read_record(slug, "small", root)
    assert record
    assert records.touched(record, root) is None
