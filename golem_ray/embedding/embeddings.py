"""The vectors of a source's examples, as embedding hands them on: batch by batch, or all of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from golem_ray.devices import worker_record
from golem_ray.errors import ConfigError

log = logging.getLogger(__name__)


class VectorBatch(NamedTuple):
    """Some examples of a source, embedded: of each a vector, or the reason why there is none."""

    rows: np.ndarray
    """(M,) int64: which examples."""
    vectors: np.ndarray | None
    """(M, D) float32, zeros where there is a reason; None where vectors stay in the cache."""
    baseline: np.ndarray | None
    """(M, F) float32, where a baseline was asked for."""
    digests: np.ndarray
    """(M,) S32: sha256 of each file, zeros where it could not be read."""
    reasons: list[str]
    """(M,) why an example cannot be used, '' for one that can."""
    remarks: Sequence[str] = ()
    """(M,) what there is to say of one that can be used, '' for nothing; none where nothing is known of any."""
    cost: float = 0.0
    """What embedding them cost, in the modality's unit; none for what a cache had."""

    def remarked(self) -> dict[int, str]:
        """Row -> what there is to say of an example that can be used."""
        said = zip(self.rows.tolist(), self.reasons, self.remarks or self.reasons, strict=True)
        return {row: remark for row, reason, remark in said if remark and not reason}


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """Every example of a source, in its order: a vector, or the reason why there is none."""

    vectors: np.ndarray
    """(N, D) float32, zeros where there is no vector; (0, D) where they stay in the cache."""
    bad: dict[int, str]
    """Row -> reason, for the examples without a vector."""
    digests: np.ndarray
    """(N,) S32: sha256 of each file, zeros where it could not be read."""
    baseline: np.ndarray | None
    """(N, F) float32 where a baseline was asked for, zeros where there is no vector."""
    remarks: dict[int, str] = field(default_factory=dict)
    """Row -> what there is to say of an example that can be used."""
    cost: float = 0.0
    """What was embedded, in the modality's unit; none for what a cache had."""


class Intake:
    """What an engine does with the batches that come from its workers, in any order, and perhaps some of them twice."""

    def __init__(self, wanted: np.ndarray, gathered: bool) -> None:
        self.left = wanted.copy()
        """(N,) bool: examples that have not come yet."""
        self.num_bad = 0
        self._gathered = gathered
        self._workers: set[str] = set()
        self._unsaved = False

    def take(self, done: dict[str, Any]) -> VectorBatch:
        """What EmbedBatch gave, without examples that had come before.

        Raises ConfigError for a failure of the worker, and where vectors can be kept nowhere that have to be.
        """
        failures = [str(failure) for failure in done["failure"] if failure]  # a block may hold several calls
        if failures:
            raise ConfigError(failures[0])
        self._check_saved(next((str(words) for words in done["unsaved"] if words), ""))
        for worker in sorted(set(done["worker"]) - self._workers):
            note = worker.rsplit("|", 1)[1]
            if note and not any(other.endswith(note) for other in self._workers):
                log.warning("%s", note)
            self._workers.add(worker)
        ids = np.asarray(done["id"])
        new = np.flatnonzero(self.left[ids])
        self.left[ids] = False
        batch = VectorBatch(
            rows=ids[new],
            vectors=np.asarray(done["vector"])[new] if "vector" in done else None,
            baseline=np.asarray(done["baseline"])[new] if "baseline" in done else None,
            digests=np.asarray(done["digest"], dtype="S32")[new],
            reasons=[str(done["reason"][row] or "") for row in new],
            remarks=[str(done["remark"][row] or "") for row in new],
            cost=float(np.asarray(done["cost"])[new].sum()),
        )
        self.num_bad += sum(1 for reason in batch.reasons if reason)
        return batch

    def note(self) -> str:
        """A few words beside the progress."""
        return f"{self.num_bad} bad" if self.num_bad else ""

    def workers(self) -> tuple[dict[str, Any], ...]:
        """What each worker that has embedded ran on."""
        return tuple(worker_record(worker) for worker in sorted(self._workers))

    def _check_saved(self, problem: str) -> None:
        if problem and not self._gathered:
            raise ConfigError(f"paths.run_dir: expected storage that keeps the embeddings, but {problem}.")
        if problem and not self._unsaved:
            log.warning("%s: going on without", problem)
        self._unsaved = self._unsaved or bool(problem)
