"""What a page shows of a classifier's answers, and the table of their figures. Knows no drawing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from golem_ray.embedding.modality import Baseline
from golem_ray.metrics.answers import Answers
from golem_ray.metrics.figures import Figure
from golem_ray.report.html import cell, number, table

MAX_MISTAKES = 20
"""Worst mistakes that a page names."""


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


@dataclass(frozen=True, kw_only=True)
class Column:
    """One more column in the table of mistakes, such as a player for each example."""

    title: str
    html: Callable[[int], str]
    """Of a tested example's index; taken as it is."""


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
