"""The drawings of a report where examples may have several labels, as Plotly's figures. Computes no figure itself.

As in metrics/several.py, K labels are known to the classifier, K' are in the examples. Of many labels the most
frequent ones are drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from golem_ray.config import Noun
from golem_ray.metrics.answers import Answers
from golem_ray.metrics.intervals import wilson_interval
from golem_ray.metrics.several_curves import precision_recall, reliability
from golem_ray.report.axes import axis, class_axis, heatmap, height_of, plain_layout, shown

MOST_BARS, MOST_TOGETHER, MOST_CURVES = 100, 50, 40
"""Most labels that are drawn as bars, in the table of pairs, and as curves."""

MOST_VISIBLE = 12
"""Most curves that are seen before somebody asks for more."""

_MOST_COUNTED = 30
"""Most columns of a table whose counts are written as numbers."""

_GREY, _BLUE = "#aaa", "#4a7fb5"


def most_frequent(labels: np.ndarray, most: int) -> list[int]:
    """The labels, columns of (N, K'), that most examples have, the most frequent first."""
    order: list[int] = np.argsort(-labels.sum(axis=0), kind="stable")[:most].tolist()
    return order


def draw_together(labels: np.ndarray, names: Sequence[str], noun: Noun) -> dict[str, Any]:
    """How many examples have both of two labels: labels (N, K')."""
    which = most_frequent(labels, MOST_TOGETHER)
    own = labels[:, which].astype(np.float64)
    together = (own.T @ own).astype(np.int64)
    counts = together.diagonal()
    shares = together / np.maximum(counts, 1)[:, None]
    np.fill_diagonal(shares, 0)
    hover = [[""] * len(which) for _ in which]
    for row, column in np.argwhere(together).tolist():
        pair = shown(names[which[row]])
        if row != column:
            pair += f"<br>and {shown(names[which[column]])}: {shares[row, column]:.1%} of {counts[row]}"
        hover[row][column] = f"{pair}<br>{together[row, column]} {noun.many}"
    counted = together.tolist() if len(which) <= _MOST_COUNTED else None
    drawn = heatmap(shares.round(4).tolist(), max(float(shares.max()), 0.01), hover, counted)
    drawn["colorscale"] = [[0, "#ffffff"], [1, "#7fa8d6"]]  # numbers stay legible on the darkest
    drawn["textfont"] = {"color": "#222"}
    across = class_axis([names[number] for number in which], tickangle=-90)
    down = class_axis([names[number] for number in which], autorange="reversed")
    layout = plain_layout(height_of(len(which), 26), xaxis=across, yaxis=down, plot_bgcolor="#ddd")
    return {"data": [drawn], "layout": layout}


def draw_f1(records: Sequence[dict[str, Any]], num_examples: int, noun: Noun) -> dict[str, Any]:
    """F1 of each label with its interval, and its precision and recall: records as metrics.several.per_class has them.

    A mark shows the F1 of giving the label to every one of the examples.
    """
    places = list(range(len(records)))
    f1 = [each["f1"] and each["f1"]["value"] for each in records]
    bounds = [each["f1"]["interval_95"] if each["f1"] else (0.0, 0.0) for each in records]
    bars = {
        "type": "bar",
        "name": "F1",
        "orientation": "h",
        "y": places,
        "x": f1,
        "marker": {"color": "#9bb8d3"},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [high - (value or 0) for (_, high), value in zip(bounds, f1, strict=True)],
            "arrayminus": [(value or 0) - low for (low, _), value in zip(bounds, f1, strict=True)],
            "color": "#333",
            "thickness": 1,
        },
        "hovertext": [
            f"{shown(each['label'])}<br>F1 {_share(each['f1'])}, if always given {always_f1(each, num_examples):.1%}"
            f"<br>precision {_share(each['precision'])}, recall {_share(each['recall'])}<br>"
            f"{each['num_clips']} {noun.many}"
            for each in records
        ],
        "hoverinfo": "text",
    }
    marks = [
        _marks(
            "precision", [each["precision"] and each["precision"]["value"] for each in records], "diamond", "#b5574a"
        ),
        _marks("recall", [each["recall"] and each["recall"]["value"] for each in records], "circle", "#3b7d4f"),
        _marks("F1 if always given", [always_f1(each, num_examples) for each in records], "line-ns-open", "#222"),
    ]
    across = axis("", range=[0, 1.02], tickformat=".0%")
    down = class_axis([each["label"] for each in records], range=[len(records) - 0.5, -0.5])
    layout = plain_layout(
        height_of(len(records), 30),
        xaxis=across,
        yaxis=down,
        showlegend=True,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    )
    return {"data": [bars, *marks], "layout": layout}


def _marks(name: str, values: Sequence[float | None], symbol: str, colour: str) -> dict[str, Any]:
    marker: dict[str, Any] = {"symbol": symbol, "color": colour, "size": 9}
    if symbol == "line-ns-open":
        marker |= {"size": 12, "line": {"width": 2, "color": colour}}
    places = list(range(len(values)))
    return {"type": "scatter", "mode": "markers", "name": name, "x": list(values), "y": places, "marker": marker} | {
        "hoverinfo": "skip"
    }


