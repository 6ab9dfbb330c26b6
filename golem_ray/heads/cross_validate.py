"""The cross-validated figures of a head's training, and the calibration that follows from them.

Knows no modality, encoder or Ray.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from golem_ray.heads.examples import Examples
from golem_ray.heads.fit import fit, logits_of
from golem_ray.heads.rows import Streamed
from golem_ray.heads.select import best_layer, score
from golem_ray.heads.training_set import HeadSpec, TrainingSet
from golem_ray.metrics.comparison import accuracy_of
from golem_ray.progress import Progress

Report = Callable[[Progress], None]

SAMPLED_ROWS = 100_000
"""Most examples that are cross-validated on where embeddings do not fit in memory."""

MOST_LOGITS = 1 << 28
"""Most logits of all rounds together, a gigabyte; there are fewer rounds where examples times classes are more."""


@dataclass(frozen=True)
class Unseen:
    """The logits of heads on examples that they were not trained on, in R rounds."""

    logits: np.ndarray
    """(R, N, K) float32, NaN for an example that was not tested."""
    tested: np.ndarray
    """(R, N) bool."""
    num_folds: int
    """Of all rounds together."""


def cross_validate(
    data: TrainingSet, every: Examples, spec: HeadSpec, repeats: int, report: Report
) -> tuple[dict[str, Any], np.ndarray, np.ndarray | None]:
    """Metrics of cross-validation, its first round's logits (N, K), and which rows these are of (None: all rows).

    `every` is the training set on its device, its embeddings (N, D) or (N, C, D). If they are not in memory, a sample
    of them is cross-validated on.
    """
    rows, examples = None, every
    if isinstance(every.embeddings, Streamed):
        rows = _sampled_rows(len(every), spec.training.seed)
        data = dataclasses.replace(data, **_taken(data, rows))
        device = every.embeddings.device
        examples = Examples(
            torch.tensor(data.embeddings, device=device),
            torch.tensor(data.labels, device=device),
            data.groups,
            data.extra,
        )
    unseen = _unseen_logits(examples, data, spec, repeats, report)
    scores = _scores(data, unseen, spec)
    if scores:
        flags = {"nested": bool(data.layers), "sampled": rows is not None}
        scores |= {flag: True for flag, holds in flags.items() if holds}
    tested, labels = unseen.tested, np.broadcast_to(data.labels, unseen.tested.shape)
    calibration = spec.target.calibrate(unseen.logits[tested], labels[tested], int(tested[0].sum()))
    return {"cross_validation": scores, "calibration": calibration}, unseen.logits[0], rows


def _sampled_rows(num_examples: int, seed: int) -> np.ndarray | None:
    """At most SAMPLED_ROWS rows, ascending, drawn evenly, whatever their classes; None if that is all of them.

    Extra examples are drawn like others, so that the heads are trained on the same mixture as the one that is saved.
    """
    if num_examples <= SAMPLED_ROWS:
        return None
    return np.sort(np.random.default_rng([seed, 3]).choice(num_examples, SAMPLED_ROWS, replace=False))


def _taken(data: TrainingSet, rows: np.ndarray | None) -> dict[str, Any]:
    """What there is of the rows, in memory."""
    if rows is None:
        return {"embeddings": np.array(data.embeddings)}
    groups, extra = (None if each is None else each[rows] for each in (data.groups, data.extra))
    kept = {"labels": data.labels[rows], "groups": groups, "extra": extra}
    return {"embeddings": np.array(data.embeddings[rows]), **kept}


def _unseen_logits(examples: Examples, data: TrainingSet, spec: HeadSpec, repeats: int, report: Report) -> Unseen:
    """Logits from heads that were trained on the other folds.

    Of embeddings (N, C, D) a layer is chosen anew in each fold, by that fold's training examples alone: otherwise the
    figures would profit from the choice.
    """
    repeats = min(repeats, max(1, MOST_LOGITS // (len(data.labels) * spec.num_classes)))
    folds = spec.target.folds(data.labels, repeats, spec.training.seed, data.groups, data.extra)
    logits = np.full((max(repeats, 1), len(data.labels), spec.num_classes), np.nan, dtype=np.float32)
    tested = np.zeros(logits.shape[:2], dtype=bool)
    for number, (train, test) in enumerate(folds):
        features = examples
        if data.layers:
            trained = examples.take(train)
            scores = [score(trained.of_layer(layer), spec, 1) for layer in range(len(data.layers))]
            features = examples.of_layer(best_layer(scores, trained.groups))
        head = fit(features.take(train), spec)
        repeat = number * repeats // len(folds)
        logits[repeat, test] = logits_of(head, features.take(test).embeddings)
        tested[repeat, test] = True
        report(Progress(stage="cross-validating", done=number + 1, total=len(folds), unit="folds"))
    return Unseen(logits, tested, len(folds))


def _scores(data: TrainingSet, unseen: Unseen, spec: HeadSpec) -> dict[str, Any] | None:
    """The record of a cross-validation; None without folds.

    The interval is that of a single round, since more rounds are the same examples again.
    """
    if not unseen.num_folds:
        return None
    right = np.where(unseen.tested, spec.target.right(unseen.logits, data.labels), np.nan)
    accuracy, rounds = accuracy_of(right, data.groups), len(unseen.logits)
    testable = data.labels if data.extra is None else data.labels[~data.extra]
    counts, num_folds = np.bincount(testable), unseen.num_folds // rounds
    return {
        "accuracy": accuracy["value"],
        "interval_95": accuracy["interval_95"],
        "folds": num_folds,
        "repeats": rounds,
        "num_clips": int(unseen.tested[0].sum()),
        "num_single_clip_classes": int((counts == 1).sum()),
        "num_small_classes": int(((counts > 1) & (counts < num_folds)).sum()),
    }
