"""What runs the stages of a job: the protocol of an engine, and the engine of this process alone.

Another engine (cluster/) runs the same stages elsewhere, and gives the same bytes. Jobs are handed an engine and know
no other thing about where they run.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa

from golem_ray.config import ClusterConfig, DeviceConfig
from golem_ray.data import Source
from golem_ray.devices import Resources, describe_worker, pick_device, worker_record
from golem_ray.embedding.crash_notes import CrashNotes, FolderStore
from golem_ray.embedding.embeddings import Intake, VectorBatch
from golem_ray.embedding.examples import group_examples, hash_batch
from golem_ray.embedding.modality import modality_named
from golem_ray.embedding.stage import BATCHES_PER_GROUP, EmbedBatch, EmbeddingTask
from golem_ray.errors import ConfigError
from golem_ray.heads.training_set import HeadSpec, TrainedHead, TrainingSet
from golem_ray.progress import Progress, ProgressBar, StageBars

T = TypeVar("T")

Assemble = Callable[[Path], TrainingSet]
"""Gives what to train on, there where the head is trained; may use a folder for what does not fit into memory."""

_BLOCK_ROWS = 64


class Engine(Protocol):
    """Runs the stages of one job."""

    resources: Resources
    """How the work is spread."""
    workers: tuple[dict[str, Any], ...]
    """What each worker that has embedded ran on: {"device": ..., "gpus": [...]}."""

    def embed(self, source: Source, task: EmbeddingTask, wanted: np.ndarray) -> Iterator[VectorBatch]:
        """The wanted examples, (N,) bool, of the source's N, embedded: in any order, each once.

        Raises UserError if the encoder cannot be loaded, or if the work does not go on.
        """

    def digests(self, source: Source) -> np.ndarray:
        """(N,) S32: sha256 of each example's file, zeros where it cannot be read; nothing is decoded."""

    def share(self, value: T) -> Any:
        """A reference to a value that jobs share, to be handed to `train` or `map` in its place."""

    def train(self, assemble: Any, spec: HeadSpec, repeats: int) -> tuple[TrainedHead, dict[str, Any]]:
        """Train, cross-validate and calibrate a head on what a shared `Assemble` gives; the head, and its device."""

    def map(self, work: Callable[..., T], jobs: Sequence[tuple[Any, ...]], title: str, unit: str) -> list[T]:
        """What work(*job) gives for each job, in the jobs' order."""


class LocalEngine:
    """The engine of this process alone: no other process, no Ray.

    Examples are embedded one after another by as many threads as there are cores, or on this machine's GPU.
    """

    def __init__(self, cluster: ClusterConfig, device: DeviceConfig) -> None:
        self.resources = _resources(cluster, device)
        self.workers: tuple[dict[str, Any], ...] = ()
        cores = os.cpu_count() or 1
        self._threads = min(cores, cores if cluster.workers == "auto" else cluster.workers * self.resources.threads)

    def embed(self, source: Source, task: EmbeddingTask, wanted: np.ndarray) -> Iterator[VectorBatch]:
        """As Engine.embed, block by block in the source's order."""
        resources = self.resources
        if not resources.gpu and not task.recipe.compiled:  # more threads: more examples at a time, the same bytes
            resources = dataclasses.replace(resources, threads=max(1, self._threads))
        store = FolderStore(task.crash_notes) if task.crash_notes else None
        intake = Intake(wanted, task.gathered)
        bar = ProgressBar("embedding", int(wanted.sum()), source.noun.many)
        with _torch_threads():
            stage = EmbedBatch(task, resources, CrashNotes("embedding", store))
            try:
                for block in _blocks(source.examples, wanted, modality_named(task.recipe.modality).small):
                    for done in self._through(stage, block, task, CrashNotes("reading", store)):
                        batch = intake.take(done)
                        bar.update(bar.total - int(intake.left.sum()), intake.note())
                        yield batch
            except BaseException:  # of a signal too: the process can end only when no thread is at work
                stage.stop()
                raise
            finally:
                bar.close()
                self.workers = intake.workers()

    def _through(self, stage: EmbedBatch, block: pa.Table, task: EmbeddingTask, notes: CrashNotes) -> Iterator[Any]:
        """What the stage gives of a block; for a GPU in groups."""
        if not self.resources.gpu:
            yield stage(block)
            return
        most = BATCHES_PER_GROUP * self.resources.batch_cost
        for group in group_examples(block, task.recipe, task.reads_baseline, most, notes):
            yield stage(group)

    def digests(self, source: Source) -> np.ndarray:
        """As Engine.digests."""
        found = np.zeros(source.examples.num_rows, dtype="S32")
        with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
            for batch in threads.map(hash_batch, _blocks(source.examples, np.ones(len(found), dtype=bool))):
                found[batch["id"]] = batch["digest"]
        return found

    def share(self, value: T) -> T:
        """The value itself."""
        return value

    def train(self, assemble: Assemble, spec: HeadSpec, repeats: int) -> tuple[TrainedHead, dict[str, Any]]:
        """As Engine.train."""
        with _torch_threads(), StageBars() as bars:
            head, worker = train_here(assemble, spec, repeats, self.resources, bars.show)
        return head, worker_record(worker)

    def map(self, work: Callable[..., T], jobs: Sequence[tuple[Any, ...]], title: str, unit: str) -> list[T]:
        """As Engine.map, one job after another."""
        results, bar = [], ProgressBar(title, len(jobs), unit)
        with _torch_threads():
            try:
                for job in jobs:
                    results.append(work(*job))
                    bar.update(len(results))
            finally:
                bar.close()
        return results


def train_here(
    assemble: Assemble, spec: HeadSpec, repeats: int, resources: Resources, report: Callable[[Progress], None]
) -> tuple[TrainedHead, str]:
    """Train a head in this process; the head, and what `describe_worker` says of the process."""
    import torch

    from golem_ray.heads.train_head import train_head

    torch.set_num_threads(resources.threads)
    device = pick_device(resources)
    with tempfile.TemporaryDirectory(prefix="golem_ray-") as scratch:
        data = assemble(Path(scratch))
        head = train_head(data, spec, repeats=repeats, device=device, report=report)
    return head, describe_worker(resources, device)


def _blocks(examples: pa.Table, wanted: np.ndarray, times: int = 1) -> Iterator[pa.Table]:
    """The wanted rows, (N,) bool, in blocks: always the same ones, for crash notes are kept by block."""
    size = times * _BLOCK_ROWS
    for start in range(0, len(wanted), size):
        rows = start + np.flatnonzero(wanted[start : start + size])
        if len(rows):
            yield examples.take(rows).combine_chunks()


@contextmanager
def _torch_threads() -> Iterator[None]:
    """Put PyTorch's number of threads back, which stages choose for themselves."""
    import torch

    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _resources(cluster: ClusterConfig, device: DeviceConfig) -> Resources:
    """What this process computes on. Raises ConfigError if a GPU is demanded that there is not."""
    gpu = device.backend != "cpu" and _has_gpu()
    if device.backend == "cuda" and not gpu:
        raise ConfigError(
            "device.backend: expected a GPU that PyTorch can use for 'cuda', found none; use 'auto' or 'cpu', or a "
            "cluster that has them."
        )
    threads = cluster.threads_per_worker
    return Resources(
        workers=1, threads=threads, cpus=threads, gpu=gpu, backend=device.backend, batch_cost=cluster.batch_seconds
    )


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
