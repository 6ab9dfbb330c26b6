"""How good a classifier is, beside what guessing would give. Knows no head or encoder: only answers and labels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from golem_ray.metrics.answers import Answers
from golem_ray.metrics.coverage import covered
from golem_ray.metrics.intervals import bootstrap_interval, share_interval


@dataclass(frozen=True, kw_only=True)
class Figure:
    """What one of the figures is called, and how it is shown."""

    title: str
    percent: bool = True
    """Whether it is shown in percent, as a share is."""
    unit: str = ""
    """What it is counted in, if in anything."""
    of_examples: bool = False
    """Whether it is a plain share of the examples: its interval is then Wilson's, else a bootstrap's."""
    biased: bool = False
    """Whether resamples have it larger than what they are drawn from; its interval is moved by as much."""
    least: float = 0.0
    """The smallest value that it can have: no interval goes below."""
    most: float = 1.0
    """The largest one."""

    def shown(self, value: float) -> str:
        """`32.1%`, or `2.309`."""
        return f"{value:{self.format}}"

    @property
    def format(self) -> str:
        """The format of its values."""
        return ".1%" if self.percent else ".3f"


_TINY = np.finfo(np.float64).eps
"""The least probability of a label, as scikit-learn's log_loss has it."""

FIGURES = {
    "accuracy": Figure(title="accuracy", of_examples=True),
    "balanced_accuracy": Figure(title="balanced accuracy"),
    "macro_f1": Figure(title="macro F1"),
    "weighted_f1": Figure(title="weighted F1"),
    "top_5_accuracy": Figure(title="top-5 accuracy", of_examples=True),
    "log_loss": Figure(title="log-loss", percent=False, unit="nats", most=-math.log(_TINY)),
    "expected_calibration_error": Figure(title="calibration error", biased=True),
}
"""What `figures` measures (`_measure`), in the order in which reports, terminals and model cards show it."""


NUM_BINS = 10
"""Bins of confidence, of equal width, of the calibration error and the reliability curve."""


_RESAMPLES = 1000


