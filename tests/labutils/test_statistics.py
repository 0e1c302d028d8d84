"""Intervals and verdicts of the ledger against scipy and against the textbook's formulas."""

import warnings

import numpy as np
import pytest
from scipy import stats

from labutils.claims import judge
from labutils.statistics import LedgerError, mean_interval, paired_interval


def samples(count, seed):
    """Random pairs of arms: 2 to 12 seeds, several scales, correlated by seed as real arms are."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        n, scale = random.integers(2, 13), 10 ** random.uniform(-3, 3)
        seed_effect = random.normal(0, scale, n)
        first = random.normal(70, scale, n) + seed_effect
        gap, noise = scale * random.uniform(-3, 3), scale * random.uniform(0.1, 2)
        second = first - random.normal(gap, noise, n)
        yield first, second, random.choice([0.5, 0.8, 0.9, 0.95, 0.99])


def test_paired_interval_equals_scipys():
    for first, second, confidence in samples(100, 0):
        ours = paired_interval(first.tolist(), second.tolist(), confidence)
        theirs = stats.ttest_rel(first, second).confidence_interval(confidence)
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-9, abs=1e-9)
        assert (ours.n, ours.confidence) == (len(first), confidence)
        assert ours.mean == pytest.approx(first.mean() - second.mean(), abs=1e-9)


def test_mean_interval_equals_the_formula_and_scipys():
    for sample, _, confidence in samples(100, 1):
        ours = mean_interval(sample, confidence)
        theirs = stats.ttest_1samp(sample, 0).confidence_interval(confidence)
        n = len(sample)
        spread = np.sqrt(((sample - sample.mean()) ** 2).sum() / (n - 1))
        half = stats.t.ppf((1 + confidence) / 2, n - 1) * spread / np.sqrt(n)
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-9)
        assert (ours.low, ours.high) == pytest.approx((sample.mean() - half, sample.mean() + half))


def test_interval_by_hand():
    # mean 2, standard deviation 1, t quantile of 2 degrees of freedom 4.302653
    ours = mean_interval([1.0, 2.0, 3.0])
    assert ours.mean == 2
    assert (ours.low, ours.high) == pytest.approx((2 - 2.484138, 2 + 2.484138), abs=1e-6)


def test_pairing_matters():
    """Arms that differ by a constant have an exact difference, whatever the spread over seeds."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a warning would end up in the chapter's outputs
        ours = paired_interval([76.2, 61.7, 83.1, 70.3], [75.1, 60.6, 82.0, 69.2])
    assert (ours.low, ours.high) == pytest.approx((1.1, 1.1), abs=1e-9)


def test_no_spread_gives_a_point():
    ours = mean_interval([0.25] * 4)
    assert (ours.mean, ours.low, ours.high) == (0.25, 0.25, 0.25)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "values in one dimension"),
        ([[1.0, 2.0], [3.0, 4.0]], "one dimension"),
        ([1.0, float("nan"), 2.0], "finite"),
        ([1.0, float("inf")], "finite"),
    ],
)
def test_samples_without_an_interval(values, message):
    with pytest.raises(LedgerError, match=message):
        mean_interval(values)


def test_unequal_arms():
    with pytest.raises(LedgerError, match="got 3 and 2"):
        paired_interval([1.0, 2.0, 3.0], [1.0, 2.0])


def test_one_sided_verdicts_equal_two_sided_tests():
    seen = set()
    for first, second, _ in samples(150, 2):
        if len(first) < 3:
            continue
        margin = float(np.abs(first - second).mean()) * 0.5
        for direction, sign in (("greater", 1), ("less", -1)):
            verdict = judge(paired_interval(first, second), direction, margin)
            beyond = sign * (first - second) - margin
            p = stats.ttest_1samp(beyond, 0).pvalue
            side = "reproduced" if beyond.mean() > 0 else "not reproduced"
            assert verdict == (side if p < 0.05 else "inconclusive")
            seen.add((direction, verdict))
    assert len(seen) == 6


def test_equivalence_verdict_equals_two_one_sided_tests():
    """Schuirmann's procedure at 5 %: reproduced exactly when both one-sided tests reject."""
    seen = set()
    for first, second, _ in samples(200, 3):
        if len(first) < 3:
            continue
        difference = first - second
        margin = float(difference.std() * np.sqrt(len(first)) * 0.7)
        verdict = judge(paired_interval(first, second, 0.9), "equivalent", margin)
        above_low = stats.ttest_1samp(difference, -margin, alternative="greater").pvalue
        below_high = stats.ttest_1samp(difference, margin, alternative="less").pvalue
        assert (verdict == "reproduced") == (max(above_low, below_high) < 0.05)
        # beyond the margin on one side, by the one-sided test at the same level
        beyond = min(1 - above_low, 1 - below_high) < 0.05
        assert (verdict == "not reproduced") == beyond
        seen.add(verdict)
    assert seen == {"reproduced", "not reproduced", "inconclusive"}


def test_coverage():
    """Of 800 intervals of a known difference, a share within 4 sigma of 95 % holds it."""
    random = np.random.default_rng(4)
    held = 0
    for _ in range(800):
        first, second = random.normal(0, [[3], [1]], (2, 5)) + random.normal(0, 5, 5)
        interval = paired_interval(first + 0.7, second)
        held += interval.low <= 0.7 <= interval.high
    assert abs(held / 800 - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 800)
