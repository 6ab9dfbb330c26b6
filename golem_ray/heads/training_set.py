"""What a head is trained on, how, and what comes of it. Knows no PyTorch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from golem_ray.config import HeadConfig, TrainingConfig
from golem_ray.heads.single_label import SINGLE_LABEL
from golem_ray.heads.target import Target
from golem_ray.metrics.answers import Answers


@dataclass(frozen=True, kw_only=True)
class HeadSpec:
    """Which head to fit, and how."""

    num_classes: int
    head: HeadConfig = field(default_factory=HeadConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    target: Target = SINGLE_LABEL
    reject: float | str | None = None
    """What `evaluation.reject` says."""
    joined: bool = False
    """Whether the head also takes the logits of the baseline on terms: see joined.py."""

    def of(self, candidate: HeadCandidate) -> HeadSpec:
        """How the candidate's head is fitted."""
        return dataclasses.replace(self, head=candidate.head, joined=candidate.joined)


Columns = tuple[tuple[int, int], ...]
"""Which columns of wider embeddings: from each start to before its stop."""


@dataclass(frozen=True, kw_only=True)
class HeadCandidate:
    """One of several heads to choose from, and what it is trained on."""

    columns: Columns
    head: HeadConfig
    joined: bool = False
    """As HeadSpec.joined."""

    def takes_as(self, other: HeadCandidate) -> bool:
        """Whether it is trained on the same columns as another."""
        return self.columns == other.columns and self.joined == other.joined


@dataclass(frozen=True, kw_only=True)
class TrainingSet:
    """What a head is trained on, and what it is tested on."""

    embeddings: np.ndarray
    """(N, D) float32. Of a `np.memmap` only chunks are in memory."""
    labels: np.ndarray
    """(N,) int64, or (N, K) bool where there may be several."""
    candidates: tuple[HeadCandidate, ...] = ()
    """What to choose from, the plain one first; none where there is no choice."""
    groups: np.ndarray | None = None
    """(N,) int64: the examples of a group are never on both sides of a fold."""
    extra: np.ndarray | None = None
    """(N,) bool: those that are only ever trained on, in every fold that tests none of their group; None for none."""
    baseline: np.ndarray | None = None
    """(N, F) float32: the plain vectors that the embeddings have to beat. Beyond memory, if examples are held out."""
    held_out: np.ndarray | None = None
    """(M, D) float32: embeddings of the examples held out."""
    held_out_baseline: np.ndarray | None = None
    """(M, F) float32."""
    terms: Any = None
    """(N, V) in SciPy's CSR form: what is counted in each example, in place of `baseline`'s vectors."""
    held_out_terms: Any = None
    """(M, V), the same of the examples held out."""
    drawn: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """(P,) int64, ascending: which embeddings come back with the head. Examples held out count on from N."""


@dataclass(frozen=True, kw_only=True)
class TrainedHead:
    """A head, and its logits on examples that it was not trained on."""

    weights: bytes
    """The .pth file."""
    joined: bytes | None = None
    """The file of the regression whose logits are appended to vectors (joined.py), where they are."""
    metrics: dict[str, Any]
    """Plain JSON values."""
    drawn: np.ndarray
    """(P, D) float32: the embeddings of the rows in TrainingSet.drawn."""
    chosen: int | None = None
    """The number of the one of TrainingSet.candidates that was trained."""
    unseen_logits: np.ndarray
    """(N, K) float32: each example's, from the first round of cross-validation; NaN if it was not tested there."""
    unseen_answers: Answers | None = None
    """Of these logits, where how to decide follows from cross-validation too: each fold's from the other folds."""
    unseen_rows: np.ndarray | None = None
    """(N,) int64: which rows of the training set `unseen_logits` has; None says all of them."""
    held_out_logits: np.ndarray | None = None
    """(M, K) float32, of the examples held out."""
    held_out_unsure: np.ndarray | None = None
    """(M,) bool: those that are rejected, where the head was to learn that."""
    baseline_calibration: dict[str, Any] | None = None
    """How the baseline's probabilities are calibrated, and decided by, where that follows from cross-validation."""
    baseline_logits: np.ndarray | None = None
    """(M, K) float32, of the same head trained on the baseline's vectors, or of the baseline on terms."""
