"""The report: one HTML page that shows what a classifier is worth, to be opened anywhere, with no network.

Plotly draws; its library is in the page. Knows nothing of Ray, PyTorch, or where the page goes. Names of clips and
classes are other people's text: they are escaped wherever they stand, and the page lets no script run but its own.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from golem_ray.metrics.figures import FIGURES
from golem_ray.report.drawings import (
    Points,
    draw_confusion,
    draw_layers,
    draw_loss,
    draw_map,
    draw_per_class,
    draw_reliability,
)
from golem_ray.report.html import assemble, cell, number, section, table

MAX_MISTAKES, MAX_LEFT_OUT = 20, 50
"""Clips that the tables name at most."""


_MAX_NAMED_CLASSES = 100


_SHOWN = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "weighted_f1": "Weighted F1",
    "top_5_accuracy": "Top-5 accuracy",
    "log_loss": "Log-loss (nats)",
    "expected_calibration_error": "Calibration error",
}


_LAYERS = (
    "Cross-validated accuracy with each of the encoder's layers, on the clips that were trained on. The filled dot is "
    "the layer that was taken: the best one, or the last where the best is within a standard error of it. Differences "
    "may be chance; the figures above do not profit from the choice."
)


_BESIDE = {"chance": "Even guess", "majority": "Largest class", "log_mel": "Head on log-mel"}


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Clips that were not trained on, and what the classifier says of them."""

    how: str
    """A sentence: which clips these are."""
    clips: Sequence[str]
    """(N,) names."""
    labels: np.ndarray
    """(N,) int64, indices into `names`."""
    probabilities: np.ndarray
    """(N, K): of the classes that the classifier knows."""
    names: Sequence[str]
    """Those K classes, and then what else the clips are labelled with."""
    figures: dict[str, Any]
    """As metrics.figures gives them."""
    baselines: dict[str, dict[str, Any]]
    """Who to compare with -> {figure: value, or as metrics.figures gives it}."""


def render(
    document: dict[str, Any],
    judged: Judged | None,
    points: Points | None,
    *,
    audio: Callable[[int], bytes | None] | None = None,
) -> str:
    """The page, from an artifact's sidecar, the clips that it was tested on and embeddings; the same for the same.

    With `audio`, a tested clip's file by its index, the worst mistakes can be listened to; without, nothing raw is
    in the page.
    """
    names = judged.names if judged else document["labels"]
    drawings: dict[str, dict[str, Any]] = {}
    parts = [_heading(document), *_figures(document, judged)]
    if judged:
        said = judged.probabilities.argmax(axis=1)
        drawings["confusion"] = draw_confusion(judged.labels, said, names)
        drawings["per-class"] = draw_per_class(judged.labels, said, names)
        drawings["reliability"] = draw_reliability(judged.labels, judged.probabilities)
        parts += [
            section("Confusions", "Rows are labels, columns what was said; shades are shares of a row.", "confusion"),
            section("Each class", "Share of the class's clips that were recognised, 95 % intervals.", "per-class"),
            section("Can its probabilities be believed?", _calibration(document), "reliability"),
            _mistakes(judged, said, audio),
        ]
    if document["metrics"].get("layers"):
        drawings["layers"] = draw_layers(document["metrics"]["layers"], document["encoder"].get("layer"))
        parts.append(section("Layers", _LAYERS, "layers"))
    if document["metrics"].get("loss_history"):
        drawings["loss"] = draw_loss(document["metrics"]["loss_history"])
        parts.append(section("Training loss", "Cross-entropy on the clips that were trained on, in nats.", "loss"))
    if points is not None and min(points.vectors.shape) >= 2:
        drawings["map"], share = draw_map(points, names)
        words = f"Principal components: these two axes hold {share:.0%} of the embeddings' variance. "
        parts.append(section("A map of the clips", words + "Filled dots were trained on, open ones not.", "map"))
    parts.append(_left_out(document))
    return assemble(f"Classifier of {len(document['labels'])} classes", parts, drawings)


def _heading(document: dict[str, Any]) -> str:
    """What was trained on what, as far as the sidecar says."""
    config, clips, encoder = document["config"], document["clips"], document["encoder"]
    dataset, training, labels = _group(config, "dataset"), _group(config, "training"), document["labels"]
    more = f", and {len(labels) - _MAX_NAMED_CLASSES} more" if len(labels) > _MAX_NAMED_CLASSES else ""
    where = f"{dataset.get('name')}, split {dataset.get('split')}"
    which = encoder.get("revision") or f"sha256 {str(encoder.get('sha256'))[:12]}"
    entries = {
        "Trained on": f"{clips.get('used')} of {clips.get('total')} clips of {where}",
        "Classes": f"{len(labels)}: {', '.join(labels[:_MAX_NAMED_CLASSES])}{more}",
        "Encoder": f"{encoder.get('name')}, {which}, layer {encoder.get('layer')}, {encoder.get('pooling')} over time, "
        f"{encoder.get('precision')}",
        "Head": f"{document['head'].get('kind')}, trained on {document.get('device')}, seed {training.get('seed')}",
    }
    listed = "\n".join(f"<dt>{key}</dt><dd>{escape(value)}</dd>" for key, value in entries.items())
    return f"<h1>What this classifier is worth</h1>\n<dl>\n{listed}\n</dl>"


