"""What is handed on between embedding, training and judging. Knows no PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from golem_ray.encoder_info import Recipe


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
    seconds: float = 0.0
    """Audio that was embedded; none for what a cache had."""


def worker_record(worker: str) -> dict[str, Any]:
    """What `stages.describe_worker` told, as Embeddings.workers has it."""
    device, gpus, _, _ = worker.split("|")
    return {"device": device, "gpus": gpus.split(",") if gpus else []}


def by_layer(vectors: np.ndarray, recipe: Recipe) -> np.ndarray:
    """Embeddings (N, vector_size) as (N, C, D), of the recipe's C layers; a view."""
    return vectors.reshape(len(vectors), len(recipe.layers), -1)


def part_of(vectors: np.ndarray, recipe: Recipe, layer: int | str, pooling: str) -> np.ndarray:
    """What embeddings (N, vector_size) would be of one of the recipe's layers, and of that pooling: (N, D) float32."""
    every = vectors.reshape(len(vectors), *recipe.parts)
    chosen = every[:, recipe.layers.index(layer), : len(pooling.split("+"))]
    return np.ascontiguousarray(chosen.reshape(len(vectors), -1))


class Score(NamedTuple):
    """How a recipe does on clips that it was not fitted on."""

    accuracy: float
    log_loss: float
    """In nats."""
    right: np.ndarray = np.zeros(0)
    """(N,): in which share of the rounds each clip was recognised, NaN for one that was not tested."""


def best_candidate(scores: Sequence[Score | None]) -> int | None:
    """The most accurate one, of equal ones that with the least log-loss; None where none has a score."""
    told = [(score.accuracy, -score.log_loss, -number) for number, score in enumerate(scores) if score is not None]
    return -max(told)[2] if told else None


class Round(NamedTuple):
    """How a recipe does in one round of cross-validation."""

    right: np.ndarray
    """(N,) float32: 1 for a clip that was recognised, 0 for one that was not, NaN for one that was not tested."""
    losses: np.ndarray
    """(N,) float32: its log-loss in nats, NaN where it was not tested."""
    inner: tuple[Score | None, ...]
    """For each fold, what cross-validation on that fold's training clips alone says of the recipe."""


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
