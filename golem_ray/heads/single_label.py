"""One class of each example: softmax, cross-entropy, argmax, and one temperature. Importing this loads no PyTorch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from golem_ray.config import HeadConfig
from golem_ray.config.learning import ClassWeights
from golem_ray.data.folds import Folds, held_out, round_folds, stratified_folds
from golem_ray.heads.target import MIN_CALIBRATION, MOST_CALIBRATION, Criterion, Reduction
from golem_ray.metrics.answers import Answers
from golem_ray.metrics.figures import FIGURES, Figure, evaluate

if TYPE_CHECKING:
    from torch import Tensor

    from golem_ray.heads.target import Scores


@dataclass(frozen=True)
class SingleLabel:
    """Each example has one class, its label an integer: softmax, cross-entropy, argmax, and one temperature."""

    name: str = "single-label"
    two_are_one: bool = True
    in_pytorch: str = "labels[head(embedding).argmax()]"
    measure: str = "accuracy"

    @property
    def figures(self) -> Mapping[str, Figure]:
        """Those of a class for each example."""
        return FIGURES

    def probabilities(self, logits: np.ndarray, calibration: Mapping[str, Any] | None = None) -> np.ndarray:
        """Softmax of the logits divided by the temperature."""
        return _softmax(logits, float(calibration["temperature"]) if calibration else 1.0)

    def calibrate(
        self, logits: np.ndarray, labels: np.ndarray, num_examples: int, config: HeadConfig
    ) -> dict[str, Any] | None:
        """The temperature of the logits, and how many examples it was fitted on."""
        if num_examples < MIN_CALIBRATION or not np.isfinite(logits).all():
            return None
        most = MOST_CALIBRATION // logits.shape[1]
        if len(logits) > most:  # one number is fitted: some of the examples tell it as well
            rows = np.linspace(0, len(logits) - 1, most).astype(np.int64)
            logits, labels, num_examples = logits[rows], labels[rows], min(num_examples, most)
        return {"temperature": fit_temperature(logits, labels, num_examples), "num_clips": num_examples}

    def answers(self, probabilities: np.ndarray, calibration: Mapping[str, Any] | None = None) -> Answers:
        """The likeliest class is the decision."""
        decisions = probabilities.argmax(axis=1)
        confidence = probabilities[np.arange(len(decisions)), decisions]
        return Answers(probabilities=probabilities, decisions=decisions, confidence=confidence)

    def unseen(self, logits: np.ndarray, labels: np.ndarray, folds: Folds, config: HeadConfig) -> Answers:
        """The likeliest class, whatever the temperature."""
        return self.answers(self.probabilities(np.nan_to_num(logits)))

    def ranking(self, probabilities: np.ndarray, most: int | None = None) -> np.ndarray:
        """The likeliest class first; of equally likely ones, the first class."""
        return np.argsort(-probabilities, axis=1, kind="stable")[:, :most]

    def given(self, decisions: np.ndarray, probabilities: np.ndarray) -> list[list[int]]:
        """The one."""
        return [[number] for number in decisions.tolist()]

    def right(self, logits: Scores, labels: Scores) -> Scores:
        """Whether the label has the largest logit."""
        return logits.argmax(-1) == labels

    def equal(self, decisions: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Whether they are the same."""
        return decisions == labels

    def scores(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Whether the label has the largest logit."""
        return self.right(logits, labels).astype(np.float64)

    def strata(self, labels: np.ndarray) -> np.ndarray:
        """The labels themselves."""
        return labels

    def guesses(self, labels: np.ndarray) -> dict[str, float]:
        """Of a guess that at least knows which classes there are."""
        counts = np.bincount(labels)
        return {"chance": 1 / int((counts > 0).sum()), "largest_class": float(counts.max() / counts.sum())}

    def blind_scores(self, labels: np.ndarray) -> dict[str, float]:
        """Those of the class that is ranked first."""
        return self.guesses(labels)

    def one_hot(self, labels: Tensor, num_classes: int) -> Tensor:
        """A 1 in each row."""
        from torch.nn.functional import one_hot

        return one_hot(labels, num_classes)

    def criterion(self, labels: Tensor, num_classes: int, config: HeadConfig) -> Criterion:
        """Cross-entropy, with the configured class weights and label smoothing."""
        from torch import nn

        weights = _class_weights(labels, num_classes, config.class_weights)
        loss = nn.CrossEntropyLoss(weight=weights, label_smoothing=config.label_smoothing)
        return Criterion(loss, len if weights is None else lambda labels: weights[labels].sum())

    def criteria(
        self, labels: Tensor, parts: Tensor, num_classes: int, config: HeadConfig
    ) -> Callable[[Tensor], Tensor]:
        """Cross-entropy, the class weights of each part by its own frequencies."""
        import torch
        from torch.nn.functional import one_hot

        weights = torch.ones(len(parts), num_classes, device=labels.device)
        each = [_class_weights(labels[part], num_classes, config.class_weights) for part in parts]
        if each[0] is not None:
            weights = torch.stack([one for one in each if one is not None])
        smoothed = (1 - config.label_smoothing) * one_hot(labels, num_classes) + config.label_smoothing / num_classes
        weight_of_each = weights[:, labels] * parts  # (F, N)
        of_part = parts / weight_of_each.sum(dim=1, keepdim=True)
        shares = smoothed.T * weights[..., None] * of_part[:, None]  # (F, K, N)
        return lambda logits: -(logits.log_softmax(dim=1) * shares).sum(dim=(1, 2))

    def losses_and_slopes(self, logits: Tensor, of_class: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
        """Of cross-entropy."""
        logs = logits.log_softmax(dim=-2)
        return -(logs * of_class).sum(dim=(-2, -1)), logs.exp_() * counted - of_class

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
        trained: np.ndarray,
        num_trained: int,
        baselines: Mapping[str, Answers] | None = None,
        groups: np.ndarray | None = None,
    ) -> dict[str, Any]:
        """All of `metrics.figures.FIGURES`."""
        return evaluate(answers, labels, names, int(trained.argmax()), baselines, groups)


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


def _class_weights(labels: Tensor, num_classes: int, kind: ClassWeights) -> Tensor | None:
    """(K,), as configured: the larger the fewer examples a class has, zero for one without; None for all alike.

    `inverse` gives a class of mean size a weight of one, `sqrt` is the root of that.
    """
    import torch

    if kind in (False, "none"):
        return None
    if isinstance(kind, tuple):
        return torch.tensor(kind, device=labels.device)
    counts = torch.bincount(labels, minlength=num_classes).float()
    weights = torch.where(counts > 0, len(labels) / (counts.clamp(min=1) * (counts > 0).sum()), 0.0)
    return weights.sqrt() if kind == "sqrt" else weights


SINGLE_LABEL = SingleLabel()
