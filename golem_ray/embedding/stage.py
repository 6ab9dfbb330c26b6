"""The embedding worker's stage: a batch of examples in, their vectors out."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa

from golem_ray.data.shards import with_contents
from golem_ray.devices import Resources, describe_worker, pick_device
from golem_ray.embedding.cache import EmbeddingCache
from golem_ray.embedding.crash_notes import GUILTY, Journal
from golem_ray.embedding.examples import NO_SAMPLES, Clip, guilty_clip, read_clip, rows_of, ungroup
from golem_ray.embedding.recipe import Recipe
from golem_ray.errors import ConfigError, UserError

BATCHES_PER_GROUP = 8
"""What a GPU is given at a time, in batches: enough to sort by length, and bounded."""


SMALLEST_BATCH_S = 4.0
"""Padded seconds below which clips that do not fit into the GPU's memory go one by one."""


class EmbedBatch:
    """An actor's work: clips -> {id, reason, digest, seconds, worker, failure, unsaved[, vector (D,), log_mel (80,)]}.

    On CPUs, from a table of clips, each read, decoded and embedded by one thread, as many at a time as the actor has
    threads: padding only costs there, and threads that share a clip wait for each other. On a GPU, from groups of
    clips, in batches of like lengths, smaller ones from then on when the GPU's memory is full; a clip that does not fit
    alone cannot be used. Vectors go into the cache, if there is one, and are given back unless that is not wanted
    (`gathered`). An encoder that cannot be loaded is told in the `failure` of every row: an exception would reach the
    user in pages of Ray's own words.
    """

    def __init__(
        self,
        recipe: Recipe,
        resources: Resources,
        baseline: bool = False,
        cache: EmbeddingCache | None = None,
        journal: Journal | None = None,
        gathered: bool = True,
    ) -> None:
        import torch

        from golem_ray.speech.encoders import SpeechEncoder, precision_note

        self.recipe = recipe
        self.grouped = resources.gpu
        self.baseline = baseline
        self.cache = cache
        self.journal = journal or Journal()
        self.gathered = gathered
        self.worker = self.failure = self.unsaved = ""
        clips_at_once = 1 if resources.gpu or recipe.compiled else resources.threads
        threads_per_clip = resources.threads // clips_at_once
        torch.set_num_threads(threads_per_clip)  # of this thread; new ones have a number of their own
        self.threads = ThreadPoolExecutor(
            clips_at_once, initializer=torch.set_num_threads, initargs=(threads_per_clip,)
        )
        try:
            device = pick_device(resources)
            batched = device == "cuda" and recipe.encoder.exact_in_batches
            if device == "cpu":
                _keep_memory()
            if resources.gpu and device == "cpu":
                self.cache = None  # a GPU that PyTorch cannot use: not the vectors that the cache is for
                if not gathered:
                    raise ConfigError(
                        "cluster.gather_limit: expected GPUs that PyTorch can use for embeddings that stay in storage, "
                        "found one that it cannot; use device.backend = cpu."
                    )
            self.encoder = SpeechEncoder(recipe, device, batch_seconds=resources.batch_seconds if batched else None)
        except UserError as error:
            self.failure = str(error)
            return
        self.worker = describe_worker(resources, device, precision_note(recipe.precision, device))

    def __call__(self, batch: pa.Table) -> dict[str, Any]:
        """One batch; clips with a reason get a vector of zeros."""
        clips, vectors = self._embed_group(batch) if self.grouped else self._embed_rows(batch)
        reasons = [clip.reason for clip in clips]
        for row in np.flatnonzero(~np.isfinite(vectors).all(axis=1)):
            vectors[row], reasons[row] = 0, f"the encoder's vector is not finite in {self.recipe.precision}"
        done: dict[str, Any] = {
            "id": np.array([clip.id for clip in clips], dtype=np.int64),
            "reason": reasons,
            "digest": [clip.digest for clip in clips],
            "seconds": np.array([clip.seconds for clip in clips], dtype=np.float32),
        }
        log_mel = np.stack([clip.log_mel for clip in clips]) if self.baseline else None
        if self.cache is not None and not self.failure:
            good = np.array([not reason for reason in reasons])
            digests = np.array(done["digest"], dtype="S32")[good]
            kept = None if log_mel is None else log_mel[good]
            self.unsaved = self.cache.add(done["id"][good], digests, vectors[good], kept) or self.unsaved
        if self.gathered:
            done["vector"] = vectors
            if log_mel is not None:
                done["log_mel"] = log_mel
        told = {"worker": self.worker, "failure": self.failure, "unsaved": self.unsaved}
        return {**done, **{name: [value] * len(clips) for name, value in told.items()}}

    def _embed_group(self, batch: pa.Table) -> tuple[list[Clip], np.ndarray]:
        clips = ungroup(batch, self.recipe.encoder.sampling_rate)
        with self.journal.block([clip.id for clip in clips]) as suspicious:
            if suspicious:
                done = [self._embed_alone(clip) for clip in clips]
                return [clip for clip, _ in done], np.concatenate([vectors for _, vectors in done])
            vectors, reasons = self._embed([clip.waveform for clip in clips])
        return [clip._replace(reason=clip.reason or why) for clip, why in zip(clips, reasons, strict=True)], vectors

    def _embed_alone(self, clip: Clip) -> tuple[Clip, np.ndarray]:
        """One that may have ended a process."""
        with self.journal.clip(clip.id) as guilty:
            vectors, (why,) = self._embed([NO_SAMPLES if guilty else clip.waveform])
        return clip._replace(reason=clip.reason or (GUILTY if guilty else why)), vectors

    def _embed_rows(self, batch: pa.Table) -> tuple[list[Clip], np.ndarray]:
        """Row by row, so that no more waveforms are held than clips are worked on."""

        def embed(row: pa.Table) -> tuple[Clip, np.ndarray]:
            clip = read_clip(row, self.recipe.encoder.sampling_rate, self.baseline)
            vectors, (why,) = self._embed([clip.waveform])
            return clip._replace(waveform=NO_SAMPLES, reason=clip.reason or why), vectors

        def embed_alone(row: pa.Table) -> tuple[Clip, np.ndarray]:
            clip_id = row["id"][0].as_py()
            with self.journal.clip(clip_id) as guilty:
                if guilty:
                    return guilty_clip(clip_id, self.baseline), self._embed([NO_SAMPLES])[0]
                return embed(with_contents(row))

        with self.journal.block(batch["id"].to_pylist()) as suspicious:
            if suspicious:
                done = [embed_alone(row) for row in rows_of(batch)]
            else:
                done = list(self.threads.map(embed, rows_of(with_contents(batch))))
        return [clip for clip, _ in done], np.concatenate([vectors for _, vectors in done])

    def _embed(self, waveforms: list[np.ndarray]) -> tuple[np.ndarray, list[str]]:
        """(N, D): the vectors, zeros without a waveform or for one that does not fit into memory, and then why not."""
        vectors = np.zeros((len(waveforms), self.recipe.vector_size), dtype=np.float32)
        reasons = [""] * len(waveforms)
        good = [row for row, waveform in enumerate(waveforms) if waveform.size]
        if not good or self.failure:
            return vectors, reasons
        found = self._fitting([waveforms[row] for row in good])
        for row, vector in zip(good, found, strict=True):
            if vector is None:
                seconds = len(waveforms[row]) / self.recipe.encoder.sampling_rate
                reasons[row] = f"its {seconds:.0f} s do not fit into the GPU's memory: see processing.max_seconds"
            else:
                vectors[row] = vector
        return vectors, reasons

    def batch_fill(self) -> float | None:
        """The share of the last GPU batches' padded seconds that may be used which is audio; None without batches."""
        return None if self.failure else self.encoder.batch_fill

    def _fitting(self, waveforms: list[np.ndarray]) -> list[np.ndarray | None]:
        """Each waveform's vector (D,), or None if it does not fit into memory alone.

        A batch that does not fit is tried again in halves, and so are all that come after it.
        """
        import torch

        try:
            return list(self.encoder.embed(waveforms))
        except torch.OutOfMemoryError:
            pass  # what follows is done outside, where nothing holds on to the failed pass's tensors
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        seconds = self.encoder.batch_seconds
        if len(waveforms) == 1:
            return [None]
        if seconds is None or seconds <= SMALLEST_BATCH_S:
            return [self._fitting([waveform])[0] for waveform in waveforms]
        self.encoder.batch_seconds = seconds / 2
        return self._fitting(waveforms)


def _keep_memory() -> None:
    """Have the C library keep what it was given: clips of unlike lengths else cost a tenth of the time in page faults.

    For glibc's malloc; elsewhere nothing happens.
    """
    import ctypes

    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return
    trim_threshold, mmap_threshold, arena_max = -1, -3, -8  # as malloc.h numbers them
    libc.mallopt(mmap_threshold, 1 << 30)
    libc.mallopt(trim_threshold, (1 << 31) - 1)
    libc.mallopt(arena_max, 1)  # the arenas of other threads would give it back all the same
