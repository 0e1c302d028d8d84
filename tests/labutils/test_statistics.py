"""Intervals, verdicts and corrections against scipy and against the textbook's formulas."""

import warnings

import numpy as np
import pytest
from scipy import stats

from labutils.statistics import Verdict, corrected, judge, mean_interval


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


def paired_interval(first, second, confidence=0.95):
    return mean_interval(np.subtract(first, second), confidence)


def test_interval_of_paired_differences_equals_scipys():
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
    with pytest.raises(ValueError, match=message):
        mean_interval(values)


def test_one_sided_verdicts_equal_two_sided_tests():
    seen = set()
    for first, second, _ in samples(150, 2):
        if len(first) < 3:
            continue
        margin = float(np.abs(first - second).mean()) * 0.5
        for direction, sign in (("greater", 1), ("less", -1)):
            found = judge(first - second, direction, margin)
            verdict = found.verdict
            beyond = sign * (first - second) - margin
            p = stats.ttest_1samp(beyond, 0).pvalue
            side = "reproduced" if beyond.mean() > 0 else "not reproduced"
            assert verdict == (side if p < 0.05 else "inconclusive")
            assert found.p == found.adjusted == pytest.approx(p)
            bounds = paired_interval(sign * first, sign * second)
            assert (verdict == "reproduced") == (bounds.low > margin)
            assert (verdict == "not reproduced") == (bounds.high < margin)
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
        verdict = judge(difference, "equivalent", margin).verdict
        above_low = stats.ttest_1samp(difference, -margin, alternative="greater").pvalue
        below_high = stats.ttest_1samp(difference, margin, alternative="less").pvalue
        assert (verdict == "reproduced") == (max(above_low, below_high) < 0.05)
        # beyond the margin on one side, by the one-sided test at the same level
        beyond = min(1 - above_low, 1 - below_high) < 0.05
        assert (verdict == "not reproduced") == beyond
        bounds = paired_interval(first, second, 0.9)
        assert (verdict == "reproduced") == (bounds.low > -margin and bounds.high < margin)
        seen.add(verdict)
    assert seen == {"reproduced", "not reproduced", "inconclusive"}


SPREAD = np.array([-0.4, 0.1, 0.3])  # mean 0, 95 % interval about -0.90 to 0.90


@pytest.mark.parametrize(
    ("mean", "direction", "margin", "verdict"),
    [
        (1.0, "greater", 0.0, "reproduced"),
        (-1.0, "greater", 0.0, "not reproduced"),
        (0.5, "greater", 0.0, "inconclusive"),
        (2.0, "greater", 1.0, "reproduced"),
        (0.0, "greater", 1.0, "not reproduced"),
        (1.5, "greater", 1.0, "inconclusive"),
        (-1.0, "less", 0.0, "reproduced"),
        (1.0, "less", 0.0, "not reproduced"),
        (-0.5, "less", 0.0, "inconclusive"),
        (-2.0, "less", 1.0, "reproduced"),
        (0.0, "less", 1.0, "not reproduced"),
        (0.0, "equivalent", 1.0, "reproduced"),
        (0.6, "equivalent", 1.0, "inconclusive"),
        (0.0, "equivalent", 0.3, "inconclusive"),
        (2.0, "equivalent", 1.0, "not reproduced"),
        (-2.0, "equivalent", 1.0, "not reproduced"),
    ],
)
def test_verdicts_by_hand(mean, direction, margin, verdict):
    assert judge(SPREAD + mean, direction, margin).verdict == verdict
    few = judge((SPREAD + mean)[:2], direction, margin)
    assert few == Verdict("inconclusive", None, None)


def test_differences_without_spread_are_decided_by_their_side():
    assert judge([1.0] * 3, "greater", 0.5) == Verdict("reproduced", 0.0, 0.0)
    assert judge([1.0] * 3, "greater", 2.0) == Verdict("not reproduced", 0.0, 0.0)
    assert judge([1.0] * 3, "greater", 1.0) == Verdict("inconclusive", 1.0, 1.0)
    assert judge([0.0] * 3, "equivalent", 1.0) == Verdict("reproduced", 0.0, 0.0)
    assert judge([3.0] * 3, "equivalent", 1.0) == Verdict("not reproduced", 0.0, 0.0)


def test_an_unknown_direction_is_refused():
    with pytest.raises(ValueError, match=r"'more' is not one of .*greater.*less.*equivalent"):
        judge([1.0, 2.0, 3.0], "more")


def decided(*ps):
    return {f"c{k}": Verdict("reproduced", p, p) for k, p in enumerate(ps)}


def test_correction_by_hand():
    """Holm: the smallest p times 4, the next times 3, and so on, never falling, at most 1."""
    found = corrected(decided(0.02, 0.01, 0.9, 0.03))
    assert [found[f"c{k}"].adjusted for k in range(4)] == pytest.approx([0.06, 0.04, 0.9, 0.06])
    assert [v.verdict for v in found.values()] == [
        "inconclusive", "reproduced", "inconclusive", "inconclusive",
    ]  # fmt: skip
    assert [v.p for v in found.values()] == [0.02, 0.01, 0.9, 0.03]


def test_correction_equals_an_independent_formula():
    """Adjusted p of i: the largest of (m - j + 1) p_(j) over all p_(j) up to p_(i)."""
    random = np.random.default_rng(5)
    for _ in range(50):
        ps = random.uniform(0, 0.1, random.integers(1, 9))
        found = corrected(decided(*ps))
        for k, p in enumerate(ps):
            steps = [(len(ps) - (ps < q).sum()) * q for q in ps if q <= p]
            assert found[f"c{k}"].adjusted == pytest.approx(min(1, max(steps)))


def test_correction_of_one_or_none_changes_nothing():
    one = decided(0.04)
    assert corrected(one) == one
    assert corrected({}) == {}


def test_what_was_not_tested_does_not_count_in_the_correction():
    found = corrected({"few": Verdict("inconclusive"), **decided(0.04)})
    assert found == {"few": Verdict("inconclusive"), **decided(0.04)}


def test_families_of_true_nulls_are_rarely_decided():
    """Of 400 notebooks with 6 claims each about arms that do not differ, about 5 % decide any."""
    random, any_decided = np.random.default_rng(6), 0
    for _ in range(400):
        sample = random.normal(0, 1, (6, 5))
        found = corrected({str(k): judge(row, "greater") for k, row in enumerate(sample)})
        any_decided += any(v.verdict != "inconclusive" for v in found.values())
    assert any_decided / 400 < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 400)


def test_coverage():
    """Of 800 intervals of a known difference, a share within 4 sigma of 95 % holds it."""
    random = np.random.default_rng(4)
    held = 0
    for _ in range(800):
        first, second = random.normal(0, [[3], [1]], (2, 5)) + random.normal(0, 5, 5)
        interval = paired_interval(first + 0.7, second)
        held += interval.low <= 0.7 <= interval.high
    assert abs(held / 800 - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 800)
