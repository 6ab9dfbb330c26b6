"""The cross-validated figures of a head's training, and the calibration that follows from them.

Knows no modality, encoder or Ray.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from golem_ray.data.folds import Folds
from golem_ray.heads.examples import Examples
from golem_ray.heads.many import unseen_logits
from golem_ray.heads.rows import Streamed
from golem_ray.heads.training_set import HeadCandidate, HeadSpec
from golem_ray.metrics.comparison import accuracy_of
from golem_ray.progress import Progress

Report = Callable[[Progress], None]

SAMPLED_ROWS = 100_000
"""Most examples that are cross-validated on where embeddings do not fit in memory."""

MOST_LOGITS = 1 << 28
"""Most logits of all rounds together, a gigabyte; there are fewer rounds where examples times classes are more."""


@dataclass(frozen=True)
class Rounds:
    """N examples in R rounds of cross-validation."""

    examples: Examples
    rows: np.ndarray | None
    """(N,) int64: which rows of the training set these are; None for all of them."""
    folds: Folds
    """Of all rounds, those of the first one first."""
    number: int
    """R."""


def rounds_of(every: Examples, spec: HeadSpec, repeats: int) -> Rounds:
    """The rounds of a training set: as many as `repeats` says, or fewer where logits would fill the memory.

    If the embeddings are not in memory, they are rounds of a sample of the set.
    """
    rows, examples = None, every
    if isinstance(every.embeddings, Streamed):
        rows = _sampled_rows(len(every), spec.training.seed)
        examples = every.in_memory(rows)
    repeats = min(repeats, max(1, MOST_LOGITS // (len(examples) * spec.num_classes)))
    labels, seed = examples.label_array(), spec.training.seed
    return Rounds(examples, rows, spec.target.folds(labels, repeats, seed, examples.groups, examples.extra), repeats)


def _sampled_rows(num_examples: int, seed: int) -> np.ndarray | None:
    """At most SAMPLED_ROWS rows, ascending, drawn evenly, whatever their classes; None if that is all of them.

    Extra examples are drawn like others, so that the heads are trained on the same mixture as the one that is saved.
    """
    if num_examples <= SAMPLED_ROWS:
        return None
    return np.sort(np.random.default_rng([seed, 3]).choice(num_examples, SAMPLED_ROWS, replace=False))


def unseen_by(
    rounds: Rounds, candidates: Sequence[HeadCandidate], chosen: Sequence[int], spec: HeadSpec, report: Report
) -> np.ndarray:
    """Logits (R, N, K) float32 on each example by a head trained on the other folds; NaN for one that was not tested.

    `chosen` says for each fold the number of the candidate that is trained there.
    """
    labels, folds = rounds.examples.label_array(), rounds.folds
    logits = np.full((max(rounds.number, 1), len(labels), spec.num_classes), np.nan, dtype=np.float32)
    num_done = 0

    def done(more: int) -> None:
        nonlocal num_done
        num_done += more
        report(Progress(stage="cross-validating", done=num_done, total=len(folds), unit="folds"))

    for number in sorted(set(chosen)):
        own = [fold for fold, which in enumerate(chosen) if which == number]
        candidate = candidates[number]
        found = unseen_logits(
            rounds.examples.of_columns(candidate.columns),
            [folds[fold] for fold in own],
            dataclasses.replace(spec, head=candidate.head),
            done=done,
        )
        for fold, unseen in zip(own, found, strict=True):
            logits[fold * rounds.number // len(folds), folds[fold][1]] = unseen.tested
    return logits


def validation_metrics(rounds: Rounds, logits: np.ndarray, spec: HeadSpec, *, nested: bool) -> dict[str, Any]:
    """What the logits (R, N, K) show, {"cross_validation": None without folds, "calibration"}.

    The interval is that of a single round, since more rounds are the same examples again.
    """
    examples = rounds.examples
    labels, tested = examples.label_array(), ~np.isnan(logits).all(axis=2)
    scores: dict[str, Any] | None = None
    if rounds.folds:
        right = np.where(tested, spec.target.right(np.nan_to_num(logits), labels), np.nan)
        accuracy, num_folds = accuracy_of(right, examples.groups), len(rounds.folds) // rounds.number
        counts = np.bincount(labels if examples.extra is None else labels[~examples.extra])
        scores = {
            "accuracy": accuracy["value"],
            "interval_95": accuracy["interval_95"],
            "folds": num_folds,
            "repeats": rounds.number,
            "num_clips": int(tested[0].sum()),
            "num_single_clip_classes": int((counts == 1).sum()),
            "num_small_classes": int(((counts > 1) & (counts < num_folds)).sum()),
        }
        flags = {"nested": nested, "sampled": rounds.rows is not None}
        scores |= {flag: True for flag, holds in flags.items() if holds}
    every_label = np.broadcast_to(labels, tested.shape)
    calibration = spec.target.calibrate(logits[tested], every_label[tested], int(tested[0].sum()))
    return {"cross_validation": scores, "calibration": calibration}
