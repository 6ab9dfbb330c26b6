"""The engine that runs stages on Ray: embedding in a pool of actors, everything else in tasks.

The driver itself never imports PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import ray

from golem_ray.cluster import embedding, tasks
from golem_ray.cluster.connection import joined
from golem_ray.config import ClusterConfig, DeviceConfig
from golem_ray.data import Source
from golem_ray.devices import Resources
from golem_ray.embedding.embeddings import Intake, VectorBatch
from golem_ray.embedding.stage import EmbeddingTask
from golem_ray.heads.rounds import warm_up
from golem_ray.heads.training_set import HeadSpec, TrainedHead

T = TypeVar("T")


@contextmanager
def ray_engine(
    config: ClusterConfig, device: DeviceConfig, num_examples: int, *, outputs: tuple[tuple[str, str], ...] = ()
) -> Iterator[RayEngine]:
    """An engine on the configured Ray, joined or started, and left or ended again: see connection.joined."""
    with joined(config, device, num_examples, outputs=outputs) as resources:
        yield RayEngine(resources)


class RayEngine:
    """Runs stages on a Ray that this process has joined (golem_ray.engine.Engine)."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self.workers: tuple[dict[str, Any], ...] = ()

    def embed(self, source: Source, task: EmbeddingTask, wanted: np.ndarray) -> Iterator[VectorBatch]:
        """As Engine.embed: in a pool of actors, by Ray Data."""
        ray.remote(num_cpus=0)(warm_up).remote()
        intake = Intake(wanted, task.gathered)
        try:
            yield from embedding.embed(source, task, self.resources, intake)
        finally:
            self.workers = intake.workers()

    def digests(self, source: Source) -> np.ndarray:
        """As Engine.digests."""
        return embedding.digests(source, self.resources)

    def share(self, value: T) -> Any:
        """A reference to a copy in Ray's object store. Raises ConfigError if it has no room."""
        return tasks.put(value)

    def train(self, assemble: Any, spec: HeadSpec, repeats: int) -> tuple[TrainedHead, dict[str, Any]]:
        """As Engine.train: in a task, on a GPU where embedding had them."""
        return tasks.train(assemble, spec, repeats, self.resources)

    def map(self, work: Callable[..., T], jobs: Sequence[tuple[Any, ...]], title: str, unit: str) -> list[T]:
        """As Engine.map: in tasks of one CPU each, as many at a time as fit."""
        return tasks.side_by_side(work, jobs, title, unit, self.resources)
