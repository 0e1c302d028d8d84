"""What a notebook shows is what its record says; neither is edited by hand."""

import pytest

from press import consistency, notebooks


@pytest.mark.parametrize("slug", notebooks.chapters())
def test_shown_numbers_claims_and_provenance_are_those_of_the_record(slug):
    found = consistency.problems(slug)
    assert not found, f"{slug}:\n" + "\n".join(found)
