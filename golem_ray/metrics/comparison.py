"""Which of several recipes is better, and whether by more than noise. Knows nothing of encoders, heads or Ray.

All figures are of cross-validation on the same clips in the same folds. Differences are paired, clip by clip, since two
recipes find the same clips hard. Heads of different folds share most of their training clips, so that plain intervals
are too narrow: these have the variance of C. Nadeau and Y. Bengio, Inference for the generalization error (Machine
Learning, 2003), and Student's quantile over clips, or over groups of clips (speakers).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from golem_ray.data.folds import round_folds
from golem_ray.metrics.intervals import mean_and_error, wilson_interval


class Score(NamedTuple):
    """How a recipe does on clips that it was not fitted on."""

    accuracy: float
    log_loss: float
    """In nats."""
    right: np.ndarray = np.zeros(0)
    """(N,): in which share of the rounds each clip was recognised, NaN for one that was not tested."""


def best_candidate(scores: Sequence[Score | None]) -> int | None:
    """The most accurate one, of equal ones that with the least log-loss; None where none has a score."""
    told = [(score.accuracy, -score.log_loss, -number) for number, score in enumerate(scores) if score is not None]
    return -max(told)[2] if told else None


class Round(NamedTuple):
    """How a recipe does in one round of cross-validation."""

    right: np.ndarray
    """(N,) float32: 1 for a clip that was recognised, 0 for one that was not, NaN for one that was not tested."""
    losses: np.ndarray
    """(N,) float32: its log-loss in nats, NaN where it was not tested."""
    inner: tuple[Score | None, ...]
    """For each fold, what cross-validation on that fold's training clips alone says of the recipe."""


def paired(first: np.ndarray, second: np.ndarray, num_folds: int, groups: np.ndarray | None) -> dict[str, Any]:
    """By how much `first` is more accurate than `second`: {"value", "interval_95"}.

    Both (R, N): right or wrong in R rounds of num_folds folds, NaN where not tested. groups: (N,) int or None.
    """
    from scipy.stats import t

    found = [mean_and_error(one - other, groups) for one, other in zip(first, second, strict=True)]
    value, units = float(np.mean([mean for mean, _, _ in found])), found[0][2]
    variance = np.mean([error**2 for _, error, _ in found]) * (1 / len(first) + num_folds / (num_folds - 1))
    half = float(t.ppf(0.975, units - 1) * np.sqrt(variance)) if units > 1 else 2.0
    return {"value": value, "interval_95": [max(-1.0, value - half), min(1.0, value + half)]}


def accuracy_of(right: np.ndarray, groups: np.ndarray | None) -> dict[str, Any]:
    """Accuracy over all rounds, (R, N): {"value", "interval_95"}.

    The interval is Wilson's for the clips tested once, or Student's over groups, (N,) int, where there are any.
    """
    from scipy.stats import t

    tested = np.isfinite(right)
    value = float(np.where(tested, right, 0).sum(dtype=np.float64) / tested.sum())
    if groups is None:
        return {"value": value, "interval_95": list(wilson_interval(value, int(tested.any(axis=0).sum())))}
    sums, counts = np.where(tested, right, 0).sum(axis=0, dtype=np.float64), tested.sum(axis=0)
    per_clip = np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)
    _, error, units = mean_and_error(per_clip, groups)
    half = float(t.ppf(0.975, units - 1) * error) if units > 1 else 1.0
    return {"value": value, "interval_95": [max(0.0, value - half), min(1.0, value + half)]}


def compare(
    rounds: Sequence[Sequence[Round]], labels: np.ndarray, seed: int, groups: np.ndarray | None
) -> dict[str, Any]:
    """What R rounds of each candidate show; candidate 0 is the default.

    {"order": best first, "candidates": in their own order, "nested": the accuracy of choosing}. labels: (N,) int64,
    groups: (N,) int64 or None, as the rounds were played with.
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
    return {"order": order, "candidates": candidates, "nested": nested(rounds, labels, seed, groups)}


def nested(
    rounds: Sequence[Sequence[Round]], labels: np.ndarray, seed: int, groups: np.ndarray | None
) -> dict[str, Any]:
    """How accurate it is to choose the best candidate: anew in each fold, by that fold's training clips alone.

    {"accuracy", "against_default", "chosen": [[candidate, in how many folds], ...]}. Where a fold's training clips
    cannot tell, the default is taken.
    """
    num_rounds, chosen = len(rounds[0]), Counter[int]()
    right = np.full((num_rounds, len(labels)), np.nan, dtype=np.float32)
    for number in range(num_rounds):
        for fold, (_, test) in enumerate(round_folds(labels, num_rounds, number, seed, groups)):
            candidate = best_candidate([played[number].inner[fold] for played in rounds]) or 0
            chosen[candidate] += 1
            right[number, test] = rounds[candidate][number].right[test]
    default = np.stack([each.right for each in rounds[0]])
    return {
        "accuracy": accuracy_of(right, groups),
        "against_default": paired(right, default, len(rounds[0][0].inner), groups),
        "chosen": [list(pair) for pair in chosen.most_common()],
    }


def curve(
    sizes: Sequence[int], fewer: np.ndarray, every: np.ndarray, groups: np.ndarray | None
) -> list[dict[str, Any]]:
    """Accuracy by clips per class: [{"clips_per_class", "value", "interval_95"}], the last of all clips.

    fewer: (R, S, N) right or wrong with each of S sizes, every: (R, N) with all.
    """
    points = [(size, fewer[:, row]) for row, size in enumerate(sizes)]
    return [{"clips_per_class": size, **accuracy_of(right, groups)} for size, right in [*points, ("all", every)]]
