"""Embedding in a pool of actors by Ray Data: plans over what is left, until nothing is."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.data.exceptions import ExecutionTimeoutError

from golem_ray.cluster import private
from golem_ray.cluster.connection import MEMORY_PER_WORKER, carried, last_line
from golem_ray.cluster.workers import Embedder
from golem_ray.config import Noun
from golem_ray.data import Source
from golem_ray.devices import Resources
from golem_ray.embedding.crash_notes import MOST_DEATHS, CrashNotes, Store
from golem_ray.embedding.embeddings import Intake, VectorBatch
from golem_ray.embedding.examples import group_examples, hash_batch
from golem_ray.embedding.modality import modality_named
from golem_ray.embedding.stage import BATCHES_PER_GROUP, EmbeddingTask
from golem_ray.errors import ConfigError
from golem_ray.progress import ProgressBar

log = logging.getLogger(__name__)

_FEW_ROWS, _MOST_ROWS, _BLOCKS_PER_WORKER = 64, 256, 64
"""Most examples of a block where blocks are few, and at all: each block costs the driver some 50 kB and 7 ms."""

MOST_VAIN_TRIES = MOST_DEATHS + 3
"""Plans in a row that may end without having embedded an example: more than it takes to find one that ends machines."""

REPLACED_WITHIN_S = 15.0
"""How long a lost machine may take to be replaced, where none is waited for, before the work goes on with fewer."""


_LOG_LEVELS = {
    "ray.data": logging.WARNING,
    "ray.data._internal.progress": logging.ERROR,
    "ray.data.exceptions": logging.CRITICAL,  # pages of what we mend, or say in a line
}


_MANY_WORKERS = 64
"""More than these are not counted on where they are only hoped for: blocks would be many and small."""


class WorkersLost(Exception):
    """The cluster no longer holds as many actors as the plan has."""


def embed(source: Source, task: EmbeddingTask, resources: Resources, intake: Intake) -> Iterator[VectorBatch]:
    """What is left of the source's examples by the intake, embedded. Machines may come and go meanwhile.

    Raises UserError if the encoder cannot be loaded, or if nothing goes on.
    """
    store = private.crash_store(uuid.uuid4().hex)
    small = modality_named(task.recipe.modality).small
    blocks = _cut(np.flatnonzero(intake.left), resources, small)  # once and for all: crash notes are by block
    bar = ProgressBar("embedding", int(intake.left.sum()), source.noun.many)
    vain = 0
    try:
        while intake.left.any():
            before = int(intake.left.sum())
            try:
                for batch in _plan(source, task, resources, intake, blocks, store):
                    bar.update(bar.total - int(intake.left.sum()), intake.note())
                    yield batch
            except ExecutionTimeoutError:
                raise _stalled(bar.done, bar.total, resources, source.noun) from None
            except (ray.exceptions.RayError, WorkersLost) as error:
                resources = _after(error, resources)
                vain = vain + 1 if int(intake.left.sum()) == before else 0
                if vain == MOST_VAIN_TRIES:
                    raise _in_vain(error, source.noun) from error
                left = int(intake.left.sum())
                log.warning("%s: going on with the %d %s that are left", last_line(error), left, source.noun.many)
    finally:
        bar.close()
        private.forget(store)


def _plan(
    source: Source, task: EmbeddingTask, resources: Resources, intake: Intake, blocks: list[np.ndarray], store: Store
) -> Iterator[VectorBatch]:
    """One Ray Data plan over what is left. Raises ConfigError for what an actor says, and Ray's own exceptions."""
    missing = int(intake.left.sum())
    least, most = min(resources.workers, missing), min(resources.most_workers, missing)
    with _quiet_context(resources, _Watch(resources, least)):
        examples = _dataset(source.examples, [block for block in blocks if intake.left[block].any()])
        if resources.gpu:
            grouped = partial(
                group_examples,
                recipe=task.recipe,
                baseline=task.reads_baseline,
                most_cost=BATCHES_PER_GROUP * resources.batch_cost,
                notes=CrashNotes("reading", store),
            )
            examples = examples.map_batches(grouped, batch_size=None, batch_format="pyarrow")
        embedded = examples.map_batches(
            Embedder,
            fn_constructor_args=(task, resources, CrashNotes("embedding", store)),
            batch_size=1 if resources.gpu else None,  # with GPUs Ray Data wants a number: one group
            batch_format="pyarrow",
            compute=ActorPoolStrategy(min_size=least, max_size=most),
            num_gpus=int(resources.gpu),
            num_cpus=resources.cpus,
            memory=MEMORY_PER_WORKER if resources.growth and not resources.gpu else None,  # none is planned for these
        )
        for done in embedded.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0):
            yield intake.take(done)
    assert not intake.left.any(), f"{intake.left.sum()} of {missing} examples did not come back"


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
    workers = min(resources.workers, held)
    growth = resources.most_workers - workers if resources.growth else 0
    return dataclasses.replace(resources, workers=workers, growth=growth)


