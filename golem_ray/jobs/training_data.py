"""What the head's task is trained on, put together there."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np

from golem_ray.embedding.cache import EmbeddingCache
from golem_ray.embedding.examples import LOG_MEL_SIZE
from golem_ray.errors import ConfigError
from golem_ray.heads.training_set import TrainingSet


def from_gathered(
    scratch: Path,
    *,
    base: TrainingSet,
    vectors: np.ndarray,
    log_mel: np.ndarray | None,
    used: np.ndarray,
    held: np.ndarray,
) -> TrainingSet:
    """The set with the rows `used` of vectors (N, D) or (N, C, D) to train on, and `held` to test on.

    Log-mel statistics, (N, 80), are where there are clips to test on.
    """
    everything = len(used) == len(vectors) and bool((used == np.arange(len(used))).all())
    data = dataclasses.replace(base, embeddings=vectors if everything else vectors[used])
    if log_mel is None or not len(held):
        return data
    return dataclasses.replace(data, log_mel=log_mel[used], held_out=vectors[held], held_out_log_mel=log_mel[held])


def from_storage(
    scratch: Path, *, base: TrainingSet, cache: EmbeddingCache, digests: np.ndarray, used: np.ndarray, held: np.ndarray
) -> TrainingSet:
    """The same from the cache, by the digests (N,) S32 of all rows; the embeddings are a memory map in `scratch`.

    Raises ConfigError if there is no room for it, or if the cache lacks a vector that it had.
    """
    needed, free = 4 * len(used) * cache.width, shutil.disk_usage(scratch).free
    if needed > 0.95 * free:
        raise ConfigError(
            f"cluster.gather_limit: expected room for {needed / 1e9:.1f} GB of embeddings in {scratch.parent} of the "
            f"machine that trains the head, found {free / 1e9:.1f} GB; point TMPDIR there at a larger disk."
        )
    embeddings = np.memmap(scratch / "embeddings", np.float32, mode="w+", shape=(len(used), cache.width))
    baseline = len(held) > 0
    log_mel = np.zeros((len(used), LOG_MEL_SIZE), dtype=np.float32) if baseline else None
    known = cache.look_up(digests[used], vectors=embeddings, log_mel=log_mel, baseline=baseline)
    data = dataclasses.replace(base, embeddings=embeddings)
    if baseline:
        tested = np.zeros((len(held), cache.width), dtype=np.float32)
        tested_log_mel = np.zeros((len(held), LOG_MEL_SIZE), dtype=np.float32)
        also = cache.look_up(digests[held], vectors=tested, log_mel=tested_log_mel, baseline=True)
        known = np.concatenate([known, also])
        data = dataclasses.replace(data, log_mel=log_mel, held_out=tested, held_out_log_mel=tested_log_mel)
    if not known.all():
        raise ConfigError(
            f"paths.run_dir: expected the embeddings of {len(known)} clips in {cache.folder}, found {known.sum()}; "
            "were files removed? Run again: the others are embedded anew."
        )
    return data
