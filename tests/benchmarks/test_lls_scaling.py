"""The scaling benchmark of LLS: it measures what it says, and the stored run is within limits."""

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
