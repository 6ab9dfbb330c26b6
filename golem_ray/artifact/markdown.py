"""What the parts of a model card are written with: other people's text as mere text, and figures in words.

Knows nothing of what a card says. A sidecar may come from anybody: what is not as it should be is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from golem_ray.metrics.intervals import in_words


def code(value: object) -> str:
    """Any text as a Markdown code span, in which nothing has a meaning: one line, at most 100 characters."""
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in str(value)).split())
    text = text[:100] + "..." if len(text) > 100 else text or " "
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{space}{text}{space}{fence}"


def python(lines: Iterable[str]) -> str:
    """Lines of Python as a block."""
    return "\n".join(["```python", *lines, "```"])


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown already; a bar in one of them is no border."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def group(values: dict[str, Any], key: str) -> dict[str, Any]:
    """The group of that name; an empty one where there is none."""
    found = values.get(key)
    return found if isinstance(found, dict) else {}


def number(value: object) -> str:
    """A count in words."""
    return str(value) if is_number(value) else "an unknown number of"


def is_number(value: object) -> bool:
    """Whether the value is a number; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def figure(scores: dict[str, Any], key: str, unit: str = ".1%") -> str:
    """The figure in words, with its interval if the sidecar has one as it should be."""
    interval = scores.get("interval_95")
    if not isinstance(interval, list) or len(interval) != 2 or not all(map(is_number, interval)):
        interval = None
    return in_words(scores[key], interval, unit)


def measured(figures: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Of records of figures by their names, those with a value."""
    return {name: each for name, each in figures.items() if isinstance(each, dict) and is_number(each.get("value"))}
