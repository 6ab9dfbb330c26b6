"""How accurate a classifier is where it names only what it is sure of. Knows no head or encoder.

Of N examples in R rounds of cross-validation; a single evaluation is one round.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from golem_ray.metrics.intervals import mean_and_error, share_interval, students_half, wilson_interval

_ONE_SIDED = 1.644854
"""Standard errors that a lower bound of 95 % confidence is below the value."""

_MOST_CUTS = 1000
"""Thresholds that are tried at most."""

_OF_ONE_GROUP = 25
"""Fewest examples of one more group that a precision is to hold for: as many as show 90 % if all are right."""

_MOST_POINTS = 200
"""Of a curve."""


def covered(right: np.ndarray, named: np.ndarray, groups: np.ndarray | None = None) -> dict[str, Any]:
    """What share of the examples is named, and of these rightly: {"coverage", "precision"}, with intervals of 95 %.

    right: (R, N), 1 or 0, NaN where not tested; named: (R, N) bool; groups: (N,) int or None. The precision is None
    where nothing is named. Its interval is Wilson's, and with groups nowhere narrower than Student's over groups.
    """
    tested = np.isfinite(right)
    named = named & tested
    each_tested = tested.sum(axis=0)
    shares = np.divide(named.sum(axis=0), each_tested, out=np.full(len(each_tested), np.nan), where=each_tested > 0)
    share = float(named.sum() / tested.sum())
    found: dict[str, Any] = {
        "coverage": {"value": share, "interval_95": list(share_interval(share, shares, groups))},
        "precision": None,
    }
    if named.any():
        value, error, units, number = _precision(right, named, groups)
        low, high = wilson_interval(value, number)
        if groups is not None:
            half = students_half(error, units)
            low, high = max(0.0, min(low, value - half)), min(1.0, max(high, value + half))
        found["precision"] = {"value": value, "interval_95": [low, high]}
    return found


def threshold_for(
    precision: float, confidence: np.ndarray, right: np.ndarray, groups: np.ndarray | None = None
) -> float | None:
    """The confidence from which on examples are named rightly with that precision, and as many as can be.

    The precision is a lower bound of 95 % confidence, Wilson's, and with groups Student's over groups: for other
    examples like these it holds too. With groups it is also a bound of 90 % for some examples of one more group,
    whose precision differs from the mean as those of these groups do. None if there is no such confidence: 24 examples
    that are all right do not show 90 %. confidence: (R, N); the others are as `covered` takes them.
    """
    for cut in _cuts(confidence[np.isfinite(right)], _MOST_CUTS):
        value, error, units, number = _precision(right, confidence >= cut, groups)
        low = wilson_interval(value, number, z=_ONE_SIDED)[0]
        if groups is not None:
            low = min(low, value - students_half(error, units, 0.95))
            if units > 1:
                chance = value * (1 - value)
                between = max(0.0, units * (error**2 - chance / number))
                of_one = between + chance / max(number / units, _OF_ONE_GROUP)
                low = min(low, value - students_half(math.sqrt(of_one + error**2), units, 0.9))
        if low >= precision:
            return float(cut)
    return None


def fewest(precision: float) -> int:
    """How many examples show such a precision if all are right: where Wilson's lower bound reaches it."""
    return math.ceil(_ONE_SIDED**2 * precision / (1 - precision) - 1e-9)


def _precision(right: np.ndarray, named: np.ndarray, groups: np.ndarray | None) -> tuple[float, float, int, float]:
    """The share of what is named that is right, its standard error, over how many units, and of how many examples."""
    values = np.where(named, right, np.nan).ravel()
    value, error, units = mean_and_error(values, None if groups is None else np.tile(groups, len(right)))
    return value, error, units, float(np.isfinite(values).sum()) / len(right)


def coverage_curve(confidence: np.ndarray, right: np.ndarray) -> list[dict[str, float]]:
    """Precision by coverage: [{"threshold", "coverage", "precision"}], from the least threshold on. Both (N,)."""
    found = []
    for cut in _cuts(confidence, _MOST_POINTS):
        named = confidence >= cut
        found.append(
            {"threshold": float(cut), "coverage": named.mean().item(), "precision": right[named].mean().item()}
        )
    return found


def _cuts(confidence: np.ndarray, most: int) -> np.ndarray:
    """Thresholds, ascending: the confidences (M,), or so many of them."""
    values = np.unique(confidence)
    return values[np.unique(np.linspace(0, len(values) - 1, most).astype(np.int64))] if len(values) else values
