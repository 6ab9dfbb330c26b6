"""What the head's task is trained on, put together where it runs: from gathered vectors, or from the cache.

Selecting rows takes a copy, which the driver then need not hold.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from golem_ray.data import read_content, with_contents
from golem_ray.embedding.cache import EmbeddingCache
from golem_ray.embedding.modality import modality_named
from golem_ray.embedding.recipe import Recipe
from golem_ray.errors import ConfigError, ExampleError
from golem_ray.heads.training_set import HeadCandidate, TrainingSet

_ROWS_AT_ONCE = 8192


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Counts what the baseline counts in examples, where the head is trained: their files are read again there."""

    examples: pa.Table
    recipe: Recipe

    def __call__(self, rows: np.ndarray) -> Any:
        """(M, V) in CSR form, of rows (M,), at least one."""
        from scipy.sparse import vstack

        count = modality_named(self.recipe.modality).terms
        assert count is not None
        parts = []
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            block = with_contents(self.examples.take(rows[start : start + _ROWS_AT_ONCE]))
            parts.append(count([_content(fields) for fields in block.to_pylist()], self.recipe))
        return vstack(parts, format="csr")


def _content(fields: dict[str, Any]) -> bytes | None:
    try:
        return read_content(fields["bytes"], fields["path"])
    except ExampleError:  # which could be read a moment ago
        return None


@dataclass(frozen=True, kw_only=True)
class TrainingRows:
    """Which examples a head is trained on and tested on, and what is known of them besides their vectors."""

    used: np.ndarray
    """(N,) int64: rows to train on."""
    held: np.ndarray
    """(M,) int64: rows to test on."""
    labels: np.ndarray
    """(N,) int64."""
    groups: np.ndarray | None
    """(N,) int64: those of one group are never on both sides of a fold."""
    extra: np.ndarray | None = None
    """(N,) bool: as TrainingSet.extra."""
    candidates: tuple[HeadCandidate, ...]
    """As TrainingSet.candidates."""
    drawn: np.ndarray
    """(P,) int64: as TrainingSet.drawn."""

    def training_set(
        self,
        embeddings: np.ndarray,
        held_out: np.ndarray,
        baselines: tuple[np.ndarray, np.ndarray] | None,
        terms: Terms | None,
    ) -> TrainingSet:
        """The set, from vectors of the rows to train on and to test on, and the baseline's of both."""
        baseline, held_out_baseline = baselines or (None, None)
        tested = (terms is not None or baseline is not None) and len(self.held) > 0
        return TrainingSet(
            embeddings=embeddings,
            labels=self.labels,
            candidates=self.candidates,
            groups=self.groups,
            extra=self.extra,
            drawn=self.drawn,
            held_out=held_out if tested else None,
            baseline=baseline,
            held_out_baseline=held_out_baseline if tested else None,
            terms=None if terms is None else terms(self.used),
            held_out_terms=terms(self.held) if terms is not None and tested else None,
        )


@dataclass(frozen=True, kw_only=True)
class FromMemory:
    """Gives the set from gathered vectors."""

    rows: TrainingRows
    vectors: np.ndarray
    """(R, D) float32, of all rows."""
    baseline: np.ndarray | None
    """(R, F) float32."""
    terms: Terms | None = None

    def __call__(self, scratch: Path) -> TrainingSet:
        """The set; nothing is put into the folder."""
        used, held = self.rows.used, self.rows.held
        everything = len(used) == len(self.vectors) and bool((used == np.arange(len(used))).all())
        baselines = None if self.baseline is None else (self.baseline[used], self.baseline[held])
        vectors = self.vectors if everything else self.vectors[used]
        return self.rows.training_set(vectors, self.vectors[held], baselines, self.terms)


@dataclass(frozen=True, kw_only=True)
class FromCache:
    """Gives the same set from the cache; its embeddings are a memory map in the scratch folder.

    Raises ConfigError if there is no room for it, or if the cache lacks a vector that it had.
    """

    rows: TrainingRows
    cache: EmbeddingCache
    digests: np.ndarray
    """(R,) S32, of all rows."""
    terms: Terms | None = None

    def __call__(self, scratch: Path) -> TrainingSet:
        """The set, its embeddings in the folder."""
        used, cache = self.rows.used, self.cache
        needed, free = 4 * len(used) * cache.width, shutil.disk_usage(scratch).free
        if needed > 0.95 * free:
            raise ConfigError(
                f"cluster.gather_limit: expected room for {needed / 1e9:.1f} GB of embeddings in {scratch.parent} of "
                f"the machine that trains the head, found {free / 1e9:.1f} GB; point TMPDIR there at a larger disk."
            )
        embeddings = np.memmap(scratch / "embeddings", np.float32, mode="w+", shape=(len(used), cache.width))
        held_out = np.zeros((len(self.rows.held), cache.width), dtype=np.float32)
        baseline, known = self._read(used, embeddings)
        held_out_baseline, also_known = self._read(self.rows.held, held_out)
        known = np.concatenate([known, also_known])
        if not known.all():
            raise ConfigError(
                f"paths.run_dir: expected the embeddings of {len(known)} {cache.noun.many} in {cache.folder}, found "
                f"{known.sum()}; were files removed? Run again: the others are embedded anew."
            )
        baselines = (baseline, held_out_baseline) if len(self.rows.held) and self.cache.baseline_size else None
        return self.rows.training_set(embeddings, held_out, baselines, self.terms)

    def _read(self, rows: np.ndarray, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Put the rows' vectors in place; the baseline's, if there are examples to test on, and which were known."""
        wanted = len(self.rows.held) > 0 and self.cache.baseline_size > 0
        baseline = np.zeros((len(rows) if wanted else 0, self.cache.baseline_size), dtype=np.float32)
        if not len(rows):
            return baseline, np.zeros(0, dtype=bool)
        into = baseline if wanted else None
        return baseline, self.cache.look_up(self.digests[rows], vectors=vectors, baseline=into, with_baseline=wanted)
