"""Figures in words where an example may have several labels: what words.py says where it has one."""

from __future__ import annotations

from typing import Any

from golem_ray.config import Noun
from golem_ray.data.split import HELD_OUT
from golem_ray.embedding.modality import Baseline
from golem_ray.errors import printable
from golem_ray.metrics.several import AT_HALF, FIGURES_OF_SEVERAL
from golem_ray.report.words import MOST_CLASSES, on_one_side

SHOWN = ("macro_f1", "weighted_f1", "mean_average_precision")
"""Figures that sentences name."""

_RIVALS = {"always": "all always", "chance": "at random", AT_HALF: "all at 0.5"}
"""Baselines that a terminal shows -> heads of their columns."""

_SHORT = {"macro_f1": "macro F1", "weighted_f1": "weighted F1", "mean_average_precision": "mAP"}


def figures_in_words(figures: dict[str, Any]) -> str:
    """`macro F1 0.411 (95 % interval 0.380 to 0.440), weighted F1 0.5 (0.4 to 0.6), mAP ...`, of those there are."""
    named: list[str] = []
    for name in SHOWN:
        if name in figures:
            value, (low, high) = figures[name]["value"], figures[name]["interval_95"]
            interval = f"{'' if named else '95 % interval '}{low:.3f} to {high:.3f}"
            named.append(f"{_SHORT[name]} {value:.3f} ({interval})")
    return ", ".join(named) or "nothing that can be measured"


def values_in_words(figures: dict[str, Any]) -> str:
    """`0.411 / 0.463 / 0.440`: the same figures without their intervals; what cannot be computed is `-`."""
    values = [figures.get(name) for name in SHOWN]
    plain = [each["value"] if isinstance(each, dict) else each for each in values]
    return " / ".join("-" if value is None else f"{value:.3f}" for value in plain)


def cross_validation_line(
    scores: dict[str, Any] | None,
    repeats: int,
    noun: Noun,
    group_column: str | None = None,
    baseline: Baseline | None = None,
) -> str:
    """A sentence about the cross-validation, in which no value of the column of groups is on both sides of a fold."""
    if scores is None:
        reason = "it is turned off" if repeats == 0 else f"no label has two {noun.many}, or {noun.many} of two groups"
        return f"No cross-validated figures: {reason}."
    more = ", the choice made anew in each" if scores.get("nested") else ""
    line = validated_line(scores, noun, more + on_one_side(group_column), baseline)
    few = scores["num_single_clip_classes"]
    labels = f"{few} label{'s are' if few > 1 else ' is'}"
    alone = f" {labels} of a single {noun.one}, which no head that it is tested by has seen."
    return line + (alone if few else "")


def validated_line(scores: dict[str, Any], noun: Noun, more: str = "", baseline: Baseline | None = None) -> str:
    """A sentence about the figures of a cross-validation, with more words about how it was done."""
    which = f"sampled {noun.many}, of heads trained on these alone" if scores.get("sampled") else noun.many
    rival = scores.get("baseline", {}).get("figures")
    beside = f"; for comparison, {baseline.head}: {values_in_words(rival)}" if rival and baseline is not None else ""
    return (
        f"Cross-validated {figures_in_words(scores['figures'])}, in {scores['folds']} folds over "
        f"{scores['num_clips']} {which}{more}, the thresholds of each chosen on the other folds{beside}."
    )


def evaluation_line(scores: dict[str, Any], baseline: Baseline, noun: Noun) -> str:
    """A sentence about the tested examples of a training run."""
    where, column = f"of {scores['how']}", scores.get("group_column")
    if scores["how"] == HELD_OUT:
        where = f"held out (no {column} of theirs was trained on)" if column else "held out"
    line = f"On the {scores['num_clips']} {noun.many} {where}"
    if trained := scores["num_also_trained_on"]:
        line += f" that were not trained on ({trained} {'was' if trained == 1 else 'were'})"
    if scores.get("num_of_groups_trained_on"):
        line += f" ({scores['num_of_groups_trained_on']} of a {column} that was trained on)"
    if not scores["num_clips"]:
        return f"{line}: none, for want of {noun.many}."
    beside = scores["baselines"]
    return (
        f"{line}: {figures_in_words(scores['figures'])}. For comparison, {baseline.head}: "
        f"{values_in_words(beside[baseline.key])}; giving every label to all: {values_in_words(beside['always'])}; "
        f"this head with every threshold at 0.5: {values_in_words(beside[AT_HALF])}."
    )


