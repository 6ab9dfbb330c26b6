"""Which examples are trained on and which are tested on."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from golem_ray.config import TrainConfig
from golem_ray.data.folds import held_out
from golem_ray.data.groups import groups_of
from golem_ray.data.sources import open_source
from golem_ray.data.table import Content, Source, clean_label, example_name
from golem_ray.data.unusable import shown_path
from golem_ray.errors import ConfigError, DataError, UserError

log = logging.getLogger(__name__)

HELD_OUT = "held out"


@dataclass(frozen=True, kw_only=True)
class Division:
    """The examples of a run: those to train on, and those to test on."""

    source: Source
    """All of them. A label of a class that is not trained on has a number beyond those of `source.labels`."""
    names: tuple[str, ...]
    """`source.labels`, and then what else the examples to test on are labelled with."""
    tested: np.ndarray
    """(N,) bool."""
    how: str | None = None
    """Which examples are tested on: `held out`, or the name of a split; None if there are none."""
    groups: np.ndarray | None = None
    """(N,) int64: examples of one group have one number."""

    @property
    def labels(self) -> np.ndarray:
        """(N,) float64: each example's label, NaN where it has none."""
        return self.source.examples["label"].to_numpy().astype(np.float64)

    def place(self, row: int) -> tuple[str | None, int]:
        """The split that a row was read from (None: the one to train on), and its number there."""
        if self.how in (None, HELD_OUT) or not self.tested[row]:
            return None, row
        return self.how, row - int((~self.tested).sum())

    def name(self, row: int) -> str:
        """How an example is named in messages and in the report."""
        split, number = self.place(row)
        named = example_name(number, shown_path(self.source.examples["path"][int(row)].as_py()))
        return f"{split} {named}" if split else named


def divide(config: TrainConfig, source: Source, content: Content) -> Division:
    """The examples to train on and those to test on: another split, some held out, or none.

    Raises UserError if the split cannot be had, if too few examples would be left, or if groups leave nothing to
    cross-validate on.
    """
    split = config.evaluation.split
    division = _with_holdout(config, source) if split is None else _with_split(config, source, content)
    if config.evaluation.repeats > 0:
        _check_groups(config, division)
    return division


def _check_groups(config: TrainConfig, division: Division) -> None:
    """Raise DataError if there are groups to cross-validate over, but no class has examples of two of them."""
    rows = np.flatnonzero(~division.tested & np.isfinite(division.labels))
    if division.groups is None or len(np.unique(division.groups[rows])) < 2:
        return
    labels = division.labels[rows].astype(np.int64)
    pairs = np.unique(np.stack([labels, division.groups[rows]]), axis=1)
    alone = np.bincount(pairs[0])[labels] == 1
    if np.bincount(labels).max() > 1 and alone.all():
        raise DataError(
            "evaluation.group_column: expected a class with clips of two groups in "
            f"{config.evaluation.group_column!r}, found each class in one group alone, so that none can be tested by "
            "a head that was trained on it; name another column, take more clips, or set evaluation.repeats to 0 for "
            "no cross-validation."
        )
    if alone.any():
        log.warning(
            "%d of %d clips are of classes that are in one group alone: cross-validation, and calibration by it, count "
            "them as missed, since no head that they are tested by was trained on their class",
            alone.sum(),
            len(rows),
        )


def _with_holdout(config: TrainConfig, source: Source) -> Division:
    """The source, with some examples held out if that is configured."""
    groups = groups_of(source)
    tested = np.zeros(source.examples.num_rows, dtype=bool)
    holdout = config.evaluation.holdout
    if holdout is None:
        return Division(source=source, names=source.labels, tested=tested, groups=groups)
    rows = np.flatnonzero(source.examples["label"].is_valid().to_numpy())
    wanted = holdout if isinstance(holdout, int) else max(1, round(holdout * len(rows)))
    if not 0 < wanted < len(rows):
        raise ConfigError(
            f"evaluation.holdout: expected fewer clips than the {len(rows)} that have a label, got {holdout}; hold out "
            "fewer."
        )
    if groups is not None and len(np.unique(groups[rows])) < 2:
        raise ConfigError(
            f"evaluation.group_column: expected clips of at least two groups in {config.evaluation.group_column!r}, "
            "found one; take more clips, or hold out without groups."
        )
    labels = source.examples["label"].to_numpy()[rows].astype(np.int64)
    tested[rows] = held_out(labels, wanted, config.training.seed, None if groups is None else groups[rows])
    if groups is None and tested.sum() < wanted:
        log.warning("only %d of %d clips are held out: one of each class is kept to train on", tested.sum(), wanted)
    if not tested.any():
        raise ConfigError(
            "evaluation.holdout: expected a class with two clips or more, found none: each class keeps one to train on."
        )
    return Division(source=source, names=source.labels, tested=tested, how=HELD_OUT, groups=groups)


def _with_split(config: TrainConfig, source: Source, content: Content) -> Division:
    """The source, followed by the examples of the split to test on, so that one pass embeds both."""
    split = config.evaluation.split
    assert split is not None
    revision = source.revision or config.dataset.revision
    try:
        dataset = dataclasses.replace(config.dataset, split=split, revision=revision)
        tested = open_source(dataset, content, None, group_column=config.evaluation.group_column)
    except UserError as error:
        problem = str(error).removeprefix("dataset.split: ")
        raise type(error)(f"evaluation.split: for the split {split!r}, {problem}") from None
    names, examples = renumbered(tested, source.labels)
    joined = pa.concat_tables([source.examples, examples], promote_options="permissive").unify_dictionaries()
    joined = joined.set_column(0, "id", pa.array(np.arange(joined.num_rows)))
    both = dataclasses.replace(source, examples=joined)
    is_tested = np.arange(joined.num_rows) >= source.examples.num_rows
    return Division(source=both, names=names, tested=is_tested, how=split, groups=groups_of(both))


def renumbered(source: Source, labels: Sequence[str]) -> tuple[tuple[str, ...], pa.Table]:
    """The source's examples with labels numbered as in `labels`, and the names of all those numbers.

    What an example of the source is labelled with but `labels` lacks comes after them. `labels` may be of an artifact
    whose labels were not cleaned.
    """
    used = {index for index in pc.unique(source.examples["label"]).to_pylist() if index is not None}
    number_of = {clean_label(name): number for number, name in enumerate(labels)}
    number_of |= {name: number for number, name in enumerate(labels)}
    others = [name for index, name in enumerate(source.labels) if index in used and name not in number_of]
    names = (*labels, *others)
    number_of |= {name: len(labels) + number for number, name in enumerate(others)}
    numbers = pa.array([number_of.get(name) for name in source.labels], pa.int64())
    column = pa.chunked_array([numbers.take(chunk) for chunk in source.examples["label"].chunks], pa.int64())
    return names, source.examples.set_column(source.examples.schema.get_field_index("label"), "label", column)


def drawn(rows: np.ndarray, most: int = 2000) -> np.ndarray:
    """At most so many of the rows (N,), taken evenly."""
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]
