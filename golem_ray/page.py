"""The report: one HTML page that shows what a classifier is worth, to be opened anywhere, with no network.

Plotly draws; its library is in the page. Knows nothing of Ray, PyTorch, or where the page goes. Names of clips and
classes are other people's text: they are escaped wherever they stand, and the page lets no script run but its own.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from golem_ray.drawings import Points, draw_confusion, draw_loss, draw_map, draw_per_class, draw_reliability
from golem_ray.metrics import FIGURES

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
_BESIDE = {"chance": "Even guess", "majority": "Largest class", "log_mel": "Head on log-mel"}

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; margin: 0 auto; padding: 1rem; max-width: 60rem; }
h1 { font-size: 1.5rem; line-height: 1.25; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
h1, p, dd { overflow-wrap: anywhere; } td { overflow-wrap: break-word; min-width: 5rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; } dt { color: #555; } dd { margin: 0; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid #ddd; vertical-align: top; }
th { font-weight: 600; } th:first-child, td:first-child { min-width: 8rem; }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
.note { color: #555; font-size: .9rem; } audio { width: 14rem; max-width: 100%; }
"""

_DRAW = """
const figures = JSON.parse(document.getElementById("figures").textContent);
for (const [id, figure] of Object.entries(figures)) {
  Plotly.newPlot(id, figure.data, figure.layout, {responsive: true, displayModeBar: false});
}
"""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="generator" content="golem_ray">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
<script type="application/json" id="figures">{figures}</script>
<script>{plotly}</script>
<script>{draw}</script>
</body>
</html>
"""


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
    from plotly.offline import get_plotlyjs

    names = judged.names if judged else document["labels"]
    drawings: dict[str, dict[str, Any]] = {}
    parts = [_heading(document), *_figures(document, judged)]
    if judged:
        said = judged.probabilities.argmax(axis=1)
        drawings["confusion"] = draw_confusion(judged.labels, said, names)
        drawings["per-class"] = draw_per_class(judged.labels, said, names)
        drawings["reliability"] = draw_reliability(judged.labels, judged.probabilities)
        parts += [
            _section("Confusions", "Rows are labels, columns what was said; shades are shares of a row.", "confusion"),
            _section("Each class", "Share of the class's clips that were recognised, 95 % intervals.", "per-class"),
            _section("Can its probabilities be believed?", _calibration(document), "reliability"),
            _mistakes(judged, said, audio),
        ]
    if document["metrics"].get("loss_history"):
        drawings["loss"] = draw_loss(document["metrics"]["loss_history"])
        parts.append(_section("Training loss", "Cross-entropy on the clips that were trained on, in nats.", "loss"))
    if points is not None and min(points.vectors.shape) >= 2:
        drawings["map"], share = draw_map(points, names)
        words = f"Principal components: these two axes hold {share:.0%} of the embeddings' variance. "
        parts.append(_section("A map of the clips", words + "Filled dots were trained on, open ones not.", "map"))
    parts.append(_left_out(document))
    plotly = get_plotlyjs()
    return _PAGE.format(
        policy=_policy(plotly, _DRAW),
        title=escape(f"Classifier of {len(document['labels'])} classes"),
        style=_STYLE,
        body="\n".join(parts),
        figures=_json(drawings),
        plotly=plotly,
        draw=_DRAW,
    )


def _policy(*scripts: str) -> str:
    """What the page allows itself: these scripts, its style, and what is in it."""
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; media-src data:"


def _json(value: object) -> str:
    """JSON that cannot end the script element that it stands in."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _section(title: str, words: str, drawing: str) -> str:
    return f'<h2>{title}</h2>\n<p class="note">{escape(words)}</p>\n<div id="{drawing}"></div>'


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table, its rows of cells that are HTML already."""
    top = "".join(f"<th>{cell}</th>" for cell in head)
    body = "\n".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return f'<div class="wide"><table>\n<tr>{top}</tr>\n{body}\n</table></div>'


def _cell(text: str) -> str:
    return f"<td>{escape(text)}</td>"


def _number(text: str) -> str:
    return f'<td class="number">{escape(text)}</td>'


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
        row = [_cell(_SHOWN[name]), _number(_shown(name, figure["value"])), _number(f"{low} to {high}")]
        for key in beside:
            value = judged.baselines[key].get(name)
            value = value["value"] if isinstance(value, dict) else value
            row.append(_number("" if value is None else _shown(name, value)))
        rows.append(row)
    rivals = "Beside it: who guesses evenly, who always says the class that most clips were trained on"
    rivals += ", and the same head on plain log-mel statistics." if "log_mel" in beside else "."
    return [
        f"<p>{escape(judged.how)}</p>",
        _table(["", "Value", "95 % interval", *(_BESIDE[key] for key in beside)], rows),
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
            f"{scores['repeats']} x {scores['folds']} folds over {scores['num_clips']} clips)."
        )
    return " ".join(words)


def _calibration(document: dict[str, Any]) -> str:
    words = "Of the clips that it was so sure of, how many were right; on the line, what it says is what happens."
    calibration = document["metrics"].get("calibration")
    if not calibration:
        return f"{words} Not calibrated, for want of cross-validated clips."
    temperature, num_clips = calibration["temperature"], calibration["num_clips"]
    return f"{words} Calibrated by a temperature of {temperature:.2f} from {num_clips} cross-validated clips."


def worst_mistakes(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Indices of at most 20 clips that are wrong, the surest first: labels (N,), probabilities (N, K)."""
    said, sure = probabilities.argmax(axis=1), probabilities.max(axis=1)
    order = np.argsort(-sure, kind="stable")
    return order[said[order] != labels[order]][:MAX_MISTAKES]


def _mistakes(judged: Judged, said: np.ndarray, audio: Callable[[int], bytes | None] | None) -> str:
    rows = []
    for index in worst_mistakes(judged.labels, judged.probabilities).tolist():
        cells = [_cell(judged.clips[index]), _cell(judged.names[judged.labels[index]])]
        cells += [_cell(judged.names[said[index]]), _number(f"{judged.probabilities[index, said[index]]:.1%}")]
        rows.append([*cells, f"<td>{_player(audio(index))}</td>"] if audio is not None else cells)
    if not rows:
        return "<h2>Worst mistakes</h2>\n<p>None: every clip was recognised.</p>"
    head = ["Clip", "Label", "Said", "Probability", *(["Audio"] if audio is not None else [])]
    return f"<h2>Worst mistakes</h2>\n{_table(head, rows)}"


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
    rows = [[_cell(str(entry.get("clip"))), _cell(str(entry.get("reason")))] for entry in bad[:MAX_LEFT_OUT]]
    more = f"<p>And {len(bad) - MAX_LEFT_OUT} more.</p>" if len(bad) > MAX_LEFT_OUT else ""
    return f"<h2>Clips that could not be used</h2>\n{_table(['Clip', 'Reason'], rows)}{more}"
