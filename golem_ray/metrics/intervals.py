"""Intervals and errors of figures, and a figure in words with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def wilson_interval(accuracy: float, num_examples: float, z: float = 1.959964) -> tuple[float, float]:
    """The 95 % interval of an accuracy measured on num_examples independent examples.

    Wilson's score interval (E. B. Wilson, JASA 1927), which also holds for few examples and near 0 and 1.
    """
    shrink = 1 + z * z / num_examples
    centre = accuracy + z * z / (2 * num_examples)
    spread = z * math.sqrt(accuracy * (1 - accuracy) / num_examples + (z / (2 * num_examples)) ** 2)
    return max(0.0, (centre - spread) / shrink), min(1.0, (centre + spread) / shrink)


def mean_and_error(values: np.ndarray, groups: np.ndarray | None = None) -> tuple[float, float, int]:
    """Mean of (N,) values without the NaN ones, its standard error, and the number of units: examples or groups.

    For groups, (N,) int, of different sizes the error is that of the linearised ratio of sums (W. G. Cochran, Sampling
    Techniques, 1977, chapter 6). For a single unit it is infinite.
    """
    known = np.isfinite(values)
    _, units = np.unique(np.flatnonzero(known) if groups is None else groups[known], return_inverse=True)
    sums, sizes = np.bincount(units, values[known]), np.bincount(units)
    mean = float(values[known].mean())
    if len(sizes) < 2:
        return mean, math.inf, len(sizes)
    variance = len(sizes) / (len(sizes) - 1) * ((sums - mean * sizes) ** 2).sum() / sizes.sum() ** 2
    return mean, math.sqrt(variance), len(sizes)


def share_interval(value: float, shares: np.ndarray, groups: np.ndarray | None = None) -> tuple[float, float]:
    """The 95 % interval of `value`, the mean of the (N,) shares of each example, NaN for one that was not tested.

    Wilson's; with groups, (N,) int, Student's over the groups, but nowhere narrower than Wilson's, since a few groups
    may be alike by chance. Of a single group it is 0 to 1.
    """
    low, high = wilson_interval(value, int(np.isfinite(shares).sum()))
    if groups is None:
        return low, high
    _, error, units = mean_and_error(shares, groups)
    half = students_half(error, units)
    return max(0.0, min(low, value - half)), min(1.0, max(high, value + half))


def students_half(error: float, units: int, quantile: float = 0.975) -> float:
    """Half the width of a 95 % interval of a standard error over so many units; infinite for one unit.

    With the quantile 0.95 it is how far below the value a lower bound of 95 % confidence is.
    """
    from scipy.stats import t

    return float(t.ppf(quantile, units - 1) * error) if units > 1 else math.inf


def bootstrap_interval(
    value: float,
    resampled: Sequence[float] | np.ndarray,
    groups: np.ndarray | None = None,
    *,
    least: float = 0.0,
    most: float = 1.0,
    biased: bool = False,
) -> tuple[float, float]:
    """The 95 % interval of a `value` by the same figure of its resamples (R,), NaN where one does not have it.

    Percentiles; if resamples are `biased`, moved by how much their median is larger than the value. With groups,
    (N,) int, that were resampled whole it is Student's, by the standard error over resamples. It is within what the
    figure can be, `least` to `most`, and of a single group all of it.
    """
    assert value >= least, f"{value} is less than the least"
    if groups is not None:
        units = len(np.unique(groups))
        error = float(np.nanstd(resampled)) * math.sqrt(units / max(units - 1, 1))
        half = students_half(error, units)
        return max(least, value - half), min(most, value + half)
    low, middle, high = np.nanpercentile(resampled, [2.5, 50, 97.5])
    bias = middle - value if biased else 0.0
    return max(least, float(low - bias)), min(most, float(high - bias))


def in_words(value: float, interval: Sequence[float] | None, unit: str = ".1%") -> str:
    """`32.1% (95 % interval 27.4% to 37.3%)`; the value alone if there is no interval. `unit` is a format."""
    if interval is None:
        return format(value, unit)
    low, high = interval
    return f"{value:{unit}} (95 % interval {low:{unit}} to {high:{unit}})"
