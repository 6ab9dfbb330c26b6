"""The report of a comparison: the table, accuracy by layer, and by examples per class, on one HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from golem_ray.config import Noun
from golem_ray.report.drawings import draw_lines, lines_by_layer
from golem_ray.report.html import assemble, cell, escape, number, section, table
from golem_ray.report.words import compared_on, percent, points, rounds_played

_MOST_ROWS = 200


_LAYERS = (
    "Cross-validated accuracy of each layer under a kind of head, on the folds that the best one was chosen by. Small "
    "differences may be chance."
)


def render_comparison(result: dict[str, Any], noun: Noun) -> str:
    """The page, from the result of a comparison."""
    rows, many = result["candidates"], noun.many
    about = {
        many.capitalize(): compared_on(result, noun),
        "Folds": f"{rounds_played(result)}, seed {result['seed']}",
        "Best": rows[0]["name"],
        "Default": result["default"],
    }
    listed = "\n".join(f"<dt>{key}</dt><dd>{escape(value)}</dd>" for key, value in about.items())
    nested = result["nested"]
    often = "; ".join(f"{escape(each['name'])}: {each['folds']}" for each in nested["chosen"][:5])
    parts = [
        f"<h1>{len(rows)} candidates compared</h1>\n<dl>\n{listed}\n</dl>",
        f"<p>Choosing anew in each fold, by that fold's training {many} alone: {percent(nested['accuracy'])}, against "
        f"the default {points(nested['against_default'])}. Chance is {result['chance']:.1%}, always naming the largest "
        f"class {result['largest_class']:.1%}. This is what the choice is worth: the best candidate's own figure below "
        "is too good, since it was chosen for it.</p>",
        f'<p class="note">Chosen in so many folds: {often}.</p>',
        "<h2>Every candidate</h2>",
        f'<p class="note">Cross-validated accuracy on the same {many} in the same folds. Differences are paired: where '
        "an interval holds 0, the two may be equally good.</p>",
        _ranking(rows, result["default"]),
    ]
    drawings = {}
    layers = lines_by_layer(rows)
    if layers:
        drawings["layers"] = draw_lines(layers, "layer", "accuracy")
        parts.append(section("By layer", _LAYERS, "layers"))
    lines = [
        {
            "name": curve["name"],
            "x": [str(point["clips_per_class"]) for point in curve["points"]],
            "y": [point["value"] for point in curve["points"]],
            "interval_95": [point["interval_95"] for point in curve["points"]],
        }
        for curve in result["learning_curves"]
    ]
    drawings["curve"] = draw_lines(lines, f"{many} per class to train on", "accuracy")
    parts.append(section(f"By {many} per class", _curve_words(many), "curve"))
    return assemble(f"{len(rows)} candidates compared", parts, drawings)


def _curve_words(many: str) -> str:
    return (
        f"Accuracy with at most so many {many} of each class to train on, with 95 % intervals. If it still rises, more "
        f"{many} help. The best candidate was chosen on these folds, which flatters it, most of all with all {many}."
    )


def _ranking(rows: Sequence[dict[str, Any]], default: str) -> str:
    cells = [
        [
            cell(row["name"] + (" (default)" if row["name"] == default else "")),
            number(f"{row['accuracy']['value']:.1%}"),
            number("{:.1%} to {:.1%}".format(*row["accuracy"]["interval_95"])),
            number(points(row["against_best"])),
            number(points(row["against_default"])),
        ]
        for row in rows[:_MOST_ROWS]
    ]
    more = f"<p>And {len(rows) - _MOST_ROWS} more: see comparison.json.</p>" if len(rows) > _MOST_ROWS else ""
    return table(["Candidate", "Accuracy", "95 % interval", "Against the best", "Against the default"], cells) + more
