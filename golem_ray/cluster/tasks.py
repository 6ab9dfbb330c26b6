"""Work in Ray tasks: the head's training, and many small jobs side by side."""

from __future__ import annotations

import queue
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
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
"""Most seconds between two signs of life of a task, however long what it does takes."""

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
    work: Callable[..., T], jobs: Sequence[tuple[Any, ...]], title: str, unit: str, resources: Resources
) -> list[T]:
    """What work(*job) gives for each job, in the jobs' order: Ray tasks of one CPU each, as many at a time as fit.

    What several jobs share is best `put` first. Raises ConfigError if for cluster.stall_timeout no job ends or gives a
    sign of life, or if the machines go; and the UserError of a job.
    """
    store, every_s = private.crash_store(uuid.uuid4().hex), _sign_every_s(resources)
    task = ray.remote(num_cpus=1, max_retries=2)(lambda *job: _lively(work, job, store, every_s))
    numbers = {task.remote(*job): number for number, job in enumerate(jobs)}
    results: list[Any] = [None] * len(jobs)
    waiting, bar, watch = list(numbers), ProgressBar(title, len(jobs), unit), _SignsOfLife(store, resources)
    try:
        while waiting:
            done, waiting = ray.wait(waiting, num_returns=1, timeout=1.0)
            if not done and watch.stands_still():
                raise ConfigError(
                    "cluster.stall_timeout: expected the cluster to go on, found no progress for "
                    f"{resources.stall_timeout:.0f} s with {bar.done} of {len(jobs)} {unit} done ({title}); see `ray "
                    "status` for what it waits for, or allow more."
                )
            if done:
                watch.seen()
                with _in_words(title):
                    for reference in done:
                        results[numbers[reference]] = ray.get(reference)
                bar.update(len(jobs) - len(waiting))
    finally:
        bar.close()
        with suppress(Exception):  # of a Ray that is lost: what went wrong first says more
            for reference in waiting:
                ray.cancel(reference, force=True)
            private.forget(store)
    return results


def _lively(work: Callable[..., T], job: tuple[Any, ...], store: Store, every_s: float) -> T:
    """Runs on a worker: what work(*job) gives; the store has a sign of life meanwhile."""
    ended: queue.SimpleQueue[Future[T]] = queue.SimpleQueue()
    with ThreadPoolExecutor(1) as threads:
        threads.submit(work, *job).add_done_callback(ended.put)
        return _next(ended, store, every_s).result()


class _SignsOfLife:
    """When something was last seen of a task, or of several."""

    def __init__(self, store: Store, resources: Resources) -> None:
        self.store, self.resources = store, resources
        self.sign, self.begun = 0, False
        self.since = time.monotonic()

    def seen(self) -> None:
        """Something came of it."""
        self.since, self.begun = time.monotonic(), True

    def stands_still(self) -> bool:
        """Whether nothing was seen for cluster.stall_timeout, nor a sign in the store.

        Where there can be no signs, what has begun, and has a machine, is let go on.
        """
        latest = self.store.get(_ALIVE)
        if latest != self.sign:
            self.sign, self.since = latest, time.monotonic()
        if time.monotonic() - self.since <= self.resources.stall_timeout:
            return False
        return not (isinstance(self.store, NoStore) and self.begun and carried(self.resources))


def train(assemble: Any, spec: HeadSpec, repeats: int, resources: Resources) -> tuple[TrainedHead, dict[str, Any]]:
    """Train the head in a Ray task, on a GPU where embedding had them; the head, and what it was trained on.

    `assemble` is a function that was `put`: it gives what to train on, there, and may use a folder for what does not
    fit in memory.
    """
    task = ray.remote(num_gpus=int(resources.gpu), num_cpus=resources.cpus, num_returns="streaming", max_retries=2)(
        _train_task
    )
    store = private.crash_store(uuid.uuid4().hex)
    try:
        with _in_words("training"), StageBars() as bars:
            steps: Any = task.remote(assemble, spec, repeats, resources, store)
            for reference in _coming(steps, resources, store):
                step = ray.get(reference)
                if isinstance(step, Progress):
                    bars.show(step)
                elif step is not None:
                    head, worker = step
                    return head, worker_record(worker)
    finally:
        with suppress(Exception):  # of a Ray that is lost
            private.forget(store)
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
    watch = _SignsOfLife(store, resources)
    while True:
        ready, _ = ray.wait([steps], timeout=1.0)
        if ready:
            try:
                yield next(steps)
            except StopIteration:
                return
            watch.seen()
        elif watch.stands_still():
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
        while isinstance(step := _next(steps, store, _sign_every_s(resources)), Progress):
            yield step
        yield trained.result()


def _next(steps: queue.SimpleQueue[T], store: Store, every_s: float) -> T:
    """The next in the queue; as long as there is none, the store's number changes."""
    while True:
        try:
            return steps.get(timeout=every_s)
        except queue.Empty:  # not yielded: a task that is run again has to yield as many as before
            with suppress(Exception):  # a head that starts anew: no reason to end good work
                store.put(_ALIVE, time.time_ns())


def _sign_every_s(resources: Resources) -> float:
    return min(ALIVE_EVERY_S, resources.stall_timeout / 3)
