"""Which examples are trained on and which are tested on."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from golem_ray.config import Noun, TrainConfig
from golem_ray.data.encode import flat
from golem_ray.data.extra import Extra, open_extra
from golem_ray.data.folds import held_out, in_one_group
from golem_ray.data.groups import groups_of
from golem_ray.data.several import kinds_of, label_array
from golem_ray.data.sources import open_source
from golem_ray.data.stratify import several_held_out
from golem_ray.data.table import Content, Source, example_name, renumbered
from golem_ray.data.unusable import shown_path
from golem_ray.errors import ConfigError, DataError, UserError

log = logging.getLogger(__name__)

HELD_OUT = "held out"


@dataclass(frozen=True, kw_only=True)
class Division:
    """The examples of a run: those to train on, then those of `dataset.extra`, then those of a split to test on."""

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
    beside: tuple[Extra, ...] = ()
    """The datasets that are trained on and never tested."""

    @property
    def noun(self) -> Noun:
        """What messages call an example."""
        return self.source.noun

    @property
    def extra(self) -> np.ndarray:
        """(N,) bool: whether an example is of one of these datasets."""
        extra = np.zeros(len(self.tested), dtype=bool)
        for each in self.beside:
            extra[each.rows.start : each.rows.stop] = True
        return extra

    @property
    def revisions(self) -> dict[str, Any]:
        """The commits of the datasets that came from the Hub, as a record of the run has them."""
        beside = {"extra_revisions": [each.revision for each in self.beside]} if self.beside else {}
        return {"revision": self.source.revision, **beside}

    @property
    def several(self) -> bool:
        """Whether an example may have several labels, or none."""
        return self.source.several

    @property
    def known(self) -> np.ndarray:
        """(N,) bool: whose labels are known."""
        found: np.ndarray = flat(self.source.examples["label"]).is_valid().to_numpy(zero_copy_only=False)
        return found

    @property
    def kinds(self) -> np.ndarray:
        """(N,) float64: one number for all with the same label, or the same ones; NaN where these are not known."""
        return kinds_of(self.source.examples["label"])

    def labels_of(self, rows: np.ndarray, names: Sequence[str] | None = None) -> np.ndarray:
        """The labels of rows (M,) where they are known: (M,) int64, or (M, K) bool where there may be several.

        Of classes that are trained on; with `names`, K is their number.
        """
        return label_array(self.source.examples["label"].take(rows), len(names or self.source.labels))

    def labelled(self, row: int) -> str:
        """What the row is labelled as, for messages."""
        found = self.source.examples["label"][int(row)].as_py()
        numbers = found if isinstance(found, list) else [found]
        return ", ".join(repr(self.names[number]) for number in numbers) or "nothing"

    def counts(self, rows: np.ndarray) -> list[int]:
        """How many of the rows, (M,), are of the main dataset, and of each one beside it."""
        beside = [int(((rows >= each.rows.start) & (rows < each.rows.stop)).sum()) for each in self.beside]
        return [len(rows) - sum(beside), *beside]

    def place(self, row: int) -> tuple[str | None, int]:
        """What a row was read from, a split or a key (None: the split to train on), and its number there."""
        for each in self.beside:
            if int(row) in each.rows:
                return each.key, row - each.rows.start
        if self.how in (None, HELD_OUT) or not self.tested[row]:
            return None, row
        return self.how, row - int((~self.tested).sum())

    def split(self, row: int) -> str | None:
        """The split that a row was read from; None for the main one to train on."""
        return next((each.split for each in self.beside if int(row) in each.rows), self.place(row)[0])

    def name(self, row: int) -> str:
        """How an example is named in messages and in the report."""
        place, number = self.place(row)
        named = example_name(number, shown_path(self.source.examples["path"][int(row)].as_py()), self.noun)
        return f"{place} {named}" if place else named


def divide(config: TrainConfig, source: Source, content: Content) -> Division:
    """The examples to train on and those to test on: another split, some held out, or none.

    Those of `dataset.extra` are to train on, and change nothing of which others are held out. Raises UserError if a
    source cannot be had, if too few examples would be left, or if groups leave nothing to cross-validate on.
    """
    split = config.evaluation.split
    division = _with_holdout(config, source) if split is None else _with_split(config, source, content)
    if config.dataset.extra:
        division = _with_extra(config, division, source, open_extra(config, source, content))
    if config.evaluation.repeats > 0:
        _check_groups(config, division)
    return division


def _check_groups(config: TrainConfig, division: Division) -> None:
    """Raise DataError if there are groups to cross-validate over, but no class has examples of two of them.

    Examples beside the main dataset do not count for that, since folds are made without them.
    """
    if division.groups is None:
        return
    trained = ~division.tested & division.known
    groups, own, many = division.groups[trained], ~division.extra[trained], division.noun.many
    if len(np.unique(groups[own])) < 2 or division.several:
        return
    labels = division.labels_of(np.flatnonzero(trained))
    if np.bincount(labels[own]).max() > 1 and in_one_group(labels[own], groups[own]):
        besides = f" of {config.dataset.name}" if division.beside else ""
        raise DataError(
            f"evaluation.group_column: expected a class with {many}{besides} of two groups in "
            f"{config.evaluation.group_column!r}, found each class in one group alone, so that none can be tested by "
            f"a head that was trained on it; name another column, take more {many}, or set evaluation.repeats to 0 "
            "for no cross-validation."
        )
    pairs = np.unique(np.stack([labels, groups]), axis=1)
    alone = np.bincount(pairs[0])[labels[own]] == 1
    if alone.any():
        log.warning(
            "%d of %d %s are of classes that are in one group alone: cross-validation, and calibration by it, count "
            "them as missed, since no head that they are tested by was trained on their class",
            alone.sum(),
            len(alone),
            many,
        )


def _with_extra(config: TrainConfig, division: Division, main: Source, sources: list[Source]) -> Division:
    """The division with the examples of other sources after those of the main one, to train on."""
    before = main.examples.num_rows
    ends = before + np.cumsum([each.examples.num_rows for each in sources])
    rows = [range(end - each.examples.num_rows, end) for each, end in zip(sources, ends.tolist(), strict=True)]
    first, last = division.source.examples.slice(0, before), division.source.examples.slice(before)
    both = dataclasses.replace(division.source, examples=_joined([first, *(each.examples for each in sources), last]))
    not_tested = np.zeros(ends[-1] - before, dtype=bool)
    return dataclasses.replace(
        division,
        source=both,
        tested=np.concatenate([division.tested[:before], not_tested, division.tested[before:]]),
        groups=groups_of(both),
        beside=tuple(
            Extra(key=f"dataset.extra[{number}]", split=dataset.split, rows=rows[number], revision=each.revision)
            for number, (each, dataset) in enumerate(zip(sources, config.dataset.extra, strict=True))
        ),
    )


def _joined(tables: list[pa.Table]) -> pa.Table:
    """Tables of examples in one, with ids of their own."""
    found = pa.concat_tables(tables, promote_options="permissive").unify_dictionaries()
    return found.set_column(0, "id", pa.array(np.arange(found.num_rows)))


def _with_holdout(config: TrainConfig, source: Source) -> Division:
    """The source, with some examples held out if that is configured."""
    groups = groups_of(source)
    tested = np.zeros(source.examples.num_rows, dtype=bool)
    holdout, noun = config.evaluation.holdout, source.noun
    if holdout is None:
        return Division(source=source, names=source.labels, tested=tested, groups=groups)
    rows = np.flatnonzero(flat(source.examples["label"]).is_valid().to_numpy(zero_copy_only=False))
    wanted = holdout if isinstance(holdout, int) else max(1, round(holdout * len(rows)))
    if not 0 < wanted < len(rows):
        raise ConfigError(
            f"evaluation.holdout: expected fewer {noun.many} than the {len(rows)} that have a label, got {holdout}; "
            "hold out fewer."
        )
    if groups is not None and len(np.unique(groups[rows])) < 2:
        raise ConfigError(
            f"evaluation.group_column: expected {noun.many} of at least two groups in "
            f"{config.evaluation.group_column!r}, found one; take more {noun.many}, or hold out without groups."
        )
    labels = label_array(source.examples["label"].take(rows), len(source.labels))
    hold = several_held_out if source.several else held_out
    tested[rows] = hold(labels, wanted, config.training.seed, None if groups is None else groups[rows])
    if groups is None and tested.sum() < wanted:
        left = "only %d of %d %s are held out: one of each class is kept to train on"
        log.warning(left, tested.sum(), wanted, noun.many)
    if not tested.any():
        raise ConfigError(
            f"evaluation.holdout: expected a class with two {noun.many} or more, found none: each class keeps one to "
            "train on."
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
        kind = DataError if isinstance(error, DataError) else ConfigError  # subclasses take more than words
        raise kind(f"evaluation.split: for the split {split!r}, {problem}") from None
    if tested.several != source.several:
        raise DataError(
            f"evaluation.split: expected {split!r} to have labels as {config.dataset.split!r} has them, found several "
            "for an example in one of the two alone; name both alike."
        )
    names, examples = renumbered(tested, source.labels)
    both = dataclasses.replace(source, examples=_joined([source.examples, examples]))
    is_tested = np.arange(both.examples.num_rows) >= source.examples.num_rows
    return Division(source=both, names=names, tested=is_tested, how=split, groups=groups_of(both))


def drawn(rows: np.ndarray, most: int = 2000) -> np.ndarray:
    """At most so many of the rows (N,), taken evenly."""
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]
