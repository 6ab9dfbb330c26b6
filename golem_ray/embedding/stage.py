"""The embedding worker's stage: a batch of examples in, their vectors out. Any modality, any engine.

PyTorch is imported where it is used, so that a process that only names the stage does not load it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from golem_ray.data.shards import with_contents
from golem_ray.devices import Resources, describe_worker, pick_device
from golem_ray.embedding.cache import EmbeddingCache
from golem_ray.embedding.crash_notes import CRASHED, CrashNotes
from golem_ray.embedding.examples import NO_DATA, Example, crashed_example, read_example, rows_of, ungroup
from golem_ray.embedding.loaded import loaded_encoder, stop
from golem_ray.embedding.modality import modality_named
from golem_ray.embedding.recipe import Recipe
from golem_ray.errors import ConfigError, UserError, ran_out_of_memory

BATCHES_PER_GROUP = 8
"""What a GPU is given at a time, in batches: enough to sort by length, and bounded."""

_SMALLEST_BATCH = 1 / 30
"""Share of a GPU's batch below which examples that do not fit into its memory go one by one."""


@dataclass(frozen=True, kw_only=True)
class EmbeddingTask:
    """What workers are to do with a source's examples."""

    recipe: Recipe
    baseline: bool = False
    """Whether the baseline's vectors are wanted too."""
    cache: EmbeddingCache | None = None
    """Where workers keep the vectors."""
    gathered: bool = True
    """Whether vectors come back; if not, they are in the cache alone."""
    crash_notes: str | None = None
    """Folder or URI of the crash notes of a run that can be gone on with, where the engine has no store of its own."""

    @property
    def reads_baseline(self) -> bool:
        """Whether the baseline's vector of each example is computed."""
        return self.baseline or bool(self.recipe.joined)


