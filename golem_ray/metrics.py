"""How good a classifier is, with what is needed to believe it: folds, intervals, chance.

Knows nothing of heads or encoders: it is given labels and gives indices and figures.
"""

from __future__ import annotations

import math

import numpy as np


def wilson_interval(accuracy: float, num_clips: int, z: float = 1.959964) -> tuple[float, float]:
    """The 95 % interval of an accuracy measured on num_clips independent clips.

    Wilson's score interval (E. B. Wilson, JASA 1927), which keeps its promise for few clips and near 0 and 1.
    """
    shrink = 1 + z * z / num_clips
    centre = accuracy + z * z / (2 * num_clips)
    spread = z * math.sqrt(accuracy * (1 - accuracy) / num_clips + (z / (2 * num_clips)) ** 2)
    return max(0.0, (centre - spread) / shrink), min(1.0, (centre + spread) / shrink)


def stratified_folds(labels: np.ndarray, repeats: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(train, test) indices of repeated stratified k-fold cross-validation over labels: (N,) int.

    k is the smallest count among the classes with two clips or more, at most 5. Classes with a single clip are
    in every training part and in no test part. Every other clip is tested once a repeat. Empty without a class
    of two clips, or without repeats.
    """
    counts = np.bincount(labels)
    scored = np.flatnonzero(counts[labels] >= 2)
    if scored.size == 0:
        return []
    single = np.setdiff1d(np.arange(len(labels)), scored)
    k = min(5, int(counts[counts >= 2].min()))
    folds = []
    for repeat in range(repeats):
        fold = _deal(labels, scored, k, np.random.default_rng([seed, repeat]))
        for number in range(k):
            train = np.sort(np.concatenate([scored[fold != number], single]))
            folds.append((train, scored[fold == number]))
    return folds


def _deal(labels: np.ndarray, scored: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """A fold for each scored clip: each class shuffled and dealt out in turn, so that folds are of one size too."""
    fold = np.empty(len(scored), dtype=np.int64)
    dealt = 0
    for label in np.unique(labels[scored]):
        members = rng.permutation(np.flatnonzero(labels[scored] == label))
        fold[members] = (np.arange(dealt, dealt + len(members))) % k
        dealt += len(members)
    return fold
