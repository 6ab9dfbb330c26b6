"""The seam between what a label is and everything else: one class of an example, or several labels.

A target owns the loss, the probabilities and their calibration, the decisions, the stratification of folds, and which
figures apply. Class scores are judged by targets alone (single_label.py, multi_label.py). A new kind of target is a
file, with one line in `targets.py`. Importing this loads no PyTorch. Knows no modality, encoder or Ray.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import numpy as np

from golem_ray.config import HeadConfig
from golem_ray.data.folds import Folds
from golem_ray.metrics.answers import Answers
from golem_ray.metrics.figures import Figure

if TYPE_CHECKING:
    from torch import Tensor

    Scores = TypeVar("Scores", np.ndarray, Tensor)

NOTHING = "none"
"""What an example is called that has none of several labels."""

Reduction = Literal["none", "mean", "sum"]

MIN_CALIBRATION = 20
"""Fewest cross-validated examples that probabilities are calibrated on."""

MOST_CALIBRATION = 1 << 26
"""Most logits that they are calibrated on, half a gigabyte; of 10,000 classes, those of 6,700 examples."""


@dataclass(frozen=True)
class Criterion:
    """What training minimises."""

    loss: Callable[[Tensor, Tensor], Tensor]
    """Logits (M, K) and labels -> the weighted mean of the examples' losses, ()."""
    weight: Callable[[Tensor], float | Tensor]
    """M labels -> the sum of the examples' weights: how much their mean counts among other means."""


class Target(Protocol):
    """What the labels of examples are, and all that follows from it.

    K is the number of classes. Labels of N examples are (N,) int64, or (N, K) bool where there may be several.
    """

    @property
    def name(self) -> str:
        """What sidecars call it."""

    @property
    def in_pytorch(self) -> str:
        """An expression of Python: what an `embedding` is labelled, from `head` and `labels`, and from `least` where
        the record of `calibrate` has that.
        """

    @property
    def two_are_one(self) -> bool:
        """Whether of two classes the logits' difference alone matters."""

    @property
    def measure(self) -> str:
        """What candidates are compared by, for tables and sentences."""

    @property
    def figures(self) -> Mapping[str, Figure]:
        """The figures that apply, in the order in which they are shown; the first stands for all."""

    def probabilities(self, logits: np.ndarray, calibration: Mapping[str, Any] | None = None) -> np.ndarray:
        """Logits (N, K) -> (N, K) float64, calibrated as the record that `calibrate` gave says, if there is one."""

    def calibrate(
        self, logits: np.ndarray, labels: np.ndarray, num_examples: int, config: HeadConfig
    ) -> dict[str, Any] | None:
        """How to calibrate probabilities, and to decide by them, from (M, K) logits of heads that had not seen these.

        The M logits are of num_examples distinct examples. The record is plain JSON values; None says that there are
        too few examples, or that a logit is not finite.
        """

    def answers(self, probabilities: np.ndarray, calibration: Mapping[str, Any] | None = None) -> Answers:
        """Probabilities (N, K) with the decisions that they lead to, as that record says."""

    def unseen(self, logits: np.ndarray, labels: np.ndarray, folds: Folds, config: HeadConfig) -> Answers:
        """What is said of N examples by heads of a round of cross-validation, from logits (N, K), NaN where untested.

        How to decide on a fold follows from the other folds alone.
        """

    def ranking(self, probabilities: np.ndarray, most: int | None = None) -> np.ndarray:
        """The classes of each example in (N, K), the best first: (N, K) int64, or (N, most)."""

    def given(self, decisions: np.ndarray, probabilities: np.ndarray) -> list[list[int]]:
        """The numbers of the labels that each of N decisions gives, the likeliest first."""

    def right(self, logits: Scores, labels: Scores) -> Scores:
        """Whether the decision on each example, uncalibrated, equals its labels: (..., K) -> (...) bool."""

    def equal(self, decisions: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Whether each of N decisions equals the example's labels, (N,) bool."""

    def scores(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """How good logits (..., N, K) are on each example, 0 to 1, by `measure`; NaN where that says nothing."""

    def strata(self, labels: np.ndarray) -> np.ndarray:
        """(N,) int64: which class each example counts for where of each class some are taken."""

    def guesses(self, labels: np.ndarray) -> dict[str, float]:
        """How often guesses would be right: {"chance", "largest_class"}, even ones, and always the most frequent."""

    def blind_scores(self, labels: np.ndarray) -> dict[str, float]:
        """The mean of `scores` without a look at the examples: {"chance", "largest_class"}, with classes ranked at
        random, and by how frequent they are.
        """

    def one_hot(self, labels: Tensor, num_classes: int) -> Tensor:
        """(..., K): 1 where an example has the label."""

    def criterion(self, labels: Tensor, num_classes: int, config: HeadConfig) -> Criterion:
        """What training on these labels minimises."""

    def criteria(
        self, labels: Tensor, parts: Tensor, num_classes: int, config: HeadConfig
    ) -> Callable[[Tensor], Tensor]:
        """The same for F heads at once, each trained on its part, (F, N) bool: logits (F, K, N) -> (F,) losses."""

    def losses_and_slopes(self, logits: Tensor, of_class: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
        """The summed log-loss, (...), and its derivative by each logit; logits (..., K, N), and 1 for labels, else 0.

        Only examples that are counted, (..., 1, N), count; of_class is 0 for all others.
        """

    def losses(self, logits: Tensor, labels: Tensor, reduction: Reduction = "none") -> Tensor:
        """Log-loss in nats of each example, (M,), or its mean or sum, ()."""

    def folds(
        self,
        labels: np.ndarray,
        repeats: int,
        seed: int,
        groups: np.ndarray | None = None,
        extra: np.ndarray | None = None,
    ) -> Folds:
        """The folds of a repeated cross-validation, those of its first round first.

        Those of the examples that are `extra`, (N,) bool, are in no test part.
        """

    def round_folds(
        self,
        labels: np.ndarray,
        repeats: int,
        number: int,
        seed: int,
        groups: np.ndarray | None = None,
        extra: np.ndarray | None = None,
    ) -> Folds:
        """The folds of one round of that cross-validation."""

    def held_out(self, labels: np.ndarray, wanted: int, seed: int, groups: np.ndarray | None = None) -> np.ndarray:
        """Which of N examples to keep from training, (N,) bool: about `wanted`."""

    def evaluate(
        self,
        answers: Answers,
        labels: np.ndarray,
        names: Sequence[str],
        trained: np.ndarray,
        num_trained: int,
        baselines: Mapping[str, Answers] | None = None,
        groups: np.ndarray | None = None,
    ) -> dict[str, Any]:
        """The figures that apply, as plain JSON values: see `metrics.figures.evaluate`.

        trained: (K,) how many of the num_trained examples that were trained on had each label.
        """
