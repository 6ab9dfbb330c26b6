"""Single-label targets."""

from __future__ import annotations

import math

import numpy as np


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Probabilities (N, K) float64 of logits (N, K) divided by the temperature."""
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def fit_temperature(logits: np.ndarray, labels: np.ndarray, num_examples: int) -> float:
    """The temperature under which logits (M, K), of clips that were not trained on, are the likeliest for (M,) labels.

    After Guo et al. (2017), with the targets of Platt (1999): (n + 1) / (n + 2) for the label, n the number of
    distinct clips, what is left spread over the other classes, so that a few clips that are all right do not
    make it certain.
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
