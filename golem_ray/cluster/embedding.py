"""Embedding in a pool of actors, by Ray Data, and gathering what they give."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.data.exceptions import ExecutionTimeoutError

from golem_ray.cluster.connection import carried, last_line
from golem_ray.cluster.workers import Embedder, KeyValueStore
from golem_ray.data.table import Source
from golem_ray.data.unusable import MAX_NAMED
from golem_ray.devices import Resources, worker_record
from golem_ray.embedding.cache import EmbeddingCache
from golem_ray.embedding.crash_notes import MOST_DEATHS, Journal
from golem_ray.embedding.embeddings import Embeddings
from golem_ray.embedding.examples import LOG_MEL_SIZE, group_clips, hash_batch
from golem_ray.embedding.recipe import Recipe
from golem_ray.embedding.stage import BATCHES_PER_GROUP
from golem_ray.errors import ConfigError
from golem_ray.heads.rounds import warm_up
from golem_ray.progress import ProgressBar

log = logging.getLogger(__name__)

_FEW_ROWS, _MOST_ROWS, _BLOCKS_PER_WORKER = 64, 256, 64
"""Most clips of a block where blocks are few, and at all: each block costs the driver some 50 kB and 7 ms."""

MOST_VAIN_TRIES = MOST_DEATHS + 3
"""Plans in a row that may end without having embedded a clip: more than it takes to find one that ends machines."""

REPLACED_WITHIN_S = 15.0
"""How long a lost machine may take to be replaced, where none is waited for, before the work goes on with fewer."""


class WorkersLost(Exception):
    """The cluster no longer holds as many actors as the plan has."""


def embed(
    source: Source,
    recipe: Recipe,
    resources: Resources,
    max_bad: int,
    *,
    baseline: bool = False,
    cache: EmbeddingCache | None = None,
    digests: np.ndarray | None = None,
    gathered: bool = True,
) -> Embeddings:
    """Decode, resample and embed every clip of the source; with baseline, give log-mel statistics as well.

    With a cache and the clips' digests, only those that the cache lacks, which it then gets. Unless gathered, vectors
    are left there. Machines may come and go meanwhile. Raises UserError if the encoder cannot be loaded, or if nothing
    goes on; stops early once more than max_bad clips, and as many as a report names, cannot be used.
    """
    ray.remote(num_cpus=0)(warm_up).remote()
    work = _Work(source, recipe, baseline, cache, gathered)
    if cache is not None and digests is not None:
        work.take_known(digests)
    if not work.left.any():
        return work.embeddings()
    vain = 0
    bar = ProgressBar("embedding", int(work.left.sum()), "clips")
    try:
        while work.left.any() and len(work.into.bad) <= max(max_bad, MAX_NAMED):
            before = int(work.left.sum())
            try:
                work.run(resources, max_bad, bar)
            except ExecutionTimeoutError:
                raise _stalled(bar.done, bar.total, resources) from None
            except (ray.exceptions.RayError, WorkersLost) as error:
                resources = _after(error, resources)
                vain = vain + 1 if int(work.left.sum()) == before else 0
                if vain == MOST_VAIN_TRIES:
                    raise _in_vain(error) from error
                log.warning("%s: going on with the %d clips that are left", last_line(error), work.left.sum())
    finally:
        bar.close()
        work.store.clear()
    return work.embeddings()


class _Work:
    """The clips that are still to be embedded, and what was embedded."""

    def __init__(
        self, source: Source, recipe: Recipe, baseline: bool, cache: EmbeddingCache | None, gathered: bool
    ) -> None:
        num_examples = source.examples.num_rows
        self.source, self.recipe, self.baseline, self.cache, self.gathered = source, recipe, baseline, cache, gathered
        self.into = Embeddings(
            vectors=np.zeros((num_examples if gathered else 0, recipe.vector_size), dtype=np.float32),
            bad={},
            digests=np.zeros(num_examples, dtype="S32"),
            log_mel=np.zeros((num_examples, LOG_MEL_SIZE), dtype=np.float32) if baseline and gathered else None,
            workers=(),
        )
        self.left = np.ones(num_examples, dtype=bool)
        self.workers: set[str] = set()
        self.seconds = 0.0
        self.unsaved = False
        self.store = KeyValueStore(uuid.uuid4().hex)
        self.blocks: list[np.ndarray] = []

    def take_known(self, digests: np.ndarray) -> None:
        """What the cache has of clips with these digests, (N,) S32."""
        assert self.cache is not None
        vectors = self.into.vectors if self.gathered else None
        known = self.cache.look_up(digests, vectors=vectors, log_mel=self.into.log_mel, baseline=self.baseline)
        known &= self.source.examples["label"].is_valid().to_numpy()  # one without a label cannot be used all the same
        for values in (vectors, self.into.log_mel):
            if values is not None:
                values[~known] = 0
        self.into.digests[known] = digests[known]
        self.left &= ~known
        log.info("%d of %d clips are in the embedding cache", known.sum(), len(known))

    def embeddings(self) -> Embeddings:
        """What there is."""
        workers = tuple(worker_record(worker) for worker in sorted(self.workers))
        return dataclasses.replace(self.into, workers=workers, seconds=self.seconds)

    def run(self, resources: Resources, max_bad: int, bar: ProgressBar) -> None:
        """One Ray Data plan over what is left. Raises ConfigError for what an actor tells, and Ray's own exceptions."""
        missing = np.flatnonzero(self.left)
        workers = min(resources.workers, len(missing))
        rate = self.recipe.encoder.sampling_rate
        if not self.blocks:  # once and for all: notes of what ended a process are by block
            self.blocks = _cut(missing, workers)
        blocks = [block for block in self.blocks if self.left[block].any()]
        with _quiet_context(resources, workers):
            clips = _dataset(self.source.examples, blocks)
            if resources.gpu:
                seconds = BATCHES_PER_GROUP * resources.batch_seconds
                journal = Journal("reading", self.store)
                clips = clips.map_batches(
                    partial(group_clips, rate=rate, baseline=self.baseline, seconds=seconds, journal=journal),
                    batch_size=None,
                    batch_format="pyarrow",
                )
            journal = Journal("embedding", self.store)
            embedded = clips.map_batches(
                Embedder,
                fn_constructor_args=(self.recipe, resources, self.baseline, self.cache, journal, self.gathered),
                batch_size=1 if resources.gpu else None,  # with GPUs Ray Data wants a number: one group
                batch_format="pyarrow",
                compute=ActorPoolStrategy(size=workers),
                num_gpus=int(resources.gpu),
                num_cpus=resources.cpus,
            )
            for batch in embedded.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0):
                self._take(batch)
                note = f"{len(self.into.bad)} bad" if self.into.bad else ""
                bar.update(bar.total - int(self.left.sum()), note)
                if len(self.into.bad) > max(max_bad, MAX_NAMED):
                    return
        assert not self.left.any(), f"{self.left.sum()} of {len(missing)} clips did not come back"

    def _take(self, batch: dict[str, np.ndarray]) -> None:
        """The rows of a batch, put by id into the source's order."""
        failures = [str(failure) for failure in batch["failure"] if failure]  # a block may hold several calls
        if failures:
            raise ConfigError(failures[0])
        unsaved = next((str(words) for words in batch["unsaved"] if words), "")
        if unsaved and not self.gathered:
            raise ConfigError(f"paths.run_dir: expected storage that keeps the embeddings, but {unsaved}.")
        if unsaved and not self.unsaved:
            log.warning("%s: going on without", unsaved)
        self.unsaved = self.unsaved or bool(unsaved)
        ids = batch["id"]
        if self.gathered:
            self.into.vectors[ids] = batch["vector"]
        if self.into.log_mel is not None:
            self.into.log_mel[ids] = batch["log_mel"]
        self.into.digests[ids] = batch["digest"]
        self.seconds += float(batch["seconds"][self.left[ids]].sum())
        self.left[ids] = False
        for row, reason in zip(ids, batch["reason"], strict=True):
            if reason:
                self.into.bad[int(row)] = str(reason)
        for worker in sorted(set(batch["worker"]) - self.workers):
            note = worker.rsplit("|", 1)[1]
            if note and not any(other.endswith(note) for other in self.workers):
                log.warning("%s", note)
            self.workers.add(worker)