def _patience(resources: Resources) -> float:
    """Seconds that a lost machine may take to be replaced: no longer than work may stand still."""
    return max(REPLACED_WITHIN_S, min(resources.wait_s, resources.stall_timeout / 2))


def _in_vain(error: Exception, noun: Noun) -> ConfigError:
    return ConfigError(
        f"cluster.address: expected a cluster that works on {noun.many}, found it to fail {MOST_VAIN_TRIES} times in a "
        f"row without one done, {last_line(error)}; see the logs of its workers."
    )


def _stalled(done: int, total: int, resources: Resources, noun: Noun) -> ConfigError:
    return ConfigError(
        f"cluster.stall_timeout: expected the cluster to go on, found no progress for {resources.stall_timeout:.0f} s "
        f"with {done} of {total} {noun.many} done; see `ray status` for what it waits for, or allow more (on CPUs, "
        f"{noun.many} of many minutes may take as long)."
    )


def digests(source: Source, resources: Resources) -> np.ndarray:
    """(N,) S32: sha256 of each example's file, zeros where it cannot be read; nothing is decoded."""
    num_examples = source.examples.num_rows
    found, left = np.zeros(num_examples, dtype="S32"), np.ones(num_examples, dtype=bool)
    bar = ProgressBar("reading", num_examples, source.noun.many)
    vain = 0
    try:
        while left.any():
            before = int(left.sum())
            try:
                with _quiet_context(resources):
                    examples = _dataset(source.examples, _cut(np.flatnonzero(left), resources))
                    hashed = examples.map_batches(hash_batch, batch_size=None, batch_format="pyarrow")
                    for batch in hashed.iter_batches(batch_size=None, batch_format="numpy"):
                        found[batch["id"]], left[batch["id"]] = batch["digest"], False
                        bar.update(num_examples - int(left.sum()))
            except ExecutionTimeoutError:
                raise _stalled(bar.done, num_examples, resources, source.noun) from None
            except ray.exceptions.RayError as error:
                _after(error, resources)
                vain = vain + 1 if int(left.sum()) == before else 0
                if vain == MOST_VAIN_TRIES:
                    raise _in_vain(error, source.noun) from error
    finally:
        bar.close()
    return found


def _cut(wanted: np.ndarray, resources: Resources, times: int = 1) -> list[np.ndarray]:
    """Rows (N,) in blocks, a few for each worker: a block is what one actor works on at a time, and may lose."""
    workers = min(resources.most_workers, max(resources.workers, _MANY_WORKERS))
    few = min(times * _FEW_ROWS, math.ceil(len(wanted) / (4 * workers)))
    rows = max(1, few, min(max(_MOST_ROWS, times * _FEW_ROWS), math.ceil(len(wanted) / (_BLOCKS_PER_WORKER * workers))))
    return [wanted[start : start + rows] for start in range(0, len(wanted), rows)]


def _dataset(examples: pa.Table, blocks: list[np.ndarray]) -> ray.data.Dataset:
    """Those rows of the examples as Ray Data blocks."""

    def table(block: np.ndarray) -> pa.Table:
        contiguous = block[-1] - block[0] == len(block) - 1  # then without a copy
        return examples.slice(int(block[0]), len(block)) if contiguous else examples.take(block)

    return ray.data.from_arrow([table(block) for block in blocks])


@contextmanager
def _quiet_context(resources: Resources, watch: _Watch | None = None) -> Iterator[None]:
    """Ray Data's settings for our plans: our own progress bar, no waiting for ever, nor for actors that cannot be."""
    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = resources.stall_timeout
    if watch is not None:
        private.watch(context, watch.look)
    loggers = {logging.getLogger(name): level for name, level in _LOG_LEVELS.items()}
    before = {logger: logger.level for logger in loggers}
    try:
        for logger, level in loggers.items():
            logger.setLevel(level)
        with DataContext.current(context):
            yield
    finally:
        for logger, level in before.items():
            logger.setLevel(level)


class _Watch:
    """Ends a plan whose actors the cluster no longer holds: an actor that was lost with its machine, and its blocks,
    would wait for another one for ever.
    """

    def __init__(self, resources: Resources, workers: int) -> None:
        self.resources, self.workers = resources, workers
        self.looked = time.monotonic()
        self.short_since: float | None = None

    def look(self) -> None:
        """Raise WorkersLost where actors have been missing for longer than a machine may take to be replaced."""
        now = time.monotonic()
        if now - self.looked < 1.0:
            return
        self.looked = now
        held = carried(self.resources)
        if held >= self.workers:
            self.short_since = None
            return
        self.short_since = self.short_since or now
        if now - self.short_since > _patience(self.resources):
            raise WorkersLost(f"{self.workers - held} of {self.workers} workers went with their machines")
