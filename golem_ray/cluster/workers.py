"""What Ray adds to the embedding stage on a worker: metrics for the dashboard and Prometheus."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from golem_ray.devices import Resources
from golem_ray.embedding.crash_notes import CrashNotes
from golem_ray.embedding.modality import modality_named
from golem_ray.embedding.stage import EmbedBatch, EmbeddingTask


class Embedder:
    """An embedding actor: EmbedBatch, counted.

    Counters: golem_ray_<unit of the modality's cost>, golem_ray_clips, golem_ray_bad_clips. A gauge,
    golem_ray_gpu_batch_fill: the share of a GPU's last batches that was no padding.
    """

    def __init__(self, task: EmbeddingTask, resources: Resources, notes: CrashNotes) -> None:
        from ray.util.metrics import Counter, Gauge

        unit, many = modality_named(task.recipe.modality).unit, task.recipe.noun.many
        self.work = EmbedBatch(task, resources, notes)
        self.cost = Counter(f"golem_ray_{unit}", description=f"{unit.replace('_', ' ').capitalize()} embedded.")
        self.examples = Counter("golem_ray_clips", description=f"{many.capitalize()} embedded.")
        unusable = f"{many.capitalize()} that cannot be used."
        self.bad_examples = Counter("golem_ray_bad_clips", description=unusable)
        self.fill = Gauge("golem_ray_gpu_batch_fill", description="Share of a GPU's batches that is no padding, 0 to 1")

    def __call__(self, batch: pa.Table) -> dict[str, Any]:
        """One batch, as EmbedBatch gives it."""
        done = self.work(batch)
        bad = sum(1 for reason in done["reason"] if reason)
        for meter, count in (
            (self.cost, float(np.sum(done["cost"]))),
            (self.examples, len(done["reason"]) - bad),
            (self.bad_examples, bad),
        ):
            if count:
                meter.inc(count)
        if (fill := self.work.batch_fill()) is not None:
            self.fill.set(fill)
        return done
