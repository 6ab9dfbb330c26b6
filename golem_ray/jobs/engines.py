"""Which engine runs a job."""

from __future__ import annotations

import logging
import os

import numpy as np
import pyarrow as pa

from golem_ray import storage
from golem_ray.config import ClusterConfig, DeviceConfig, PathsConfig
from golem_ray.data.table import Source
from golem_ray.devices import Resources
from golem_ray.embedding.cache import EmbeddingCache, describe
from golem_ray.embedding.embeddings import Embeddings
from golem_ray.embedding.examples import LOG_MEL_SIZE, group_clips
from golem_ray.embedding.recipe import EncoderInfo, Recipe
from golem_ray.embedding.stage import BATCHES_PER_GROUP, EmbedBatch
from golem_ray.errors import ConfigError

log = logging.getLogger(__name__)

HANDFUL = 32
"""Most clips that are embedded in this process: a Ray of its own takes longer to start than they to be embedded."""


def embed(
    source: Source,
    recipe: Recipe,
    device: DeviceConfig,
    cluster: ClusterConfig,
    cache_root: str | None,
    max_bad: int,
) -> Embeddings:
    """Every clip's vector: of a handful, with no cluster named, by this process, else by Ray."""
    num_examples = source.examples.num_rows
    named = cluster.address != "auto" or os.environ.get("RAY_ADDRESS") or storage.in_submitted_job()
    if num_examples <= HANDFUL and not named and cache_root is None and device.backend != "cuda":
        return _embed_here(source, recipe, device, cluster)
    root = None
    if cache_root is not None:
        root = placed("embedding_cache", cache_root)
    from golem_ray import cluster as ray_cluster  # imports Ray, which a handful of clips need not wait for

    outputs = (("embedding_cache", root),) if root else ()
    with ray_cluster.joined(cluster, device, num_examples, outputs=outputs) as resources:
        announce("", num_examples, recipe.encoder, resources)
        cache = open_cache(root, recipe, resources) if root else None
        digests = ray_cluster.hash_clips(source, resources) if cache is not None and cache.files() else None
        return ray_cluster.embed(source, recipe, resources, max_bad, cache=cache, digests=digests)


def _embed_here(source: Source, recipe: Recipe, device: DeviceConfig, cluster: ClusterConfig) -> Embeddings:
    """What the cluster's actors do, done by this process."""
    import torch

    gpu = device.backend == "auto" and torch.cuda.is_available()
    threads = max(1, min(cluster.threads_per_worker, os.cpu_count() or 1))
    resources = Resources(
        workers=1, threads=threads, cpus=threads, gpu=gpu, backend=device.backend, batch_seconds=cluster.batch_seconds
    )
    clips = source.examples.combine_chunks()
    if gpu:
        seconds = BATCHES_PER_GROUP * cluster.batch_seconds
        groups = group_clips(clips, rate=recipe.encoder.sampling_rate, baseline=False, seconds=seconds)
        clips = pa.concat_tables(list(groups))
    done = EmbedBatch(recipe, resources)(clips)
    if any(done["failure"]):
        raise ConfigError(next(failure for failure in done["failure"] if failure))
    order = np.argsort(done["id"])
    return Embeddings(
        vectors=done["vector"][order],
        bad={int(row): reason for row, reason in zip(done["id"], done["reason"], strict=True) if reason},
        digests=np.array(done["digest"], dtype="S32")[order],
        log_mel=None,
        workers=(),
    )


def announce(dataset: str, num_examples: int, encoder: EncoderInfo, resources: Resources) -> None:
    """Say what begins."""
    log.info(
        "embedding %d clips%s with %s: %d worker%s on %s",
        num_examples,
        f" of {dataset}" if dataset else "",
        encoder.name,
        resources.workers,
        "s" if resources.workers > 1 else "",
        "GPU" if resources.gpu else "CPU",
    )
    if resources.gpu and not encoder.exact_in_batches:
        log.info("%s (%s) is not exact in batches: one clip at a time", encoder.name, encoder.model_type)


def open_cache(root: str, recipe: Recipe, resources: Resources, mark: str = "") -> EmbeddingCache:
    """The cache of this recipe's vectors on such workers. Raises ConfigError if it cannot be written."""
    described = describe(recipe, gpu=resources.gpu, threads=resources.threads)
    return EmbeddingCache(root, described, recipe.vector_size, LOG_MEL_SIZE, mark=mark)


def placed(key: str, path: str) -> str:
    """Where an output of that name goes."""
    return storage.resolve(key, path, PathsConfig(), storage.in_submitted_job())
