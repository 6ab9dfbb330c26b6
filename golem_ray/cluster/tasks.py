"""Work in Ray tasks: the head's training, and many small jobs side by side."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import ray

from golem_ray.cluster.connection import carried, last_line
from golem_ray.config import EvaluationConfig, HeadConfig, TrainConfig, TrainingConfig
from golem_ray.devices import Resources, describe_worker, pick_device, worker_record
from golem_ray.errors import ConfigError, UserError
from golem_ray.heads.training_set import TrainedHead, TrainingSet
from golem_ray.progress import Progress, ProgressBar

T = TypeVar("T")


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
        raise _lost(error) from None


def side_by_side(work: Callable[..., T], jobs: Sequence[tuple[Any, ...]], title: str, unit: str) -> list[T]:
    """What work(*job) gives for each job, in the jobs' order: Ray tasks of one CPU each, as many at a time as fit.

    What several jobs share is best `put` first.
    """
    task = ray.remote(num_cpus=1, max_retries=2)(work)
    numbers = {task.remote(*job): number for number, job in enumerate(jobs)}
    results: list[Any] = [None] * len(jobs)
    waiting, bar = list(numbers), ProgressBar(title, len(jobs), unit)
    try:
        while waiting:
            done, waiting = ray.wait(waiting, num_returns=1)
            for reference in done:
                results[numbers[reference]] = ray.get(reference)
            bar.update(len(jobs) - len(waiting))
    finally:
        bar.close()
    return results


def train(assemble: Any, config: TrainConfig, resources: Resources) -> tuple[TrainedHead, dict[str, Any]]:
    """Train the head in a Ray task, on a GPU where embedding had them; the head, and what it was trained on.

    `assemble` is a function that was `put`: it gives what to train on, there, and may use a folder for what does not
    fit in memory.
    """
    task = ray.remote(
        num_gpus=int(resources.gpu),
        num_cpus=resources.cpus,
        num_returns="streaming",
        max_retries=2,
    )(_train_task)
    bar: ProgressBar | None = None
    try:
        steps: Any = task.remote(assemble, config.head, config.training, config.evaluation, resources)
        for reference in _coming(steps, resources):
            step = ray.get(reference)
            if step is None:
                continue
            if not isinstance(step, Progress):
                head, worker = step
                return head, worker_record(worker)
            if bar is None or bar.title != step.stage:
                if bar is not None:
                    bar.close()
                bar = ProgressBar(step.stage, step.total, step.unit)
            bar.update(step.done, step.note)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        if not isinstance(error.cause, ray.exceptions.RayError):
            raise
        raise _lost(error) from None
    except ray.exceptions.RayError as error:
        raise _lost(error) from None
    finally:
        if bar is not None:
            bar.close()
    raise AssertionError("the training task ended without a head")


def _coming(steps: Any, resources: Resources) -> Iterator[Any]:
    """The references of a streaming task as they come. Raises ConfigError if it cannot begin or has nowhere to run."""
    since, begun = time.monotonic(), False
    while True:
        ready, _ = ray.wait([steps], timeout=1.0)
        if ready:
            try:
                yield next(steps)
            except StopIteration:
                return
            since, begun = time.monotonic(), True
        elif time.monotonic() - since > resources.stall_timeout and (not begun or carried(resources) == 0):
            ray.cancel(steps, force=True)
            raise ConfigError(
                "cluster.stall_timeout: expected the head's training to begin or go on, found no machine for it within "
                f"{resources.stall_timeout:.0f} s; see `ray status`, and run again: with paths.run_dir what is done is "
                "kept."
            )


def _lost(error: Exception) -> ConfigError:
    return ConfigError(
        f"cluster.address: expected machines that train the head, but {last_line(error)}; run again: with "
        "paths.run_dir what is done is kept."
    )


def _train_task(
    assemble: Callable[[Path], TrainingSet],
    head: HeadConfig,
    training: TrainingConfig,
    evaluation: EvaluationConfig,
    resources: Resources,
) -> Iterator[Progress | tuple[TrainedHead, str] | None]:
    """Runs on a worker: None once it runs, Progress now and then, last the head and what it was trained on."""
    yield None
    import torch

    from golem_ray.heads.train import train_head

    torch.set_num_threads(resources.threads)
    device = pick_device(resources)
    with tempfile.TemporaryDirectory(prefix="golem_ray-") as scratch:
        data = assemble(Path(scratch))
        trained = yield from train_head(data, training, config=head, repeats=evaluation.repeats, device=device)
    yield trained, describe_worker(resources, device)
