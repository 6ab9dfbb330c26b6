"""What a report shows only where an example may have several labels, or none; the rest is in classifier.py.

As in metrics/several.py, K labels are known to the classifier, K' are in the examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from golem_ray.config import Noun
from golem_ray.heads.multi_label import MULTI_LABEL
from golem_ray.heads.target import NOTHING
from golem_ray.metrics.answers import Answers
from golem_ray.metrics.several import AT_HALF, FIGURES_OF_SEVERAL
from golem_ray.metrics.several_measured import TINY, padded
from golem_ray.report.distributions import draw_counts
from golem_ray.report.drawings_of_several import (
    MOST_BARS,
    MOST_CURVES,
    MOST_TOGETHER,
    MOST_VISIBLE,
    always_f1,
    draw_f1,
    draw_precision_recall,
    draw_reliability_of_several,
    draw_together,
    most_frequent,
)
from golem_ray.report.html import cell, escape, number, section, table
from golem_ray.report.judged import MAX_MISTAKES, Column, Judged, figures_table
from golem_ray.report.words_of_several import guessing_words, validated_line

NO_LABEL = "(no label)"
"""What drawings call examples without any."""

_RIVALS = {"always": "Every label always", "chance": "Each at random"}

_MOST_DIFFERING = 10
"""Labels of one mistake whose probabilities are named."""

Drawings = dict[str, dict[str, Any]]


def is_several(document: dict[str, Any]) -> bool:
    """Whether the examples of an artifact may have several labels."""
    return document.get("target") == MULTI_LABEL.name


def called(names: Sequence[str], strata: np.ndarray) -> list[str]:
    """What the strata of `MULTI_LABEL.strata` are called; the one behind all labels is that of examples without any."""
    return [*names, *[NO_LABEL] * (int(strata.max(initial=0)) + 1 - len(names))]


def figures_of_several(document: dict[str, Any], judged: Judged | None, noun: Noun, folds: str) -> list[str]:
    """The figures beside those to compare with, then training and cross-validation in words; `folds` says how."""
    metrics = document["metrics"]
    words = [f"The head has {guessing_words(metrics)}."] if "training_accuracy" in metrics else []
    if metrics.get("cross_validation"):
        words.append(validated_line(metrics["cross_validation"], noun, folds))
    if judged is None:
        return [f"<p>No {noun.one} was tested on that the head did not see. {escape(' '.join(words))}</p>"]
    plain = judged.baseline if judged.baseline and judged.baseline.key in judged.baselines else None
    rivals = {key: title for key, title in _RIVALS.items() if key in judged.baselines}
    beside = "giving every label always; giving each at random, as often as it was there in training"
    if plain:
        rivals[plain.key] = plain.short
        beside += f"; {plain.head}, with thresholds of its own"
    if AT_HALF in judged.baselines:
        rivals[AT_HALF] = "Thresholds of 0.5"
        beside += "; and the same head if every threshold were 0.5"
    return [
        f"<p>{escape(judged.how)}</p>",
        figures_table(judged, FIGURES_OF_SEVERAL, rivals),
        *(
            f'<p class="note">{escape(each)}</p>'
            for each in (f"Beside it: {beside}.", _explained(judged, noun), " ".join(words))
        ),
    ]


def _explained(judged: Judged, noun: Noun) -> str:
    """What the less known of the figures are."""
    words = (
        f"Subset accuracy is the share of {noun.many} of which every label is right, Hamming loss the share of "
        f"wrong answers if every label is a question to every {noun.one}."
    )
    error = judged.figures.get("calibration_error")
    if error is None:
        return words
    return (
        f"{words} The calibration error is how far a label's mean probability is from the share that has it, in ten "
        f"bins of equally many {noun.many}, in the mean; with this many {noun.many} perfect probabilities too would "
        f"show some {error['floor']:.1%}, its floor."
    )


def parts_of_several(
    document: dict[str, Any], judged: Judged, columns: Sequence[Column], noun: Noun
) -> tuple[list[str], Drawings]:
    """What the page says and draws of the examples that were tested."""
    labels, names, answers = judged.labels, judged.names, judged.answers
    calibration = document["metrics"].get("calibration")
    thresholds = calibration["thresholds"] if calibration else [0.5] * answers.num_classes
    drawings: Drawings = {
        "labels": _counts(judged, noun),
        "together": draw_together(labels, names, noun),
        "per-class": draw_f1([judged.per_class[each] for each in most_frequent(labels, MOST_BARS)], len(labels), noun),
    }
    parts = [
        section("The labels", _label_words(judged, noun), "labels"),
        section("Labels that go together", _together_words(judged, noun), "together"),
        section("Each label", _each_words(judged, noun), "per-class"),
        _each(judged, thresholds, noun),
    ]
    if labels[:, : answers.num_classes].any():
        drawings["precision-recall"] = draw_precision_recall(labels, answers, thresholds, names)
        drawings["reliability"] = draw_reliability_of_several(labels, answers, names, noun)
        curves, believed = _curve_words(judged, calibration), _reliability_words(judged, calibration, noun)
        parts += [
            section("Precision and recall by threshold", curves, "precision-recall"),
            section("Can its probabilities be believed?", believed, "reliability"),
        ]
    return [*parts, _mistakes(judged, columns, noun)], drawings


def _counts(judged: Judged, noun: Noun) -> dict[str, Any]:
    which, counts = most_frequent(judged.labels, MOST_BARS), judged.labels.sum(axis=0)
    without = int((~judged.labels.any(axis=1)).sum())
    more, number = ([NO_LABEL], [without]) if without else ([], [])
    return draw_counts(
        [*(judged.names[each] for each in which), *more], [*(int(counts[each]) for each in which), *number], noun
    )


def _bounded(judged: Judged, most: int) -> str:
    """A sentence that says which labels are left out; '' for none."""
    return f" Shown are the {most} most frequent of {len(judged.names)} labels." if len(judged.names) > most else ""


def _label_words(judged: Judged, noun: Noun) -> str:
    each = judged.labels.sum(axis=1)
    words = f"How many of the {len(each)} {noun.many} have each label: {each.mean():.2f} labels a {noun.one}"
    several = int((each > 1).sum())
    words += f", {several} {noun.many} with more than one"
    without = int((each == 0).sum())
    return f"{words}{f', {without} with none' if without else ''}.{_bounded(judged, MOST_BARS)}"


def _together_words(judged: Judged, noun: Noun) -> str:
    return (
        f"How many {noun.many} have both labels; on the diagonal, how many have the one. Shades are shares of a row: "
        f"of the {noun.many} with that label.{_bounded(judged, MOST_TOGETHER)}"
    )


def _each_words(judged: Judged, noun: Noun) -> str:
    thresholds = " Thresholds are those of the finished classifier; each fold had its own." if judged.by_folds else ""
    return (
        f"Bars are F1, with 95 % intervals, which say more than the bars of labels that few {noun.many} have. The "
        f"upright mark is the F1 of giving the label to every {noun.one}: where the interval holds it, nothing shows "
        f"yet that the label is recognised.{thresholds}{_bounded(judged, MOST_BARS)}"
    )


def _each(judged: Judged, thresholds: list[float], noun: Noun) -> str:
    """The table of labels."""
    rows = []
    for place in most_frequent(judged.labels, MOST_BARS):
        record = judged.per_class[place]
        low = f"{thresholds[place]:.3f}" if place < len(thresholds) else "not known"
        row = [cell(record["label"]), number(str(record["num_clips"])), number(low)]
        row += [number(_shown(record[key])) for key in ("precision", "recall", "f1")]
        bounds = record["f1"] and "{:.1%} to {:.1%}".format(*record["f1"]["interval_95"])
        row += [number(bounds or ""), number(f"{always_f1(record, len(judged.labels)):.1%}")]
        rows.append([*row, number(_shown(record["average_precision"]))])
    head = ["Label", noun.many.capitalize(), "Threshold", "Precision", "Recall", "F1", "95 % interval", "F1 if always"]
    return table([*head, "Average precision"], rows)


def _shown(figure: dict[str, Any] | None) -> str:
    return "" if figure is None else f"{figure['value']:.1%}"


def _curve_words(judged: Judged, calibration: dict[str, Any] | None) -> str:
    words = "What other thresholds would give. The diamond is the threshold that the classifier has"
    if judged.by_folds:
        words += (
            ": that of the finished classifier, since each fold had its own, so that the figures above are not those "
            "of the diamonds"
        )
    if calibration and calibration["at_least_one"]:
        words += "; the label that it adds where none reaches its threshold is not counted in"
    return f"{words}. {_legend_words(judged)}"


def _legend_words(judged: Judged) -> str:
    """How to see other curves."""
    words = "A click on a label hides its curve or shows it, two clicks show it alone."
    if judged.answers.num_classes > MOST_VISIBLE:
        words += f" At first the {MOST_VISIBLE} most frequent labels are seen."
    if judged.answers.num_classes > MOST_CURVES:
        words += f" Of the others there are {MOST_CURVES - MOST_VISIBLE} more."
    return words


def _reliability_words(judged: Judged, calibration: dict[str, Any] | None, noun: Noun) -> str:
    words = (
        f"Of ten equally large parts of the {noun.many}, from those least likely to have a label to the likeliest: the "
        "mean probability, and how many do have it. On the dotted line what it says is what happens."
    )
    if not calibration or not calibration["num_clips"]:
        words += f" Not calibrated, for want of cross-validated {noun.many}."
    else:
        words += (
            f" Calibrated by a slope and an intercept for each label (Platt scaling), from {calibration['num_clips']} "
            f"cross-validated {noun.many}."
        )
    return f"{words} {_legend_words(judged)}"


def worst_of_several(labels: np.ndarray, answers: Answers) -> np.ndarray:
    """Indices of at most 20 examples of which some label is wrong, those of the largest log-loss first: labels (N, K').

    A label that the classifier does not know makes an example wrong, and does not count in its log-loss.
    """
    known = labels[:, : answers.num_classes]
    of_truth = np.where(known, answers.probabilities, 1 - answers.probabilities)
    loss = -np.log(np.clip(of_truth, TINY, 1)).sum(axis=1)
    order = np.argsort(-loss, kind="stable")
    return order[~MULTI_LABEL.equal(answers.decisions, labels)[order]][:MAX_MISTAKES]


def _mistakes(judged: Judged, columns: Sequence[Column], noun: Noun) -> str:
    rows, given = [], padded(judged.answers, len(judged.names))
    for index in worst_of_several(judged.labels, judged.answers).tolist():
        own, said = judged.labels[index], given[index]
        cells = [cell(judged.example(index)), cell(_listed(own, judged)), cell(_listed(said, judged))]
        cells.append(f"<td>{_differing(index, judged)}</td>")
        rows.append([*cells, *(f"<td>{column.html(index)}</td>" for column in columns)])
    if not rows:
        return f"<h2>Worst mistakes</h2>\n<p>None: every {noun.one} has all of its labels and no other.</p>"
    words = f"Of the {noun.many} of which not every label is right, those that it holds least probable as labelled."
    words = " ".join([words, *(escape(column.note) for column in columns if column.note)])
    head = [noun.one.capitalize(), "Labels", "Said", "Probabilities of what differs"]
    head += [column.title for column in columns]
    return f'<h2>Worst mistakes</h2>\n<p class="note">{words}</p>\n{table(head, rows)}'


def _listed(which: np.ndarray, judged: Judged) -> str:
    return ", ".join(judged.names[each] for each in np.flatnonzero(which).tolist()) or NOTHING


def _differing(index: int, judged: Judged) -> str:
    """The probabilities of the labels that are missed, and below them of those that are given wrongly: HTML."""
    known, chances, lines = judged.answers.num_classes, judged.answers.probabilities[index], []
    for what, found in zip(("missed", "wrong"), judged.differing(index), strict=True):
        named = [
            f"{judged.names[each]} {f'{chances[each]:.1%}' if each < known else '(not known to it)'}"
            for each in found[:_MOST_DIFFERING]
        ]
        more = [f"{len(found) - _MOST_DIFFERING} more"] if len(found) > _MOST_DIFFERING else []
        if found:
            lines.append(escape(f"{what}: {', '.join([*named, *more])}"))
    return "<br>".join(lines)
