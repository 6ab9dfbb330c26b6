"""The drawings of a report, as Plotly's figures: plain dictionaries of data and layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from golem_ray.config import Noun
from golem_ray.metrics.answers import Answers
from golem_ray.metrics.coverage import coverage_curve
from golem_ray.metrics.figures import NUM_BINS, confidence_bins, confusion
from golem_ray.metrics.intervals import wilson_interval
from golem_ray.report.axes import axis, class_axis, heatmap, height_of, plain_layout, shown

_MOST_LINES = 12

_LAST: dict[object, float] = {"last": 1e6, "mean": 1e7}

_MAX_COUNTED, _MAX_LEGEND = 20, 40
"""Most classes whose confusions are written as numbers, and that the map's legend names."""


@dataclass(frozen=True, kw_only=True)
class Points:
    """Embeddings to be mapped."""

    vectors: np.ndarray
    """(M, D) float32."""
    labels: np.ndarray
    """(M,) int64, indices into the classes' names."""
    names: Sequence[str]
    """(M,) of the examples."""
    tested: np.ndarray
    """(M,) bool: not trained on."""


def draw_confusion(labels: np.ndarray, decisions: np.ndarray, names: Sequence[str], noun: Noun) -> dict[str, Any]:
    """How many examples of each label (rows) are taken for each class (columns): (N,) int64 each."""
    counts = confusion(decisions, labels, len(names))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    hover = [[""] * len(names) for _ in names]
    for row, column in np.argwhere(counts).tolist():
        said = f"{shown(names[row])}<br>said: {shown(names[column])}"
        hover[row][column] = f"{said}<br>{counts[row, column]} {noun.many}"
    counted = counts.tolist() if len(names) <= _MAX_COUNTED else None
    drawn = heatmap(shares.round(3).tolist(), 1, hover, counted)
    across = class_axis(names, tickangle=-90)
    down = class_axis(names, autorange="reversed")
    return {
        "data": [drawn],
        "layout": plain_layout(height_of(len(names), 26), xaxis=across, yaxis=down, plot_bgcolor="#ddd"),
    }


def draw_per_class(labels: np.ndarray, decisions: np.ndarray, names: Sequence[str], noun: Noun) -> dict[str, Any]:
    """Recall of each class that has examples, with its interval: labels and decisions, (N,) int64 each."""
    counts = np.bincount(labels, minlength=len(names))
    present = np.flatnonzero(counts).tolist()
    hits = np.bincount(labels[decisions == labels], minlength=len(names))
    recall = (hits[present] / counts[present]).tolist()
    bounds = [wilson_interval(value, int(counts[number])) for value, number in zip(recall, present, strict=True)]
    drawn = {
        "type": "bar",
        "orientation": "h",
        "y": list(range(len(present))),
        "x": recall,
        "marker": {"color": "#4a7fb5"},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [high - value for (_, high), value in zip(bounds, recall, strict=True)],
            "arrayminus": [value - low for (low, _), value in zip(bounds, recall, strict=True)],
            "color": "#333",
            "thickness": 1,
        },
        "hovertext": [
            f"{shown(names[number])}<br>{value:.1%} of {counts[number]} {noun.many}"
            for value, number in zip(recall, present, strict=True)
        ],
        "hoverinfo": "text",
    }
    across = axis("recall", range=[0, 1.02], tickformat=".0%")
    down = class_axis([names[number] for number in present], autorange="reversed")
    return {"data": [drawn], "layout": plain_layout(height_of(len(present), 22), xaxis=across, yaxis=down)}


def reliability(labels: np.ndarray, answers: Answers) -> list[tuple[float, float, int]]:
    """(mean confidence, share right, examples) of each of ten bins of confidence that has examples."""
    sure, right = answers.confidence, answers.decisions == labels
    bins = confidence_bins(sure)
    return [
        (float(sure[bins == number].mean()), float(right[bins == number].mean()), int((bins == number).sum()))
        for number in range(NUM_BINS)
        if (bins == number).any()
    ]


