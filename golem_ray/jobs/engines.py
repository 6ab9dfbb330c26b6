"""Which engine a job runs on, by its configuration."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from golem_ray import storage
from golem_ray.config import ClusterConfig, DeviceConfig, Noun
from golem_ray.devices import Resources
from golem_ray.embedding.modality import Modality
from golem_ray.embedding.recipe import EncoderInfo
from golem_ray.engine import Engine, LocalEngine
from golem_ray.progress import waiting_for

log = logging.getLogger(__name__)

HANDFUL = 32
"""Most examples that evaluate and predict embed in this process: a Ray of its own takes longer to start than that."""


@contextmanager
def opened(
    cluster: ClusterConfig,
    device: DeviceConfig,
    modality: Modality,
    num_examples: int,
    *,
    outputs: tuple[tuple[str, str], ...] = (),
    handful: int = 0,
) -> Iterator[Engine]:
    """The configured engine, joined or started, and left or ended again.

    That is Ray, or this process for cluster.address `none`, and also for `handful` of examples or fewer, if no
    cluster is named. `outputs` are (key, folder or URI) that workers will write to. Raises ConfigError if it cannot be
    had.
    """
    named = cluster.address != "auto" or os.environ.get("RAY_ADDRESS") or storage.in_submitted_job()
    if cluster.address == "none" or (num_examples <= handful and not named):
        yield _for(modality, cluster, LocalEngine(cluster, device))
        return
    with ExitStack() as leave:
        with waiting_for("Ray"):
            from golem_ray.cluster import ray_engine  # imports Ray, which the engine of this process need not wait for

            engine = leave.enter_context(ray_engine(cluster, device, num_examples, outputs=outputs))
        yield _for(modality, cluster, engine)


def _for(modality: Modality, cluster: ClusterConfig, engine: Engine) -> Engine:
    """The engine, with batches for a GPU as its examples' modality measures them."""
    engine.resources = dataclasses.replace(engine.resources, batch_cost=modality.gpu_batch(cluster))
    return engine


def announce(dataset: str, num_examples: int, encoder: EncoderInfo, resources: Resources, noun: Noun) -> None:
    """Say what begins."""
    log.info(
        "embedding %d %s%s with %s: %d worker%s on %s",
        num_examples,
        noun.many,
        f" of {dataset}" if dataset else "",
        encoder.name,
        resources.workers,
        "s" if resources.workers > 1 else "",
        "GPU" if resources.gpu else "CPU",
    )
    if resources.gpu and not encoder.exact_in_batches:
        log.info("%s (%s) is not exact in batches: one %s at a time", encoder.name, encoder.model_type, noun.one)
