"""Intervals of means and of paired differences over seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


class LedgerError(ValueError):
    """A claim or number that cannot be recorded; the message says what to change."""


@dataclass(frozen=True)
class Interval:
    """Mean of a sample with the bounds of its Student t interval; all in the unit of the sample."""

    mean: float
    low: float
    high: float
    confidence: float
    n: int


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Student t interval of the mean of `values` (shape (n,)), two-sided.

    One value says nothing about the spread: its bounds are NaN. Raises LedgerError for no values,
    another shape, or values that are not finite.
    """
    sample = np.asarray(values, dtype=float)
    if sample.ndim != 1 or not len(sample):
        raise LedgerError(f"an interval needs values in one dimension, got {values!r}")
    if not np.isfinite(sample).all():
        raise LedgerError(f"an interval needs finite values, got {sample.tolist()}")
    mean = float(sample.mean())
    if len(sample) == 1:
        return Interval(mean, math.nan, math.nan, confidence, 1)
    if np.ptp(sample) == 0:  # no spread: the t statistic would be 0/0
        return Interval(mean, mean, mean, confidence, len(sample))
    bounds = stats.ttest_1samp(sample, 0.0).confidence_interval(confidence)
    return Interval(mean, float(bounds.low), float(bounds.high), confidence, len(sample))


def paired_interval(
    first: Sequence[float], second: Sequence[float], confidence: float = 0.95
) -> Interval:
    """Student t interval of the paired difference `first[i] - second[i]` (both shape (n,)).

    Bounds are NaN for one pair. Raises LedgerError for unequal lengths, no pairs, or values that
    are not finite.
    """
    if len(first) != len(second):
        raise LedgerError(
            f"paired arms need one value per seed each, got {len(first)} and {len(second)}"
        )
    return mean_interval(np.asarray(first, float) - np.asarray(second, float), confidence)
