"""Calibrated probabilities of single labels, and where to say yes. Knows no head and no example."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

_STEPS, _LEAST_SLOPE = 50, 1e-3

_TINY = 1e-12
"""How near a threshold is to 0 or to 1 at most."""


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Probabilities of logits, float64, of the same shape."""
    found: np.ndarray = expit(logits.astype(np.float64))
    return found


def platt(logits: np.ndarray, labels: np.ndarray, num_examples: int) -> tuple[np.ndarray, np.ndarray]:
    """Slope and intercept of each label, (K,) each, by which its logits (M, K) become calibrated on labels (M, K).

    After Platt (Probabilistic outputs for support vector machines, 1999), with his targets, which keep a few examples
    from making it certain; num_examples of the M are distinct. By Newton's method. No slope is below a thousandth for
    logits of unit spread: what ranks higher stays likelier. Logits that are all the same keep a slope of one.
    """
    yes = labels.mean(axis=0) * num_examples
    no = num_examples - yes
    targets = np.where(labels, (yes + 1) / (yes + 2), 1 / (no + 2))
    logits = logits.astype(np.float64)
    middle, spread = logits.mean(axis=0), logits.std(axis=0)
    spread = np.where(spread > 1e-6 * (1 + np.abs(middle)), spread, 1.0)
    x = (logits - middle) / spread
    share = targets.mean(axis=0)
    slope, intercept = np.ones_like(share), np.log(share / (1 - share))
    loss = _loss(x, slope, intercept, targets)
    for _ in range(_STEPS):
        p = expit(slope * x + intercept)
        error, curve = p - targets, np.maximum(p * (1 - p), 1e-12)
        g = np.stack([(error * x).mean(axis=0), error.mean(axis=0)])
        aa, ab, bb = (curve * x * x).mean(axis=0) + 1e-9, (curve * x).mean(axis=0), curve.mean(axis=0) + 1e-9
        determinant = np.maximum(aa * bb - ab * ab, 1e-15)
        step = np.stack([(bb * g[0] - ab * g[1]) / determinant, (aa * g[1] - ab * g[0]) / determinant])
        held = (slope <= _LEAST_SLOPE) & (step[0] > 0)  # the intercept alone still moves
        step = np.where(held, [np.zeros_like(share), g[1] / bb], step)
        scale = np.ones_like(share)
        for _ in range(30):  # halved for each label until the loss no longer grows
            new = np.maximum(slope - scale * step[0], _LEAST_SLOPE), intercept - scale * step[1]
            tried = _loss(x, *new, targets)
            grown = tried > loss + 1e-12
            if not grown.any():
                break
            scale = np.where(grown, scale / 2, scale)
        else:
            new = np.where(grown, slope, new[0]), np.where(grown, intercept, new[1])
            tried = np.where(grown, loss, tried)
        done = np.abs(loss - tried).max() < 1e-10
        (slope, intercept), loss = new, tried
        if done:
            break
    slope = slope / spread
    return slope, intercept - slope * middle


def _loss(x: np.ndarray, slope: np.ndarray, intercept: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(K,): mean cross-entropy with the targets."""
    z = slope * x + intercept
    lost: np.ndarray = (np.logaddexp(0, z) - targets * z).mean(axis=0)
    return lost


def best_thresholds(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """For each of K labels the probability from which on to say yes, so that its F1 on (M, K) is best: (K,).

    Halfway to the next lower probability; .5 for a label that nothing has.
    """
    found = np.full(probabilities.shape[1], 0.5)
    for number in range(probabilities.shape[1]):
        own = labels[:, number]
        if not own.any():
            continue
        order = np.argsort(-probabilities[:, number], kind="stable")
        p = probabilities[order, number]
        hits, said = own[order].cumsum(), np.arange(1, len(order) + 1)
        f1 = 2 * hits / (said + own.sum())
        f1[:-1][p[:-1] == p[1:]] = -1  # no threshold lies between equal ones
        last = int(f1.argmax())
        below = p[last + 1] if last + 1 < len(p) else 0.0
        found[number] = np.clip((p[last] + below) / 2, _TINY, 1 - _TINY)
    return found
