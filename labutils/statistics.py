"""Intervals over seeds, verdicts on a difference, and their correction for several questions."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

DIRECTIONS = ("greater", "less", "equivalent")
VERDICTS = ("reproduced", "not reproduced", "inconclusive", "not judged")
LEVEL = 0.05  # of a verdict; of all primary verdicts of a notebook together
MIN_SEEDS = 3  # with fewer, an interval says next to nothing


@dataclass(frozen=True)
class Interval:
    """Mean of a sample with the bounds of its Student t interval; all in the unit of the sample."""

    mean: float
    low: float
    high: float
    confidence: float
    n: int


@dataclass(frozen=True)
class Verdict:
    """What a difference says about a claim: one of VERDICTS, with the p-value that decides.

    p: of the side that the data are on, for this claim alone; adjusted: corrected for the other
    primary claims of the notebook (equal to p otherwise). Both are None where nothing is judged.
    """

    verdict: str
    p: float | None = None
    adjusted: float | None = None


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Student t interval of the mean of `values` (shape (n,)), two-sided.

    One value says nothing about the spread: its bounds are NaN. Raises ValueError for no values,
    another shape, or values that are not finite.
    """
    sample = np.asarray(values, dtype=float)
    if sample.ndim != 1 or not len(sample):
        raise ValueError(f"an interval needs values in one dimension, got {values!r}")
    if not np.isfinite(sample).all():
        raise ValueError(f"an interval needs finite values, got {sample.tolist()}")
    mean = float(sample.mean())
    if len(sample) == 1:
        return Interval(mean, math.nan, math.nan, confidence, 1)
    if np.ptp(sample) == 0:  # no spread: the t statistic would be 0/0
        return Interval(mean, mean, mean, confidence, len(sample))
    bounds = stats.ttest_1samp(sample, 0.0).confidence_interval(confidence)
    return Interval(mean, float(bounds.low), float(bounds.high), confidence, len(sample))


def judge(differences: Sequence[float], direction: str, margin: float = 0.0) -> Verdict:
    """Verdict of one claim about the mean of paired `differences` (n,) = arm 0 - arm 1.

    greater: mean > margin; less: mean < -margin. Either way a two-sided t test against the margin
    decides, as the 95 % interval does. equivalent: |mean| < margin, by two one-sided tests
    (Schuirmann 1987), as the 90 % interval does; it fails if the mean is beyond a margin.
    """
    if direction not in DIRECTIONS:
        raise ValueError(f"direction {direction!r} is not one of {DIRECTIONS}")
    sample = np.asarray(differences, dtype=float)
    if sample.ndim != 1 or not np.isfinite(sample).all() or not math.isfinite(margin):
        raise ValueError(f"judge expects finite differences (n,) and margin, got {differences!r}")
    if len(sample) < MIN_SEEDS:
        return Verdict("inconclusive")
    if direction == "equivalent":
        holds = max(_p_above(sample, -margin), _p_above(-sample, -margin))
        fails = min(_p_above(sample, margin), _p_above(-sample, margin))
    else:
        sample = sample if direction == "greater" else -sample
        holds, fails = 2 * _p_above(sample, margin), 2 * _p_above(-sample, -margin)
    p = min(holds, fails, 1.0)
    decided = "reproduced" if holds < fails else "not reproduced"
    return Verdict(decided if p < LEVEL else "inconclusive", p, p)


def corrected(verdicts: Mapping[str, Verdict]) -> dict[str, Verdict]:
    """The same verdicts after Holm's correction (1979) for their number; names stay.

    A decided verdict whose adjusted p is not below LEVEL becomes inconclusive. Verdicts without p
    (too few seeds, not judged) are no tests and do not count.
    """
    tested = sorted((v.p, name) for name, v in verdicts.items() if v.p is not None)
    result, largest = dict(verdicts), 0.0
    for place, (p, name) in enumerate(tested):
        largest = max(largest, min(1.0, p * (len(tested) - place)))
        decided = largest < LEVEL
        verdict = verdicts[name].verdict if decided else "inconclusive"
        result[name] = Verdict(verdict, p, largest)
    return result


def _p_above(sample: np.ndarray, bound: float) -> float:
    """One-sided p-value of the hypothesis that the mean is at most `bound`."""
    if np.ptp(sample) == 0:
        return 0.0 if sample[0] > bound else 1.0
    return float(stats.ttest_1samp(sample, bound, alternative="greater").pvalue)
