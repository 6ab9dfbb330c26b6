"""What a head is trained on, and what comes of it. Knows no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True)
class TrainingSet:
    """What a head is trained on, and what it is tested on."""

    embeddings: np.ndarray
    """(N, D) float32, or (N, C, D) of C layers to choose from. Of a `np.memmap`, (N, D), only chunks are in memory."""
    labels: np.ndarray
    """(N,) int64."""
    num_classes: int
    layers: tuple[int | str, ...] = ()
    """(C,) names of the layers to choose from."""
    groups: np.ndarray | None = None
    """(N,) int64: clips of one group are never on both sides of a fold."""
    log_mel: np.ndarray | None = None
    """(N, F) float32, where there are clips held out."""
    held_out: np.ndarray | None = None
    """(M, D) or (M, C, D) float32."""
    held_out_log_mel: np.ndarray | None = None
    """(M, F) float32."""
    drawn: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """(P,) int64, ascending: whose vectors are to come back with the head. Clips held out count on from N."""


@dataclass(frozen=True, kw_only=True)
class TrainedHead:
    """A head, and what it says of clips that it was not trained on."""

    weights: bytes
    """The .pth file."""
    metrics: dict[str, Any]
    """Plain JSON values."""
    drawn: np.ndarray
    """(P, D) float32: the vectors of the rows in TrainingSet.drawn."""
    layer: int | str | None = None
    """The chosen one of TrainingSet.layers."""
    unseen_logits: np.ndarray
    """(N, K) float32: each clip's, by a head of the first cross-validation that did not see it; NaN without."""
    unseen_rows: np.ndarray | None = None
    """(N,) int64: which rows of the training set those are of; None for all of them."""
    held_out_logits: np.ndarray | None = None
    """(M, K) float32, of the clips held out."""
    baseline_logits: np.ndarray | None = None
    """(M, K) float32, of the same head on log-mel statistics."""
