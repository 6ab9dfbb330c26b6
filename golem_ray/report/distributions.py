"""How a dataset's examples are spread: drawings of counts, numbers and groups, as Plotly's figures."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from golem_ray.config import Noun
from golem_ray.report.axes import axis, class_axis, heatmap, height_of, plain_layout, shown

_BLUE, _PALE = "#4a7fb5", "#9bb8d3"

MAX_COUNTED = 20
"""Most columns of a table whose counts are written as numbers."""


def draw_counts(names: Sequence[str], counts: Sequence[int], noun: Noun) -> dict[str, Any]:
    """A bar for each name, as long as it has examples, the first on top."""
    drawn = {
        "type": "bar",
        "orientation": "h",
        "y": list(range(len(names))),
        "x": list(counts),
        "marker": {"color": _BLUE},
        "hovertext": [f"{shown(name)}<br>{count} {noun.many}" for name, count in zip(names, counts, strict=True)],
        "hoverinfo": "text",
    }
    down = class_axis(names, autorange="reversed")
    layout = plain_layout(height_of(len(names), 22), xaxis=axis(noun.many, rangemode="tozero"), yaxis=down)
    return {"data": [drawn], "layout": layout}


def draw_histogram(histogram: dict[str, list[float]], across: str, noun: Noun) -> dict[str, Any]:
    """Counts between edges: {"counts": B, "edges": B + 1}."""
    edges, counts = histogram["edges"], histogram["counts"]
    bins = list(pairwise(edges))
    drawn = {
        "type": "bar",
        "x": [(low + high) / 2 for low, high in bins],
        "width": [high - low for low, high in bins],
        "y": counts,
        "marker": {"color": _BLUE, "line": {"color": "#fff", "width": 1}},
        "hovertext": [
            f"{low:.4g} to {high:.4g}<br>{count} {noun.many}" for (low, high), count in zip(bins, counts, strict=True)
        ],
        "hoverinfo": "text",
    }
    axes = {"xaxis": axis(across), "yaxis": axis(noun.many, rangemode="tozero")}
    return {"data": [drawn], "layout": plain_layout(280, bargap=0, **axes)}


def draw_boxes(names: Sequence[str], quantiles: Sequence[dict[str, float]], across: str) -> dict[str, Any]:
    """For each name the smallest, the quartiles and the largest of its numbers, the first on top."""
    drawn = {
        "type": "box",
        "orientation": "h",
        "y": list(range(len(names))),
        "q1": [each["q1"] for each in quantiles],
        "median": [each["median"] for each in quantiles],
        "q3": [each["q3"] for each in quantiles],
        "lowerfence": [each["min"] for each in quantiles],
        "upperfence": [each["max"] for each in quantiles],
        "line": {"color": "#2f5f9e", "width": 1},
        "fillcolor": _PALE,
        "hoverinfo": "x",
    }
    down = class_axis(names, autorange="reversed")
    layout = plain_layout(height_of(len(names), 24), xaxis=axis(across, rangemode="tozero"), yaxis=down)
    return {"data": [drawn], "layout": layout}


def draw_crossed(
    counts: Sequence[Sequence[int]], rows: Sequence[str], columns: Sequence[str], noun: Noun
) -> dict[str, Any]:
    """How many examples are of each row's and each column's name: R lists of C."""
    hover = [
        [f"{shown(row)}, {shown(column)}<br>{count} {noun.many}" for column, count in zip(columns, line, strict=True)]
        for row, line in zip(rows, counts, strict=True)
    ]
    shades = [list(line) for line in counts]
    most = max((count for line in shades for count in line), default=0) or 1
    drawn = heatmap(shades, most, hover, shades if len(columns) <= MAX_COUNTED else None)
    across, down = class_axis(columns, tickangle=-90), class_axis(rows, autorange="reversed")
    layout = plain_layout(height_of(len(rows), 26), xaxis=across, yaxis=down, plot_bgcolor="#ddd")
    return {"data": [drawn], "layout": layout}


def draw_together(counts: Sequence[Sequence[int]], names: Sequence[str], total: int, noun: Noun) -> dict[str, Any]:
    """How many of the examples have each two labels, K lists of K; on the diagonal those of one, which has no shade."""
    each = [max(line[at], 1) for at, line in enumerate(counts)]
    shades = [
        [0.0 if at == of else count / each[at] for of, count in enumerate(line)] for at, line in enumerate(counts)
    ]
    hover = []
    for at, line in enumerate(counts):
        expected = [each[at] * many / max(total, 1) for many in each]
        hover.append(
            [
                f"{shown(names[at])}<br>{count} {noun.many}"
                if at == of
                else f"{shown(names[at])}, {shown(names[of])}<br>{count} {noun.many}, {expected[of]:.1f} by chance"
                for of, count in enumerate(line)
            ]
        )
    most = max((share for line in shades for share in line), default=0) or 1
    rounded = [[round(share, 3) for share in line] for line in shades]
    drawn = heatmap(rounded, most, hover, counts if len(names) <= MAX_COUNTED else None)
    across, down = class_axis(names, tickangle=-90), class_axis(names, autorange="reversed")
    return {"data": [drawn], "layout": plain_layout(height_of(len(names), 26), xaxis=across, yaxis=down)}
