"""The benchmark of the contrastive loss's memory: both sides agree; the page shows its run."""

import pytest

from benchmarks import contrastive_memory as benchmark


def test_both_sides_compute_the_same_in_their_own_processes():
    plain, chunked = (benchmark.measure_apart(side, 600) for side in benchmark.SIDES)
    for name in ("loss", "gradient_norm", "scale_gradient"):
        assert chunked[name] == pytest.approx(plain[name], rel=1e-5)
    assert plain["peak_bytes"] > 50e6
