"""How good a classifier is that gives an example several labels, or none. Knows no head or encoder.

`figures.py` does the same for one label each; `several_measured.py` has the arithmetic, and `several_curves.py` that of
one label's probabilities, and its curve of precision by recall. Throughout, K are the labels that the classifier knows,
and labels are (N, K') bool with K' >= K: the columns from K on are labels that it does not know and so never gives.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from golem_ray.metrics.answers import Answers
from golem_ray.metrics.figures import FIGURES, Figure
from golem_ray.metrics.intervals import bootstrap_interval, share_interval
from golem_ray.metrics.several_curves import rank, share
from golem_ray.metrics.several_measured import TINY, Measured, mean_of_known, measure, padded

AT_HALF = "at_half"
"""What the figures of the same head with every threshold at .5 are kept under, beside those of baselines."""

FIGURES_OF_SEVERAL = {
    "macro_f1": FIGURES["macro_f1"],
    "weighted_f1": FIGURES["weighted_f1"],
    "micro_f1": Figure(title="micro F1"),
    "mean_average_precision": Figure(title="mean average precision", biased=True),
    "roc_auc": Figure(title="area under the ROC curve", percent=False),
    "accuracy": Figure(title="subset accuracy", of_examples=True),
    "hamming_loss": Figure(title="Hamming loss"),
    "log_loss": FIGURES["log_loss"],
    "calibration_error": FIGURES["expected_calibration_error"],
}
"""What `figures` measures (`Measured.figures`), in the order in which it is shown."""

_CURVES = {
    "average_precision": "mean_average_precision",
    "roc_auc": "roc_auc",
    "calibration_error": "calibration_error",
}
"""Figures of one label that take an order of the examples, and so take long; and what their means are called."""


def figures(answers: Answers, labels: np.ndarray, groups: np.ndarray | None = None, *, seed: int = 0) -> dict[str, Any]:
    """How good N answers are, N at least 1, for labels (N, K') bool: {figure: {"value", "interval_95"}}.

    Definitions are scikit-learn's; what cannot be computed is missing. Of F1 a label is left out of the macro mean
    if nobody has it and nobody is given it; of the average precision if nobody has it; of the area under the ROC curve
    if nobody or everybody does. A label that the classifier does not know counts as never given: missed in F1, in
    accuracy (the share of examples of which every label is right) and in the Hamming loss (the share of the N x K'
    yeses and noes that are wrong), and left out of the rest. Log-loss, in nats, is the mean over examples and labels.

    The calibration error is the mean over labels of that in ten bins of equally many examples (Nixon et al., Measuring
    Calibration in Deep Learning, 2019). It is above 0 for perfect probabilities too, by more the fewer examples there
    are: "floor" is what to expect if the labels were drawn, each by itself, from these very probabilities. Its
    interval is of what as many other examples would show, and not of what very many would.

    Intervals are those of `figures.figures`: of 95 %, Wilson's for accuracy, percentiles of 1,000 resamples for the
    others, and with groups, (N,) int, Student's over whole groups. Of more than a million examples times labels there
    are fewer resamples, though not below 200. Average precision's percentiles are moved by its bias, as the calibration
    error's are: an example that is there twice ranks beside itself. Intervals of means over labels are too narrow where
    few have one of them: macro F1's holds in some 87 % of cases if three examples have one of five labels.
    """
    return _figures(measure(answers, labels, groups, seed), answers, labels, groups, seed)


def _figures(
    measured: Measured, answers: Answers, labels: np.ndarray, groups: np.ndarray | None, seed: int
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, values in measured.figures().items():
        figure, value = FIGURES_OF_SEVERAL[name], float(values[0])
        if not math.isfinite(value):
            continue
        if figure.of_examples:
            right = (padded(answers, labels.shape[1]) == labels).all(axis=1)
            interval = share_interval(value, right.astype(np.float64), groups)
        else:
            interval = bootstrap_interval(
                value, values[1:], groups, least=figure.least, most=figure.most, biased=figure.biased
            )
        found[name] = {"value": value, "interval_95": list(interval)}
    rng, known = np.random.default_rng(seed), range(answers.num_classes)
    floors = [rank(answers.probabilities[:, label], labels[:, label]).floor(rng) for label in known]
    found["calibration_error"]["floor"] = float(np.mean(floors))
    return found


def per_class(
    answers: Answers, labels: np.ndarray, names: Sequence[str], groups: np.ndarray | None = None, *, seed: int = 0
) -> list[dict[str, Any]]:
    """For each of the K' labels: {"label", "num_clips", "precision", "recall", "f1", "average_precision", "roc_auc",
    "calibration_error"}, with how many have it, and {"value", "interval_95"} of each figure, None where there is none.

    Precision and recall are plain shares, and F1 follows from one, that of those who have the label and are given it
    among those who have it or are given it: their intervals are `share_interval`'s. The others have those of `figures`,
    which are too narrow where few have the label. Of a label that the classifier does not know there is only recall
    and F1, 0.
    """
    return _per_class(measure(answers, labels, groups, seed), answers, labels, names, groups)


def _per_class(
    measured: Measured, answers: Answers, labels: np.ndarray, names: Sequence[str], groups: np.ndarray | None
) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    for number, (name, true, given) in enumerate(zip(names, labels.T, padded(answers, len(names)).T, strict=True)):
        record: dict[str, Any] = {"label": name, "num_clips": int(true.sum())}
        for key, among in (("precision", given), ("recall", true), ("f1", true | given)):
            record[key] = _share(true & given, among, groups)
        if either := record["f1"]:  # a share of J is an F1 of 2 J / (1 + J)
            record["f1"] = {
                "value": float(measured.f1[0, number]),
                "interval_95": [2 * bound / (1 + bound) for bound in either["interval_95"]],
            }
        for (key, mean), values in zip(_CURVES.items(), measured.curves, strict=True):
            record[key] = None
            if number < answers.num_classes and math.isfinite(values[0, number]):
                value, of_resamples = float(values[0, number]), values[1:, number]
                biased = FIGURES_OF_SEVERAL[mean].biased
                interval = bootstrap_interval(value, of_resamples, groups, biased=biased)
                record[key] = {"value": value, "interval_95": list(interval)}
        records.append(record)
    return records


def _share(right: np.ndarray, among: np.ndarray, groups: np.ndarray | None) -> dict[str, Any] | None:
    """The share of the right ones, (N,) bool, among some, (N,) bool; None of none."""
    if not among.any():
        return None
    value = float(right[among].mean())
    return {"value": value, "interval_95": list(share_interval(value, np.where(among, right, np.nan), groups))}


def guesses(labels: np.ndarray, num_classes: int, rates: np.ndarray) -> dict[str, dict[str, float]]:
    """What `figures` would be on the same labels (N, K') bool for two guesses: `always` and `chance`.

    Always gives every example each of the K labels. Chance gives each as often as it was there in training, `rates`
    (K,), whoever the example is: the values are the expected ones, F1 that of the expected precision and recall.
    """
    always = _guess(labels, num_classes, np.ones(num_classes))
    chance = _guess(labels, num_classes, rates)
    found = labels.mean(axis=0)[:num_classes]
    likely = np.clip(rates, TINY, 1 - TINY)
    chance["log_loss"] = float(-(found * np.log(likely) + (1 - found) * np.log(1 - likely)).mean())
    chance["calibration_error"] = float(np.abs(rates - found).mean())
    return {"always": always, "chance": chance}


def _guess(labels: np.ndarray, num_classes: int, rates: np.ndarray) -> dict[str, float]:
    """The figures of giving each known label at random, as often as `rates` (K,) says."""
    width, known = labels.shape[1], labels[:, :num_classes]
    found, given = labels.mean(axis=0), np.pad(rates.astype(np.float64), (0, width - num_classes))
    hits, either = found * given, found + given
    f1 = share(2 * hits, either)
    by_chance = np.where(known, rates, 1 - rates).prod(axis=1) * ~labels[:, num_classes:].any(axis=1)
    of_known = found[:num_classes]
    guess = {
        "macro_f1": float(mean_of_known(f1[None])[0]),
        "weighted_f1": float(share(np.nansum(f1 * found), found.sum())),
        "micro_f1": float(share(2 * hits.sum(), either.sum())),
        "mean_average_precision": float(share(of_known.sum(), (of_known > 0).sum())),
        "roc_auc": 0.5 if ((of_known > 0) & (of_known < 1)).any() else math.nan,
        "accuracy": float(by_chance.mean()),
        "hamming_loss": float((either - 2 * hits).mean()),
    }
    return {name: value for name, value in guess.items() if math.isfinite(value)}


def evaluate(
    answers: Answers,
    labels: np.ndarray,
    names: Sequence[str],
    rates: np.ndarray,
    baselines: Mapping[str, Answers] | None = None,
    groups: np.ndarray | None = None,
) -> dict[str, Any]:
    """How good N answers are for labels (N, K') bool, as plain JSON values; `names` of the K' labels.

    Beside the figures stand those of guessing, with how often each of the K labels was there in training, `rates`
    (K,), and those of each of the baselines, by its key. "co_occurrence" counts the examples that have both of two
    labels, and on its diagonal those that have the one.
    """
    beside: dict[str, Any] = dict(guesses(labels, answers.num_classes, rates))
    beside |= {key: figures(each, labels, groups) for key, each in (baselines or {}).items()}
    measured = measure(answers, labels, groups, seed=0)
    together = (labels.T.astype(np.float64) @ labels).astype(np.int64)
    return {
        "num_clips": len(labels),
        "num_without_label": int((~labels.any(axis=1)).sum()),
        "unknown_labels": {
            name: int(count)
            for number, (name, count) in enumerate(zip(names, together.diagonal(), strict=True))
            if count and number >= answers.num_classes
        },
        "figures": _figures(measured, answers, labels, groups, seed=0),
        "baselines": beside,
        "per_class": _per_class(measured, answers, labels, names, groups),
        "co_occurrence": together.tolist(),
    }


def paired_f1(
    first: Answers,
    second: Answers,
    labels: np.ndarray,
    groups: np.ndarray | None = None,
    *,
    figure: str = "macro_f1",
    seed: int = 0,
) -> dict[str, Any] | None:
    """By how much the first answers' macro F1, or other `figure`, is larger than the second ones' on the same labels.

    {"value", "interval_95"}, the interval by the same resamples for both, as `figures` has them; None if the figure
    cannot be computed.
    """
    curves = figure in _CURVES.values()
    one, other = (measure(each, labels, groups, seed, curves).figures()[figure] for each in (first, second))
    differences = one - other
    value, shown = float(differences[0]), FIGURES_OF_SEVERAL[figure]
    if not math.isfinite(value):
        return None
    span = shown.most - shown.least
    interval = bootstrap_interval(value, differences[1:], groups, least=-span, most=span, biased=shown.biased)
    return {"value": value, "interval_95": list(interval)}
