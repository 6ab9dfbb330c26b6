"""What a page shows of a classifier's answers: a table of figures, the words that moved them. Knows no drawing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from golem_ray.embedding.modality import Baseline
from golem_ray.metrics.answers import Answers
from golem_ray.metrics.figures import Figure
from golem_ray.report.html import cell, escape, number, table

MAX_MISTAKES = 20
"""Worst mistakes that a page names."""

_MOST_MOVING, _LEAST_CHANGE = 5, 0.005
"""Words that are shown for a label, and the least change of these."""

_LONGEST_WORD = 40
"""Characters of such a word that a page shows."""

_LIKELIER, _LESS_LIKELY = "31 119 180", "255 127 14"
"""Red, green and blue behind a word that speaks for a label, and behind one that speaks against it."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Examples that were not trained on, and what the classifier says of them."""

    how: str
    """A sentence: which examples these are."""
    example: Callable[[int], str]
    """The name of each of the N by its index: few of them are shown."""
    labels: np.ndarray
    """(N,) int64, indices into `names`; (N, K') bool, one column for each of these, where there may be several."""
    answers: Answers
    """N, of the K classes that the classifier knows."""
    names: Sequence[str]
    """Those K classes, and then the other labels of the examples."""
    figures: dict[str, Any]
    """As metrics.figures or metrics.several gives them."""
    baselines: dict[str, dict[str, Any]]
    """What to compare with -> {figure: value, or as metrics.figures gives it}."""
    baseline: Baseline | None = None
    """Of `baselines`, the one that is a head on plain vectors, if it is there."""
    rejected: dict[str, Any] | None = None
    """As metrics.coverage.covered gives it; None where the answers say nothing of who is unsure."""
    per_class: Sequence[dict[str, Any]] = ()
    """Where there may be several labels: as metrics.several.per_class gives them."""
    by_folds: bool = False
    """Where there may be several labels: whether thresholds are those of cross-validation's folds, each its own."""

    def differing(self, index: int) -> tuple[list[int], list[int]]:
        """The labels that an example has and is not given, and those that it is given and has not, by their indices."""
        own, said = (
            np.flatnonzero(each[index]) if each.ndim == 2 else each[[index]]
            for each in (self.labels, self.answers.decisions)
        )
        return np.setdiff1d(own, said).tolist(), np.setdiff1d(said, own).tolist()


@dataclass(frozen=True, kw_only=True)
class Column:
    """One more column in the table of mistakes, such as a player for each example."""

    title: str
    html: Callable[[int], str]
    """Of a tested example's index; taken as it is."""
    note: str = ""
    """What to know of it, in sentences."""


def moving_words(changes: Sequence[tuple[str, float]]) -> tuple[list[tuple[str, float]], str]:
    """Of a label's words, the largest change of its probability first, those to show; without any, why in words."""
    shown = [(word, change) for word, change in changes if abs(change) >= _LEAST_CHANGE][:_MOST_MOVING]
    return shown, "" if shown else "no word moves it by .01" if changes else "no word can be left out"


def signed(change: float) -> str:
    """`+.41`, `-1.00`."""
    return f"{change:+.2f}".replace("0.", ".", 1)


def moved_html(changes: Mapping[str, Sequence[tuple[str, float]]], said: Mapping[str, str], remark: str) -> str:
    """Of each label what is said of it and the words that moved it, the more the darker; a remark, or '', below."""
    lines = []
    for label, each in changes.items():
        words, none = moving_words(each)
        lines.append(f"{said[label]} <b>{escape(label)}</b>: {', '.join(_marked(*word) for word in words) or none}")
    return f'<div class="moved">{"<br>".join([*lines, *([escape(remark)] if remark else [])])}</div>'


def _marked(word: str, change: float) -> str:
    """A word and its change. Words of scripts that run the other way do not turn the numbers beside them."""
    shown = word if len(word) <= _LONGEST_WORD else f"{word[:_LONGEST_WORD]}\u2026"
    colour = f"rgb({_LIKELIER if change > 0 else _LESS_LIKELY} / {0.1 + 0.5 * abs(change) ** 0.5:.0%})"
    return f'<mark style="background: {colour}"><bdi>{escape(shown)}</bdi>&nbsp;{signed(change)}</mark>'


def figures_table(judged: Judged, kinds: Mapping[str, Figure], rivals: Mapping[str, str]) -> str:
    """The figures of those kinds with their intervals, beside those of rivals: their keys in `baselines` -> titles."""
    rows = []
    for name, kind in kinds.items():
        if name not in judged.figures:
            continue
        figure, others = judged.figures[name], [judged.baselines[key].get(name) for key in rivals]
        low, high = (kind.shown(bound) for bound in figure["interval_95"])
        row = [cell(_title(kind)), number(kind.shown(figure["value"])), number(f"{low} to {high}")]
        rows.append(row + [number(_shown(kind, each, "value")) for each in others])
        if "floor" in figure:
            row = [cell("Its floor"), number(kind.shown(figure["floor"])), number("")]
            rows.append(row + [number(_shown(kind, each, "floor")) for each in others])
    return table(["", "Value", "95 % interval", *rivals.values()], rows)


def _shown(kind: Figure, value: Any, key: str) -> str:
    """What a rival's plain value, or record of a figure, has under the key; '' for nothing."""
    found = value.get(key) if isinstance(value, dict) else value if key == "value" else None
    return "" if found is None else kind.shown(found)


def _title(figure: Figure) -> str:
    """A figure's name at the head of a row."""
    return figure.title[0].upper() + figure.title[1:] + (f" ({figure.unit})" if figure.unit else "")
