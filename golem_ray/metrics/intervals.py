"""Intervals and errors of figures."""

from __future__ import annotations

import math

import numpy as np


def wilson_interval(accuracy: float, num_examples: int, z: float = 1.959964) -> tuple[float, float]:
    """The 95 % interval of an accuracy measured on num_examples independent clips.

    Wilson's score interval (E. B. Wilson, JASA 1927), which keeps its promise for few clips and near 0 and 1.
    """
    shrink = 1 + z * z / num_examples
    centre = accuracy + z * z / (2 * num_examples)
    spread = z * math.sqrt(accuracy * (1 - accuracy) / num_examples + (z / (2 * num_examples)) ** 2)
    return max(0.0, (centre - spread) / shrink), min(1.0, (centre + spread) / shrink)


def mean_and_error(values: np.ndarray, groups: np.ndarray | None = None) -> tuple[float, float, int]:
    """Mean of (N,) values, NaN ones left out, its standard error, and over how many clips, or groups (N,) int, that is.

    Of groups of unlike sizes by the linearised ratio of sums (W. G. Cochran, Sampling Techniques, 1977, chapter 6);
    of a single one the error is infinite.
    """
    told = np.isfinite(values)
    _, units = np.unique(np.flatnonzero(told) if groups is None else groups[told], return_inverse=True)
    sums, sizes = np.bincount(units, values[told]), np.bincount(units)
    mean = float(values[told].mean())
    if len(sizes) < 2:
        return mean, math.inf, len(sizes)
    variance = len(sizes) / (len(sizes) - 1) * ((sums - mean * sizes) ** 2).sum() / sizes.sum() ** 2
    return mean, math.sqrt(variance), len(sizes)
