"""Several labels of an example, or none: each a yes or no of its own, its probability calibrated, with a threshold.

Sigmoid and binary cross-entropy; Platt scaling (1999) and the threshold of each label follow from logits of heads that
had not seen the examples. Importing this loads no PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from golem_ray.config import HeadConfig
from golem_ray.config.learning import ClassWeights
from golem_ray.data.folds import Folds
from golem_ray.data.stratify import several_folds, several_held_out, several_round_folds
from golem_ray.heads.target import MIN_CALIBRATION, MOST_CALIBRATION, Criterion, Reduction
from golem_ray.heads.thresholds import best_thresholds, platt, sigmoid
from golem_ray.metrics.answers import Answers
from golem_ray.metrics.figures import Figure
from golem_ray.metrics.several import FIGURES_OF_SEVERAL, evaluate

if TYPE_CHECKING:
    from torch import Tensor

    from golem_ray.heads.target import Scores

_MOST_WEIGHT = 10.0
"""What an example that has a label weighs at most, against one that has not."""


@dataclass(frozen=True)
class MultiLabel:
    """Each example has any number of K labels, (N, K) bool."""

    name: str = "multi-label"
    two_are_one: bool = False
    in_pytorch: str = "[name for name, logit, low in zip(labels, head(embedding), least) if logit >= low]"
    measure: str = "label ranking average precision"

    @property
    def figures(self) -> Mapping[str, Figure]:
        """Those of several labels."""
        return FIGURES_OF_SEVERAL

    def probabilities(self, logits: np.ndarray, calibration: Mapping[str, Any] | None = None) -> np.ndarray:
        """The sigmoid of each logit, scaled and moved as the record says."""
        if calibration is not None:
            logits = logits * np.array(calibration["slopes"]) + np.array(calibration["intercepts"])
        return sigmoid(logits)

    def calibrate(
        self, logits: np.ndarray, labels: np.ndarray, num_examples: int, config: HeadConfig
    ) -> dict[str, Any]:
        """Slope and intercept by which each label's logits become calibrated, and its threshold.

        Of too few examples nothing is calibrated: thresholds are the configured one, or .5.
        """
        num_classes = logits.shape[1]
        slopes, intercepts, num_clips = np.ones(num_classes), np.zeros(num_classes), 0
        fixed = 0.5 if config.threshold == "tuned" else config.threshold
        thresholds = np.full(num_classes, fixed)
        if num_examples >= MIN_CALIBRATION and np.isfinite(logits).all():
            most = MOST_CALIBRATION // num_classes
            if len(logits) > most:
                rows = np.linspace(0, len(logits) - 1, most).astype(np.int64)
                logits, labels, num_examples = logits[rows], labels[rows], min(num_examples, most)
            slopes, intercepts = platt(logits, labels, num_examples)
            num_clips = num_examples
            if config.threshold == "tuned":
                thresholds = best_thresholds(sigmoid(logits * slopes + intercepts), labels)
        least = (np.log(thresholds / (1 - thresholds)) - intercepts) / slopes
        return {
            "slopes": slopes.tolist(),
            "intercepts": intercepts.tolist(),
            "thresholds": thresholds.tolist(),
            "least": least.tolist(),
            "at_least_one": config.at_least_one,
            "num_clips": num_clips,
        }

    def answers(self, probabilities: np.ndarray, calibration: Mapping[str, Any] | None = None) -> Answers:
        """Every label at its threshold and above; without a record .5."""
        thresholds = 0.5 if calibration is None else np.array(calibration["thresholds"])
        decisions = probabilities >= thresholds
        if calibration is not None and calibration["at_least_one"]:
            rows = np.flatnonzero(~decisions.any(axis=1))
            decisions[rows, (probabilities - thresholds)[rows].argmax(axis=1)] = True
        confidence = np.where(decisions, probabilities, 1 - probabilities).prod(axis=1)
        return Answers(probabilities=probabilities, decisions=decisions, confidence=confidence)

    def unseen(self, logits: np.ndarray, labels: np.ndarray, folds: Folds, config: HeadConfig) -> Answers:
        """Each fold calibrated, and decided by thresholds, that follow from the other folds."""
        known = np.nan_to_num(logits)
        probabilities, decisions = sigmoid(known), np.zeros(logits.shape, dtype=bool)
        tested = np.zeros(len(logits), dtype=bool)
        tested[np.concatenate([test for _, test in folds])] = True
        for _, test in folds:
            others = tested.copy()
            others[test] = False
            rows = np.flatnonzero(others)
            record = self.calibrate(known[rows], labels[rows], len(rows), config)
            found = self.answers(self.probabilities(known[test], record), record)
            probabilities[test], decisions[test] = found.probabilities, found.decisions
        confidence = np.where(decisions, probabilities, 1 - probabilities).prod(axis=1)
        return Answers(probabilities=probabilities, decisions=decisions, confidence=confidence)

    def ranking(self, probabilities: np.ndarray, most: int | None = None) -> np.ndarray:
        """The likeliest label first; of equally likely ones, the first."""
        return np.argsort(-probabilities, axis=1, kind="stable")[:, :most]

    def given(self, decisions: np.ndarray, probabilities: np.ndarray) -> list[list[int]]:
        """Those that are decided on, in the order of `ranking`."""
        order = self.ranking(probabilities)
        return [[number for number in row.tolist() if said[number]] for row, said in zip(order, decisions, strict=True)]

    def right(self, logits: Scores, labels: Scores) -> Scores:
        """Whether exactly the example's labels are likelier than not."""
        found: Scores = ((logits > 0) == (labels > 0)).all(-1)
        return found

    def equal(self, decisions: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Whether all are the same; a label that the classifier does not know is missed."""
        known = decisions.shape[1]
        same: np.ndarray = (decisions == labels[:, :known]).all(axis=1) & ~labels[:, known:].any(axis=1)
        return same

    def scores(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Of an example's labels, the mean share of its own labels among those ranked as high (scikit-learn's
        label_ranking_average_precision_score); NaN for an example without a label.
        """
        order = np.argsort(-logits, axis=-1, kind="stable")
        ranked = np.take_along_axis(logits, order, axis=-1)
        own = np.take_along_axis(np.broadcast_to(labels, logits.shape), order, axis=-1)
        last = np.broadcast_to(np.arange(own.shape[-1]), own.shape).copy()
        last[..., :-1][ranked[..., :-1] == ranked[..., 1:]] = own.shape[-1]
        last = np.minimum.accumulate(last[..., ::-1], axis=-1)[..., ::-1]  # of those that are ranked as high
        shares = np.take_along_axis(own.cumsum(axis=-1), last, axis=-1) / (last + 1)
        counts = own.sum(axis=-1)
        found = (shares * own).sum(axis=-1) / np.maximum(counts, 1)
        return np.where(counts > 0, found, np.nan)

    def strata(self, labels: np.ndarray) -> np.ndarray:
        """An example's rarest label; K for one without any."""
        counts = np.where(labels, labels.sum(axis=0), len(labels) + 1)
        return np.where(labels.any(axis=1), counts.argmin(axis=1), labels.shape[1]).astype(np.int64)

    def guesses(self, labels: np.ndarray) -> dict[str, float]:
        """Of a guess that gives each label as often as it occurs; and always the most frequent set of labels."""
        rates = labels.mean(axis=0)
        _, counts = np.unique(np.packbits(labels, axis=1), axis=0, return_counts=True)
        chance = np.where(labels, rates, 1 - rates).prod(axis=1).mean()
        mean_rate = float(rates[rates > 0].mean()) if rates.any() else 0.0
        return {"chance": float(chance), "largest_class": float(counts.max() / len(labels)), "mean_rate": mean_rate}

    def blind_scores(self, labels: np.ndarray) -> dict[str, float]:
        """Of rankings of the labels that there are; the expected score of a random one."""
        labels = labels[labels.any(axis=1)][:, labels.any(axis=0)]
        if not len(labels):
            return {"chance": 0.0, "largest_class": 0.0}
        num_classes, others = labels.shape[1], labels.sum(axis=1) - 1
        alone = (1 / np.arange(1, num_classes + 1)).mean()  # of one label: every rank is as likely
        chance = alone + others / max(num_classes - 1, 1) * (1 - alone)
        by_frequency = self.scores(np.broadcast_to(labels.sum(axis=0), labels.shape), labels)
        return {"chance": float(chance.mean()), "largest_class": float(by_frequency.mean())}

    def one_hot(self, labels: Tensor, num_classes: int) -> Tensor:
        """The labels themselves."""
        return labels

    def criterion(self, labels: Tensor, num_classes: int, config: HeadConfig) -> Criterion:
        """Mean binary cross-entropy over labels, examples that have a rare one weighing more."""
        from torch.nn.functional import binary_cross_entropy_with_logits

        weights = _weights(labels, config.class_weights)
        smoothing = config.label_smoothing

        def loss(logits: Tensor, labels: Tensor) -> Tensor:
            wanted = labels.to(logits.dtype) * (1 - smoothing) + smoothing / 2
            return binary_cross_entropy_with_logits(logits, wanted, pos_weight=weights)

        return Criterion(loss, len)

    def criteria(
        self, labels: Tensor, parts: Tensor, num_classes: int, config: HeadConfig
    ) -> Callable[[Tensor], Tensor]:
        """The same, the weights of each part by its own frequencies."""
        import torch
        from torch.nn.functional import logsigmoid

        each = [_weights(labels[part], config.class_weights) for part in parts]
        ones = torch.ones(num_classes, device=labels.device)
        weights = torch.stack([ones if one is None else one for one in each])[..., None]  # (F, K, 1)
        wanted = labels.T.float() * (1 - config.label_smoothing) + config.label_smoothing / 2  # (K, N)
        shares = parts[:, None] / (parts.sum(dim=1)[:, None, None] * num_classes)  # (F, 1, N)

        def losses(logits: Tensor) -> Tensor:
            lost = weights * wanted * logsigmoid(logits) + (1 - wanted) * logsigmoid(-logits)
            return -(lost * shares).sum(dim=(1, 2))

        return losses

    def losses_and_slopes(self, logits: Tensor, of_class: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
        """Of binary cross-entropy."""
        from torch.nn.functional import softplus

        lost = softplus(logits) * counted - logits * of_class
        return lost.sum(dim=(-2, -1)), logits.sigmoid() * counted - of_class

    def losses(self, logits: Tensor, labels: Tensor, reduction: Reduction = "none") -> Tensor:
        """Binary cross-entropy, the mean over labels."""
        from torch.nn.functional import binary_cross_entropy_with_logits

        lost = binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction="none").mean(dim=1)
        return {"none": lost, "mean": lost.mean(), "sum": lost.sum()}[reduction]

    def folds(
        self,
        labels: np.ndarray,
        repeats: int,
        seed: int,
        groups: np.ndarray | None = None,
        extra: np.ndarray | None = None,
    ) -> Folds:
        """Folds of iterative stratification."""
        return several_folds(labels, repeats, seed, groups, extra)

    def round_folds(
        self,
        labels: np.ndarray,
        repeats: int,
        number: int,
        seed: int,
        groups: np.ndarray | None = None,
        extra: np.ndarray | None = None,
    ) -> Folds:
        """Folds of iterative stratification."""
        return several_round_folds(labels, repeats, number, seed, groups, extra)

    def held_out(self, labels: np.ndarray, wanted: int, seed: int, groups: np.ndarray | None = None) -> np.ndarray:
        """A holdout by iterative stratification."""
        return several_held_out(labels, wanted, seed, groups)

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
        """All of `metrics.several.FIGURES_OF_SEVERAL`."""
        return evaluate(answers, labels, names, trained / max(num_trained, 1), baselines, groups)


def _weights(labels: Tensor, kind: ClassWeights) -> Tensor | None:
    """(K,): what an example weighs that has the label, against one that has not; None for one throughout."""
    import torch

    if kind == "none":
        return None
    if isinstance(kind, tuple):
        return torch.tensor(kind, device=labels.device)
    have = labels.sum(dim=0).float()
    ratio = (len(labels) - have) / have.clamp(min=1)
    ratio = ratio if kind in (True, "inverse") else ratio.sqrt()
    return torch.where(have > 0, ratio.clamp(max=_MOST_WEIGHT), 1.0)


MULTI_LABEL = MultiLabel()
