"""Figures in words: what a terminal, a summary and a report say of them."""

from __future__ import annotations

from typing import Any

from golem_ray.config import Noun
from golem_ray.data.split import HELD_OUT
from golem_ray.embedding.modality import Baseline
from golem_ray.errors import printable
from golem_ray.metrics.coverage import fewest
from golem_ray.metrics.figures import FIGURES
from golem_ray.metrics.intervals import in_words

MOST_CLASSES = 100
"""Classes that a terminal shows."""


def percent(figure: dict[str, Any]) -> str:
    """`32.1% (95 % interval 27.4% to 37.3%)`."""
    return in_words(figure["value"], figure["interval_95"])


def evaluation_line(scores: dict[str, Any], baseline: Baseline, noun: Noun) -> str:
    """A sentence about the tested examples of a training run."""
    where, column = f"of {scores['how']}", scores.get("group_column")
    if scores["how"] == HELD_OUT:
        where = f"held out (no {column} of theirs was trained on)" if column else "held out"
    line = f"Accuracy on the {scores['num_clips']} {noun.many} {where}"
    if scores["num_also_trained_on"]:
        line += f" that were not trained on ({scores['num_also_trained_on']} were)"
    if scores.get("num_of_groups_trained_on"):
        line += f" ({scores['num_of_groups_trained_on']} of a {column} that was trained on)"
    if not scores["num_clips"]:
        return f"{line}: none, for want of {noun.many}."
    rival = scores["baselines"][baseline.key]["accuracy"]
    low, high = rival["interval_95"]
    return (
        f"{line} {percent(scores['figures']['accuracy'])}; {baseline.head} {rival['value']:.1%} "
        f"({low:.1%} to {high:.1%}), chance {scores['baselines']['chance']['accuracy']:.1%}"
        f"{'; it ' + covered_words(scores['rejected']) if 'rejected' in scores else ''}."
    )


def cross_validation_line(
    scores: dict[str, Any] | None,
    repeats: int,
    noun: Noun,
    group_column: str | None = None,
    baseline: Baseline | None = None,
) -> str:
    """A sentence about the cross-validation, in which no value of the column of groups is on both sides of a fold."""
    if scores is None:
        too_few = f"no class has two {noun.many}, or {noun.many} of two groups"
        reason = "it is turned off" if repeats == 0 else too_few
        return f"No cross-validated accuracy: {reason}."
    more = ", the choice made anew in each" if scores.get("nested") else ""
    line = validated_line(scores, noun, more + on_one_side(group_column), baseline)
    if scores["repeats"] < repeats:
        line += f" Not {repeats} rounds: of so many {noun.many} in so many classes that would take too long."
    singles = scores["num_single_clip_classes"]
    if singles:
        line += f" {singles} class{'es' if singles > 1 else ''} with a single {noun.one} only trained."
    small = scores.get("num_small_classes")
    if small:
        line += (
            f" {small} class{'es' if small > 1 else ''} with fewer {noun.many} than folds: not tested in every fold."
        )
    return line


def on_one_side(group_column: str | None) -> str:
    """By what folds were grouped, if they were."""
    return f", no {group_column} on both sides of a fold" if group_column else ""


def validated_line(scores: dict[str, Any], noun: Noun, more: str = "", baseline: Baseline | None = None) -> str:
    """A sentence about the accuracy of a cross-validation, with more words about how it was done."""
    low, high = scores["interval_95"]
    rival = scores.get("baseline")
    beside = ""
    if rival and baseline is not None:
        lower, upper = rival["interval_95"]
        beside = f"; {baseline.head} {rival['accuracy']:.1%} ({lower:.1%} to {upper:.1%})"
    sampled = f"sampled {noun.many}, of heads trained on these alone"
    return (
        f"Cross-validated accuracy {scores['accuracy']:.1%} (95 % interval {low:.1%} to {high:.1%}; "
        f"{scores['repeats']} x {scores['folds']} folds over {scores['num_clips']} "
        f"{sampled if scores.get('sampled') else noun.many}{more}){beside}."
    )


def choice_line(choice: dict[str, Any], noun: Noun) -> str:
    """A sentence about the choice between candidates, as jobs/choice.py records it."""
    rows, measure = {row["name"]: row["accuracy"] for row in choice["candidates"]}, measure_of(choice)
    chosen, plain, second = choice["chosen"], choice["plain"], choice["second"]
    if not rows:
        return f"Nothing could be chosen, for want of {classes_of(choice)} with two {noun.many}: taken was {chosen}."
    line = f"Of {len(rows)} candidates, taken was {chosen}: cross-validated {measure} {rows[chosen]:.1%}"
    if chosen != plain:
        line += f", the plain one ({plain}) {rows[plain]:.1%}"
    if second is not None:
        better = chosen == plain and rows[second] > rows[chosen]
        within = ", which is within a standard error" if better else ""
        line += f", {'the best' if better else 'the next'} ({second}) {rows[second]:.1%}{within}"
    return f"{line}. The figures below do not profit from the choice."