def _group(values: dict[str, Any], key: str) -> dict[str, Any]:
    """The group of that name; an empty one where there is none."""
    group = values.get(key)
    return group if isinstance(group, dict) else {}


def _shown(name: str, value: float) -> str:
    return f"{value:.3f}" if name == "log_loss" else f"{value:.1%}"


def _figures(document: dict[str, Any], judged: Judged | None) -> list[str]:
    """The figures beside who to compare with, then training accuracy and cross-validation in words."""
    words = _training_words(document["metrics"])
    if judged is None:
        return [f"<p>No clip was tested on that the head did not see. {escape(words)}</p>"]
    beside = [key for key in _BESIDE if key in judged.baselines]
    rows = []
    for name in (name for name in FIGURES if name in judged.figures):
        figure = judged.figures[name]
        low, high = (_shown(name, bound) for bound in figure["interval_95"])
        row = [cell(_SHOWN[name]), number(_shown(name, figure["value"])), number(f"{low} to {high}")]
        for key in beside:
            value = judged.baselines[key].get(name)
            value = value["value"] if isinstance(value, dict) else value
            row.append(number("" if value is None else _shown(name, value)))
        rows.append(row)
    rivals = "Beside it: who guesses evenly, who always says the class that most clips were trained on"
    rivals += ", and the same head on plain log-mel statistics." if "log_mel" in beside else "."
    return [
        f"<p>{escape(judged.how)}</p>",
        table(["", "Value", "95 % interval", *(_BESIDE[key] for key in beside)], rows),
        f'<p class="note">{escape(rivals)} {escape(words)}</p>',
    ]


def _training_words(metrics: dict[str, Any]) -> str:
    words = []
    if "training_accuracy" in metrics:
        words.append(
            f"Training accuracy, which says what the head knows by heart: {metrics['training_accuracy']:.1%}; chance "
            f"is {metrics['chance']:.1%}."
        )
    scores = metrics.get("cross_validation")
    if scores:
        low, high = scores["interval_95"]
        words.append(
            f"Cross-validated accuracy {scores['accuracy']:.1%} (95 % interval {low:.1%} to {high:.1%}; "
            f"{scores['repeats']} x {scores['folds']} folds over {scores['num_clips']} "
            f"{'sampled clips, of heads trained on these alone' if scores.get('sampled') else 'clips'})."
        )
    return " ".join(words)


def _calibration(document: dict[str, Any]) -> str:
    words = "Of the clips that it was so sure of, how many were right; on the line, what it says is what happens."
    calibration = document["metrics"].get("calibration")
    if not calibration:
        return f"{words} Not calibrated, for want of cross-validated clips."
    temperature, num_examples = calibration["temperature"], calibration["num_clips"]
    return f"{words} Calibrated by a temperature of {temperature:.2f} from {num_examples} cross-validated clips."


def worst_mistakes(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Indices of at most 20 clips that are wrong, the surest first: labels (N,), probabilities (N, K)."""
    said, sure = probabilities.argmax(axis=1), probabilities.max(axis=1)
    order = np.argsort(-sure, kind="stable")
    return order[said[order] != labels[order]][:MAX_MISTAKES]


def _mistakes(judged: Judged, said: np.ndarray, audio: Callable[[int], bytes | None] | None) -> str:
    rows = []
    for index in worst_mistakes(judged.labels, judged.probabilities).tolist():
        cells = [cell(judged.clips[index]), cell(judged.names[judged.labels[index]])]
        cells += [cell(judged.names[said[index]]), number(f"{judged.probabilities[index, said[index]]:.1%}")]
        rows.append([*cells, f"<td>{_player(audio(index))}</td>"] if audio is not None else cells)
    if not rows:
        return "<h2>Worst mistakes</h2>\n<p>None: every clip was recognised.</p>"
    head = ["Clip", "Label", "Said", "Probability", *(["Audio"] if audio is not None else [])]
    return f"<h2>Worst mistakes</h2>\n{table(head, rows)}"


def _player(content: bytes | None) -> str:
    if content is None:
        return ""
    kind = {b"RIFF": "wav", b"fLaC": "flac", b"OggS": "ogg"}.get(content[:4], "mpeg")
    return (
        f'<audio controls preload="none" src="data:audio/{kind};base64,{base64.b64encode(content).decode()}"></audio>'
    )


def _left_out(document: dict[str, Any]) -> str:
    bad = document["clips"].get("bad")
    if not isinstance(bad, list) or not all(isinstance(entry, dict) for entry in bad) or not bad:
        return ""
    rows = [[cell(str(entry.get("clip"))), cell(str(entry.get("reason")))] for entry in bad[:MAX_LEFT_OUT]]
    more = f"<p>And {len(bad) - MAX_LEFT_OUT} more.</p>" if len(bad) > MAX_LEFT_OUT else ""
    return f"<h2>Clips that could not be used</h2>\n{table(['Clip', 'Reason'], rows)}{more}"
