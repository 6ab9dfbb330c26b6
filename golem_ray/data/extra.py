"""The datasets beside the main one (`dataset.extra`): all of their examples are trained on, none is ever tested.

Does not know how folds or holdouts are drawn.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from golem_ray.config import DatasetConfig, TrainConfig, as_extra
from golem_ray.data.sources import open_source
from golem_ray.data.table import Content, Source, renumbered
from golem_ray.errors import ConfigError, DataError, UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Extra:
    """Where a run's examples of one such dataset are."""

    key: str
    """What messages call it: `dataset.extra[0]`."""
    split: str
    rows: range
    """Its rows in the table of all examples."""
    revision: str | None
    """Commit of a Hub dataset."""


def open_extra(config: TrainConfig, main: Source, content: Content) -> list[Source]:
    """Each dataset of `dataset.extra`, whole, its labels numbered as those of the main one.

    Raises UserError, named by the table's key, if one cannot be had, or if it has a label that the main one lacks: the
    figures could say nothing of such a class, since no example of it is tested.
    """
    found = []
    for number, dataset in enumerate(config.dataset.extra):
        try:
            source = _opened(dataset, content, config.evaluation.group_column, number)
        except UserError as error:
            kind = DataError if isinstance(error, DataError) else ConfigError  # subclasses take more than words
            raise kind(as_extra(str(error), number)) from None
        if source.several != main.several:
            here, wanted = ("several labels", "one label") if source.several else ("one label", "several labels")
            raise DataError(
                f"dataset.extra[{number}].label_column: expected {wanted} for each {content.noun.one}, as "
                f"{config.dataset.name} has, found {here} in {dataset.name}; write them alike."
            )
        names, examples = renumbered(source, main.labels)
        others = names[len(main.labels) :]
        if others:
            raise DataError(
                f"dataset.extra[{number}].label_column: expected labels of {config.dataset.name} "
                f"({', '.join(main.labels[:20])}), found {len(others)} others in {dataset.name} "
                f"({', '.join(others[:20])}), whose classes could never be tested; write them alike, or leave them out."
            )
        found.append(dataclasses.replace(source, examples=examples, labels=main.labels))
    return found


def _opened(dataset: DatasetConfig, content: Content, group_column: str | None, number: int) -> Source:
    """All examples; where there is no column of groups each is a group of its own, and a warning says so."""
    try:
        return open_source(dataset, content, None, group_column=group_column)
    except DataError as error:
        if not str(error).startswith("evaluation.group_column: ") or "found none" not in str(error):
            raise
    log.warning(
        "dataset.extra[%d] has no column %r (evaluation.group_column): each of its %s counts as a group of its own, "
        "so make sure that no %s of theirs is among those tested on",
        number,
        group_column,
        content.noun.many,
        group_column,
    )
    return open_source(dataset, content, None)


def named_together(dataset: DatasetConfig) -> str:
    """The names of a run's datasets, for a sentence."""
    return listed([dataset.name, *(each.name for each in dataset.extra)])


def sources_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    """What a sidecar says of each dataset that was trained on, the main one first.

    [{"name", "split", "total", "used"}] of those trained on, used and not; without `dataset.extra` one of these.
    """
    clips, dataset = document["clips"], document["config"].get("dataset")
    main = dataset if isinstance(dataset, dict) else {}
    beside = list(zip(main["extra"], clips["extra"], strict=True)) if clips.get("extra") else []
    named = [{"name": each.get("name"), "split": each.get("split")} for each in (main, *(keys for keys, _ in beside))]
    counts = [{key: number[key] for key in ("total", "used")} for _, number in beside]
    own = {key: clips.get(key) for key in ("total", "used")}
    if counts:
        own = {key: clips[key] - sum(number[key] for number in counts) for key in own}
    return [{**each, **numbers} for each, numbers in zip(named, [own, *counts], strict=True)]


def listed(parts: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
