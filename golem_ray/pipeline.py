"""The one place that knows Ray: joining a cluster, embedding clips in a pool of actors, training in a task.

What the workers do with a batch is in stages.py. The driver itself never imports PyTorch.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.data.exceptions import ExecutionTimeoutError

import golem_ray
from golem_ray.cache import EmbeddingCache
from golem_ray.config import ClusterConfig, DeviceConfig, EvaluationConfig, HeadConfig, TrainConfig, TrainingConfig
from golem_ray.data import Source
from golem_ray.encoder_info import Recipe
from golem_ray.errors import ConfigError, UserError
from golem_ray.evaluation import MAX_NAMED_CLIPS
from golem_ray.progress import Progress, ProgressBar
from golem_ray.stages import (
    BATCHES_PER_GROUP,
    LOG_MEL_SIZE,
    EmbedBatch,
    Resources,
    describe_worker,
    group_clips,
    hash_batch,
    pick_device,
    warm_up,
)
from golem_ray.storage import in_submitted_job
from golem_ray.training import Embeddings, TrainedHead, TrainingSet

log = logging.getLogger(__name__)

T = TypeVar("T")

_MEMORY_PER_WORKER = 3 << 30
"""Bytes of memory that a CPU actor with a base-size encoder may take, with some to spare."""

_CLIPS_PER_WORKER = 25
"""Fewest clips that are worth another CPU actor: starting one costs as much as embedding some dozens."""


_CPU_ROWS, _GPU_ROWS = 64, 256
"""Most clips of a block."""

# --- the cluster ----------------------------------------------------------------------------------------------


_lock = threading.Lock()
_users = 0  # runs in this process that use Ray: a service may have several at once
_ours = False  # whether the first of them connected to it, so that the last one leaves it


@contextmanager
def cluster(config: ClusterConfig, device: DeviceConfig, num_clips: int) -> Iterator[Resources]:
    """Join or start the configured Ray, and leave or end it again; yields how the work will be spread there.

    A Ray that this process is already connected to is used as it is, and kept. Raises ConfigError if the cluster
    cannot be reached or lacks what is asked for.
    """
    global _users, _ours
    with _lock:
        if not ray.is_initialized():
            _connect(config.address)
            _ours = True
        _users += 1
    try:
        yield plan(config, device, num_clips)
    finally:
        with _lock:
            _users -= 1
            if _ours and _users == 0:
                ray.shutdown()
                _ours = False


def _connect(address: str) -> None:
    """Start a Ray of our own, or join one; either way its workers can import this package, installed or not."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's coming default; else it warns
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or "local"
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)
    options: dict[str, Any] = {"logging_level": logging.WARNING, "log_to_driver": False}
    package = Path(golem_ray.__file__).resolve().parent
    if address == "local":
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # Keep the process that warm_up made ready; Ray ends idle ones after a second on small machines.
        os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", "60000")
        path = [str(package.parent), os.environ.get("PYTHONPATH")]  # an empty entry would be the working folder
        with _environment("PYTHONPATH", os.pathsep.join(filter(None, path))):
            ray.init(address="local", include_dashboard=False, **options)
        return
    if not in_submitted_job():  # a submitted job brings its working directory along
        options["runtime_env"] = {"py_modules": [str(package)]}
    try:
        _knock(address)
        ray.init(address=address, **options)
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"cluster.address: expected a Ray cluster at {address!r}, but {' '.join(str(error).split())[:300]}"
        ) from None