def _share(figure: dict[str, Any] | None) -> str:
    return "unknown" if figure is None else f"{figure['value']:.1%}"


def always_f1(record: dict[str, Any], num_examples: int) -> float:
    """The F1 of giving a label to all of so many examples."""
    own = record["num_clips"]
    return float(2 * own / (own + num_examples))


def draw_precision_recall(
    labels: np.ndarray, answers: Answers, thresholds: Sequence[float], names: Sequence[str]
) -> dict[str, Any]:
    """Precision by recall of each known label that somebody has, with a mark at its threshold: (K,) of these."""
    drawn: list[dict[str, Any]] = []
    for place, number in enumerate(_known(labels, answers)):
        own, chances, low = labels[:, number], answers.probabilities[:, number], thresholds[number]
        precision, recall, at = precision_recall(chances, own)
        look = _look(place, names[number])
        words = "threshold %{customdata:.3f}: precision %{y:.1%}, recall %{x:.1%}<extra></extra>"
        common = {"type": "scatter", **look, "hovertemplate": f"%{{fullData.name}}<br>{words}"}
        drawn.append(
            {
                **common,
                "mode": "lines",
                "x": recall.round(4).tolist(),
                "y": precision.round(4).tolist(),
                "customdata": at.round(4).tolist(),
                "line": {"color": look["marker"]["color"], "width": 1.5},
            }
        )
        given = chances >= low
        if given.any():
            mark = {
                "color": look["marker"]["color"],
                "size": 11,
                "symbol": "diamond",
                "line": {"width": 1, "color": "#222"},
            }
            drawn.append(
                {
                    **common,
                    "mode": "markers",
                    "x": [round(float(given[own].mean()), 4)],
                    "y": [round(float(own[given].mean()), 4)],
                    "customdata": [round(float(low), 4)],
                    "marker": mark,
                    "showlegend": False,
                }
            )
    axes = {
        "xaxis": axis("recall", range=[0, 1.03], tickformat=".0%"),
        "yaxis": axis("precision", range=[0, 1.05], tickformat=".0%"),
    }
    return {"data": drawn, "layout": _curves_layout(len(_known(labels, answers)), axes)}


def draw_reliability_of_several(
    labels: np.ndarray, answers: Answers, names: Sequence[str], noun: Noun
) -> dict[str, Any]:
    """How many have each known label that somebody has, by its probability, in the calibration error's bins."""
    drawn, most = [], 0.05
    for place, number in enumerate(_known(labels, answers)):
        said, found, counts = reliability(answers.probabilities[:, number], labels[:, number])
        most = max(most, float(said.max()), float(found.max()))
        bounds = [wilson_interval(share, int(count)) for share, count in zip(found, counts, strict=True)]
        look = _look(place, names[number])
        words = [
            f"{shown(names[number])}<br>said {each:.1%}, {share:.1%} have it ({low:.1%} to {high:.1%})<br>"
            f"{count} {noun.many}"
            for each, share, (low, high), count in zip(said, found, bounds, counts.tolist(), strict=True)
        ]
        drawn.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                **look,
                "line": {"color": look["marker"]["color"], "width": 1.5},
                "x": said.round(4).tolist(),
                "y": found.round(4).tolist(),
                "hovertext": words,
                "hoverinfo": "text",
            }
        )
    top = min(1.0, most) * 1.04
    line = {"type": "scatter", "mode": "lines", "x": [0, top], "y": [0, top], "hoverinfo": "skip", "showlegend": False}
    axes = {
        "xaxis": axis("mean probability", range=[0, top], tickformat=".0%"),
        "yaxis": axis("share that has the label", range=[-0.03 * top, top], tickformat=".0%"),
    }
    layout = _curves_layout(len(drawn), axes)
    return {"data": [{**line, "line": {"color": _GREY, "dash": "dot"}}, *drawn], "layout": layout}


def _known(labels: np.ndarray, answers: Answers) -> list[int]:
    """The known labels that curves are drawn of, the most frequent first."""
    known = labels[:, : answers.num_classes]
    return [number for number in most_frequent(known, MOST_CURVES) if known[:, number].any()]


def _look(place: int, name: str) -> dict[str, Any]:
    """What the traces of a label have in common: its name is in the legend, where a click hides them or shows them."""
    colour = f"hsl({(210 + 137.5 * place) % 360:.0f},55%,{(42, 58)[place % 2]}%)"
    return {
        "name": shown(name, 24),
        "legendgroup": str(place),
        "marker": {"color": colour, "size": 6},
        "visible": True if place < MOST_VISIBLE else "legendonly",
    }


def _curves_layout(num_curves: int, axes: dict[str, Any]) -> dict[str, Any]:
    legend = {"orientation": "h", "y": -0.18, "yanchor": "top"}
    return plain_layout(440 + 14 * num_curves, **axes, showlegend=True, legend=legend)
