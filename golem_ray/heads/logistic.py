"""Logistic regression as a head: scikit-learn's fit in a linear layer. Knows no encoder or Ray."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import nn

from golem_ray.heads.examples import Examples
from golem_ray.heads.training_set import HeadSpec

STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)
"""Values of scikit-learn's C that a logistic regression's is chosen from: the inverse of its regularisation."""


_NEVER = -100.0
"""Logit of a class without examples, far below the other classes' logits."""


class LogisticHead(nn.Linear):
    """A linear layer that says how strongly it was regularised."""

    C: float
    """The chosen one of STRENGTHS."""


def logistic_regression(examples: Examples, spec: HeadSpec) -> LogisticHead:
    """L2-regularised logistic regression on standardised embeddings (N, D), its strength by the log-loss over folds.

    If there are fewer examples than coordinates, only the directions that the examples span are fitted: the weights of
    the others are zero.
    """
    x, target = examples.embeddings, spec.target
    assert isinstance(x, torch.Tensor)
    features, labels = x.cpu().double().numpy(), examples.label_array()
    directions = None
    if features.shape[0] < features.shape[1]:
        directions = np.linalg.svd(features, full_matrices=False)[2]
        features = features @ directions.T
    folds = target.folds(labels, 1, spec.training.seed, examples.groups, examples.extra)
    losses = []
    for strength in STRENGTHS if folds else (1.0,):
        loss = 0.0
        for train, test in folds:
            weight, bias = _regression(features[train], labels[train], spec.num_classes, strength)
            logits = torch.from_numpy(features[test] @ weight.T + bias)
            loss += target.losses(logits, torch.from_numpy(labels[test]), "sum").item()
        losses.append(loss)
    strength = STRENGTHS[int(np.argmin(losses))] if folds else 1.0
    weight, bias = _regression(features, labels, spec.num_classes, strength)
    if directions is not None:
        weight = weight @ directions
    head = LogisticHead(weight.shape[1], spec.num_classes)
    head.C = strength
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
        head.bias.copy_(torch.from_numpy(bias))
    return head.to(x.device)


def _regression(
    features: np.ndarray, labels: np.ndarray, num_classes: int, strength: float
) -> tuple[np.ndarray, np.ndarray]:
    """Weights (K, D) and bias (K,) of scikit-learn's fit; a class without examples is far below the others."""
    from sklearn.linear_model import LogisticRegression

    weight, bias = np.zeros((num_classes, features.shape[1])), np.full(num_classes, _NEVER)
    present = np.unique(labels)
    if len(present) == 1:
        bias[present] = 0.0
        return weight, bias
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes with few examples, as if labels were numbers
        model = LogisticRegression(C=strength, max_iter=1000).fit(features, labels)
    if len(present) == 2:  # one row, for the second class against the first
        weight[present], bias[present] = (
            np.stack([-model.coef_[0], model.coef_[0]]) / 2,
            np.array([-model.intercept_[0], model.intercept_[0]]) / 2,
        )
    else:
        weight[present], bias[present] = model.coef_, model.intercept_
    return weight, bias