def draw_reliability(labels: np.ndarray, answers: Answers, noun: Noun) -> dict[str, Any]:
    """How often the classifier is right by how sure it is, with labels (N,) int64."""
    found = reliability(labels, answers)
    line = {"type": "scatter", "mode": "lines", "x": [0, 1], "y": [0, 1], "hoverinfo": "skip"}
    drawn = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": [sure for sure, _, _ in found],
        "y": [right for _, right, _ in found],
        "marker": {"size": [8 + 22 * (count / len(labels)) ** 0.5 for *_, count in found], "color": "#4a7fb5"},
        "hovertext": [f"sure of {sure:.0%}, right {right:.0%}<br>{count} {noun.many}" for sure, right, count in found],
        "hoverinfo": "text",
    }
    axes = {
        "xaxis": axis("probability of what was said", range=[0, 1.03], tickformat=".0%"),
        "yaxis": axis("share that was right", range=[-0.05, 1.05], tickformat=".0%"),
    }
    return {"data": [{**line, "line": {"color": "#aaa", "dash": "dot"}}, drawn], "layout": plain_layout(360, **axes)}


def draw_coverage(labels: np.ndarray, answers: Answers) -> dict[str, Any]:
    """How often the classifier is right where it names only what it is surest of, with labels (N,) int64."""
    points = coverage_curve(answers.confidence, (answers.decisions == labels).astype(np.float64))
    drawn = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": [point["coverage"] for point in points],
        "y": [point["precision"] for point in points],
        "marker": {"color": "#4a7fb5", "size": 5},
        "hovertext": [
            f"threshold {point['threshold']:.3f}<br>{point['coverage']:.1%} named, {point['precision']:.1%} rightly"
            for point in points
        ],
        "hoverinfo": "text",
    }
    axes = {
        "xaxis": axis("share that is named", range=[0, 1.03], tickformat=".0%"),
        "yaxis": axis("share of these that is right", range=[-0.05, 1.05], tickformat=".0%"),
    }
    return {"data": [drawn], "layout": plain_layout(320, **axes)}


