"""Which of several candidates is better, and whether by more than noise. Knows no encoder, head or Ray.

All figures are of cross-validation on the same examples in the same folds. Differences are paired, example by example,
since two candidates find the same examples hard. Heads of different folds share most of their training examples, so
that plain intervals are too narrow: these have the variance of C. Nadeau and Y. Bengio, Inference for the
generalization error (Machine Learning, 2003), and Student's quantile over examples, or over groups of them (speakers).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from golem_ray.metrics.intervals import mean_and_error, share_interval, students_half


class Score(NamedTuple):
    """How good a candidate is on examples that it was not fitted on."""

    accuracy: float
    log_loss: float
    """In nats."""
    right: np.ndarray = np.zeros((0, 0))
    """(R, N) float32: 1 for an example that was recognised in a round, 0 for one that was not, NaN if not tested."""


def ranked(scores: Sequence[Score | None]) -> list[int]:
    """The candidates that have a score: the most accurate one first, of equal ones the one with the least log-loss."""
    known = [(-score.accuracy, score.log_loss, number) for number, score in enumerate(scores) if score is not None]
    return [number for _, _, number in sorted(known)]


def best_candidate(scores: Sequence[Score | None]) -> int | None:
    """The first of `ranked`; None if no candidate has a score."""
    return next(iter(ranked(scores)), None)


class Round(NamedTuple):
    """How good a candidate is in one round of cross-validation."""

    right: np.ndarray
    """(N,) float32: 1 for an example that was recognised, 0 for one that was not, NaN for one that was not tested."""
    losses: np.ndarray
    """(N,) float32: its log-loss in nats; NaN for one that was not tested."""
    folds: np.ndarray
    """(N,) int8: the number of the fold that tested it; -1 for one that was not tested."""
    inner: tuple[Score | None, ...]
    """For each fold, the candidate's cross-validated score on that fold's training examples alone."""


def paired(first: np.ndarray, second: np.ndarray, num_folds: int, groups: np.ndarray | None) -> dict[str, Any]:
    """By how much `first` is more accurate than `second`: {"value", "interval_95"}. Both as `difference` takes them."""
    value, error, units = difference(first, second, num_folds, groups)
    half = students_half(error, units)
    return {"value": value, "interval_95": [max(-1.0, value - half), min(1.0, value + half)]}


def difference(
    first: np.ndarray, second: np.ndarray, num_folds: int, groups: np.ndarray | None
) -> tuple[float, float, int]:
    """By how much `first` is more accurate than `second`, its standard error, and over how many units.

    Both (R, N): right or wrong in R rounds of num_folds folds, NaN where not tested. groups: (N,) int or None.
    """
    found = [mean_and_error(one - other, groups) for one, other in zip(first, second, strict=True)]
    value, units = float(np.mean([mean for mean, _, _ in found])), found[0][2]
    variance = np.mean([error**2 for _, error, _ in found]) * (1 / len(first) + num_folds / (num_folds - 1))
    return value, float(np.sqrt(variance)), units


def accuracy_of(right: np.ndarray, groups: np.ndarray | None) -> dict[str, Any]:
    """Accuracy over all rounds, (R, N): {"value", "interval_95"}, by the examples tested once. groups: (N,) int."""
    tested = np.isfinite(right)
    sums, counts = np.where(tested, right, 0).sum(axis=0, dtype=np.float64), tested.sum(axis=0)
    value = float(np.where(tested, right, 0).sum(dtype=np.float64) / tested.sum())
    of_each = np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)
    return {"value": value, "interval_95": list(share_interval(value, of_each, groups))}


def compare(rounds: Sequence[Sequence[Round]], groups: np.ndarray | None) -> dict[str, Any]:
    """What R rounds of each candidate show; candidate 0 is the default.

    {"order": best first, "candidates": in their own order, "nested": the accuracy of choosing}. groups: (N,) int64 or
    None, as the rounds were played with.
    """
    right = np.stack([[each.right for each in played] for played in rounds])
    losses = np.stack([[each.losses for each in played] for played in rounds])
    scores = [
        Score(accuracy_of(mine, groups)["value"], float(np.nanmean(lost)))
        for mine, lost in zip(right, losses, strict=True)
    ]
    order = sorted(range(len(scores)), key=lambda number: (-scores[number].accuracy, scores[number].log_loss, number))
    best, num_folds = order[0], len(rounds[0][0].inner)
    candidates = [
        {
            "accuracy": accuracy_of(mine, groups),
            "log_loss": score.log_loss,
            "against_best": paired(mine, right[best], num_folds, groups),
            "against_default": paired(mine, right[0], num_folds, groups),
        }
        for mine, score in zip(right, scores, strict=True)
    ]
    return {"order": order, "candidates": candidates, "nested": nested(rounds, groups)}


def nested(rounds: Sequence[Sequence[Round]], groups: np.ndarray | None) -> dict[str, Any]:
    """How accurate it is to choose the best candidate anew in each fold, by that fold's training examples alone.

    {"accuracy", "against_default", "chosen": [[candidate, in how many folds], ...]}. If no candidate has a score on a
    fold's training examples, the default is taken.
    """
    chosen = Counter[int]()
    right = np.full((len(rounds[0]), len(rounds[0][0].right)), np.nan, dtype=np.float32)
    for number, default_round in enumerate(rounds[0]):
        for fold in range(len(default_round.inner)):
            candidate = best_candidate([played[number].inner[fold] for played in rounds]) or 0
            chosen[candidate] += 1
            tested = default_round.folds == fold
            right[number, tested] = rounds[candidate][number].right[tested]
    default = np.stack([each.right for each in rounds[0]])
    return {
        "accuracy": accuracy_of(right, groups),
        "against_default": paired(right, default, len(rounds[0][0].inner), groups),
        "chosen": [list(pair) for pair in chosen.most_common()],
    }


def curve(
    sizes: Sequence[int], fewer: np.ndarray, every: np.ndarray, groups: np.ndarray | None
) -> list[dict[str, Any]]:
    """Accuracy by examples per class: [{"clips_per_class", "value", "interval_95"}], the last of all examples.

    fewer: (R, S, N) right or wrong with each of S sizes, every: (R, N) with all.
    """
    points = [(size, fewer[:, row]) for row, size in enumerate(sizes)]
    return [{"clips_per_class": size, **accuracy_of(right, groups)} for size, right in [*points, ("all", every)]]