@dataclass(frozen=True)
class _Scores:
    """What the figures need to know of each example."""

    true: np.ndarray
    """(N,) int64: its label, K and more for classes that the classifier does not know."""
    predicted: np.ndarray
    """(N,) int64: what it was taken for."""
    confidence: np.ndarray
    """(N,): that class's probability."""
    in_top_5: np.ndarray
    """(N,) bool."""
    loss: np.ndarray
    """(N,): minus the logarithm of the label's probability, NaN for a class that the classifier does not know."""

    def take(self, rows: np.ndarray) -> _Scores:
        return _Scores(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def figures(answers: Answers, labels: np.ndarray, groups: np.ndarray | None = None, *, seed: int = 0) -> dict[str, Any]:
    """How good N answers are, N at least 1, for labels (N,) int: {figure: {"value", "interval_95"}}.

    A label of K or more is a class that the classifier does not know: missed by every figure, and left out of
    log-loss. Definitions are scikit-learn's; the calibration error is that of Guo et al. (2017) in ten bins.
    Figures that cannot be computed are missing: top-5 of five classes or fewer, log-loss without a known class.

    Intervals are of 95 % over examples. Accuracies that are plain shares have Wilson's, since a bootstrap gives no
    width at all if all are right or all wrong. The others have percentiles of 1,000 bootstrap resamples. The
    calibration error's are moved by its bias: resamples look worse calibrated than the examples that they are drawn
    from.

    With groups, (N,) int, such as speakers, whole groups are resampled, and the interval is Student's, by the standard
    error over resamples: of few groups percentiles are too narrow. Of a single group it is all that the figure can be.
    """
    num_classes = answers.num_classes
    scores = _score(answers, labels)
    measured = _measure(scores, num_classes)
    drawn = resamples(len(labels), groups, np.random.default_rng(seed))
    resampled = [_measure(scores.take(rows), num_classes) for rows in drawn]
    found = {}
    for name, value in measured.items():
        if not math.isfinite(value):
            continue
        figure = FIGURES[name]
        if figure.of_examples:
            right = scores.in_top_5 if name == "top_5_accuracy" else scores.true == scores.predicted
            interval = share_interval(value, right.astype(np.float64), groups)
        else:
            of_resamples = [values[name] for values in resampled]
            interval = bootstrap_interval(
                value, of_resamples, groups, least=figure.least, most=figure.most, biased=figure.biased
            )
        found[name] = {"value": value, "interval_95": list(interval)}
    return found


def resamples(num_examples: int, groups: np.ndarray | None, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Rows of each of 1,000 resamples of examples, or of whole groups (N,) int."""
    if groups is None:
        yield from (rng.integers(0, num_examples, num_examples) for _ in range(_RESAMPLES))
        return
    _, units = np.unique(groups, return_inverse=True)
    num_units = int(units.max()) + 1
    for _ in range(_RESAMPLES):
        times = np.bincount(rng.integers(0, num_units, num_units), minlength=num_units)
        yield np.repeat(np.arange(num_examples), times[units])


def _score(answers: Answers, labels: np.ndarray) -> _Scores:
    rows, probabilities = np.arange(len(labels)), answers.probabilities.astype(np.float64, copy=False)
    known = labels < answers.num_classes
    of_label = np.where(known, probabilities[rows, np.where(known, labels, 0)], np.nan)
    return _Scores(
        true=labels.astype(np.int64),
        predicted=answers.decisions,
        confidence=answers.confidence.astype(np.float64),
        in_top_5=known & ((probabilities > of_label[:, None]).sum(axis=1) < 5),
        loss=-np.log(np.clip(of_label, _TINY, 1 - _TINY)),
    )


def _measure(scores: _Scores, num_classes: int) -> dict[str, float]:
    """The figures, in arithmetic that a thousand resamples can afford."""
    num_examples, right = len(scores.true), scores.true == scores.predicted
    width = max(num_classes, int(scores.true.max()) + 1)
    hits = np.bincount(scores.true[right], minlength=width)
    true = np.bincount(scores.true, minlength=width)
    predicted = np.bincount(scores.predicted, minlength=width)
    f1 = 2 * hits / np.maximum(true + predicted, 1)
    known = ~np.isnan(scores.loss)
    bins, gaps = confidence_bins(scores.confidence), scores.confidence - right
    return {
        "accuracy": right.mean().item(),
        "balanced_accuracy": (hits[true > 0] / true[true > 0]).mean().item(),
        "macro_f1": f1[true + predicted > 0].mean().item(),
        "weighted_f1": (f1 @ true / num_examples).item(),
        "top_5_accuracy": scores.in_top_5.mean().item() if num_classes > 5 else math.nan,
        "log_loss": scores.loss[known].mean().item() if known.any() else math.nan,
        "expected_calibration_error": np.abs(np.bincount(bins, gaps, NUM_BINS)).sum().item() / num_examples,
    }


def confidence_bins(confidence: np.ndarray) -> np.ndarray:
    """The bin, 0 to 9, of each confidence (N,) in (0, 1]: the upper bound belongs to it."""
    return np.clip(np.ceil(confidence * NUM_BINS).astype(np.int64) - 1, 0, NUM_BINS - 1)


def guesses(labels: np.ndarray, num_classes: int, largest: int) -> dict[str, dict[str, float]]:
    """What `figures` would be on the same labels (N,) for two guesses: `chance` and `majority`.

    Chance guesses evenly: the values are the expected ones, F1 that of the expected precision and recall. Majority
    always names the class `largest`, which most examples trained on have.
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


MOST_CONFUSED = 1000
"""Most classes whose confusions are shown: every pair of them is a number."""


def confusion(decisions: np.ndarray, labels: np.ndarray, num_names: int) -> np.ndarray:
    """(num_names, num_names) int64: how many examples of each label (row) are taken for each class (column)."""
    return np.bincount(labels * num_names + decisions, minlength=num_names**2).reshape(num_names, num_names)


def per_class(decisions: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> list[dict[str, Any]]:
    """For each class: {"label", "num_clips", "precision", "recall", "f1"}; a figure without examples is None."""
    records, right = [], labels[decisions == labels]  # counted without the table of all pairs of classes
    counted = (np.bincount(each, minlength=len(names)).tolist() for each in (right, labels, decisions))
    for name, hits, true, predicted in zip(names, *counted, strict=True):
        records.append(
            {
                "label": name,
                "num_clips": true,
                "precision": hits / predicted if predicted else None,
                "recall": hits / true if true else None,
                "f1": 2 * hits / (true + predicted) if true + predicted else None,
            }
        )
    return records


def largest_class(labels: np.ndarray) -> int:
    """The most frequent class of the labels (N,) int64."""
    return int(np.bincount(labels).argmax())


def evaluate(
    answers: Answers,
    labels: np.ndarray,
    names: Sequence[str],
    largest: int,
    baselines: Mapping[str, Answers] | None = None,
    groups: np.ndarray | None = None,
) -> dict[str, Any]:
    """How good N answers are for labels (N,) int64, as plain JSON values; `names` of labels, K or more.

    Beside the figures stand those of guessing, with the class `largest` as the most frequent one in training, and
    those of each of the baselines, by its key. Where some may be rejected, "rejected" is what `covered` gives,
    with the share of refused ones among the labels that the classifier does not know, if there are any.
    """
    beside: dict[str, Any] = dict(guesses(labels, answers.num_classes, largest))
    beside |= {key: figures(each, labels, groups) for key, each in (baselines or {}).items()}
    counts = np.bincount(labels, minlength=len(names))
    rejected = {}
    if answers.unsure is not None:
        right = (answers.decisions == labels)[None].astype(float)
        rejected["rejected"] = covered(right, ~answers.unsure[None], groups)
        if (strange := labels >= answers.num_classes).any():
            shares = np.where(strange, answers.unsure, np.nan)
            value = float(np.nanmean(shares))
            figure = {"value": value, "interval_95": list(share_interval(value, shares, groups))}
            rejected["rejected"]["unknown_refused"] = figure
    return rejected | {
        "num_clips": len(labels),
        "unknown_labels": {
            name: int(count)
            for number, (name, count) in enumerate(zip(names, counts, strict=True))
            if count and number >= answers.num_classes
        },
        "figures": figures(answers, labels, groups),
        "baselines": beside,
        "per_class": per_class(answers.decisions, labels, names),
    }