def calibration_line(calibration: dict[str, Any] | None, noun: Noun) -> str:
    """A sentence about the probabilities and where a label is given."""
    if calibration is None:
        return f"Probabilities are not calibrated, for want of cross-validated {noun.many}: expect them to be too sure."
    given = _given(calibration, noun)
    if not calibration["num_clips"]:
        return (
            f"Probabilities are not calibrated, for want of cross-validated {noun.many}: expect them to be wrong. "
            f"{given[0].upper()}{given[1:]}."
        )
    return (
        f"Probabilities are calibrated (Platt scaling, label by label) by {calibration['num_clips']} cross-validated "
        f"{noun.many}; {given}."
    )


def _given(calibration: dict[str, Any], noun: Noun) -> str:
    """When a label is given, in words."""
    low, high = min(calibration["thresholds"]), max(calibration["thresholds"])
    where = f"{low:.2f}" if low == high else f"a threshold of its own, {low:.2f} to {high:.2f}"
    words = f"a label is given where its probability reaches {where}"
    if calibration["at_least_one"]:
        words += f", and to a {noun.one} where none does, the one that comes closest to its threshold"
    return words


def guessing_words(metrics: dict[str, Any]) -> str:
    """The share of examples trained on of which every label is right, and that of guesses."""
    return (
        f"every label right for {metrics['training_accuracy']:.1%} of what it was trained on (giving each label at "
        f"random, as often as it occurs, has {metrics['chance']:.1%}, always giving the most frequent set of labels "
        f"{metrics['largest_class']:.1%})"
    )


def _value(figure: Any) -> str:
    """What a rival's plain value, or record of a figure, is in a column of the table."""
    value = figure["value"] if isinstance(figure, dict) else figure
    return f" {'' if value is None else f'{value:.3f}':>11}"


def evaluation_table(scores: dict[str, Any], noun: Noun) -> list[str]:
    """The lines of two tables: the figures of an evaluation beside those of guessing, and the figures of each label."""
    rivals = [key for key in _RIVALS if key in scores["baselines"]]
    titles = "".join(f" {_RIVALS[key]:>11}" for key in rivals)
    lines = [f"{'':27} {'value':>8}   {'95 % interval':18}{titles}"]
    for name in (name for name in FIGURES_OF_SEVERAL if name in scores["figures"]):
        figure = scores["figures"][name]
        low, high = figure["interval_95"]
        beside = [_value(scores["baselines"][key].get(name)) for key in rivals]
        lines.append(
            f"{FIGURES_OF_SEVERAL[name].title:27} {figure['value']:8.3f}   {f'{low:.3f} to {high:.3f}':18}"
            f"{''.join(beside)}".rstrip()
        )
        if "floor" in figure:
            lines.append(f"{'  of perfect probabilities':27} {figure['floor']:8.3f}")
    keys = ("precision", "recall", "f1", "average_precision", "roc_auc")
    heads = f"{'precision':>10} {'recall':>8} {'F1':>8}  {'95 % interval':16} {'AP':>6} {'AUC':>6}"
    lines.append(f"\n{'label':32} {noun.many:>8} {heads}")
    for record in scores["per_class"][:MOST_CLASSES]:
        shown = ["" if record[key] is None else f"{record[key]['value']:.3f}" for key in keys]
        interval = "" if record["f1"] is None else "{:.3f} to {:.3f}".format(*record["f1"]["interval_95"])
        lines.append(
            f"{printable(record['label']):32.32} {record['num_clips']:8} {shown[0]:>10} {shown[1]:>8} {shown[2]:>8}  "
            f"{interval:16} {shown[3]:>6} {shown[4]:>6}"
        )
    if len(scores["per_class"]) > MOST_CLASSES:
        lines.append(f"and {len(scores['per_class']) - MOST_CLASSES} more labels: see the report")
    if scores["num_without_label"]:
        lines.append(f"{scores['num_without_label']} {noun.many} without any label")
    return lines
