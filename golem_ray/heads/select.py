"""How a candidate is scored on examples that it was not fitted on, and how a layer is chosen.

Knows no modality, encoder or Ray.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from golem_ray.data.folds import Folds, rows_by_label
from golem_ray.heads.examples import Examples
from golem_ray.heads.fit import fit, log_loss, logits_of
from golem_ray.heads.training_set import HeadSpec
from golem_ray.metrics.comparison import Round, Score, best_candidate
from golem_ray.metrics.intervals import mean_and_error

_DIVERGED = 1e6
"""Log-loss of a head whose training did not converge."""


def score(examples: Examples, spec: HeadSpec, repeats: int) -> Score | None:
    """The cross-validated score of heads fitted as the spec says; None if there are no folds."""
    labels = examples.label_array()
    right, times, loss = np.zeros(len(labels)), np.zeros(len(labels)), 0.0
    for train, test in _every_fold(examples, spec, repeats):
        head, tested = fit(examples.take(train), spec), examples.take(test)
        right[test] += spec.target.right(logits_of(head, tested.embeddings), labels[test])
        times[test] += 1
        found = log_loss(head, tested, spec)
        loss += (found if math.isfinite(found) else _DIVERGED) * len(test)
    if not times.any():
        return None
    of_each = np.divide(right, times, out=np.full(len(labels), np.nan), where=times > 0)
    return Score(right.sum() / times.sum(), loss / times.sum(), of_each)


def best_layer(scores: Sequence[Score | None], groups: np.ndarray | None) -> int:
    """The number of the best layer, if it beats the layer `last` by more than a standard error; else that of `last`.

    `last` is the one before the last in `scores`. The error is that of the difference, over examples or over groups,
    (N,) int. This is the rule of one standard error (Breiman et al., Classification and Regression Trees, 1984): among
    many layers some look better by chance, and few examples leave much to chance.
    """
    best, last = best_candidate(scores), len(scores) - 2
    if best is None or best == last:
        return last
    first, second = scores[best], scores[last]
    assert first is not None
    assert second is not None
    gain, error, _ = mean_and_error(first.right - second.right, groups)
    return best if gain > error else last


def round_on(examples: Examples, spec: HeadSpec, repeats: int, number: int) -> Round:
    """What heads fitted as the spec says do in round `number` of `repeats` of cross-validation."""
    labels, target = examples.label_array(), spec.target
    right, losses = np.full((2, len(labels)), np.nan, dtype=np.float32)
    folds, inner = np.full(len(labels), -1, dtype=np.int8), []
    for fold, (train, test) in enumerate(_folds(examples, spec, repeats, number)):
        trained = examples.take(train)
        found = score(trained, spec, 1)
        inner.append(None if found is None else Score(found.accuracy, found.log_loss))
        logits = logits_of(fit(trained, spec), examples.take(test).embeddings)
        lost = target.losses(torch.from_numpy(logits), torch.from_numpy(labels[test]))
        losses[test] = torch.nan_to_num(lost, nan=_DIVERGED, posinf=_DIVERGED)
        right[test] = target.right(logits, labels[test])
        folds[test] = fold
    return Round(right, losses, folds, tuple(inner))


def fewer_on(examples: Examples, spec: HeadSpec, repeats: int, number: int, sizes: Sequence[int]) -> np.ndarray:
    """Which examples are recognised in that round with at most so many examples of each class to train on.

    (S, N) float32, like `Round.right`. A smaller size takes some of the examples of a larger one; every candidate gets
    the same ones. Extra examples are not counted: all that the fold may train on are in each size, as in a training.
    """
    labels, target = examples.label_array(), spec.target
    right = np.full((len(sizes), len(labels)), np.nan, dtype=np.float32)
    for fold, (train, test) in enumerate(_folds(examples, spec, repeats, number)):
        rng = np.random.default_rng([spec.training.seed, number, fold, 2])
        turn = np.full(len(train), -1)
        own = np.arange(len(train)) if examples.extra is None else np.flatnonzero(~examples.extra[train])
        for rows in rows_by_label(labels[train[own]]):
            members = own[rng.permutation(rows)]
            turn[members] = np.arange(len(members))
        tested = examples.take(test).embeddings
        for row, size in enumerate(sizes):
            head = fit(examples.take(train[turn < size]), spec)
            right[row, test] = target.right(logits_of(head, tested), labels[test])
    return right


def _every_fold(examples: Examples, spec: HeadSpec, repeats: int) -> Folds:
    return spec.target.folds(examples.label_array(), repeats, spec.training.seed, examples.groups, examples.extra)


def _folds(examples: Examples, spec: HeadSpec, repeats: int, number: int) -> Folds:
    labels, seed = examples.label_array(), spec.training.seed
    return spec.target.round_folds(labels, repeats, number, seed, examples.groups, examples.extra)
