"""What the drawings have in common: axes, names as Plotly reads them, a layout for a phone. Knows no drawing."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from golem_ray.errors import printable


def shown(name: str, most: int | None = None) -> str:
    """A name for Plotly, which reads some HTML (but no `&quot;`); shortened in the middle to so many characters."""
    name = printable(name)
    if most is not None and len(name) > most:
        name = f"{name[: most // 2]}\u2026{name[most // 2 + 1 - most :]}"
    return escape(name, quote=False)


def class_axis(names: Sequence[str], **more: Any) -> dict[str, Any]:
    """An axis with a place for each class."""
    ticks = {"tickmode": "array", "tickvals": list(range(len(names))), "ticktext": [shown(name, 20) for name in names]}
    return {"automargin": True, "fixedrange": True, "showgrid": False, "zeroline": False, **ticks, **more}


def plain_layout(height: int, **more: Any) -> dict[str, Any]:
    """A drawing without a title, a legend or a mode of dragging; `more` adds to that."""
    return {
        "height": height,
        "margin": {"l": 50, "r": 10, "t": 10, "b": 50},
        "font": {"size": 12},
        "dragmode": False,  # on a phone a finger scrolls the page
        "hovermode": "closest",
        "showlegend": False,
        **more,
    }


def heatmap(
    shades: Sequence[Sequence[float]], most: float, hover: list[list[str]], counts: Sequence[Sequence[int]] | None
) -> dict[str, Any]:
    """A table of shades up to `most`, with words under the pointer, and with counts in it if they are given."""
    drawn: dict[str, Any] = {
        "type": "heatmap",
        "z": shades,
        "zmin": 0,
        "zmax": most,
        "colorscale": [[0, "#ffffff"], [1, "#2f5f9e"]],
        "showscale": False,
        "hovertext": hover,
        "hoverinfo": "text",
        "xgap": 1,
        "ygap": 1,
    }
    if counts is not None:
        drawn |= {"text": [[str(count or "") for count in row] for row in counts], "texttemplate": "%{text}"}
    return drawn


def axis(title: str, **more: Any) -> dict[str, Any]:
    """An axis with a title."""
    return {"title": {"text": title}, "automargin": True, "fixedrange": True, **more}


def height_of(num_classes: int, each: int) -> int:
    """Pixels of a drawing with so many rows, `each` pixels high."""
    return min(160 + each * num_classes, 3000)
