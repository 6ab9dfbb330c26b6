"""Which clips a classifier is tested on, and what that shows, as figures and in words.

Knows nothing of Ray or PyTorch, nor of how a clip becomes a vector.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from golem_ray.config import TrainConfig
from golem_ray.data import Source, clip_name, open_source
from golem_ray.errors import ConfigError, DataError, UserError
from golem_ray.metrics import baselines, figures, held_out, per_class

log = logging.getLogger(__name__)

HELD_OUT = "held out"

MAX_NAMED_CLIPS = 20
"""Clips that a message names at most."""


@dataclass(frozen=True, kw_only=True)
class Division:
    """The clips of a run: those to train on, and those to test on."""

    source: Source
    """All of them. A label of a class that is not trained on has a number beyond those of `source.labels`."""
    names: tuple[str, ...]
    """`source.labels`, and then what else the clips to test on are labelled with."""
    tested: np.ndarray
    """(N,) bool."""
    how: str | None = None
    """Which clips are tested on: `held out`, or the name of a split; None if there are none."""
    groups: np.ndarray | None = None
    """(N,) int64: clips of one group have one number."""

    @property
    def labels(self) -> np.ndarray:
        """(N,) float64: each clip's label, NaN where it has none."""
        return self.source.clips["label"].to_numpy().astype(np.float64)

    def place(self, row: int) -> tuple[str | None, int]:
        """The split that a row was read from (None: the one to train on), and its number there."""
        if self.how in (None, HELD_OUT) or not self.tested[row]:
            return None, row
        return self.how, row - int((~self.tested).sum())


def divide(config: TrainConfig, source: Source) -> Division:
    """The clips to train on and those to test on: another split, some held out, or none.

    Raises UserError if the split cannot be had, or if too few clips would be left.
    """
    if config.evaluation.split is not None:
        return _with_split(config, source)
    groups = _groups(source)
    tested = np.zeros(source.clips.num_rows, dtype=bool)
    holdout = config.evaluation.holdout
    if holdout is None:
        return Division(source=source, names=source.labels, tested=tested, groups=groups)
    rows = np.flatnonzero(source.clips["label"].is_valid().to_numpy())
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
    labels = source.clips["label"].to_numpy()[rows].astype(np.int64)
    tested[rows] = held_out(labels, wanted, config.training.seed, None if groups is None else groups[rows])
    if groups is None and tested.sum() < wanted:
        log.warning("only %d of %d clips are held out: one of each class is kept to train on", tested.sum(), wanted)
    if not tested.any():
        raise ConfigError(
            "evaluation.holdout: expected a class with two clips or more, found none: each class keeps one to train on."
        )
    return Division(source=source, names=source.labels, tested=tested, how=HELD_OUT, groups=groups)


def _groups(source: Source) -> np.ndarray | None:
    """(N,) int64: a number for each group; a clip without one is a group of its own."""
    if "group" not in source.clips.column_names:
        return None
    codes = pc.index_in(source.clips["group"], pc.unique(source.clips["group"]).drop_null())
    alone = np.arange(len(codes)) + len(codes)
    return np.where(codes.is_valid().to_numpy(), codes.fill_null(0).to_numpy(), alone).astype(np.int64)


def joined_groups(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(N,) int64: one number for all clips that are linked, step by step, by a number of either kind, (N,) int each."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows, (_, one), (_, other) = np.arange(len(first)), *(np.unique(x, return_inverse=True) for x in (first, second))
    ends = np.concatenate([len(rows) + one, len(rows) + one.max() + 1 + other])
    size = int(ends.max()) + 1
    links = coo_array((np.ones(len(ends)), (np.concatenate([rows, rows]), ends)), shape=(size, size))
    return connected_components(links, directed=False)[1][: len(rows)].astype(np.int64)


def _with_split(config: TrainConfig, source: Source) -> Division:
    """The source, followed by the clips of the split to test on, so that one pass embeds both."""
    split = config.evaluation.split
    assert split is not None
    revision = source.revision or config.dataset.revision
    try:
        dataset = dataclasses.replace(config.dataset, split=split, revision=revision)
        tested = open_source(dataset, None, group_column=config.evaluation.group_column)
    except UserError as error:
        problem = str(error).removeprefix("dataset.split: ")
        raise type(error)(f"evaluation.split: for the split {split!r}, {problem}") from None
    names, clips = renumbered(tested, source.labels)
    joined = pa.concat_tables([source.clips, clips], promote_options="permissive").unify_dictionaries()
    joined = joined.set_column(0, "id", pa.array(np.arange(joined.num_rows)))
    both = dataclasses.replace(source, clips=joined)
    is_tested = np.arange(joined.num_rows) >= source.clips.num_rows
    return Division(source=both, names=names, tested=is_tested, how=split, groups=_groups(both))


def renumbered(source: Source, labels: Sequence[str]) -> tuple[tuple[str, ...], pa.Table]:
    """The source's clips with labels numbered as in `labels`, and the names of all those numbers.

    What a clip of the source is labelled with but `labels` lacks comes after them.
    """
    used = {index for index in pc.unique(source.clips["label"]).to_pylist() if index is not None}
    others = [name for index, name in enumerate(source.labels) if index in used and name not in labels]
    names = (*labels, *others)
    numbers = pa.array([names.index(name) if name in names else None for name in source.labels], pa.int64())
    column = pa.chunked_array([numbers.take(chunk) for chunk in source.clips["label"].chunks], pa.int64())
    return names, source.clips.set_column(source.clips.schema.get_field_index("label"), "label", column)


def drawn(rows: np.ndarray, most: int = 2000) -> np.ndarray:
    """At most so many of the rows (N,), taken evenly."""
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]


def largest_class(labels: np.ndarray) -> int:
    """The class that most of the labels (N,) int64 name."""
    return int(np.bincount(labels).argmax())


