"""Which examples a classifier had better not name: what is chosen with a head, recorded, and applied.

A record is plain JSON values: {"by": "precision", "precision", "threshold"} names an example whose label is at least as
likely as the threshold, {"by": "unlike", "threshold", "mean", "scale", "means"} one whose embedding is no further than
that from a class. A threshold of None says that none was found: nothing is named. Importing this loads no PyTorch.
Knows no modality, encoder or Ray.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from golem_ray.data.folds import Folds
from golem_ray.heads.target import Target
from golem_ray.metrics.coverage import covered, threshold_for
from golem_ray.metrics.intervals import share_interval

_KEPT = 0.9
"""Share of examples like those trained on that is kept at least."""

_MOST_CLASSES = 50
"""Classes that are held out, one after the other."""


def by_precision(
    wanted: float,
    logits: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray | None,
    target: Target,
    calibration: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The record of a threshold that keeps a precision, from cross-validated logits (R, N, K), NaN where untested.

    With a threshold, "cross_validated" is what it does there, as `covered` gives it.
    """
    right = np.full(logits.shape[:2], np.nan, dtype=np.float32)
    confidence = np.zeros(right.shape)
    for number, each in enumerate(logits):
        tested = np.isfinite(each).all(axis=1)
        answers = target.answers(target.probabilities(each[tested], calibration))
        right[number, tested] = answers.decisions == labels[tested]
        confidence[number, tested] = answers.confidence
    threshold = threshold_for(wanted, confidence, right, groups) if np.isfinite(right).any() else None
    record: dict[str, Any] = {"by": "precision", "precision": wanted, "threshold": threshold}
    if threshold is not None:
        record["cross_validated"] = covered(right, confidence >= threshold, groups)
    return record


def by_distance(
    embeddings: np.ndarray, labels: np.ndarray, groups: np.ndarray | None, folds: Folds, seed: int
) -> dict[str, Any]:
    """The record of a distance beyond which an embedding is unlike the classes; embeddings (N, D), labels (N,).

    An example is as far as its embedding, standardised, is from the nearest mean of a class: one less the cosine of the
    angle between them. Of examples that a fold does not train on, the distances are known where all classes are
    trained on, and where their own is left out, as of an unknown class. The threshold keeps at least nine of ten of the
    first, and tells most of them from the second: "kept" and "refused" are the shares, with intervals of 95 %.
    """
    like, unlike = np.full(len(labels), np.nan), np.full(len(labels), np.nan)
    classes = np.unique(labels)
    if len(classes) > _MOST_CLASSES:
        classes = np.sort(np.random.default_rng([seed, 6]).choice(classes, _MOST_CLASSES, replace=False))
    for train, test in folds:
        like[test] = _Means.of(embeddings[train], labels[train]).distances(embeddings[test])
        for one in classes:
            own, others = test[labels[test] == one], train[labels[train] != one]
            if len(own) and len(np.unique(labels[others])) > 1:
                unlike[own] = _Means.of(embeddings[others], labels[others]).distances(embeddings[own])
    record: dict[str, Any] = {"by": "unlike", "threshold": None}
    both = np.isfinite(like) & np.isfinite(unlike)
    if both.any():
        cuts = np.unique(like[both])
        kept = np.searchsorted(np.sort(like[both]), cuts, side="right") / both.sum()
        refused = 1 - np.searchsorted(np.sort(unlike[both]), cuts, side="right") / both.sum()
        record["threshold"] = threshold = float(cuts[np.argmax(np.where(kept >= _KEPT, kept + refused, -1))])
        for key, holds in (("kept", like <= threshold), ("refused", unlike > threshold)):
            shares = np.where(both, holds, np.nan)
            value = float(np.nanmean(shares))
            record[key] = {"value": value, "interval_95": list(share_interval(value, shares, groups))}
    return record | _Means.of(embeddings, labels).packed()


class _Means:
    """The means of classes, (C, D), each of length one, among embeddings that are standardised."""

    def __init__(self, mean: np.ndarray, scale: np.ndarray, means: np.ndarray) -> None:
        self.mean, self.scale, self.means = mean, scale, means

    @classmethod
    def of(cls, embeddings: np.ndarray, labels: np.ndarray) -> _Means:
        """Those of embeddings (N, D) with labels (N,)."""
        mean, scale = embeddings.mean(axis=0, dtype=np.float64), embeddings.std(axis=0, dtype=np.float64)
        scale = np.where(scale > 1e-6 * (1 + abs(mean)), scale, 1.0)
        standard = (embeddings - mean) / scale
        means = np.stack([standard[labels == one].mean(axis=0) for one in np.unique(labels)])
        return cls(mean.astype(np.float32), scale.astype(np.float32), _unit(means).astype(np.float32))

    def distances(self, embeddings: np.ndarray) -> np.ndarray:
        """(N, D) -> (N,): one less the cosine to the nearest mean, 0 to 2."""
        standard = _unit((embeddings.astype(np.float64) - self.mean) / self.scale)
        return 1 - (standard @ self.means.T.astype(np.float64)).max(axis=1)

    def packed(self) -> dict[str, str]:
        """The arrays as text: base64 of float32, least significant byte first."""
        return {key: base64.b64encode(value.astype("<f4").tobytes()).decode() for key, value in vars(self).items()}

    @classmethod
    def unpacked(cls, record: Mapping[str, Any]) -> _Means:
        """Those that `packed` gave. Raises KeyError, TypeError or ValueError for anything else."""
        mean, scale, means = (
            np.frombuffer(base64.b64decode(record[key], validate=True), "<f4") for key in ("mean", "scale", "means")
        )
        return cls(mean, scale, means.reshape(-1, len(mean)))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def unsure(record: Mapping[str, Any], confidence: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
    """Which examples are not to be named, (N,) bool: of confidence (N,) and embeddings (N, D)."""
    if record["threshold"] is None:
        return np.ones(len(confidence), dtype=bool)
    if record["by"] == "precision":
        return np.asarray(confidence < record["threshold"])
    return ~(_Means.unpacked(record).distances(embeddings) <= record["threshold"])


def _is_figure(figure: object) -> bool:
    interval = figure.get("interval_95") if isinstance(figure, dict) else None
    return (
        isinstance(figure, dict)
        and isinstance(interval, list)
        and len(interval) == 2
        and all(type(each) in (int, float) and math.isfinite(each) for each in (figure.get("value"), *interval))
    )


def is_record(record: object, in_features: object) -> bool:
    """Whether the value could come from here, for embeddings of so many numbers; None could."""
    if record is None:
        return True
    if not isinstance(record, dict) or record.get("by") not in ("precision", "unlike"):
        return False
    threshold = record.get("threshold")
    if threshold is not None and not (type(threshold) in (int, float) and math.isfinite(threshold)):
        return False
    if record["by"] == "precision":
        known = record.get("cross_validated") if threshold is not None else {}
        return (
            type(record.get("precision")) is float
            and 0 < record["precision"] < 1
            and isinstance(known, dict)
            and (threshold is None or (_is_figure(known.get("coverage")) and _is_figure(known.get("precision"))))
        )
    if threshold is not None and not (_is_figure(record.get("kept")) and _is_figure(record.get("refused"))):
        return False
    try:
        found = _Means.unpacked(record)
    except (KeyError, TypeError, ValueError):
        return False
    return len(found.mean) == len(found.scale) == in_features and all(
        len(value) and np.isfinite(value).all() for value in vars(found).values()
    )
