"""How candidates for a head are scored on examples that they were not fitted on, and how a layer is chosen.

Knows nothing of modalities, encoders or Ray.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from golem_ray.config import HeadConfig, TrainingConfig
from golem_ray.data.folds import round_folds, stratified_folds
from golem_ray.heads.fit import fitted, log_loss, logits_of
from golem_ray.metrics.comparison import Round, Score, best_candidate
from golem_ray.metrics.intervals import mean_and_error

_DIVERGED = 1e6
"""Log-loss of a head whose training did not converge."""


def score(
    embeddings: Tensor,
    labels: Tensor,
    num_classes: int,
    config: HeadConfig,
    training: TrainingConfig,
    groups: np.ndarray | None,
    repeats: int,
) -> Score | None:
    """The recipe's cross-validated score on (N, D) float32 and (N,) int64; None where there are no folds."""
    told = labels.cpu().numpy()
    right, times, loss = np.zeros(len(told)), np.zeros(len(told)), 0.0
    for train, test in stratified_folds(told, repeats, training.seed, groups):
        of_fold = None if groups is None else groups[train]
        head = fitted(embeddings[train], labels[train], num_classes, config, training, of_fold)
        right[test] += logits_of(head, embeddings[test]).argmax(axis=1) == told[test]
        times[test] += 1
        found = log_loss(head, embeddings[test], labels[test])
        loss += (found if math.isfinite(found) else _DIVERGED) * len(test)
    if not times.any():
        return None
    per_clip = np.divide(right, times, out=np.full(len(told), np.nan), where=times > 0)
    return Score(right.sum() / times.sum(), loss / times.sum(), per_clip)


def best_layer(scores: Sequence[Score | None], groups: np.ndarray | None) -> int:
    """The best of layers, `last` being the one before the last; `last` itself unless another is better by more than a
    standard error of their difference, over clips or over groups, (N,) int.

    That is the rule of one standard error (Breiman et al., Classification and Regression Trees, 1984): among many
    layers some look better by chance, and few clips leave much to chance.
    """
    best, last = best_candidate(scores), len(scores) - 2
    if best is None or best == last:
        return last
    first, second = scores[best], scores[last]
    assert first is not None
    assert second is not None
    gain, error, _ = mean_and_error(first.right - second.right, groups)
    return best if gain > error else last


def round_on(
    embeddings: Tensor,
    labels: Tensor,
    num_classes: int,
    config: HeadConfig,
    training: TrainingConfig,
    groups: np.ndarray | None,
    repeats: int,
    number: int,
) -> Round:
    """The recipe in round `number` of `repeats` of cross-validation, on (N, D) float32 and (N,) int64."""
    right, losses = np.full((2, len(labels)), np.nan, dtype=np.float32)
    inner = []
    for train, test in round_folds(labels.cpu().numpy(), repeats, number, training.seed, groups):
        of_fold = None if groups is None else groups[train]
        found = score(embeddings[train], labels[train], num_classes, config, training, of_fold, 1)
        inner.append(None if found is None else Score(found.accuracy, found.log_loss))
        head = fitted(embeddings[train], labels[train], num_classes, config, training, of_fold)
        logits = torch.from_numpy(logits_of(head, embeddings[test]))
        lost = torch.nn.functional.cross_entropy(logits, labels[test].cpu(), reduction="none")
        losses[test] = torch.nan_to_num(lost, nan=_DIVERGED, posinf=_DIVERGED)
        right[test] = logits.argmax(dim=1) == labels[test].cpu()
    return Round(right, losses, tuple(inner))


def fewer_on(
    embeddings: Tensor,
    labels: Tensor,
    num_classes: int,
    config: HeadConfig,
    training: TrainingConfig,
    groups: np.ndarray | None,
    repeats: int,
    number: int,
    sizes: Sequence[int],
) -> np.ndarray:
    """Which clips are recognised in that round with at most so many clips of each class to train on.

    (S, N) float32, like `Round.right`. Fewer clips are some of the more; they are drawn alike for every recipe.
    """
    told = labels.cpu().numpy()
    right = np.full((len(sizes), len(told)), np.nan, dtype=np.float32)
    for fold, (train, test) in enumerate(round_folds(told, repeats, number, training.seed, groups)):
        rng = np.random.default_rng([training.seed, number, fold, 2])
        turn = np.empty(len(train), dtype=np.int64)
        for label in np.unique(told[train]):
            members = rng.permutation(np.flatnonzero(told[train] == label))
            turn[members] = np.arange(len(members))
        for row, size in enumerate(sizes):
            some = train[turn < size]
            of_fold = None if groups is None else groups[some]
            head = fitted(embeddings[some], labels[some], num_classes, config, training, of_fold)
            right[row, test] = logits_of(head, embeddings[test]).argmax(axis=1) == told[test]
    return right
