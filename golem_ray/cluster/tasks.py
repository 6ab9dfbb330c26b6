"""Work in Ray tasks: the head's training, and many small jobs side by side."""

from __future__ import annotations

import queue
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import ray

from golem_ray.cluster import private
from golem_ray.cluster.connection import carried, last_line
from golem_ray.devices import Resources, worker_record
from golem_ray.embedding.crash_notes import NoStore, Store
from golem_ray.engine import Assemble, train_here
from golem_ray.errors import ConfigError, UserError
from golem_ray.heads.training_set import HeadSpec, TrainedHead
from golem_ray.progress import Progress, ProgressBar, StageBars

T = TypeVar("T")

ALIVE_EVERY_S = 10.0
"""Most seconds between two signs of life of the head's task, however long what it does takes."""

_ALIVE = "alive"


def put(value: T) -> Any:
    """A reference to a copy in Ray's object store, for jobs to share. Raises ConfigError if it has no room."""
    try:
        return ray.put(value)
    except (ray.exceptions.ObjectStoreFullError, ray.exceptions.OutOfDiskError):
        raise ConfigError(
            "cluster.address: expected room for the embeddings in Ray's object store, or on the disk that it spills "
            "to, found none; free some (`ray memory` and `df` show what is there), or start Ray with a larger store."
        ) from None
    except ray.exceptions.RayError as error:
        raise _lost(error, "sharing the embeddings") from None


def side_by_side(
    work: Callable[..., T], jobs: Sequence[tuple[Any, ...]], title: str, unit: str, stall_timeout: float
) -> list[T]:
    """What work(*job) gives for each job, in the jobs' order: Ray tasks of one CPU each, as many at a time as fit.

    What several jobs share is best `put` first. Raises ConfigError if no job ends for stall_timeout seconds, or if the
    machines go; and the UserError of a job.
    """
    task = ray.remote(num_cpus=1, max_retries=2)(work)
    numbers = {task.remote(*job): number for number, job in enumerate(jobs)}
    results: list[Any] = [None] * len(jobs)
    waiting, bar = list(numbers), ProgressBar(title, len(jobs), unit)
    try:
        while waiting:
            done, waiting = ray.wait(waiting, num_returns=1, timeout=stall_timeout)
            if not done:
                raise ConfigError(
                    f"cluster.stall_timeout: expected the cluster to go on, found no progress for {stall_timeout:.0f} "
                    f"s with {bar.done} of {len(jobs)} {unit} done ({title}); see `ray status` for what it waits for, "
                    "or allow more."
                )
            with _in_words(title):
                for reference in done:
                    results[numbers[reference]] = ray.get(reference)
            bar.update(len(jobs) - len(waiting))
    finally:
        bar.close()
        for reference in waiting:
            ray.cancel(reference, force=True)
    return results


def train(assemble: Any, spec: HeadSpec, repeats: int, resources: Resources) -> tuple[TrainedHead, dict[str, Any]]:
    """Train the head in a Ray task, on a GPU where embedding had them; the head, and what it was trained on.

    `assemble` is a function that was `put`: it gives what to train on, there, and may use a folder for what does not
    fit in memory.
    """
    task = ray.remote(num_gpus=int(resources.gpu), num_cpus=resources.cpus, num_returns="streaming", max_retries=2)(
        _train_task
    )
    store = private.crash_store(uuid.uuid4().hex)
    with _in_words("training"), StageBars() as bars:
        steps: Any = task.remote(assemble, spec, repeats, resources, store)
        for reference in _coming(steps, resources, store):
            step = ray.get(reference)
            if isinstance(step, Progress):
                bars.show(step)
            elif step is not None:
                head, worker = step
                private.forget(store)
                return head, worker_record(worker)
    raise AssertionError("the training task ended without a head")


@contextmanager
def _in_words(stage: str) -> Iterator[None]:
    """A task's UserError as it is, and ConfigError for what the cluster did to it; a bug of ours passes."""
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        if not isinstance(error.cause, ray.exceptions.RayError):
            raise
        raise _lost(error, stage) from None
    except ray.exceptions.RayError as error:
        raise _lost(error, stage) from None


def _coming(steps: Any, resources: Resources, store: Store) -> Iterator[Any]:
    """The references of a streaming task as they come. Raises ConfigError if it does not begin, or stands still."""
    since, sign, begun = time.monotonic(), 0, False
    unseen = isinstance(store, NoStore)  # then what has begun, and has a machine, is let go on
    while True:
        ready, _ = ray.wait([steps], timeout=1.0)
        if ready:
            try:
                yield next(steps)
            except StopIteration:
                return
            since, begun = time.monotonic(), True
        elif (latest := store.get(_ALIVE)) != sign:
            since, sign = time.monotonic(), latest
        elif time.monotonic() - since > resources.stall_timeout and not (unseen and begun and carried(resources)):
            ray.cancel(steps, force=True)
            raise ConfigError(
                "cluster.stall_timeout: expected the head's training to begin or go on, found no sign of it for "
                f"{resources.stall_timeout:.0f} s; see `ray status`, and run again: with paths.run_dir what is done is "
                "kept."
            )


def _lost(error: Exception, stage: str) -> ConfigError:
    return ConfigError(
        f"cluster.address: expected machines that see the work through ({stage}), but {last_line(error)}; run again: "
        "with paths.run_dir what is done is kept."
    )


def _train_task(
    assemble: Assemble, spec: HeadSpec, repeats: int, resources: Resources, store: Store
) -> Iterator[Progress | tuple[TrainedHead, str] | None]:
    """Runs on a worker: None once it runs, Progress now and then, last the head and what it was trained on.

    Training itself runs in a thread: it reports by a callback, and this function hands on what it reports. Where
    that takes long, the store has a sign of life.
    """
    yield None
    steps: queue.SimpleQueue[Progress | Future[tuple[TrainedHead, str]]] = queue.SimpleQueue()
    with ThreadPoolExecutor(1) as threads:
        trained = threads.submit(train_here, assemble, spec, repeats, resources, steps.put)
        trained.add_done_callback(steps.put)
        while isinstance(step := _next(steps, store, min(ALIVE_EVERY_S, resources.stall_timeout / 3)), Progress):
            yield step
        yield trained.result()


def _next(steps: queue.SimpleQueue[T], store: Store, every_s: float) -> T:
    """The next in the queue; as long as there is none, the store's number grows."""
    signs = 0
    while True:
        try:
            return steps.get(timeout=every_s)
        except queue.Empty:  # not yielded: a task that is run again has to yield as many as before
            signs += 1
            store.put(_ALIVE, signs)
