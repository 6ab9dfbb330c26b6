"""What the figures of several labels are computed from: counts and curves of each label, in examples and resamples.

Knows nothing of intervals: `several.py` does. As there, K labels are known to the classifier, K' are in the examples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np

from golem_ray.metrics.answers import Answers
from golem_ray.metrics.figures import resamples
from golem_ray.metrics.several_curves import BLOCK, rank, share

TINY = np.finfo(np.float64).eps
"""The least probability of a label, and of its absence, as scikit-learn's log_loss has it."""

_MOST_WORK, _FEWEST_RESAMPLES = 10**9, 200
"""Of resamples times examples times labels, and of resamples whatever the work."""


@dataclass(frozen=True)
class Measured:
    """What is counted in the examples, and in R - 1 resamples of them: row 0 is the examples as they are."""

    total: np.ndarray
    """(R,): examples."""
    right: np.ndarray
    """(R,): those of which every label is right."""
    loss: np.ndarray
    """(R,): the sum of their log-losses, each the mean over known labels."""
    hits: np.ndarray
    """(R, K'): how many have a label and are given it."""
    given: np.ndarray
    """(R, K'): how many are given it; 0 for an unknown one."""
    true: np.ndarray
    """(R, K'): how many have it."""
    curves: np.ndarray
    """(3, R, K): average precision, area under the ROC curve, calibration error; NaN where there is none."""

    @property
    def f1(self) -> np.ndarray:
        """(R, K'): NaN for a label that nobody has or is given."""
        return share(2 * self.hits, self.true + self.given)

    def figures(self) -> dict[str, np.ndarray]:
        """(R,) of each figure, NaN where it cannot be computed."""
        hits, true, given = (each.sum(axis=1) for each in (self.hits, self.true, self.given))
        precision, auc, calibration = (mean_of_known(each) for each in self.curves)
        return {
            "macro_f1": mean_of_known(self.f1),
            "weighted_f1": share((np.nan_to_num(self.f1) * self.true).sum(axis=1), true),
            "micro_f1": share(2 * hits, true + given),
            "mean_average_precision": precision,
            "roc_auc": auc,
            "accuracy": self.right / self.total,
            "hamming_loss": (true + given - 2 * hits) / (self.total * self.true.shape[1]),
            "log_loss": self.loss / self.total,
            "calibration_error": calibration,
        }


def mean_of_known(values: np.ndarray) -> np.ndarray:
    """(R, K) -> (R,): the mean of those that are not NaN, NaN if none is."""
    return share(np.nansum(values, axis=1), np.isfinite(values).sum(axis=1))


def measure(
    answers: Answers, labels: np.ndarray, groups: np.ndarray | None, seed: int, curves: bool = True
) -> Measured:
    """Everything that figures follow from, in one pass over the resamples; without `curves` these are NaN."""
    known, width = answers.num_classes, labels.shape[1]
    given = padded(answers, width)
    chances = answers.probabilities.astype(np.float64, copy=False)
    of_truth = np.clip(np.where(labels[:, :known], chances, 1 - chances), TINY, 1 - TINY)
    right = (given == labels).all(axis=1)
    loss = -np.log(of_truth).mean(axis=1)
    summed = np.column_stack([np.ones(len(labels)), right, loss, given & labels, given, labels])
    rankings = [rank(chances[:, label], labels[:, label]) for label in range(known)] if curves else []
    sums, measured = [], []
    for times in _times(labels.shape, groups, seed):
        sums.append(times @ summed)
        found = [ranking.measure(times) for ranking in rankings]
        measured.append(np.array(found).transpose(1, 2, 0) if curves else np.full((3, len(times), known), np.nan))
    (total, right, loss), counts = np.split(np.concatenate(sums).T, [3])
    hits, given, true = np.split(counts.T, 3, axis=1)
    return Measured(total, right, loss, hits, given, true, np.concatenate(measured, axis=1))


def padded(answers: Answers, width: int) -> np.ndarray:
    """(N, width) bool: what is given, with labels that the classifier does not know."""
    return np.pad(answers.decisions, ((0, 0), (0, width - answers.num_classes)))


def _times(shape: tuple[int, ...], groups: np.ndarray | None, seed: int) -> Iterator[np.ndarray]:
    """(B, N) float64 at a time: how often each example is there, first in the examples, then in each resample."""
    number, width = shape
    most = max(_FEWEST_RESAMPLES, _MOST_WORK // (number * width))
    drawn = islice(resamples(number, groups, np.random.default_rng(seed)), most)
    each = chain([np.ones(number)], (np.bincount(rows, minlength=number) for rows in drawn))
    while block := list(islice(each, max(1, BLOCK // number))):
        yield np.array(block, dtype=np.float64)
