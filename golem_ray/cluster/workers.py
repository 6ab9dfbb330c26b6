"""What Ray adds to a stage on a worker: notes that outlive it, and metrics for the dashboard and Prometheus."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from golem_ray.embedding.stage import EmbedBatch

NAMESPACE = b"golem_ray"


class KeyValueStore:
    """A journal's store in the head's memory: it outlives every worker. One for each run."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id

    def get(self, key: str) -> int:
        """The number under a key; 0 if there is none."""
        from ray.experimental.internal_kv import _internal_kv_get

        return int(_internal_kv_get(f"{self.run_id}/{key}", namespace=NAMESPACE) or 0)

    def put(self, key: str, value: int) -> None:
        """Written down when this returns; 0 removes it."""
        from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_put

        if value:
            _internal_kv_put(f"{self.run_id}/{key}", str(value), namespace=NAMESPACE)
        else:
            _internal_kv_del(f"{self.run_id}/{key}", namespace=NAMESPACE)

    def clear(self) -> None:
        """Forget the run."""
        from ray.experimental.internal_kv import _internal_kv_del

        _internal_kv_del(f"{self.run_id}/", del_by_prefix=True, namespace=NAMESPACE)


class Embedder:
    """An embedding actor: EmbedBatch, counted.

    golem_ray_audio_seconds, golem_ray_clips, golem_ray_bad_clips (counters), and golem_ray_gpu_batch_fill (gauge: the
    share of cluster.batch_seconds that the last batches were filled with, padding aside).
    """

    def __init__(self, *arguments: Any) -> None:
        from ray.util.metrics import Counter, Gauge

        self.work = EmbedBatch(*arguments)
        self.seconds = Counter("golem_ray_audio_seconds", description="Seconds of audio embedded.")
        self.clips = Counter("golem_ray_clips", description="Clips embedded.")
        self.bad_clips = Counter("golem_ray_bad_clips", description="Clips that cannot be used.")
        self.fill = Gauge("golem_ray_gpu_batch_fill", description="Share of a GPU's batches that is audio, 0 to 1.")

    def __call__(self, batch: pa.Table) -> dict[str, Any]:
        """One batch, as EmbedBatch gives it."""
        done = self.work(batch)
        bad = sum(1 for reason in done["reason"] if reason)
        for meter, count in (
            (self.seconds, float(np.sum(done["seconds"]))),
            (self.clips, len(done["reason"]) - bad),
            (self.bad_clips, bad),
        ):
            if count:
                meter.inc(count)
        if (fill := self.work.batch_fill()) is not None:
            self.fill.set(fill)
        return done
