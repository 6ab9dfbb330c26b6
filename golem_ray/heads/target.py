"""The seam between what a label is and everything else: one class of an example, or (later) several.

A target owns the loss, the probabilities and their calibration, the decisions, the stratification of folds, and which
figures apply. Softmax, cross-entropy and the argmax of class scores stand in this file alone. A new kind of target is
one record here, with one line in TARGETS. Importing this loads no PyTorch. Knows no modality, encoder or Ray.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import numpy as np

from golem_ray.config import DatasetConfig, HeadConfig
from golem_ray.data.folds import Folds, held_out, round_folds, stratified_folds
from golem_ray.metrics.answers import Answers
from golem_ray.metrics.figures import evaluate

if TYPE_CHECKING:
    from torch import Tensor

    Scores = TypeVar("Scores", np.ndarray, Tensor)

Reduction = Literal["none", "mean", "sum"]

MIN_CALIBRATION = 20
"""Fewest cross-validated examples that a temperature is fitted on."""

MOST_CALIBRATION = 1 << 26
"""Most logits that a temperature is fitted on, half a gigabyte; of 10,000 classes, those of 6,700 examples."""


@dataclass(frozen=True)
class Criterion:
    """What training minimises."""

    loss: Callable[[Tensor, Tensor], Tensor]
    """Logits (M, K) and labels (M,) -> the weighted mean of the examples' losses, ()."""
    weight: Callable[[Tensor], float | Tensor]
    """Labels (M,) -> the sum of the examples' weights: how much their mean counts among other means."""


class Target(Protocol):
    """What the labels of examples are, and all that follows from it. K is the number of classes."""

    @property
    def name(self) -> str:
        """What sidecars call it."""

    @property
    def in_pytorch(self) -> str:
        """An expression of Python: the label of an `embedding`, from `head` and `labels`."""

    def probabilities(self, logits: np.ndarray, calibration: Mapping[str, Any] | None = None) -> np.ndarray:
        """Logits (N, K) -> (N, K) float64, calibrated as the record that `calibrate` gave says, if there is one."""

    def calibrate(self, logits: np.ndarray, labels: np.ndarray, num_examples: int) -> dict[str, Any] | None:
        """How to calibrate probabilities, from (M, K) logits of heads that had not seen these examples.

        The M logits are of num_examples distinct examples. The record is plain JSON values; None says that there are
        too few examples, or that a logit is not finite.
        """

    def answers(self, probabilities: np.ndarray) -> Answers:
        """Probabilities (N, K) with the decisions that they lead to."""

    def ranking(self, probabilities: np.ndarray, most: int | None = None) -> np.ndarray:
        """The classes of each example in (N, K), the best first: (N, K) int64, or (N, most)."""

    def right(self, logits: Scores, labels: Scores) -> Scores:
        """Whether the decision on each example equals its labels: (..., K) and (...) -> (...) bool."""

    def criterion(self, labels: Tensor, num_classes: int, config: HeadConfig) -> Criterion:
        """What training on these labels minimises."""

    def criteria(
        self, labels: Tensor, parts: Tensor, num_classes: int, config: HeadConfig
    ) -> Callable[[Tensor], Tensor]:
        """The same for F heads at once, each trained on its part, (F, N) bool: logits (F, K, N) -> (F,) losses."""

    def losses_and_slopes(self, logits: Tensor, of_class: Tensor) -> tuple[Tensor, Tensor]:
        """The summed log-loss, (...), and its derivative by each logit; logits (..., K, N), and 1 for labels, else 0.

        An example that is of no class counts nothing.
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
        largest: int,
        baselines: Mapping[str, Answers] | None = None,
        groups: np.ndarray | None = None,
    ) -> dict[str, Any]:
        """The figures that apply, as plain JSON values: see `metrics.figures.evaluate`."""


@dataclass(frozen=True)
class SingleLabel:
    """Each example has one class, its label an integer: softmax, cross-entropy, argmax, and one temperature."""

    name: str = "single-label"
    in_pytorch: str = "labels[head(embedding).argmax()]"

    def probabilities(self, logits: np.ndarray, calibration: Mapping[str, Any] | None = None) -> np.ndarray:
        """Softmax of the logits divided by the temperature."""
        return _softmax(logits, float(calibration["temperature"]) if calibration else 1.0)

    def calibrate(self, logits: np.ndarray, labels: np.ndarray, num_examples: int) -> dict[str, Any] | None:
        """The temperature of the logits, and how many examples it was fitted on."""
        if num_examples < MIN_CALIBRATION or not np.isfinite(logits).all():
            return None
        most = MOST_CALIBRATION // logits.shape[1]
        if len(logits) > most:  # one number is fitted: some of the examples tell it as well
            rows = np.linspace(0, len(logits) - 1, most).astype(np.int64)
            logits, labels, num_examples = logits[rows], labels[rows], min(num_examples, most)
        return {"temperature": fit_temperature(logits, labels, num_examples), "num_clips": num_examples}

    def answers(self, probabilities: np.ndarray) -> Answers:
        """The likeliest class is the decision."""
        decisions = probabilities.argmax(axis=1)
        confidence = probabilities[np.arange(len(decisions)), decisions]
        return Answers(probabilities=probabilities, decisions=decisions, confidence=confidence)

    def ranking(self, probabilities: np.ndarray, most: int | None = None) -> np.ndarray:
        """The likeliest class first; of equally likely ones, the first class."""
        return np.argsort(-probabilities, axis=1, kind="stable")[:, :most]

    def right(self, logits: Scores, labels: Scores) -> Scores:
        """Whether the label has the largest logit."""
        return logits.argmax(-1) == labels

    def criterion(self, labels: Tensor, num_classes: int, config: HeadConfig) -> Criterion:
        """Cross-entropy, with the configured class weights and label smoothing."""
        from torch import nn

        weights = _class_weights(labels, num_classes) if config.class_weights else None
        loss = nn.CrossEntropyLoss(weight=weights, label_smoothing=config.label_smoothing)
        return Criterion(loss, len if weights is None else lambda labels: weights[labels].sum())

    def criteria(
        self, labels: Tensor, parts: Tensor, num_classes: int, config: HeadConfig
    ) -> Callable[[Tensor], Tensor]:
        """Cross-entropy, the class weights of each part by its own frequencies."""
        import torch
        from torch.nn.functional import one_hot

        weights = torch.ones(len(parts), num_classes, device=labels.device)
        if config.class_weights:
            weights = torch.stack([_class_weights(labels[part], num_classes) for part in parts])
        smoothed = (1 - config.label_smoothing) * one_hot(labels, num_classes) + config.label_smoothing / num_classes
        weight_of_each = weights[:, labels] * parts  # (F, N)
        of_part = parts / weight_of_each.sum(dim=1, keepdim=True)
        shares = smoothed.T * weights[..., None] * of_part[:, None]  # (F, K, N)
        return lambda logits: -(logits.log_softmax(dim=1) * shares).sum(dim=(1, 2))

    def losses_and_slopes(self, logits: Tensor, of_class: Tensor) -> tuple[Tensor, Tensor]:
        """Of cross-entropy."""
        logs = logits.log_softmax(dim=-2)
        return -(logs * of_class).sum(dim=(-2, -1)), logs.exp_() * of_class.sum(dim=-2, keepdim=True) - of_class

    def losses(self, logits: Tensor, labels: Tensor, reduction: Reduction = "none") -> Tensor:
        """Cross-entropy."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(logits, labels, reduction=reduction)

    def folds(
        self,
        labels: np.ndarray,
        repeats: int,
        seed: int,
        groups: np.ndarray | None = None,
        extra: np.ndarray | None = None,
    ) -> Folds:
        """Folds stratified by class."""
        return stratified_folds(labels, repeats, seed, groups, extra)

    def round_folds(
        self,
        labels: np.ndarray,
        repeats: int,
        number: int,
        seed: int,
        groups: np.ndarray | None = None,
        extra: np.ndarray | None = None,
    ) -> Folds:
        """Folds stratified by class."""
        return round_folds(labels, repeats, number, seed, groups, extra)

    def held_out(self, labels: np.ndarray, wanted: int, seed: int, groups: np.ndarray | None = None) -> np.ndarray:
        """A holdout stratified by class."""
        return held_out(labels, wanted, seed, groups)

    def evaluate(
        self,
        answers: Answers,
        labels: np.ndarray,
        names: Sequence[str],
        largest: int,
        baselines: Mapping[str, Answers] | None = None,
        groups: np.ndarray | None = None,
    ) -> dict[str, Any]:
        """All of `metrics.figures.FIGURES`."""
        return evaluate(answers, labels, names, largest, baselines, groups)


