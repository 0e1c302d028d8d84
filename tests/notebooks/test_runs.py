"""Every notebook runs from top to bottom, once, by nbval; `pytest -k rs2` runs one of them."""

import pytest
import smoke

SLUGS = smoke.longest_first()

# What lasts is the run of the notebook, which has a limit of its own.
pytestmark = [pytest.mark.notebook, pytest.mark.timeout(smoke.TIME_LIMIT_S + 60)]


def not_judged(record):
    """Seconds of training prove nothing."""
    return {verdict.verdict for verdict in record.verdicts().values()} == {"not judged"}


@pytest.mark.parametrize("slug", SLUGS)
def test_notebook_runs(slug, tmp_path, stored):
    last = smoke.remembered(slug)
    if last.get("key") == smoke.key(slug):
        pytest.skip(
            f"green since {last['finished']}, nothing changed; `rm -r _build/smoke` runs it"
        )
    record = smoke.run(slug, tmp_path)
    assert (record.notebook, record.profile) == (slug, "smoke")
    assert not_judged(record)
    assert smoke.differences(slug, record) == {}
    smoke.remember(slug, record)


@pytest.mark.slow
def test_two_runs_give_the_same_bytes(tmp_path, stored):
    """All that a record says but seconds and memory; the run above counts where it was green."""
    cheapest = SLUGS[-1]
    last = smoke.remembered(cheapest)
    if last.get("key") != smoke.key(cheapest):
        last["timeless"] = smoke.timeless(smoke.run(cheapest, tmp_path / "first"))
    assert smoke.timeless(smoke.run(cheapest, tmp_path / "second")) == last["timeless"]