class EmbedBatch:
    """A worker's work: examples -> {id, reason, remark, digest, cost, worker, failure, unsaved[, vector (D,),
    baseline (F,)]}.

    On CPUs, from a table of examples, each read and embedded by one thread, as many at a time as the worker has
    threads: padding only costs there, and threads that share an example wait for each other. Where examples are so
    small that a thread is faster with several (`Modality.cpu_batch`), they go in batches of like costs. On a GPU, from
    groups of examples, in batches of like lengths, smaller ones from then on when the GPU's memory is full; an example
    that does not fit alone cannot be used. Vectors go into the cache, if there is one, and come back if they are
    wanted. The `failure` of every row says why an encoder cannot be loaded: an exception would reach the user in pages
    of the engine's own words.
    """

    def __init__(self, task: EmbeddingTask, resources: Resources, notes: CrashNotes | None = None) -> None:
        import torch

        recipe = task.recipe
        self.recipe, self.baseline, self.gathered, self.cache = recipe, task.baseline, task.gathered, task.cache
        self.reads_baseline = task.reads_baseline
        self.modality = modality_named(recipe.modality)
        self.grouped = resources.gpu
        self.notes = notes or CrashNotes()
        self.smallest_batch = resources.batch_cost * _SMALLEST_BATCH
        self.worker = self.failure = self.unsaved = ""
        at_once = 1 if resources.gpu or recipe.compiled else resources.threads
        threads_each = resources.threads // at_once
        torch.set_num_threads(threads_each)  # of this thread; new ones have a number of their own
        self.threads = ThreadPoolExecutor(at_once, initializer=torch.set_num_threads, initargs=(threads_each,))
        try:
            device = pick_device(resources)
            batched = device == "cuda" and recipe.encoder.exact_in_batches
            if device == "cpu":
                _keep_memory()
            if resources.gpu and device == "cpu":
                self.cache = None  # a GPU that PyTorch cannot use: not the vectors that the cache is for
                if not task.gathered:
                    raise ConfigError(
                        "cluster.gather_limit: expected GPUs that PyTorch can use for embeddings that stay in storage, "
                        "found one that it cannot; use device.backend = cpu."
                    )
            on_cpu = None if recipe.compiled else self.modality.cpu_batch
            self.packed = on_cpu if device == "cpu" and not self.grouped else None
            self.encoder = loaded_encoder(recipe, device, resources.batch_cost if batched else self.packed)
        except UserError as error:
            self.failure = str(error)
            return
        self.worker = describe_worker(resources, device, self.modality.note(recipe, device))

    def __call__(self, batch: pa.Table) -> dict[str, Any]:
        """One batch; examples with a reason get a vector of zeros."""
        examples, vectors = self._embed_group(batch) if self.grouped else self._embed_rows(batch)
        if self.recipe.joined:
            vectors = np.concatenate([vectors, np.stack([example.baseline for example in examples])], axis=1)
        reasons = [example.reason for example in examples]
        for row in np.flatnonzero(~np.isfinite(vectors).all(axis=1)):
            vectors[row], reasons[row] = 0, f"the encoder's vector is not finite in {self.recipe.precision}"
        done: dict[str, Any] = {
            "id": np.array([example.id for example in examples], dtype=np.int64),
            "reason": reasons,
            "remark": [example.remark for example in examples],
            "digest": [example.digest for example in examples],
            "cost": np.array([example.cost for example in examples], dtype=np.float32),
        }
        baseline = np.stack([example.baseline for example in examples]) if self.baseline else None
        if self.cache is not None and not self.failure:
            good = np.array([not reason for reason in reasons])
            digests = np.array(done["digest"], dtype="S32")[good]
            kept = None if baseline is None else baseline[good]
            remarks = [example.remark for example, reason in zip(examples, reasons, strict=True) if not reason]
            self.unsaved = self.cache.add(done["id"][good], digests, vectors[good], kept, remarks) or self.unsaved
        if self.gathered:
            done["vector"] = vectors
            if baseline is not None:
                done["baseline"] = baseline
        said = {"worker": self.worker, "failure": self.failure, "unsaved": self.unsaved}
        return {**done, **{name: [value] * len(examples) for name, value in said.items()}}

    def stop(self) -> None:
        """End what threads are at work on: nobody waits for it."""
        self.threads.shutdown(wait=False, cancel_futures=True)
        if not self.failure:
            stop(self.encoder)

    def _embed_group(self, batch: pa.Table) -> tuple[list[Example], np.ndarray]:
        examples = ungroup(batch)
        with self.notes.block([example.id for example in examples]) as suspicious:
            if suspicious:
                done = [self._embed_alone(example) for example in examples]
                return [example for example, _ in done], np.concatenate([vectors for _, vectors in done])
            vectors, reasons = self._embed([example.data for example in examples])
        kept = zip(examples, reasons, strict=True)
        return [example._replace(reason=example.reason or why) for example, why in kept], vectors

    def _embed_alone(self, example: Example) -> tuple[Example, np.ndarray]:
        """One that may have ended a process."""
        with self.notes.example(example.id) as crashes:
            vectors, (why,) = self._embed([NO_DATA if crashes else example.data])
        return example._replace(reason=example.reason or (CRASHED if crashes else why)), vectors

    def _embed_rows(self, batch: pa.Table) -> tuple[list[Example], np.ndarray]:
        """Row by row, so that no more data are held than examples are worked on."""

        def embed(row: pa.Table) -> tuple[Example, np.ndarray]:
            example = read_example(row, self.recipe, self.reads_baseline)
            vectors, (why,) = self._embed([example.data])
            return example._replace(data=NO_DATA, reason=example.reason or why), vectors

        def embed_alone(row: pa.Table) -> tuple[Example, np.ndarray]:
            example_id = row["id"][0].as_py()
            with self.notes.example(example_id) as crashes:
                if crashes:
                    return crashed_example(example_id, self.recipe, self.reads_baseline), self._embed([NO_DATA])[0]
                return embed(with_contents(row))

        with self.notes.block(batch["id"].to_pylist()) as suspicious:
            if suspicious:
                done = [embed_alone(row) for row in rows_of(batch)]
            elif self.packed is not None:
                return self._embed_packed(with_contents(batch), self.packed)
            else:
                done = list(self.threads.map(embed, rows_of(with_contents(batch))))
        return [example for example, _ in done], np.concatenate([vectors for _, vectors in done])

    def _embed_packed(self, batch: pa.Table, most: float) -> tuple[list[Example], np.ndarray]:
        """Each thread embeds one batch of examples of like costs at a time, of at most so much padded cost."""
        from golem_ray.embedding.loading import pack

        examples = [read_example(row, self.recipe, self.reads_baseline) for row in rows_of(batch)]
        batches = pack([example.cost for example in examples], most)
        found = list(self.threads.map(lambda rows: self._embed([examples[row].data for row in rows]), batches))
        vectors = np.zeros((len(examples), self.recipe.encoded_size), dtype=np.float32)
        for rows, (of_batch, reasons) in zip(batches, found, strict=True):
            vectors[rows] = of_batch
            for row, why in zip(rows, reasons, strict=True):
                examples[row] = examples[row]._replace(data=NO_DATA, reason=examples[row].reason or why)
        return examples, vectors

    def _embed(self, data: list[np.ndarray]) -> tuple[np.ndarray, list[str]]:
        """(N, D): the vectors, zeros without data or for what does not fit into memory, and then why not."""
        vectors = np.zeros((len(data), self.recipe.encoded_size), dtype=np.float32)
        reasons = [""] * len(data)
        good = [row for row, each in enumerate(data) if each.size]
        if not good or self.failure:
            return vectors, reasons
        found = self._fitting([data[row] for row in good])
        for row, vector in zip(good, found, strict=True):
            if vector is None:
                reasons[row] = self.modality.too_large(self.modality.cost(len(data[row]), self.recipe))
            else:
                vectors[row] = vector
        return vectors, reasons

    def batch_fill(self) -> float | None:
        """The share of the last GPU batches' padded cost that was no padding; None without batches."""
        return None if self.failure else self.encoder.batch_fill

    def _fitting(self, data: list[np.ndarray]) -> list[np.ndarray | None]:
        """Each example's vector (D,), or None if it does not fit into memory alone.

        A batch that does not fit is tried again in halves, and so are all that come after it.
        """
        import torch

        try:
            return list(self.encoder.embed(data))
        except (MemoryError, RuntimeError) as error:
            if not ran_out_of_memory(error):
                raise  # what follows is done outside, where nothing holds on to the failed pass's tensors
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        cost = self.encoder.batch_cost
        if len(data) == 1:
            return [None]
        if cost is None or cost <= self.smallest_batch:
            return [self._fitting([each])[0] for each in data]
        self.encoder.batch_cost = cost / 2
        return self._fitting(data)


def _keep_memory() -> None:
    """Have the C library keep what it was given: examples of unlike lengths else cost a tenth of the time in page
    faults. For glibc's malloc; elsewhere nothing happens.
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
