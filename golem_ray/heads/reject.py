"""Which examples a classifier had better not name: what is chosen with a head, recorded, and applied.

A record is plain JSON values. {"by": "precision", "precision", "threshold", "weights", "mean", "scale", "means"} names
an example whose label is right with at least that chance, by its probability and by how much nearer the embedding is to
its class than to any other (by the probability alone, where there are no weights).
{"by": "unlike", "threshold", "mean", "scale", "means"} names one whose embedding is no further than that from a class.
A threshold of None says that none was found: nothing is named. Importing this loads no PyTorch. Knows no modality,
encoder or Ray.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from golem_ray.data.folds import Folds
from golem_ray.heads.target import Target
from golem_ray.metrics.answers import Answers
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
    folds: Folds,
    embeddings: Callable[[int | None], np.ndarray],
    target: Target,
    calibration: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The record of a threshold that keeps a precision, from cross-validated logits (R, N, K), NaN where untested.

    `embeddings` gives those that a fold's head takes, (N, D), by the fold's number, and for None those of the final
    head. With a threshold, "cross_validated" is what it does there, as `covered` gives it.
    """
    right = np.full(logits.shape[:2], np.nan, dtype=np.float32)
    confidence, nearness = np.zeros(right.shape), np.zeros(right.shape)
    for number, (train, test) in enumerate(folds):
        place = number * len(logits) // len(folds)
        test = test[np.isfinite(logits[place, test]).all(axis=1)]
        answers = target.answers(target.probabilities(logits[place, test], calibration))
        vectors = embeddings(number)
        means = _Means.of(vectors[train], labels[train], np.arange(logits.shape[2]))
        right[place, test] = answers.decisions == labels[test]
        confidence[place, test] = answers.confidence
        nearness[place, test] = means.nearness(vectors[test], answers.decisions)
    tested = np.isfinite(right)
    record: dict[str, Any] = {"by": "precision", "precision": wanted, "threshold": None}
    weights = _weights(confidence[tested], nearness[tested], right[tested])
    chances = _chances(weights, confidence, nearness)
    if not tested.any() or (threshold := threshold_for(wanted, chances, right, groups)) is None:
        return record
    record |= {"threshold": threshold, "cross_validated": covered(right, chances >= threshold, groups)}
    if weights is not None:
        record |= {"weights": weights} | _Means.of(embeddings(None), labels, np.arange(logits.shape[2])).packed()
    return record


def _weights(confidence: np.ndarray, nearness: np.ndarray, right: np.ndarray) -> list[float] | None:
    """Those of `_chances`, a logistic regression of (M,) values; None where all are right, or none is."""
    if len(np.unique(right)) < 2:
        return None
    from sklearn.linear_model import LogisticRegression

    values = np.stack([_log_odds(confidence), nearness], axis=1)
    mean, scale = values.mean(axis=0), values.std(axis=0) + 1e-9
    fitted = LogisticRegression().fit((values - mean) / scale, right)
    slopes = fitted.coef_[0] / scale
    return [float(fitted.intercept_[0] - slopes @ mean), *slopes.tolist()]


def _chances(weights: Sequence[float] | None, confidence: np.ndarray, nearness: np.ndarray) -> np.ndarray:
    """How likely each label is to be right, by the probability that the head gives it and its nearness, all (...)."""
    if weights is None:
        return confidence
    from scipy.special import expit

    bias, of_confidence, of_nearness = weights
    return np.asarray(expit(bias + of_confidence * _log_odds(confidence) + of_nearness * nearness))