def left_out_line(number: int, names: str, noun: Noun, group_column: str | None = None) -> str:
    """A sentence about examples that were not trained on because of what is tested."""
    also = f" or of the same {group_column}" if group_column else ""
    counted = f"{number} {noun.many if number > 1 else noun.one}"
    return f"Not trained on: {counted} of {names}, equal to {noun.many} to test on{also}."


def calibration_line(calibration: dict[str, Any] | None, noun: Noun) -> str:
    """A sentence about how reliable the probabilities are."""
    if calibration is None:
        return f"Probabilities are not calibrated, for want of cross-validated {noun.many}: expect them to be too sure."
    return (
        f"Probabilities are calibrated: a temperature of {calibration['temperature']:.2f}, from "
        f"{calibration['num_clips']} cross-validated {noun.many}."
    )


def guessing_words(metrics: dict[str, Any]) -> str:
    """The training accuracy, and that of guesses."""
    return (
        f"training accuracy {metrics['training_accuracy']:.1%}; chance is {metrics['chance']:.1%}, always naming the "
        f"largest class {metrics['largest_class']:.1%}"
    )


def covered_words(found: dict[str, Any]) -> str:
    """What a classifier that rejects does, as `metrics.coverage.covered` has it: `names 61.0% (...) of them, ...`."""
    if found["precision"] is None:
        return "names none of them, and calls all `unsure`"
    strange = ""
    if "unknown_refused" in found:
        strange = f"; of those of labels that it does not know {percent(found['unknown_refused'])} are `unsure`"
    return f"names {percent(found['coverage'])} of them, {percent(found['precision'])} of these rightly{strange}"


def rejection_line(record: dict[str, Any], noun: Noun) -> str:
    """Sentences about what the classifier calls `unsure`, as heads/reject.py records it."""
    one, many = noun
    if record["by"] == "unlike":
        if record["threshold"] is None:
            return (
                f"How unlike the classes a {one} may be is not known, for want of three classes with several {many}: "
                f"every {one} is called `unsure`."
            )
        return (
            f"A {one} that is unlike all classes is called `unsure`. Of cross-validated {many}, by which that was "
            f"chosen, {percent(record['kept'])} are kept; of those whose class was left out "
            f"{percent(record['refused'])} are refused."
        )
    wanted = f"{record['precision']:.0%}"
    if record["threshold"] is None:
        return (
            f"It is not known where {wanted} of the labels are right, at 95 % confidence: every {one} is called "
            f"`unsure`. It takes {fewest(record['precision'])} cross-validated {many} to show it if all are right: "
            f"more {many} may help, or to ask for less."
        )
    known = record["cross_validated"]
    words = (
        f"{one} is called `unsure` where the chance that its label is right, by its probability and by its nearness to "
        f"the class, is below {record['threshold']:.3f}"
    )
    if known["coverage"]["value"] == 1:
        return (
            f"Of cross-validated {many} {percent(known['precision'])} are named rightly, at least {wanted} at 95 % "
            f"confidence: none of them is called `unsure`. A new {words}."
        )
    return (
        f"A {words}, so that {wanted} of the other labels are right (at 95 % confidence). Of cross-validated {many}, "
        f"by which that was chosen, it {covered_words(known)}."
    )


def evaluation_table(scores: dict[str, Any], noun: Noun) -> list[str]:
    """The lines of two tables: the figures of an evaluation beside those of guessing, and the figures of each class."""
    lines = [f"{'':20} {'value':>8}   {'95 % interval':18} {'chance':>8} {'majority':>9}"]
    for name in (name for name in FIGURES if name in scores["figures"]):
        figure = scores["figures"][name]
        low, high = figure["interval_95"]
        beside = [scores["baselines"][row].get(name) for row in ("chance", "majority")]
        shown = [f"{value:.3f}" if value is not None else "" for value in beside]
        lines.append(
            f"{FIGURES[name].title:20} {figure['value']:8.3f}   {f'{low:.3f} to {high:.3f}':18} {shown[0]:>8} "
            f"{shown[1]:>9}"
        )
    lines.append(f"\n{'class':32} {noun.many:>8} {'precision':>10} {'recall':>8} {'F1':>8}")
    for record in scores["per_class"][:MOST_CLASSES]:
        shown = ["" if record[key] is None else f"{record[key]:.3f}" for key in ("precision", "recall", "f1")]
        lines.append(
            f"{printable(record['label']):32.32} {record['num_clips']:8} {shown[0]:>10} {shown[1]:>8} {shown[2]:>8}"
        )
    if len(scores["per_class"]) > MOST_CLASSES:
        lines.append(f"and {len(scores['per_class']) - MOST_CLASSES} more classes: see the report")
    return lines


