"""The report of a comparison: the table, accuracy by layer, and by examples per class, on one HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from golem_ray.config import Noun
from golem_ray.report.drawings import draw_lines, lines_by_layer
from golem_ray.report.html import assemble, cell, escape, number, section, table
from golem_ray.report.words import blindly, classes_of, compared_on, measure_of, percent, points, rounds_played

_MOST_ROWS = 200


_LAYERS = (
    "Cross-validated {} of each layer under a kind of head, on the folds that the best one was chosen by. Small "
    "differences may be chance."
)


def render_comparison(result: dict[str, Any], noun: Noun) -> str:
    """The page, from the result of a comparison."""
    rows, many, measure = result["candidates"], noun.many, measure_of(result)
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
        f"the default {points(nested['against_default'])}. {blindly(result)} This is what the choice is worth: the "
        "best candidate's own figure below is too good, since it was chosen for it.</p>",
        f'<p class="note">Chosen in so many folds: {often}.</p>',
        "<h2>Every candidate</h2>",
        f'<p class="note">Cross-validated {measure} on the same {many} in the same folds. Differences are paired: '
        "where an interval holds 0, the two may be equally good.</p>",
        _ranking(rows, result["default"], measure),
    ]
    drawings = {}
    layers = lines_by_layer(rows)
    if layers:
        drawings["layers"] = draw_lines(layers, "layer", measure)
        parts.append(section("By layer", _LAYERS.format(measure), "layers"))
    lines = [
        {
            "name": curve["name"],
            "x": [str(point["clips_per_class"]) for point in curve["points"]],
            "y": [point["value"] for point in curve["points"]],
            "interval_95": [point["interval_95"] for point in curve["points"]],
        }
        for curve in result["learning_curves"]
    ]
    each = "label" if classes_of(result) == "labels" else "class"
    drawings["curve"] = draw_lines(lines, f"{many} per {each} to train on", measure)
    parts.append(section(f"By {many} per {each}", _curve_words(many, each, measure), "curve"))
    return assemble(f"{len(rows)} candidates compared", parts, drawings)


def _curve_words(many: str, each: str, measure: str) -> str:
    return (
        f"{measure.capitalize()} with at most so many {many} of each {each} to train on, with 95 % intervals. If it "
        f"still rises, more {many} help. The best candidate was chosen on these folds, which flatters it, most of all "
        f"with all {many}."
    )


def _ranking(rows: Sequence[dict[str, Any]], default: str, measure: str) -> str:
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
    heads = ["Candidate", measure.capitalize(), "95 % interval", "Against the best", "Against the default"]
    return table(heads, cells) + more
