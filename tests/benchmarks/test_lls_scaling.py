"""The scaling benchmark of LLS: it measures what it says, and the stored run is within limits."""

import json

import numpy as np

from benchmarks import lls_scaling as benchmark


def test_synthetic_posteriors_are_calibrated():
    posteriors, ids = benchmark.synthetic(40_000, 6)
    np.testing.assert_allclose(posteriors.sum(1), 1, atol=1e-5)
    likely = posteriors.max(1) > 0.6
    right = posteriors.argmax(1)[likely] == ids[likely]
    assert abs(right.mean() - posteriors.max(1)[likely].mean()) < 0.02


def test_a_small_point_is_measured_in_its_own_process():
    point = benchmark.measure({"n": 3000, "r": 25, "m": 30})
    assert (point["n"], point["r"], point["m"]) == (3000, 25, 30)
    assert 0 < point["fit_s"] < 60
    assert 0.05 < point["memory_gb"] < 4


def test_page_shows_the_stored_run():
    result = json.loads(benchmark.RESULT.read_text())
    assert (benchmark.GENERATED / "lls_scaling.md").read_text() == benchmark.render(result)
    assert (benchmark.GENERATED / "lls_scaling.svg").is_file()


def test_stored_run_meets_the_bar():
    result = json.loads(benchmark.RESULT.read_text())
    assert result["base"]["n"] == 1_000_000
    assert result["base"]["r"] == 50
    assert result["base"]["seconds"] < result["limits"]["seconds"] == 30
    assert result["base"]["memory_gb"] < result["limits"]["memory_gb"] == 4