def _softmax(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities (N, K) float64 of logits (N, K) divided by the temperature."""
    powers = logits.astype(np.float64)
    powers /= temperature  # in place: of thousands of classes, each copy is a gigabyte
    powers -= powers.max(axis=1, keepdims=True)
    np.exp(powers, out=powers)
    powers /= powers.sum(axis=1, keepdims=True)
    return powers


def fit_temperature(logits: np.ndarray, labels: np.ndarray, num_examples: int) -> float:
    """The temperature under which the labels (M,) are the likeliest, of logits (M, K) on examples not trained on.

    After Guo et al. (2017), with the targets of Platt (1999): (n + 1) / (n + 2) for the label, n the number of
    distinct examples, and the rest spread over the other classes. Thus a few examples that are all right do not make
    the classifier certain.
    """
    from scipy.optimize import minimize_scalar

    num_classes = logits.shape[1]
    targets = np.full(logits.shape, 1 / (num_examples + 2) / (num_classes - 1))
    targets[np.arange(len(labels)), labels] = (num_examples + 1) / (num_examples + 2)

    def loss(log_temperature: float) -> float:
        scaled = logits.astype(np.float64) / math.exp(log_temperature)
        top = scaled.max(axis=1, keepdims=True)
        log_sum = top[:, 0] + np.log(np.exp(scaled - top).sum(axis=1))
        return float((log_sum - (targets * scaled).sum(axis=1)).mean())

    return math.exp(minimize_scalar(loss, bounds=(math.log(0.01), math.log(100)), method="bounded").x)


def _class_weights(labels: Tensor, num_classes: int) -> Tensor:
    """(K,): inverse to the class's frequency; a class of mean size weighs one, a class without examples zero."""
    import torch

    counts = torch.bincount(labels, minlength=num_classes).float()
    return torch.where(counts > 0, len(labels) / (counts.clamp(min=1) * (counts > 0).sum()), 0.0)


SINGLE_LABEL = SingleLabel()

TARGETS: dict[str, Target] = {SINGLE_LABEL.name: SINGLE_LABEL}
"""Name of each kind of target -> what it is."""


def target_of(dataset: DatasetConfig) -> Target:
    """What the labels of a dataset are."""
    return SINGLE_LABEL