def _knock(address: str) -> None:
    """Raise OSError if nobody listens at host:port; Ray itself keeps trying for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Set a variable for the processes that start meanwhile."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def plan(config: ClusterConfig, device: DeviceConfig, num_clips: int) -> Resources:
    """How to spread the work over the cluster as it stands, so that nothing waits for what it lacks."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    node_cpus = [int(node.get("CPU", 0)) for node in nodes]
    gpu = device.backend == "cuda" or (device.backend == "auto" and gpus > 0)
    if gpu and gpus == 0:
        raise ConfigError(
            f"device.backend: expected a cluster with GPUs for 'cuda', found none ({sum(node_cpus)} CPUs); use 'auto' "
            "or 'cpu', or a cluster that has them."
        )
    cpus = min(config.threads_per_worker, max(1, *node_cpus))
    most = gpus if gpu else max(1, sum(count // cpus for count in node_cpus))
    if config.workers != "auto" and config.workers > most:
        what = f"{gpus} GPUs" if gpu else f"{sum(node_cpus)} CPUs, {cpus} a worker"
        raise ConfigError(
            f"cluster.workers: expected at most {most} on a cluster with {what}, got {config.workers}; use fewer, or "
            "'auto'."
        )
    if config.workers != "auto":
        workers = config.workers
    elif gpu:
        workers = most
    else:
        fitting = int(ray.cluster_resources().get("memory", 0)) // _MEMORY_PER_WORKER
        workers = max(1, min(most, fitting, math.ceil(num_clips / _CLIPS_PER_WORKER)))
    return Resources(
        workers=workers,
        threads=config.threads_per_worker,
        cpus=0 if gpu else cpus,  # beside a GPU none: else actors and decoding wait for each other's CPUs
        gpu=gpu,
        backend=device.backend,
        batch_seconds=config.batch_seconds,
        stall_timeout=config.stall_timeout,
    )


# --- on the driver --------------------------------------------------------------------------------------------


def embed(
    source: Source,
    recipe: Recipe,
    resources: Resources,
    max_bad: int,
    *,
    baseline: bool = False,
    cache: EmbeddingCache | None = None,
    digests: np.ndarray | None = None,
) -> Embeddings:
    """Decode, resample and embed every clip of the source; with baseline, give log-mel statistics as well.

    With a cache and the clips' digests, only those that the cache lacks, which it then gets. Raises UserError if the
    encoder cannot be loaded; stops early once more than max_bad clips, and as many as a report names, cannot be used.
    """
    ray.remote(num_cpus=0)(warm_up).remote()
    embeddings = _nothing_yet(source.clips.num_rows, recipe.vector_size, baseline)
    missing = np.arange(source.clips.num_rows)
    if cache is not None and digests is not None:
        vectors, log_mel, known = cache.look_up(digests, log_mel=baseline)
        known &= source.clips["label"].is_valid().to_numpy()  # one without a label cannot be used all the same
        embeddings.vectors[known], embeddings.digests[known] = vectors[known], digests[known]
        if embeddings.log_mel is not None and log_mel is not None:
            embeddings.log_mel[known] = log_mel[known]
        missing = np.flatnonzero(~known)
        log.info("%d of %d clips are in the embedding cache", known.sum(), len(known))
    if not len(missing):
        return embeddings
    with _quiet_context(resources.stall_timeout):
        workers = min(resources.workers, len(missing))
        clips = _dataset(source.clips, missing, workers, _GPU_ROWS if resources.gpu else _CPU_ROWS)
        if resources.gpu:
            seconds = BATCHES_PER_GROUP * resources.batch_seconds
            clips = clips.map_batches(
                partial(group_clips, rate=recipe.encoder.sampling_rate, baseline=baseline, seconds=seconds),
                batch_size=None,
                batch_format="pyarrow",
            )
        embedded = clips.map_batches(
            EmbedBatch,
            fn_constructor_args=(recipe, resources, baseline),
            batch_size=1 if resources.gpu else None,  # with GPUs Ray Data wants a number: one group
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=workers),
            num_gpus=int(resources.gpu),
            num_cpus=resources.cpus,
        )
        return _gather(embedded, embeddings, missing, max_bad, cache, resources)


def _nothing_yet(num_clips: int, width: int, baseline: bool) -> Embeddings:
    return Embeddings(
        vectors=np.zeros((num_clips, width), dtype=np.float32),
        bad={},
        digests=np.zeros(num_clips, dtype="S32"),
        log_mel=np.zeros((num_clips, LOG_MEL_SIZE), dtype=np.float32) if baseline else None,
        workers=(),
    )


def _gather(
    embedded: ray.data.Dataset,
    into: Embeddings,
    missing: np.ndarray,
    max_bad: int,
    cache: EmbeddingCache | None,
    resources: Resources,
) -> Embeddings:
    """The rows as they come, put by id into the source's order, and into the cache."""
    left = np.zeros(len(into.vectors), dtype=bool)
    left[missing] = True
    workers: set[str] = set()
    bar = ProgressBar("embedding", len(missing), "clips")
    try:
        for batch in embedded.iter_batches(batch_size=None, batch_format="numpy"):
            failures = [str(failure) for failure in batch["failure"] if failure]  # a block may hold several calls
            if failures:
                raise ConfigError(failures[0])
            ids, good = batch["id"], batch["reason"] == ""
            log_mel = None if into.log_mel is None else batch["log_mel"]
            into.vectors[ids], into.digests[ids], left[ids] = batch["vector"], batch["digest"], False
            if into.log_mel is not None:
                into.log_mel[ids] = log_mel
            into.bad.update({int(row): str(reason) for row, reason in zip(ids, batch["reason"], strict=True) if reason})
            in_vain = resources.gpu and str(batch["worker"][0]).startswith("cpu|")  # a GPU that PyTorch cannot use
            if cache is not None and not in_vain:
                kept = None if log_mel is None else log_mel[good]
                cache.add(into.digests[ids[good]], batch["vector"][good], kept)
            for worker in sorted(set(batch["worker"]) - workers):
                note = worker.rsplit("|", 1)[1]
                if note and not any(other.endswith(note) for other in workers):
                    log.warning("%s", note)
                workers.add(worker)
            bar.update(len(missing) - int(left.sum()), f"{len(into.bad)} bad" if into.bad else "")
            if len(into.bad) > max(max_bad, MAX_NAMED_CLIPS):
                break
        else:
            assert not left.any(), f"{left.sum()} of {len(missing)} clips did not come back"
    except ExecutionTimeoutError:
        raise _stalled(len(missing) - int(left.sum()), len(missing), resources) from None
    finally:
        bar.close()
        if cache is not None:
            cache.write()
    return dataclasses.replace(into, workers=tuple(_worker_record(worker) for worker in sorted(workers)))


def _worker_record(worker: str) -> dict[str, Any]:
    device, gpus, _, _ = worker.split("|")
    return {"device": device, "gpus": gpus.split(",") if gpus else []}


def _stalled(done: int, total: int, resources: Resources) -> ConfigError:
    return ConfigError(
        f"cluster.stall_timeout: expected the cluster to go on, found no progress for {resources.stall_timeout:.0f} s "
        f"with {done} of {total} clips done; see `ray status` for what it waits for, or allow more (on CPUs, clips of "
        "many minutes may take as long)."
    )


def hash_clips(source: Source, resources: Resources) -> np.ndarray:
    """(N,) S32: sha256 of each clip's audio file, zeros where it cannot be read; nothing is decoded."""
    num_clips = source.clips.num_rows
    digests, seen = np.zeros(num_clips, dtype="S32"), 0
    with _quiet_context(resources.stall_timeout):
        clips = _dataset(source.clips, np.arange(num_clips), resources.workers, _GPU_ROWS)
        try:
            hashed = clips.map_batches(hash_batch, batch_size=None, batch_format="pyarrow")
            for batch in hashed.iter_batches(batch_size=None, batch_format="numpy"):
                digests[batch["id"]] = batch["digest"]
                seen += len(batch["id"])
        except ExecutionTimeoutError:
            raise _stalled(seen, num_clips, resources) from None
    return digests


def _dataset(clips: pa.Table, wanted: np.ndarray, workers: int, most_rows: int) -> ray.data.Dataset:
    """The wanted rows as Ray Data blocks, a few for each worker (a block is what one actor works on at a time)."""
    rows = min(most_rows, math.ceil(len(wanted) / (4 * workers)))
    starts = range(0, len(wanted), rows)
    if len(wanted) == clips.num_rows:  # without a copy
        return ray.data.from_arrow([clips.slice(start, rows) for start in starts])
    return ray.data.from_arrow([clips.take(wanted[start : start + rows]) for start in starts])


@contextmanager
def _quiet_context(stall_timeout: float) -> Iterator[None]:
    """Ray Data's settings for our plans: our own progress bar, and no waiting for ever."""
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = stall_timeout
    with DataContext.current(context):
        yield


def put(value: T) -> Any:
    """A reference to a copy in Ray's object store, which jobs can share."""
    return ray.put(value)


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


def train(data: TrainingSet, config: TrainConfig, resources: Resources) -> tuple[TrainedHead, dict[str, Any]]:
    """Train the head in a Ray task, on a GPU where embedding had them; the head, and what it was trained on."""
    task = ray.remote(
        num_gpus=int(resources.gpu),
        num_cpus=resources.cpus,
        num_returns="streaming",
        max_retries=2,
    )(_train_task)
    bar: ProgressBar | None = None
    try:
        steps: Any = task.remote(ray.put(data), config.head, config.training, config.evaluation, resources)
        for reference in steps:
            step = ray.get(reference)
            if not isinstance(step, Progress):
                head, worker = step
                return head, _worker_record(worker)
            if bar is None or bar.title != step.stage:
                if bar is not None:
                    bar.close()
                bar = ProgressBar(step.stage, step.total, step.unit)
            bar.update(step.done, step.note)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        raise
    finally:
        if bar is not None:
            bar.close()
    raise AssertionError("the training task ended without a head")


def _train_task(
    data: TrainingSet,
    head: HeadConfig,
    training: TrainingConfig,
    evaluation: EvaluationConfig,
    resources: Resources,
) -> Iterator[Progress | tuple[TrainedHead, str]]:
    """Runs on a worker: Progress now and then, last the head and what it was trained on."""
    import torch

    from golem_ray.head_training import train_head

    torch.set_num_threads(resources.threads)
    device = pick_device(resources)
    trained = yield from train_head(data, training, config=head, repeats=evaluation.repeats, device=device)
    yield trained, describe_worker(resources, device)