def evaluate(
    probabilities: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    largest: int,
    log_mel: np.ndarray | None = None,
) -> dict[str, Any]:
    """What probabilities (N, K) for labels (N,) int64 show, as plain JSON values; `names` of labels, K or more.

    Beside it who guesses evenly, who always says the class `largest`, and the same head on log-mel statistics, (N, K)
    where they are given.
    """
    beside: dict[str, Any] = dict(baselines(labels, probabilities.shape[1], largest))
    if log_mel is not None:
        beside["log_mel"] = figures(log_mel, labels)
    return {
        "num_clips": len(labels),
        "unknown_labels": {
            name: int(count)
            for name, count in zip(names, np.bincount(labels, minlength=len(names)), strict=True)
            if count and names.index(name) >= probabilities.shape[1]
        },
        "figures": figures(probabilities, labels),
        "baselines": beside,
        "per_class": per_class(probabilities.argmax(axis=1), labels, list(names)),
    }


def percent(figure: dict[str, Any]) -> str:
    """`32.1% (95 % interval 27.4% to 37.3%)`."""
    low, high = figure["interval_95"]
    return f"{figure['value']:.1%} (95 % interval {low:.1%} to {high:.1%})"


def evaluation_line(scores: dict[str, Any]) -> str:
    """A sentence about the tested clips of a training run."""
    where = "held out" if scores["how"] == HELD_OUT else f"of {scores['how']}"
    line = f"Accuracy on the {scores['num_clips']} clips {where}"
    if scores["num_also_trained_on"]:
        line += f" that were not trained on ({scores['num_also_trained_on']} were)"
    if not scores["num_clips"]:
        return f"{line}: none, for want of clips."
    low, high = scores["baselines"]["log_mel"]["accuracy"]["interval_95"]
    return (
        f"{line} {percent(scores['figures']['accuracy'])}; the same head on log-mel statistics "
        f"{scores['baselines']['log_mel']['accuracy']['value']:.1%} ({low:.1%} to {high:.1%}), chance "
        f"{scores['baselines']['chance']['accuracy']:.1%}."
    )


def cross_validation_line(scores: dict[str, Any] | None, repeats: int) -> str:
    """A sentence about the cross-validation."""
    if scores is None:
        reason = "it is turned off" if repeats == 0 else "no class has two clips, or there is but one group"
        return f"No cross-validated accuracy: {reason}."
    low, high = scores["interval_95"]
    line = (
        f"Cross-validated accuracy {scores['accuracy']:.1%} (95 % interval {low:.1%} to {high:.1%}; "
        f"{scores['repeats']} x {scores['folds']} folds over {scores['num_clips']} "
        f"{'sampled clips, of heads trained on these alone' if scores.get('sampled') else 'clips'}"
        f"{', the layer chosen anew in each' if scores.get('nested') else ''})."
    )
    singles = scores["num_single_clip_classes"]
    if singles:
        line += f" {singles} class{'es' if singles > 1 else ''} with a single clip only trained."
    return line


def layer_line(chosen: int | str, scores: Sequence[dict[str, Any]]) -> str:
    """A sentence about the choice of a layer: [{"layer", "accuracy", ...}]."""
    if not scores:
        return "No layer could be chosen, for want of classes with two clips: the last one was taken."
    by_name = {entry["layer"]: entry["accuracy"] for entry in scores}
    best = max(by_name, key=lambda layer: by_name[layer])
    line = f"Of {len(scores)} layers, {chosen} was taken: cross-validated accuracy {by_name[chosen]:.1%}"
    if by_name[best] > by_name[chosen]:
        line += f", that of {best} {by_name[best]:.1%}, which is within a standard error"
    elif chosen != "last":
        line += f", that of the last {by_name['last']:.1%}"
    return f"{line} (the figures below do not profit from the choice)."


def calibration_line(calibration: dict[str, Any] | None) -> str:
    """A sentence about how far probabilities can be believed."""
    if calibration is None:
        return "Probabilities are not calibrated, for want of cross-validated clips: expect them to be too sure."
    return (
        f"Probabilities are calibrated: a temperature of {calibration['temperature']:.2f}, from "
        f"{calibration['num_clips']} cross-validated clips."
    )


def check_bad_clips(records: Sequence[dict[str, Any]], num_clips: int, max_bad_fraction: float) -> None:
    """Name the clips that cannot be used ({"clip", "reason"}) of num_clips; DataError if they are too many."""
    if not records:
        return
    most = allowed(max_bad_fraction, num_clips)
    named = "; ".join(f"{record['clip']}: {record['reason']}" for record in records[:MAX_NAMED_CLIPS])
    more = f"; and {len(records) - MAX_NAMED_CLIPS} more" if len(records) > MAX_NAMED_CLIPS else ""
    if len(records) > most:
        raise DataError(
            f"processing.max_bad_fraction: expected at most {most} of {num_clips} clips to be unusable, found "
            f"{len(records)} or more ({named}{more}); mend or remove them, or allow a larger fraction."
        )
    log.warning("clips that cannot be used, %d of %d: %s%s", len(records), num_clips, named, more)


def allowed(max_bad_fraction: float, num_clips: int) -> int:
    """How many of num_clips may be unusable."""
    return int(max_bad_fraction * num_clips + 1e-9)  # 0.58 of 50 are 29


def clip_at(source: Source, row: int | np.integer) -> str:
    """How a clip of the source is named in messages and reports."""
    return clip_name(int(row), shown_path(source.clips["path"][int(row)].as_py()))


def shown_path(path: str | None) -> str | None:
    """The path as a reader would write it: from the working folder, if it lies below."""
    return path.removeprefix(f"{os.getcwd()}{os.sep}") if path else path