MOST_SHOWN = 20
"""Candidates that a terminal shows."""


def summary(result: dict[str, Any], noun: Noun) -> str:
    """The result of a comparison, in words and a table."""
    rows, nested = result["candidates"], result["nested"]
    measure = _SHORT.get(measure_of(result), measure_of(result))
    title = f"  {'encoder':30} {'layer':>5}  {'pooling':8}  {'head':12} {measure:>8}  {'95 % interval':14}"
    lines = [
        f"{len(rows)} candidates on {compared_on(result, noun)}; {rounds_played(result)}. {blindly(result)}",
        "",
        f"{title}  {'against the best':25} against the default",
    ]
    shown = rows[:MOST_SHOWN] + [row for row in rows[MOST_SHOWN:] if row["name"] == result["default"]]
    for row in shown:
        low, high = row["accuracy"]["interval_95"]
        mark = "*" if row["name"] == result["default"] else " "
        which = f"{mark} {_short(row['encoder'], 30):30} {row['layer']!s:>5}  {row['pooling']:8}  {row['head']:12.12}"
        accuracy = f"{row['accuracy']['value']:8.1%}  {f'{low:.1%} to {high:.1%}':14}"
        lines.append(f"{which} {accuracy}  {points(row['against_best']):25} {points(row['against_default'])}")
    if len(rows) > len(shown):
        lines.append(f"and {len(rows) - len(shown)} more: see the report")
    worth = (
        "The best one was chosen for its figure, which is too good by that. Choosing anew in each fold, by that fold's "
        f"training {noun.many} alone: {percent(nested['accuracy'])}, against the default "
        f"{points(nested['against_default'])}."
    )
    return "\n".join([*lines, "* the default", "", worth])


ACCURACY = "accuracy"

_SHORT = {"label ranking average precision": "LRAP"}
"""What tables call a measure of which the name is long."""


def measure_of(record: dict[str, Any]) -> str:
    """What the "accuracy" of a comparison or a choice is."""
    return str(record.get("measure", ACCURACY))


def classes_of(record: dict[str, Any]) -> str:
    """What those of a comparison or a choice are called: of several labels each is one."""
    return "classes" if measure_of(record) == ACCURACY else "labels"


def blindly(result: dict[str, Any]) -> str:
    """What who does not look at the examples has in a comparison, in a sentence."""
    measure, chance, largest = measure_of(result), f"{result['chance']:.1%}", f"{result['largest_class']:.1%}"
    if measure == ACCURACY:
        return f"Chance is {chance}, always naming the largest class {largest}."
    short = f" ({_SHORT[measure]})" if measure in _SHORT else ""
    return (
        f"They are compared by {measure}{short}: ranking the labels at random gives {chance}, by how frequent they are "
        f"{largest}."
    )


def _short(encoder: str, most: int) -> str:
    """An encoder's name in at most so many characters: if it is a longer path, its last part."""
    encoder = printable(encoder)
    name = encoder.rstrip("/").rsplit("/", 1)[-1] if len(encoder) > most else encoder
    return name if len(name) <= most else f"{name[: most // 2]}\u2026{name[most // 2 + 1 - most :]}"


def compared_on(result: dict[str, Any], noun: Noun) -> str:
    """Which examples the candidates were compared on."""
    alone = result["num_single_clip_classes"]
    trained = f" ({alone} more, alone in their classes, only trained)" if alone else ""
    beside = "".join(
        f" (beside {each['num_clips']} of {printable(each['dataset'])}, split {each['split']}, never tested)"
        for each in result.get("extra", [])
    )
    return (
        f"{result['num_clips']} {noun.many}{trained} of {printable(result['dataset'])}, split {result['split']}"
        f"{beside}, in {result['num_classes']} {classes_of(result)}"
    )


def rounds_played(result: dict[str, Any]) -> str:
    """How many rounds were played, and what was never on both sides of a fold."""
    who = f" with no {result['group_column']} on both sides of a fold" if result["group_column"] else ""
    return f"{result['repeats']} rounds of cross-validation{who}"


def points(difference: dict[str, Any]) -> str:
    """`+3.2% (-1.0% to +7.4%)`."""
    low, high = difference["interval_95"]
    return f"{difference['value']:+.1%} ({low:+.1%} to {high:+.1%})"