def _log_odds(confidence: np.ndarray) -> np.ndarray:
    known = np.clip(confidence, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(known / (1 - known)))


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
    def of(cls, embeddings: np.ndarray, labels: np.ndarray, classes: np.ndarray | None = None) -> _Means:
        """Those of embeddings (N, D) with labels (N,), of these classes (C,), zeros where none has it; or of all."""
        classes = np.unique(labels) if classes is None else classes
        mean, scale = embeddings.mean(axis=0, dtype=np.float64), embeddings.std(axis=0, dtype=np.float64)
        scale = np.where(scale > 1e-6 * (1 + abs(mean)), scale, 1.0)
        means = np.zeros((len(classes), len(mean)))
        for place, one in enumerate(classes):
            if (own := labels == one).any():
                means[place] = (embeddings[own].mean(axis=0, dtype=np.float64) - mean) / scale
        return cls(mean.astype(np.float32), scale.astype(np.float32), _unit(means).astype(np.float32))

    def distances(self, embeddings: np.ndarray) -> np.ndarray:
        """(N, D) -> (N,): one less the cosine to the nearest mean, 0 to 2."""
        return 1 - self._cosines(embeddings).max(axis=1)

    def nearness(self, embeddings: np.ndarray, decisions: np.ndarray) -> np.ndarray:
        """(N, D), (N,) -> (N,): the cosine to the mean of the class decided on, less that to the nearest other mean."""
        cosines = self._cosines(embeddings)
        cosines[:, ~self.means.any(axis=1)] = -1
        rows = np.arange(len(decisions))
        own = cosines[rows, decisions]
        cosines[rows, decisions] = -1
        return own - cosines.max(axis=1, initial=-1)

    def _cosines(self, embeddings: np.ndarray) -> np.ndarray:
        standard = _unit((embeddings.astype(np.float64) - self.mean) / self.scale)
        return np.asarray(standard @ self.means.T.astype(np.float64))

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


def unsure(record: Mapping[str, Any], answers: Answers, embeddings: np.ndarray) -> np.ndarray:
    """Which examples are not to be named, (N,) bool: of N answers and embeddings (N, D)."""
    if record["threshold"] is None:
        return np.ones(len(embeddings), dtype=bool)
    if record["by"] == "unlike":
        return ~(_Means.unpacked(record).distances(embeddings) <= record["threshold"])
    weights, nearness = record.get("weights"), np.zeros(len(embeddings))
    if weights is not None:
        nearness = _Means.unpacked(record).nearness(embeddings, answers.decisions)
    return ~(_chances(weights, answers.confidence, nearness) >= record["threshold"])


def is_record(record: object, in_features: object, num_classes: object) -> bool:
    """Whether the value could come from here, for embeddings of so many numbers and so many classes; None could."""
    if record is None:
        return True
    if not isinstance(record, dict) or record.get("by") not in ("precision", "unlike"):
        return False
    threshold, by_precision = record.get("threshold"), record["by"] == "precision"
    if by_precision and not (type(record.get("precision")) is float and 0 < record["precision"] < 1):
        return False
    if threshold is not None:
        known = record.get("cross_validated") if by_precision else record
        figures = ("coverage", "precision") if by_precision else ("kept", "refused")
        if not (
            _are_finite([threshold]) and isinstance(known, dict) and all(_is_figure(known.get(k)) for k in figures)
        ):
            return False
    if by_precision and "weights" not in record:
        return True
    weights = record.get("weights", [0, 0, 0])
    if not (isinstance(weights, list) and len(weights) == 3 and _are_finite(weights)):
        return False
    try:
        found = _Means.unpacked(record)
    except (KeyError, TypeError, ValueError):
        return False
    return (
        len(found.mean) == len(found.scale) == in_features
        and (len(found.means) == num_classes if by_precision else len(found.means) > 0)
        and all(np.isfinite(value).all() for value in vars(found).values())
    )


def _is_figure(figure: object) -> bool:
    interval = figure.get("interval_95") if isinstance(figure, dict) else None
    return (
        isinstance(figure, dict)
        and isinstance(interval, list)
        and len(interval) == 2
        and _are_finite([figure.get("value"), *interval])
    )


def _are_finite(values: Sequence[Any]) -> bool:
    return all(type(each) in (int, float) and math.isfinite(each) for each in values)
