"""The benchmark of the contrastive loss's memory: both sides agree; the page shows its run."""

import json

import pytest

from benchmarks import contrastive_memory as benchmark


def test_both_sides_compute_the_same_in_their_own_processes():
    plain, chunked = (benchmark.measure_apart(side, 600) for side in benchmark.SIDES)
    for name in ("loss", "gradient_norm", "scale_gradient"):
        assert chunked[name] == pytest.approx(plain[name], rel=1e-5)
    assert plain["peak_bytes"] > 50e6


def test_page_shows_the_stored_run():
    result = json.loads(benchmark.RESULT.read_text(encoding="utf-8"))
    assert benchmark.TABLE.read_text(encoding="utf-8") == benchmark.table(result)


def test_stored_run_meets_the_bar():
    result = json.loads(benchmark.RESULT.read_text(encoding="utf-8"))
    assert result["batch_size"] == 16_384
    for plain, chunked in zip(*(result["runs"][side] for side in benchmark.SIDES), strict=True):
        assert chunked["loss"] == pytest.approx(plain["loss"], rel=1e-5)
        assert chunked["gradient_norm"] == pytest.approx(plain["gradient_norm"], rel=1e-5)
        assert chunked["peak_bytes"] < benchmark.TARGET * plain["peak_bytes"]
