"""Logistic regressions as heads: many at once, each on its own part of the same examples. Knows no encoder or Ray.

What is minimised is what scikit-learn's LogisticRegression minimises: C times the summed cross-entropy, and half the
squared weights.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from golem_ray.data.folds import Folds
from golem_ray.heads.minimize import EXACT, minimize
from golem_ray.heads.target import Target

STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)
"""Values of scikit-learn's C that a logistic regression's is chosen from: the inverse of its regularisation."""

_NEAR = 1e-9
"""Tolerance of the fits that a strength is chosen by, in single precision: log-losses are exact to three digits."""

_ROUGH = 1e-4
"""That of fits that are only ranked among other candidates: log-losses are exact to two digits, but where weak
regularisation is best they may be a fifth too low, and accuracies two points off: such fits stop early."""

_NEVER = -100.0
"""Logit of a class without examples, far below the other classes' logits."""


class LogisticHead(nn.Linear):
    """A linear layer that says how strongly it was regularised."""

    C: float
    """The chosen one of STRENGTHS."""


@dataclass(frozen=True)
class Part:
    """What one regression is fitted on, and the folds that its strength is chosen by."""

    features: Tensor
    """(N, D) float64, standardised."""
    labels: Tensor
    """(N,) int64, or (N, K) bool."""
    folds: Folds
    """Of `rounds` rounds, those of the first one first."""
    rounds: int = 1


@dataclass(frozen=True)
class Regression:
    """A regression that was fitted."""

    weight: Tensor
    """(K, D) float64, of standardised features."""
    bias: Tensor
    """(K,) float64."""
    C: float
    unseen: np.ndarray
    """(R, N, K) float32: in each round, logits on each example by a fit of that strength to other folds; else NaN."""


def regressions(parts: Sequence[Part], num_classes: int, target: Target, tolerance: float = EXACT) -> list[Regression]:
    """A regression for each part, all at once, its strength the one with the least log-loss over the part's folds.

    Strengths are tried from the least C on, until one has a larger loss than the one before: weaker regularisation
    would have a larger loss still, and take the longest.

    The regressions are exact to the tolerance, as `minimize` takes it. If there are fewer examples than coordinates,
    only the directions that the examples span are fitted: the weights of the others are zero.
    """
    batch = _Batch(parts, torch.float64)
    chosen, start, unseen = _chosen(parts, batch, num_classes, target, _NEAR)
    near = _Problem(batch.x.float(), batch.labels, batch.whole, num_classes, target).fitted(
        chosen, start, target, _NEAR
    )
    final = _Problem(batch.x, batch.labels, batch.whole, num_classes, target)
    fitted = final.fitted(chosen, near.double(), target, tolerance)[:, 0]
    logits_of_absent = torch.where(final.present[:, 0], 0.0, _NEVER)
    found = []
    for number, directions in enumerate(batch.directions):
        weight = fitted[number, :, : len(directions)] @ directions
        bias = fitted[number, :, -1] + logits_of_absent[number]
        found.append(Regression(weight, bias, float(chosen[number]), unseen[number]))
    return found


def unseen_of(parts: Sequence[Part], num_classes: int, target: Target) -> list[np.ndarray]:
    """What `Regression.unseen` has, (R, N, K) for each part, of fits that are good enough to rank candidates by."""
    return _chosen(parts, _Batch(parts, torch.float32), num_classes, target, _ROUGH)[2]


class _Batch:
    """Parts of different sizes in the same arrays."""

    def __init__(self, parts: Sequence[Part], precision: torch.dtype) -> None:
        turned = [_turned(part.features.to(precision)) for part in parts]
        num_rows, width = (max(x.shape[axis] for x, _ in turned) for axis in (0, 1))
        most, device = max(len(part.folds) for part in parts), parts[0].features.device
        self.directions = [directions for _, directions in turned]
        self.x = torch.zeros(len(parts), num_rows, width + 1, dtype=precision, device=device)
        first = parts[0].labels
        self.labels = torch.zeros(len(parts), num_rows, *first.shape[1:], dtype=first.dtype, device=device)
        self.whole = torch.zeros(len(parts), 1, num_rows, dtype=torch.bool, device=device)
        self.trained = torch.zeros(len(parts), most, num_rows, dtype=torch.bool, device=device)
        for number, (part, (features, _)) in enumerate(zip(parts, turned, strict=True)):
            size = len(part.labels)
            self.x[number, :size, : features.shape[1]] = features
            self.x[number, :size, -1] = 1
            self.labels[number, :size] = part.labels
            self.whole[number, 0, :size] = True
            for fold, (train, _) in enumerate(part.folds):
                self.trained[number, fold, torch.from_numpy(train).to(device)] = True


def _turned(features: Tensor) -> tuple[Tensor, Tensor]:
    """Features (N, D) in the directions (R, D) in which they vary, orthonormal: (N, R) and these; R at least 1.

    The penalty is the same in any such directions, and in these a fit is soon done.
    """
    size, width = features.shape
    gram = features @ features.T if size < width else features.T @ features
    values, vectors = torch.linalg.eigh(gram)
    kept = values > max(1e-12, 10 * torch.finfo(features.dtype).eps) * values[-1:]
    kept[-1] = True
    values, vectors = values[kept], vectors[:, kept]
    if size >= width:
        return features @ vectors, vectors.T
    scale = values.clamp(min=torch.finfo(features.dtype).tiny).sqrt()
    return vectors * scale, (features.T @ (vectors / scale)).T


