"""How good a classifier is that gives an example several labels, or none: that part of its model card."""

from __future__ import annotations

from typing import Any

from golem_ray.artifact.markdown import code, figure, group, is_number, measured, number, table
from golem_ray.config import Noun
from golem_ray.embedding.modality import modality_named
from golem_ray.metrics.several import AT_HALF, FIGURES_OF_SEVERAL

MOST_LABELS = 100
"""Labels in the table."""


def figures_of_several(document: dict[str, Any], noun: Noun) -> str:
    """What the card says of the figures, the calibration and the thresholds."""
    metrics = document["metrics"]
    lines = [*_training(metrics, noun), *_validated(group(metrics, "cross_validation"), noun)]
    evaluation = group(metrics, "evaluation")
    figures = measured(group(evaluation, "figures"))
    if figures:
        how = evaluation.get("how")
        where = "held out from training" if how == "held out" else f"of the split {code(how)}"
        counted = f"{number(evaluation.get('num_clips'))} {noun.many}"
        lines.append(f"* On the {counted} {where}, which it was not trained on:")
        plain = modality_named(document.get("modality", "speech")).baseline
        beside = {"always": "every label always", "chance": "each at random", plain.key: plain.short}
        beside[AT_HALF] = "every threshold at 0.5"
        lines += _listed(figures, group(evaluation, "baselines"), beside)
    calibration = metrics["calibration"]
    return "\n".join([*lines, _calibrated(calibration, noun), "", _each_label(document, noun)])


def _training(metrics: dict[str, Any], noun: Noun) -> list[str]:
    if not is_number(metrics.get("training_accuracy")):
        return []
    line = f"* Every label is right for {metrics['training_accuracy']:.1%} of the {noun.many} that it was trained on, "
    line += "which it may know by heart"
    guesses = {
        "chance": "giving each at random, as often as it occurs,",
        "largest_class": "always the most frequent set",
    }
    known = [f"{words} has {metrics[key]:.1%}" for key, words in guesses.items() if is_number(metrics.get(key))]
    return [f"{line}{'; ' if known else ''}{', '.join(known)}."]


def _validated(scores: dict[str, Any], noun: Noun) -> list[str]:
    figures = measured(group(scores, "figures"))
    if not figures:
        return ["* Cross-validated figures: none were measured."]
    sampled = f"sampled {noun.many}, on which alone those heads were trained"
    which = sampled if scores.get("sampled") is True else noun.many
    line = (
        f"* Cross-validated, of heads trained alike and tested on {noun.many} that they were not trained on, by "
        f"thresholds that were not chosen on these, over {number(scores.get('num_clips'))} {which}:"
    )
    return [line, *_listed(figures, {}, {})]


def _listed(figures: dict[str, dict[str, Any]], baselines: dict[str, Any], titles: dict[str, str]) -> list[str]:
    """A line for each figure, beside it the baselines that have a title, where they differ."""
    lines = []
    for name, kind in FIGURES_OF_SEVERAL.items():
        if name not in figures:
            continue
        line = f"  * {kind.title}: {figure(figures[name], 'value', kind.format)}"
        if is_number(figures[name].get("floor")):
            line += f", where perfect probabilities would have {kind.shown(figures[name]['floor'])}"
        beside = []
        for key, title in titles.items():
            found = group(baselines, key).get(name)
            value = found.get("value") if isinstance(found, dict) else found
            if isinstance(value, int | float) and (key != AT_HALF or value != figures[name]["value"]):
                beside.append(f"{title}: {kind.shown(value)}")
        lines.append(line + "".join(f"; {each}" for each in beside))
    return lines


def _calibrated(calibration: dict[str, Any], noun: Noun) -> str:
    """What the card says of probabilities and decisions; artifact/format.py has checked the record."""
    if calibration["num_clips"]:
        words = (
            "* Probabilities are calibrated by Platt scaling: of each label's logit, times a slope, plus an intercept, "
            "the sigmoid is taken. Slopes and intercepts are in the sidecar; they follow from "
            f"{calibration['num_clips']} cross-validated {noun.many}."
        )
    else:
        words = "* Probabilities are not calibrated: expect them to be wrong."
    words += " A label is given where its probability reaches its threshold"
    if calibration["at_least_one"]:
        words += f", and to a {noun.one} where none does, the one that comes closest"
    return f"{words}."


def _each_label(document: dict[str, Any], noun: Noun) -> str:
    """The table of thresholds, with each label's figures if some were measured."""
    labels, thresholds = document["labels"], document["metrics"]["calibration"]["thresholds"]
    records = group(document["metrics"], "evaluation").get("per_class")
    known = {each.get("label"): each for each in records or () if isinstance(each, dict)} if records else {}
    head = ["Label", "Threshold"] + (
        [f"Tested {noun.many}", "Precision", "Recall", "F1 (95 % interval)"] if known else []
    )
    rows = []
    for label, threshold in list(zip(labels, thresholds, strict=True))[:MOST_LABELS]:
        row, record = [code(label), f"{threshold:.3f}"], known.get(label, {})
        if known:
            row.append(str(record["num_clips"]) if is_number(record.get("num_clips")) else "")
            figures = measured({key: record.get(key) for key in ("precision", "recall", "f1")})
            row += [f"{figures[key]['value']:.1%}" if key in figures else "" for key in ("precision", "recall")]
            row.append(figure(figures["f1"], "value").replace("95 % interval ", "") if "f1" in figures else "")
        rows.append(row)
    more = f"\n\nAnd {len(labels) - MOST_LABELS} more." if len(labels) > MOST_LABELS else ""
    return table(head, rows) + more
