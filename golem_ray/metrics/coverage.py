"""How accurate a classifier is where it names only what it is sure of. Knows no head or encoder.

Of N examples in R rounds of cross-validation; a single evaluation is one round.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from golem_ray.metrics.intervals import mean_and_error, share_interval, students_half, wilson_interval

_MOST_CUTS = 200
"""Thresholds that are tried at most, and points of a curve."""


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
        value, error, units = mean_and_error(
            np.where(named, right, np.nan).ravel(), None if groups is None else np.tile(groups, len(right))
        )
        low, high = wilson_interval(value, float(named.sum()) / len(right))
        if groups is not None:
            half = students_half(error, units)
            low, high = max(0.0, min(low, value - half)), min(1.0, max(high, value + half))
        found["precision"] = {"value": value, "interval_95": [low, high]}
    return found


def threshold_for(
    precision: float, confidence: np.ndarray, right: np.ndarray, groups: np.ndarray | None = None
) -> float | None:
    """The confidence from which on examples are named rightly with that precision, and as many as can be.

    The precision is the lower end of the 95 % interval: it holds for other examples too, in all but a few cases of a
    hundred. None if there is no such confidence: of 35 examples or fewer, none shows 90 %. confidence: (R, N); the
    others are as `covered` takes them.
    """
    for cut in _cuts(confidence[np.isfinite(right)]):
        found = covered(right, confidence >= cut, groups)["precision"]
        if found is not None and found["interval_95"][0] >= precision:
            return float(cut)
    return None


def coverage_curve(confidence: np.ndarray, right: np.ndarray) -> list[dict[str, float]]:
    """Precision by coverage: [{"threshold", "coverage", "precision"}], from the least threshold on. Both (N,)."""
    found = []
    for cut in _cuts(confidence):
        named = confidence >= cut
        found.append(
            {"threshold": float(cut), "coverage": named.mean().item(), "precision": right[named].mean().item()}
        )
    return found


def _cuts(confidence: np.ndarray) -> np.ndarray:
    """Thresholds to try, ascending: the confidences (M,), or some of them."""
    values = np.unique(confidence)
    return values[np.unique(np.linspace(0, len(values) - 1, _MOST_CUTS).astype(np.int64))] if len(values) else values