def _after(error: Exception, resources: Resources) -> Resources:
    """How to go on after a plan that ended with this error. Raises it if it is a bug of ours."""
    if isinstance(error, ray.exceptions.RayTaskError) and not isinstance(error.cause, ray.exceptions.RayError):
        raise error
    if isinstance(error, ray.exceptions.ActorDiedError) and "in its creation task" in str(error):
        raise error
    deadline = time.monotonic() + _patience(resources)
    while (held := carried(resources)) == 0:
        if time.monotonic() > deadline:
            raise ConfigError(
                f"cluster.address: expected machines to go on with, found none that holds a worker of "
                f"{'a GPU' if resources.gpu else f'{resources.cpus} CPUs'} ({last_line(error)}); start some and run "
                "again: with paths.run_dir what is done is kept."
            ) from None
        time.sleep(1.0)
    return dataclasses.replace(resources, workers=min(resources.workers, held))


def _patience(resources: Resources) -> float:
    """Seconds that a lost machine may take to be replaced: no longer than work may stand still."""
    return max(REPLACED_WITHIN_S, min(resources.wait_s, resources.stall_timeout / 2))


def _in_vain(error: Exception) -> ConfigError:
    return ConfigError(
        f"cluster.address: expected a cluster that works on clips, found it to fail {MOST_VAIN_TRIES} times in a row "
        f"without one done, {last_line(error)}; see the logs of its workers."
    )


