"""What is handed on between embedding, training and judging. Knows no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """Every clip of a source, in its order: a vector, or the reason why there is none."""

    vectors: np.ndarray
    """(N, D) float32, zeros where there is no vector."""
    bad: dict[int, str]
    """Row -> reason, for the clips without a vector."""
    digests: np.ndarray
    """(N,) S32: sha256 of each clip's audio file, zeros where it could not be read."""
    log_mel: np.ndarray | None
    """(N, 80) float32 where a baseline was asked for, zeros where there is no vector."""
    workers: tuple[dict[str, Any], ...]
    """What each actor that worked ran on: {"device": ..., "gpus": [...]}."""


@dataclass(frozen=True, kw_only=True)
class TrainingSet:
    """What a head is trained on, and what it is tested on."""

    embeddings: np.ndarray
    """(N, D) float32."""
    labels: np.ndarray
    """(N,) int64."""
    num_classes: int
    groups: np.ndarray | None = None
    """(N,) int64: clips of one group are never on both sides of a fold."""
    log_mel: np.ndarray | None = None
    """(N, F) float32, where there are clips held out."""
    held_out: np.ndarray | None = None
    """(M, D) float32."""
    held_out_log_mel: np.ndarray | None = None
    """(M, F) float32."""


@dataclass(frozen=True, kw_only=True)
class TrainedHead:
    """A head, and what it says of clips that it was not trained on."""

    weights: bytes
    """The .pth file."""
    metrics: dict[str, Any]
    """Plain JSON values."""
    unseen_logits: np.ndarray
    """(N, K) float32: each clip's, by a head of the first cross-validation that did not see it; NaN without."""
    held_out_logits: np.ndarray | None = None
    """(M, K) float32, of the clips held out."""
    baseline_logits: np.ndarray | None = None
    """(M, K) float32, of the same head on log-mel statistics."""