def _chosen(
    parts: Sequence[Part], batch: _Batch, num_classes: int, target: Target, tolerance: float
) -> tuple[Tensor, Tensor | None, list[np.ndarray]]:
    """The strength of each part, (B,), where to start with it, (B, 1, K, W), and its logits on what it tests."""
    device = batch.x.device
    unseen = [np.full((part.rounds, len(part.labels), num_classes), np.nan, dtype=np.float32) for part in parts]
    chosen = torch.ones(len(parts), dtype=torch.float64, device=device)
    if not batch.trained.shape[1]:
        return chosen, None, unseen
    problem = _Problem(batch.x.float(), batch.labels, batch.trained, num_classes, target)
    least = [float("inf")] * len(parts)
    best = torch.zeros(len(parts), 1, *problem.present.shape[2:], problem.x.shape[2], device=device)
    weights: Tensor | None = None
    running = [number for number, part in enumerate(parts) if part.folds]
    problem = problem.of(running)
    for strength in STRENGTHS:
        weights = problem.fitted(chosen.new_full((len(running),), strength), weights, target, tolerance)
        logits = problem.logits(weights) + torch.where(problem.present, 0.0, _NEVER)[..., None]  # (B, S, K, N)
        better = []
        for place, number in enumerate(running):
            part = parts[number]
            tested = np.concatenate([test for _, test in part.folds])
            folds = np.repeat(np.arange(len(part.folds)), [len(test) for _, test in part.folds])
            rows, numbers = (torch.from_numpy(each).to(device) for each in (tested, folds))
            own = logits[place, numbers, :, rows]
            loss = target.losses(own, part.labels[rows], "sum").item()
            if loss < least[number]:
                least[number] = loss
                chosen[number] = strength
                best[number, 0] = weights[place, : len(part.folds)].mean(dim=0)
                unseen[number][folds * part.rounds // len(part.folds), tested] = own.float().cpu().numpy()
                better.append(place)
        if not better:
            break
        if len(better) < len(running):
            running, weights, problem = [running[place] for place in better], weights[better], problem.of(better)
    return chosen, best, unseen


class _Problem:
    """Regressions of B sets of examples, S for each set, on the rows that `trained` says."""

    def __init__(self, x: Tensor, labels: Tensor, trained: Tensor, num_classes: int, target: Target) -> None:
        self.x = x  # (B, N, W), the last column all ones
        self.turned = x.transpose(1, 2).contiguous()
        self.trained = trained[:, :, None].to(x.dtype)  # (B, S, 1, N)
        of_class = target.one_hot(labels, num_classes).to(x.dtype).transpose(1, 2)  # (B, K, N)
        self.targets = of_class[:, None] * self.trained  # (B, S, K, N)
        counts = self.targets.sum(dim=3)
        self.present = (counts > 0) | ~trained.any(dim=2, keepdim=True)  # (B, S, K); all where nothing is fitted
        num_present = self.present.sum(dim=2)
        # Of two classes scikit-learn fits one row of weights, which is as twice the penalty on two.
        self.doubled = torch.where((num_present == 2) & target.two_are_one, 2.0, 1.0).to(x.dtype)[..., None, None]
        self.curvature = self.trained[:, :, 0] @ x.square() / 2  # no fit is more curved
        self.size = self.trained.sum(dim=(2, 3)).clamp(min=1)  # (B, S)

    def of(self, sets: list[int]) -> _Problem:
        """The same of some of the sets."""
        some = copy.copy(self)
        for name, value in vars(self).items():
            setattr(some, name, value[sets])
        return some

    def logits(self, weights: Tensor) -> Tensor:
        """Weights (B, S, K, W) -> (B, S, K, N)."""
        return (weights.flatten(1, 2) @ self.turned).view(*weights.shape[:3], -1)

    def fitted(self, strengths: Tensor, start: Tensor | None, target: Target, tolerance: float) -> Tensor:
        """The weights (B, S, K, W) with strengths (B,), found from `start` on."""
        strengths = strengths.to(self.x.dtype)
        penalty = self.doubled / strengths[:, None, None, None]  # (B, S, 1, 1)
        penalty = penalty.expand(*self.present.shape[:2], 1, self.x.shape[2]).clone()
        penalty[..., -1] = 0  # the bias
        if start is None:
            start = torch.zeros(*self.present.shape, self.x.shape[2], dtype=self.x.dtype, device=self.x.device)
        absent = torch.where(self.present, 0.0, -1e30).to(self.x.dtype)[..., None]

        def loss(weights: Tensor) -> tuple[Tensor, Tensor]:
            fit, slopes = target.losses_and_slopes(self.logits(weights) + absent, self.targets, self.trained)
            gradient = (slopes.flatten(1, 2) @ self.x).view_as(weights) + penalty * weights
            return fit + (penalty * weights.square()).sum(dim=(2, 3)) / 2, gradient

        bound = self.curvature[:, :, None] + penalty
        return minimize(loss, start, bound.clamp(min=1e-12), self.size, tolerance)
