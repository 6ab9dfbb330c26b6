"""Ray's object store, and the disk that it spills to, full."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

import golem_ray
from golem_ray.cluster import RayEngine
from golem_ray.config import TrainingConfig
from golem_ray.devices import Resources
from golem_ray.errors import ConfigError
from golem_ray.heads.training_set import HeadSpec
from golem_ray.jobs.training_data import FromMemory, TrainingRows
from tests.conftest import write_clips

pytestmark = pytest.mark.slow

STORE_BYTES = 80 << 20
NUM_CLIPS, SECONDS = 30, 60.0
NO_DISK = {"local_fs_capacity_threshold": 0.0}
"""Ray takes every disk for a full one."""


@contextmanager
def own_ray(**settings: Any) -> Iterator[None]:
    """A Ray of this process's own, with about the least object store that there can be."""
    ray.shutdown()  # of a driver that a fixture left
    ray.init(
        address="local", num_cpus=2, num_gpus=1, object_store_memory=STORE_BYTES, include_dashboard=False,
        log_to_driver=False, _system_config=settings,
    )  # fmt: skip
    try:
        yield
    finally:
        ray.shutdown()


@pytest.fixture(scope="module")
def small_store() -> Iterator[None]:
    """That, for tests that leave it empty."""
    with own_ray():
        yield


def config(clips: Path, encoder_folder: Path, save_path: Path) -> dict[str, Any]:
    return {
        "dataset": {"name": str(clips), "label_column": "label"},
        "processing": {"max_samples": "all"},
        "model": {"feature_extractor_model": str(encoder_folder)},
        "evaluation": {"repeats": 0},
        "cluster": {"workers": 1, "threads_per_worker": 1, "stall_timeout": 60.0, "batch_seconds": 40.0},
        "paths": {"save_path": str(save_path)},
    }


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Decoded, they are more than the object store holds."""
    assert 4 * 16000 * NUM_CLIPS * SECONDS > 1.3 * STORE_BYTES
    return write_clips(tmp_path_factory.mktemp("long") / "set", ["in", "out"] * (NUM_CLIPS // 2), SECONDS)


def test_more_audio_than_the_object_store_holds_is_embedded(small_store, clips, encoder_folder, tmp_path):
    golem_ray.train(config(clips, encoder_folder, tmp_path / "v.pth"))
    sidecar = json.loads((tmp_path / "v.json").read_text())
    assert (sidecar["gpu"], sidecar["clips"]["used"]) == (True, NUM_CLIPS)
    assert sidecar["timings"]["audio_seconds_embedded"] == NUM_CLIPS * SECONDS


def embeddings() -> FromMemory:
    """More than the object store holds, of two classes that are easy to separate."""
    labels = np.arange(30_000) % 2
    centres = np.where(labels, 0.5, -0.5).astype(np.float32)
    vectors = np.random.default_rng(0).standard_normal((len(labels), 768), dtype=np.float32) + centres[:, None]
    assert vectors.nbytes > STORE_BYTES
    nothing = np.zeros(0, dtype=np.int64)
    rows = TrainingRows(
        used=np.arange(len(labels)), held=nothing, labels=labels, groups=None, candidates=(), drawn=nothing
    )
    return FromMemory(rows=rows, vectors=vectors, baseline=None)


def train_on_all() -> dict[str, Any]:
    engine = RayEngine(Resources(workers=1, threads=1, cpus=1, gpu=False, backend="cpu", stall_timeout=60.0))
    quick = HeadSpec(num_classes=2, training=TrainingConfig(epochs=3))
    return engine.train(engine.share(embeddings()), quick, 0)[0].metrics


def test_embeddings_that_the_object_store_cannot_hold_are_trained_on(small_store):
    assert train_on_all()["training_accuracy"] > 0.99


def test_a_disk_too_full_for_them_is_one_line():
    with (
        own_ray(**NO_DISK),
        pytest.raises(ConfigError, match="expected room for the embeddings in Ray's object store, or on the disk"),
    ):
        train_on_all()