def _stalled(done: int, total: int, resources: Resources) -> ConfigError:
    return ConfigError(
        f"cluster.stall_timeout: expected the cluster to go on, found no progress for {resources.stall_timeout:.0f} s "
        f"with {done} of {total} clips done; see `ray status` for what it waits for, or allow more (on CPUs, clips of "
        "many minutes may take as long)."
    )


def hash_clips(source: Source, resources: Resources) -> np.ndarray:
    """(N,) S32: sha256 of each clip's audio file, zeros where it cannot be read; nothing is decoded."""
    num_examples = source.examples.num_rows
    digests, left = np.zeros(num_examples, dtype="S32"), np.ones(num_examples, dtype=bool)
    bar = ProgressBar("reading", num_examples, "clips")
    vain = 0
    while left.any():
        before = int(left.sum())
        try:
            with _quiet_context(resources):
                clips = _dataset(source.examples, _cut(np.flatnonzero(left), resources.workers))
                hashed = clips.map_batches(hash_batch, batch_size=None, batch_format="pyarrow")
                for batch in hashed.iter_batches(batch_size=None, batch_format="numpy"):
                    digests[batch["id"]], left[batch["id"]] = batch["digest"], False
                    bar.update(num_examples - int(left.sum()))
        except ExecutionTimeoutError:
            raise _stalled(bar.done, num_examples, resources) from None
        except ray.exceptions.RayError as error:
            _after(error, resources)
            vain = vain + 1 if int(left.sum()) == before else 0
            if vain == MOST_VAIN_TRIES:
                raise _in_vain(error) from error
        finally:
            bar.close()
    return digests


def _cut(wanted: np.ndarray, workers: int) -> list[np.ndarray]:
    """Rows (N,) in blocks, a few for each worker: a block is what one actor works on at a time, and may lose."""
    few = min(_FEW_ROWS, math.ceil(len(wanted) / (4 * workers)))
    rows = max(1, few, min(_MOST_ROWS, math.ceil(len(wanted) / (_BLOCKS_PER_WORKER * workers))))
    return [wanted[start : start + rows] for start in range(0, len(wanted), rows)]


def _dataset(clips: pa.Table, blocks: list[np.ndarray]) -> ray.data.Dataset:
    """Those rows of the clips as Ray Data blocks."""

    def table(block: np.ndarray) -> pa.Table:
        contiguous = block[-1] - block[0] == len(block) - 1  # then without a copy
        return clips.slice(int(block[0]), len(block)) if contiguous else clips.take(block)

    return ray.data.from_arrow([table(block) for block in blocks])


@contextmanager
def _quiet_context(resources: Resources, workers: int = 0) -> Iterator[None]:
    """Ray Data's settings for our plans: our own progress bar, no waiting for ever, nor for actors that cannot be."""
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
    logging.getLogger("ray.data.exceptions").setLevel(logging.CRITICAL)  # pages, of what is mended or told in a line
    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = resources.stall_timeout
    if workers:
        watch: Any = _watch(resources, workers)
        context.custom_execution_callback_classes = [*context.custom_execution_callback_classes, watch]
    with DataContext.current(context):
        yield


def _watch(resources: Resources, workers: int) -> type[ExecutionCallback]:
    """What ends a plan whose actors the cluster no longer holds: an actor that was lost with its machine, and its
    blocks, would wait for another one for ever.
    """

    class Watch(ExecutionCallback):
        def __init__(self) -> None:
            self.looked = time.monotonic()
            self.short_since: float | None = None

        def on_execution_step(self, executor: Any) -> None:
            now = time.monotonic()
            if now - self.looked < 1.0:
                return
            self.looked = now
            held = carried(resources)
            if held >= workers:
                self.short_since = None
                return
            self.short_since = self.short_since or now
            if now - self.short_since > _patience(resources):
                raise WorkersLost(f"{workers - held} of {workers} workers went with their machines")

    return Watch
