"""The report: one HTML page that shows what a classifier is worth, to be opened anywhere, with no network.

Plotly draws; its library is in the page. Knows no modality, Ray or PyTorch, and not where the page goes. Names of
examples and classes are other people's text: they are escaped wherever they stand, and the page lets no script run but
its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from golem_ray.config import Noun, noun_of
from golem_ray.data.extra import sources_of
from golem_ray.embedding.modality import modality_named
from golem_ray.heads.multi_label import MULTI_LABEL
from golem_ray.heads.single_label import SINGLE_LABEL
from golem_ray.metrics.answers import Answers
from golem_ray.metrics.figures import FIGURES, MOST_CONFUSED
from golem_ray.report.drawings import (
    Points,
    draw_confusion,
    draw_coverage,
    draw_lines,
    draw_loss,
    draw_map,
    draw_per_class,
    draw_reliability,
    lines_by_layer,
)
from golem_ray.report.html import assemble, cell, escape, number, section, table
from golem_ray.report.judged import MAX_MISTAKES, Column, Judged, figures_table
from golem_ray.report.several import called, figures_of_several, is_several, parts_of_several
from golem_ray.report.words import covered_words, on_one_side, rejection_line, validated_line

MAX_LEFT_OUT = 50
"""Examples that could not be used and are named, at most."""


_MAX_NAMED_CLASSES = 100


_CONFUSIONS = "Rows are labels, columns what was said; shades are shares of a row."


_GUESSES = {"chance": "Even guess", "majority": "Largest class"}


def render(
    document: dict[str, Any],
    judged: Judged | None,
    points: Points | None,
    *,
    columns: Sequence[Column] = (),
    advice: Sequence[str] = (),
) -> str:
    """The page, from an artifact's sidecar, the examples that it was tested on and embeddings.

    Equal arguments give equal pages. Nothing raw is in the page unless columns of the worst mistakes bring it in.
    """
    names, noun, several = judged.names if judged else document["labels"], noun_of(document), is_several(document)
    folds = on_one_side(_group(document["config"], "evaluation").get("group_column"))
    drawings: dict[str, dict[str, Any]] = {}
    parts = [
        _heading(document, noun),
        *(figures_of_several if several else _figures)(document, judged, noun, folds),
        *(f"<p><b>{escape(line)}</b></p>" for line in advice),
    ]
    if judged and several:
        shown, drawings = parts_of_several(document, judged, columns, noun)
        parts += shown
    elif judged:
        decisions = judged.answers.decisions
        confusions = '<h2>Confusions</h2>\n<p class="note">Left out: too many classes for a drawing of all pairs.</p>'
        if len(names) <= MOST_CONFUSED:
            drawings["confusion"] = draw_confusion(judged.labels, decisions, names, noun)
            confusions = section("Confusions", _CONFUSIONS, "confusion")
        drawings["per-class"] = draw_per_class(judged.labels, decisions, names, noun)
        drawings["reliability"] = draw_reliability(judged.labels, judged.answers, noun)
        drawings["coverage"] = draw_coverage(judged.labels, judged.answers)
        recall = f"Share of the class's {noun.many} that were recognised, 95 % intervals."
        parts += [
            confusions,
            section("Each class", recall, "per-class"),
            section("Can its probabilities be believed?", _calibration(document, noun), "reliability"),
            section("If it may be unsure", _rejection(document, judged, noun), "coverage"),
            _mistakes(judged, columns, noun),
        ]
    measure = (MULTI_LABEL if several else SINGLE_LABEL).measure
    layers = lines_by_layer(_group(document["metrics"], "choice").get("candidates", []))
    if layers:
        drawings["layers"] = draw_lines(layers, "layer", measure)
        parts.append(section("Candidates by layer", _layer_words(noun, measure), "layers"))
    if document["metrics"].get("loss_history"):
        drawings["loss"] = draw_loss(document["metrics"]["loss_history"])
        loss = "Binary cross-entropy, the mean over labels," if several else "Cross-entropy"
        words = f"{loss} on the {noun.many} that were trained on, in nats."
        parts.append(section("Training loss", words, "loss"))
    if points is not None and min(points.vectors.shape) >= 2:
        drawings["map"], held = draw_map(points, called(names, points.labels) if several else names)
        words = f"Principal components: these two axes hold {held:.0%} of the embeddings' variance. Filled dots were "
        words += "trained on, open ones not."
        words += f" The colour is that of the rarest label of a {noun.one}." if several else ""
        parts.append(section(f"A map of the {noun.many}", words, "map"))
    parts.append(_left_out(document, noun))
    what = "labels" if several else "classes"
    return assemble(f"Classifier of {len(document['labels'])} {what}", parts, drawings)


def _heading(document: dict[str, Any], noun: Noun) -> str:
    """What was trained on which examples, as far as the sidecar says."""
    clips, encoder = document["clips"], document["encoder"]
    training, labels = _group(document["config"], "training"), document["labels"]
    more = f", and {len(labels) - _MAX_NAMED_CLASSES} more" if len(labels) > _MAX_NAMED_CLASSES else ""
    parts = [
        f"{each['used']} of {each['total']} {noun.many} of {each['name']}, split {each['split']}"
        for each in sources_of(document)
    ]
    where = parts[0] + "".join(f", and {part} (never tested)" for part in parts[1:])
    contradicted = clips.get("num_under_two_labels")
    where += f"; {contradicted} of them are equal files under different labels" if contradicted else ""
    over = modality_named(document.get("modality", "speech")).card.over
    which = encoder.get("revision") or f"sha256 {str(encoder.get('sha256'))[:12]}"
    remarks = ", ".join(f"{count} {remark}" for remark, count in _group(clips, "remarks").items())
    entries = {
        "Trained on": f"{where}{remarks and f' ({remarks})'}",
        "Labels"
        if is_several(document)
        else "Classes": f"{len(labels)}: {', '.join(labels[:_MAX_NAMED_CLASSES])}{more}",
        "Encoder": f"{encoder.get('name')}, {which}, layer {encoder.get('layer')}, {encoder.get('pooling')} over "
        f"{over}, {encoder.get('precision')}",
        "Head": f"{document['head'].get('kind')}, trained on {document.get('device')}, seed {training.get('seed')}",
    }
    listed = "\n".join(f"<dt>{key}</dt><dd>{escape(value)}</dd>" for key, value in entries.items())
    return f"<h1>What this classifier is worth</h1>\n<dl>\n{listed}\n</dl>"


def _group(values: dict[str, Any], key: str) -> dict[str, Any]:
    """The group of that name; an empty one where there is none."""
    group = values.get(key)
    return group if isinstance(group, dict) else {}


def _figures(document: dict[str, Any], judged: Judged | None, noun: Noun, folds: str) -> list[str]:
    """The figures beside those to compare with, then training and cross-validation in words; `folds` says how."""
    words = _training_words(document["metrics"], folds, noun)
    if judged is None:
        return [f"<p>No {noun.one} was tested on that the head did not see. {escape(words)}</p>"]
    plain = judged.baseline if judged.baseline and judged.baseline.key in judged.baselines else None
    rivals = {key: title for key, title in _GUESSES.items() if key in judged.baselines}
    if plain:
        rivals[plain.key] = plain.short
    beside = f"Beside it: who guesses evenly, who always says the class that most {noun.many} were trained on"
    beside += f", and {plain.head}." if plain else "."
    return [
        f"<p>{escape(judged.how)}</p>",
        figures_table(judged, FIGURES, rivals),
        f'<p class="note">{escape(beside)} {escape(words)}</p>',
    ]


def _training_words(metrics: dict[str, Any], folds: str, noun: Noun) -> str:
    words = []
    if "training_accuracy" in metrics:
        words.append(
            f"Training accuracy, which says what the head knows by heart: {metrics['training_accuracy']:.1%}; chance "
            f"is {metrics['chance']:.1%}."
        )
    scores = metrics.get("cross_validation")
    if scores:
        words.append(validated_line(scores, noun, folds))
    return " ".join(words)


def _layer_words(noun: Noun, measure: str) -> str:
    return (
        f"What the classifier was chosen from: cross-validated {measure}, on the {noun.many} that were trained on, of "
        "each layer under a kind of head. Small differences may be chance; the figures above do not profit from the "
        "choice."
    )


def _calibration(document: dict[str, Any], noun: Noun) -> str:
    sure = f"Of the {noun.many} that it was so sure of, how many were right"
    words = f"{sure}; on the line, what it says is what happens."
    calibration = document["metrics"].get("calibration")
    if not calibration:
        return f"{words} Not calibrated, for want of cross-validated {noun.many}."
    temperature, num_examples = calibration["temperature"], calibration["num_clips"]
    return f"{words} Calibrated by a temperature of {temperature:.2f} from {num_examples} cross-validated {noun.many}."


def _rejection(document: dict[str, Any], judged: Judged, noun: Noun) -> str:
    words = (
        f"If only the {noun.many} that it is surest of are named, more of these are right: `--threshold` stops at a "
        "probability, and `--reject` finds out where to stop."
    )
    record = document["metrics"].get("reject")
    if record is None:
        return words
    here = f" Of the {noun.many} of this page it {covered_words(judged.rejected)}." if judged.rejected else ""
    return f"{words} {rejection_line(record, noun)}{here}"


def worst_mistakes(labels: np.ndarray, answers: Answers) -> np.ndarray:
    """Indices of at most 20 examples that are wrong, the surest first: labels (N,)."""
    order = np.argsort(-answers.confidence, kind="stable")
    return order[answers.decisions[order] != labels[order]][:MAX_MISTAKES]


def _mistakes(judged: Judged, columns: Sequence[Column], noun: Noun) -> str:
    rows, answers = [], judged.answers
    for index in worst_mistakes(judged.labels, answers).tolist():
        cells = [cell(judged.example(index)), cell(judged.names[judged.labels[index]])]
        said = judged.names[answers.decisions[index]]
        said += ", unsure" if answers.unsure is not None and answers.unsure[index] else ""
        cells += [cell(said), number(f"{answers.confidence[index]:.1%}")]
        rows.append([*cells, *(f"<td>{column.html(index)}</td>" for column in columns)])
    if not rows:
        return f"<h2>Worst mistakes</h2>\n<p>None: every {noun.one} was recognised.</p>"
    head = [noun.one.capitalize(), "Label", "Said", "Probability", *(column.title for column in columns)]
    notes = "".join(f'<p class="note">{escape(column.note)}</p>\n' for column in columns if column.note)
    return f"<h2>Worst mistakes</h2>\n{notes}{table(head, rows)}"


def _left_out(document: dict[str, Any], noun: Noun) -> str:
    bad = document["clips"].get("bad")
    if not isinstance(bad, list) or not all(isinstance(entry, dict) for entry in bad) or not bad:
        return ""
    rows = [[cell(str(entry.get("clip"))), cell(str(entry.get("reason")))] for entry in bad[:MAX_LEFT_OUT]]
    more = f"<p>And {len(bad) - MAX_LEFT_OUT} more.</p>" if len(bad) > MAX_LEFT_OUT else ""
    one, many = (word.capitalize() for word in noun)
    return f"<h2>{many} that could not be used</h2>\n{table([one, 'Reason'], rows)}{more}"
