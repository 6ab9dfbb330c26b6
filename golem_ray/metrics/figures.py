"""How good a classifier is, with what is needed to believe it: folds, intervals, chance.

Knows nothing of heads or encoders: it is given labels and probabilities and gives indices and figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from golem_ray.metrics.intervals import wilson_interval

FIGURES = (
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "weighted_f1",
    "top_5_accuracy",
    "log_loss",
    "expected_calibration_error",
)
"""What `figures` measures. Log-loss is in nats."""


NUM_BINS = 10
"""Bins of confidence, of equal width, of the calibration error and the reliability curve."""


_RESAMPLES = 1000


@dataclass(frozen=True)
class _Scores:
    """What the figures need to know of each clip."""

    true: np.ndarray
    """(N,) int64: its label, K and more for classes that the classifier does not know."""
    said: np.ndarray
    """(N,) int64: the likeliest class."""
    confidence: np.ndarray
    """(N,): that class's probability."""
    in_top_5: np.ndarray
    """(N,) bool."""
    loss: np.ndarray
    """(N,): minus the logarithm of the label's probability, NaN for a class that the classifier does not know."""

    def take(self, rows: np.ndarray) -> _Scores:
        return _Scores(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def figures(probabilities: np.ndarray, labels: np.ndarray, *, seed: int = 0) -> dict[str, Any]:
    """How probabilities (N, K) do on labels (N,) int, N at least 1: {figure: {"value", "interval_95"}}.

    A label of K or more is a class that the classifier does not know: missed by every figure, and left out of
    log-loss. Definitions are scikit-learn's; the calibration error is that of Guo et al. (2017) in ten bins.
    Figures that cannot be had are missing: top-5 of five classes or fewer, log-loss without a known class.

    Intervals are of 95 % over clips: Wilson's for the accuracies that are plain shares, since a bootstrap gives
    all right or all wrong no width at all; else percentiles of 1,000 bootstrap resamples, those of the calibration
    error moved by its bias: resamples look worse calibrated than the clips that they are of.
    """
    num_classes = probabilities.shape[1]
    scores = _score(probabilities.astype(np.float64), labels)
    measured = _measure(scores, num_classes)
    rng = np.random.default_rng(seed)
    resampled = [
        _measure(scores.take(rng.integers(0, len(labels), len(labels))), num_classes) for _ in range(_RESAMPLES)
    ]
    found = {}
    for name, value in measured.items():
        if not math.isfinite(value):
            continue
        if name in ("accuracy", "top_5_accuracy"):
            interval = wilson_interval(value, len(labels))
        else:
            low, middle, high = np.nanpercentile([values[name] for values in resampled], [2.5, 50, 97.5])
            bias = middle - value if name == "expected_calibration_error" else 0.0
            interval = max(0.0, float(low - bias)), float(high - bias)
        found[name] = {"value": value, "interval_95": list(interval)}
    return found


def _score(probabilities: np.ndarray, labels: np.ndarray) -> _Scores:
    rows, num_classes = np.arange(len(labels)), probabilities.shape[1]
    known = labels < num_classes
    of_label = np.where(known, probabilities[rows, np.where(known, labels, 0)], np.nan)
    said = probabilities.argmax(axis=1)
    tiny = np.finfo(np.float64).eps  # as scikit-learn's log_loss has it
    return _Scores(
        true=labels.astype(np.int64),
        said=said,
        confidence=probabilities[rows, said],
        in_top_5=known & ((probabilities > of_label[:, None]).sum(axis=1) < 5),
        loss=-np.log(np.clip(of_label, tiny, 1 - tiny)),
    )


def _measure(scores: _Scores, num_classes: int) -> dict[str, float]:
    """The figures, in arithmetic that a thousand resamples can afford."""
    num_examples, right = len(scores.true), scores.true == scores.said
    width = max(num_classes, int(scores.true.max()) + 1)
    hits = np.bincount(scores.true[right], minlength=width)
    true = np.bincount(scores.true, minlength=width)
    said = np.bincount(scores.said, minlength=width)
    f1 = 2 * hits / np.maximum(true + said, 1)
    known = ~np.isnan(scores.loss)
    bins, gaps = confidence_bins(scores.confidence), scores.confidence - right
    return {
        "accuracy": right.mean().item(),
        "balanced_accuracy": (hits[true > 0] / true[true > 0]).mean().item(),
        "macro_f1": f1[true + said > 0].mean().item(),
        "weighted_f1": (f1 @ true / num_examples).item(),
        "top_5_accuracy": scores.in_top_5.mean().item() if num_classes > 5 else math.nan,
        "log_loss": scores.loss[known].mean().item() if known.any() else math.nan,
        "expected_calibration_error": np.abs(np.bincount(bins, gaps, NUM_BINS)).sum().item() / num_examples,
    }


def confidence_bins(confidence: np.ndarray) -> np.ndarray:
    """The bin, 0 to 9, of each confidence (N,) in (0, 1]: the upper bound belongs to it."""
    return np.clip(np.ceil(confidence * NUM_BINS).astype(np.int64) - 1, 0, NUM_BINS - 1)


def baselines(labels: np.ndarray, num_classes: int, largest: int) -> dict[str, dict[str, float]]:
    """What `figures` would be, on the same labels (N,), of who guesses evenly, and of who always says `largest`.

    That is the class that most clips were trained on. Of an even guess, the expected values; F1 is that of the
    expected precision and recall.
    """
    rates = np.bincount(labels, minlength=num_classes) / len(labels)
    present = rates > 0
    guessed = np.where(np.arange(len(rates)) < num_classes, 1 / num_classes, 0)
    known = float(rates[:num_classes].sum())
    guess_f1 = np.divide(2 * rates * guessed, rates + guessed, out=np.zeros_like(rates), where=present)
    share = float(rates[largest])
    chance = {
        "accuracy": known / num_classes,
        "balanced_accuracy": float(guessed[present].mean()),
        "macro_f1": float(guess_f1[present | (guessed > 0)].mean()),
        "weighted_f1": float(guess_f1 @ rates),
        "expected_calibration_error": abs(1 - known) / num_classes,
    }
    if num_classes > 5:
        chance["top_5_accuracy"] = 5 * known / num_classes
    if known:
        chance["log_loss"] = math.log(num_classes)
    f1 = 2 * share / (1 + share)
    majority = {
        "accuracy": share,
        "balanced_accuracy": float(share > 0) / int(present.sum()),
        "macro_f1": f1 / (int(present.sum()) + int(share == 0)),
        "weighted_f1": f1 * share,
    }
    return {"chance": chance, "majority": majority}


def confusion(said: np.ndarray, labels: np.ndarray, num_names: int) -> np.ndarray:
    """(num_names, num_names) int64: how many clips of each label (row) are taken for each class (column)."""
    return np.bincount(labels * num_names + said, minlength=num_names**2).reshape(num_names, num_names)


def per_class(said: np.ndarray, labels: np.ndarray, names: list[str]) -> list[dict[str, Any]]:
    """For each class: {"label", "num_clips", "precision", "recall", "f1"}, None where nothing can be said."""
    table = confusion(said, labels, len(names))
    records = []
    for number, name in enumerate(names):
        hits, true, told = (int(n) for n in (table[number, number], table[number].sum(), table[:, number].sum()))
        records.append(
            {
                "label": name,
                "num_clips": true,
                "precision": hits / told if told else None,
                "recall": hits / true if true else None,
                "f1": 2 * hits / (true + told) if true + told else None,
            }
        )
    return records


def largest_class(labels: np.ndarray) -> int:
    """The class that most of the labels (N,) int64 name."""
    return int(np.bincount(labels).argmax())


def evaluate(
    probabilities: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    largest: int,
    log_mel: np.ndarray | None = None,
) -> dict[str, Any]:
    """What probabilities (N, K) for labels (N,) int64 show, as plain JSON values; `names` of labels, K or more.

    Beside it who guesses evenly, who always says the class `largest`, and the same head on log-mel statistics, (N, K)
    where they are given.
    """
    beside: dict[str, Any] = dict(baselines(labels, probabilities.shape[1], largest))
    if log_mel is not None:
        beside["log_mel"] = figures(log_mel, labels)
    return {
        "num_clips": len(labels),
        "unknown_labels": {
            name: int(count)
            for name, count in zip(names, np.bincount(labels, minlength=len(names)), strict=True)
            if count and names.index(name) >= probabilities.shape[1]
        },
        "figures": figures(probabilities, labels),
        "baselines": beside,
        "per_class": per_class(probabilities.argmax(axis=1), labels, list(names)),
    }