def draw_loss(history: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The loss by epoch: [{"epoch", "loss"}]."""
    drawn = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": [entry["epoch"] for entry in history],
        "y": [entry["loss"] for entry in history],
        "marker": {"color": "#4a7fb5"},
    }
    axes = {"xaxis": axis("epoch"), "yaxis": axis("loss", rangemode="tozero")}
    return {"data": [drawn], "layout": plain_layout(300, **axes)}


def lines_by_layer(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For `draw_lines`: accuracy by layer, a line for each encoder, pooling and head that was tried on several layers.

    The rows are candidates, the best first, each with its accuracy as a number or a figure.
    """
    found: dict[str, dict[int | str, float]] = {}
    for row in rows:
        name = ", ".join(filter(None, (row.get("encoder"), row["pooling"], _joined(row), row["head"])))
        accuracy = row["accuracy"]
        found.setdefault(name, {})[row["layer"]] = accuracy["value"] if isinstance(accuracy, dict) else accuracy
    lines = []
    for name, by_layer in found.items():
        layers = sorted(by_layer, key=lambda layer: _LAST.get(layer, layer))
        if len(layers) > 1:
            lines.append({"name": name, "x": list(map(str, layers)), "y": [by_layer[layer] for layer in layers]})
    return lines[:_MOST_LINES]


def _joined(row: dict[str, Any]) -> str:
    return "joined with the baseline" if row.get("join_baseline") else ""


def draw_lines(lines: Sequence[dict[str, Any]], across: str, up: str) -> dict[str, Any]:
    """Shares by category: [{"name", "x": names, "y": shares, and perhaps "interval_95": one for each}]."""
    drawn = []
    for number, line in enumerate(lines):
        trace: dict[str, Any] = {
            "type": "scatter",
            "mode": "lines+markers",
            "name": shown(line["name"], 44),
            "x": line["x"],
            "y": line["y"],
            "marker": {"color": f"hsl({(210 + 137.5 * number) % 360:.0f},55%,{(42, 58)[number % 2]}%)", "size": 8},
            "hovertext": [f"{shown(line['name'])}<br>{x}: {y:.1%}" for x, y in zip(line["x"], line["y"], strict=True)],
            "hoverinfo": "text",
        }
        if "interval_95" in line:
            bounds = list(zip(line["interval_95"], line["y"], strict=True))
            trace["error_y"] = {
                "type": "data",
                "symmetric": False,
                "array": [high - y for (_, high), y in bounds],
                "arrayminus": [y - low for (low, _), y in bounds],
                "thickness": 1,
            }
        drawn.append(trace)
    categories = sorted({x for line in lines for x in line["x"]}, key=_in_order)
    layout = plain_layout(
        340 + 20 * len(lines),
        xaxis=axis(across, type="category", categoryorder="array", categoryarray=categories),
        yaxis=axis(up, rangemode="tozero", tickformat=".0%"),
        showlegend=True,
        legend={"orientation": "h", "y": -0.25, "yanchor": "top"},
    )
    return {"data": drawn, "layout": layout}


def _in_order(category: str) -> tuple[float, str]:
    """Numbers first, as numbers."""
    return (float(category), "") if category.isdigit() else (float("inf"), category)


def project(vectors: np.ndarray) -> tuple[np.ndarray, float]:
    """Vectors (M, D) on their two first principal components, (M, 2), and the share of variance that those hold.

    Components point to where their largest coordinate is positive, so that the same vectors give the same map.
    """
    centred = vectors - vectors.mean(axis=0, dtype=np.float64)
    small = centred @ centred.T if len(centred) <= centred.shape[1] else centred.T @ centred
    values, axes = np.linalg.eigh(small)
    top = axes[:, ::-1][:, :2]
    where = top * np.sqrt(np.maximum(values[::-1][:2], 0)) if len(centred) <= centred.shape[1] else centred @ top
    where = where * np.where(where[np.abs(where).argmax(axis=0), np.arange(where.shape[1])] < 0, -1, 1)
    return where, float(np.maximum(values[::-1][:2], 0).sum() / max(np.maximum(values, 0).sum(), 1e-30))


def draw_map(points: Points, names: Sequence[str]) -> tuple[dict[str, Any], float]:
    """The embeddings' first two principal components, coloured by class, and the share of variance that they hold."""
    where, held = project(points.vectors)
    drawn = []
    called = [*names, "without a label"]
    for number in np.unique(points.labels).tolist():
        rows = np.flatnonzero(points.labels == number).tolist()
        colour = f"hsl({360 * number * 0.618 % 360:.0f},65%,{(45, 60, 35)[number % 3]}%)"
        drawn.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": shown(called[number], 24),
                "x": where[rows, 0].round(4).tolist(),
                "y": where[rows, 1].round(4).tolist(),
                "marker": {
                    "color": colour,
                    "size": 8,
                    "symbol": ["circle-open" if points.tested[row] else "circle" for row in rows],
                },
                "hovertext": [f"{shown(points.names[row])}<br>{shown(called[number])}" for row in rows],
                "hoverinfo": "text",
            }
        )
    bare = {"fixedrange": True, "showticklabels": False, "zeroline": False}
    legend = len(drawn) <= _MAX_LEGEND
    layout = plain_layout(
        460 + (18 * len(drawn) if legend else 0),
        xaxis=bare,
        yaxis=bare,
        showlegend=legend,
        legend={"orientation": "h", "y": -0.02, "yanchor": "top", "itemclick": False, "itemdoubleclick": False},
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
    )
    return {"data": drawn, "layout": layout}, held
