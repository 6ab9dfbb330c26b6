"""The vectors of a source's examples, as embedding hands them on."""

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
    seconds: float = 0.0
    """Audio that was embedded; none for what a cache had."""
