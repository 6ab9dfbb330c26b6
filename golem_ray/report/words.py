"""Figures in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from golem_ray.data.split import HELD_OUT


def percent(figure: dict[str, Any]) -> str:
    """`32.1% (95 % interval 27.4% to 37.3%)`."""
    low, high = figure["interval_95"]
    return f"{figure['value']:.1%} (95 % interval {low:.1%} to {high:.1%})"


def evaluation_line(scores: dict[str, Any]) -> str:
    """A sentence about the tested clips of a training run."""
    where = "held out" if scores["how"] == HELD_OUT else f"of {scores['how']}"
    line = f"Accuracy on the {scores['num_clips']} clips {where}"
    if scores["num_also_trained_on"]:
        line += f" that were not trained on ({scores['num_also_trained_on']} were)"
    if not scores["num_clips"]:
        return f"{line}: none, for want of clips."
    low, high = scores["baselines"]["log_mel"]["accuracy"]["interval_95"]
    return (
        f"{line} {percent(scores['figures']['accuracy'])}; the same head on log-mel statistics "
        f"{scores['baselines']['log_mel']['accuracy']['value']:.1%} ({low:.1%} to {high:.1%}), chance "
        f"{scores['baselines']['chance']['accuracy']:.1%}."
    )


def cross_validation_line(scores: dict[str, Any] | None, repeats: int) -> str:
    """A sentence about the cross-validation."""
    if scores is None:
        reason = "it is turned off" if repeats == 0 else "no class has two clips, or there is but one group"
        return f"No cross-validated accuracy: {reason}."
    low, high = scores["interval_95"]
    line = (
        f"Cross-validated accuracy {scores['accuracy']:.1%} (95 % interval {low:.1%} to {high:.1%}; "
        f"{scores['repeats']} x {scores['folds']} folds over {scores['num_clips']} "
        f"{'sampled clips, of heads trained on these alone' if scores.get('sampled') else 'clips'}"
        f"{', the layer chosen anew in each' if scores.get('nested') else ''})."
    )
    singles = scores["num_single_clip_classes"]
    if singles:
        line += f" {singles} class{'es' if singles > 1 else ''} with a single clip only trained."
    return line


def layer_line(chosen: int | str, scores: Sequence[dict[str, Any]]) -> str:
    """A sentence about the choice of a layer: [{"layer", "accuracy", ...}]."""
    if not scores:
        return "No layer could be chosen, for want of classes with two clips: the last one was taken."
    by_name = {entry["layer"]: entry["accuracy"] for entry in scores}
    best = max(by_name, key=lambda layer: by_name[layer])
    line = f"Of {len(scores)} layers, {chosen} was taken: cross-validated accuracy {by_name[chosen]:.1%}"
    if by_name[best] > by_name[chosen]:
        line += f", that of {best} {by_name[best]:.1%}, which is within a standard error"
    elif chosen != "last":
        line += f", that of the last {by_name['last']:.1%}"
    return f"{line} (the figures below do not profit from the choice)."


def calibration_line(calibration: dict[str, Any] | None) -> str:
    """A sentence about how far probabilities can be believed."""
    if calibration is None:
        return "Probabilities are not calibrated, for want of cross-validated clips: expect them to be too sure."
    return (
        f"Probabilities are calibrated: a temperature of {calibration['temperature']:.2f}, from "
        f"{calibration['num_clips']} cross-validated clips."
    )


MOST_SHOWN = 20
"""Candidates that a terminal shows."""


def summary(result: dict[str, Any]) -> str:
    """What compare_job found, in words and a table."""
    rows, nested = result["candidates"], result["nested"]
    head = f"  {'encoder':30} {'layer':>5}  {'pooling':8}  {'head':12} {'accuracy':>8}  {'95 % interval':14}"
    lines = [
        f"{len(rows)} recipes on {clips(result)}; {rounds_played(result)}. Chance is {result['chance']:.1%}, always "
        f"naming the largest class {result['largest_class']:.1%}.",
        "",
        f"{head}  {'against the best':25} against the default",
    ]
    shown = rows[:MOST_SHOWN] + [row for row in rows[MOST_SHOWN:] if row["name"] == result["default"]]
    for row in shown:
        low, high = row["accuracy"]["interval_95"]
        mark = "*" if row["name"] == result["default"] else " "
        recipe = f"{mark} {_short(row['encoder'], 30):30} {row['layer']!s:>5}  {row['pooling']:8}  {row['head']:12.12}"
        accuracy = f"{row['accuracy']['value']:8.1%}  {f'{low:.1%} to {high:.1%}':14}"
        lines.append(f"{recipe} {accuracy}  {points(row['against_best']):25} {points(row['against_default'])}")
    if len(rows) > len(shown):
        lines.append(f"and {len(rows) - len(shown)} more: see the report")
    worth = (
        "The best one was chosen for its figure, which is too good by that. Choosing anew in each fold, by that fold's "
        f"training clips alone: {share(nested['accuracy'])}, against the default {points(nested['against_default'])}."
    )
    return "\n".join([*lines, "* the default", "", worth])


def _short(encoder: str, most: int) -> str:
    """An encoder's name in so many characters: of a folder its last part."""
    name = encoder.rstrip("/").rsplit("/", 1)[-1] if len(encoder) > most else encoder
    return name if len(name) <= most else f"{name[: most // 2]}\u2026{name[most // 2 + 1 - most :]}"


def clips(result: dict[str, Any]) -> str:
    """Which clips were compared on."""
    alone = result["num_single_clip_classes"]
    trained = f" ({alone} more, alone in their classes, only trained)" if alone else ""
    return (
        f"{result['num_clips']} clips{trained} of {result['dataset']}, split {result['split']}, in "
        f"{result['num_classes']} classes"
    )


def rounds_played(result: dict[str, Any]) -> str:
    """How often, and what was kept apart."""
    who = f" with no {result['group_column']} on both sides of a fold" if result["group_column"] else ""
    return f"{result['repeats']} rounds of cross-validation{who}"


def share(figure: dict[str, Any]) -> str:
    """`32.1% (95 % interval 27.4% to 37.3%)`."""
    low, high = figure["interval_95"]
    return f"{figure['value']:.1%} (95 % interval {low:.1%} to {high:.1%})"


def points(difference: dict[str, Any]) -> str:
    """`+3.2% (-1.0% to +7.4%)`."""
    low, high = difference["interval_95"]
    return f"{difference['value']:+.1%} ({low:+.1%} to {high:+.1%})"
