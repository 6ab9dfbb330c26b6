"""A job's vectors: from the cache, else from the engine; batch by batch, or gathered."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

import numpy as np

from golem_ray import storage
from golem_ray.config import EvaluateConfig, PredictConfig
from golem_ray.data import Source
from golem_ray.embedding.cache import open_cache
from golem_ray.embedding.embeddings import Embeddings, VectorBatch
from golem_ray.embedding.modality import modality_named
from golem_ray.embedding.recipe import Recipe
from golem_ray.embedding.stage import EmbeddingTask
from golem_ray.engine import Engine, LocalEngine
from golem_ray.jobs.engines import HANDFUL, announce, opened

log = logging.getLogger(__name__)


def vector_batches(
    engine: Engine, source: Source, task: EmbeddingTask, max_bad: int, digests: np.ndarray | None = None
) -> Iterator[VectorBatch]:
    """Every example of the source, each once, in any order: those that the cache has by their digests (N,) S32 first.

    Stops early once more than max_bad examples cannot be used, after about as many batches as are under way then.
    Raises UserError if the encoder cannot be loaded, or if the work does not go on.
    """
    wanted, num_bad, under_way = np.ones(source.examples.num_rows, dtype=bool), 0, engine.resources.workers - 1
    if task.cache is not None and digests is not None:
        for batch in _known(source, task, digests):
            wanted[batch.rows] = False
            yield batch
        known, many = len(wanted) - wanted.sum(), source.noun.many
        log.info("%d of %d %s are in the embedding cache", known, len(wanted), many)
    if not wanted.any():
        return
    for batch in engine.embed(source, task, wanted):
        yield batch
        num_bad += sum(1 for reason in batch.reasons if reason)
        if num_bad > max_bad:
            if under_way == 0:
                return
            under_way -= 1


def _known(source: Source, task: EmbeddingTask, digests: np.ndarray) -> Iterator[VectorBatch]:
    """What the cache has of examples with these digests; one without a label cannot be used all the same."""
    assert task.cache is not None
    labelled = np.where(source.examples["label"].is_valid().to_numpy(), digests, b"")
    names = (["vector"] if task.gathered else []) + (["baseline"] if task.gathered and task.baseline else [])
    for rows, columns in task.cache.known(labelled, names, with_baseline=task.baseline):
        vectors, baseline, remarks = columns.get("vector"), columns.get("baseline"), columns["remark"].tolist()
        yield VectorBatch(rows, vectors, baseline, digests[rows], [""] * len(rows), remarks)


def gather(
    engine: Engine, source: Source, task: EmbeddingTask, max_bad: int, digests: np.ndarray | None = None
) -> Embeddings:
    """The same batches in one table, in the source's order."""
    return joined(vector_batches(engine, source, task, max_bad, digests), source, task)


def joined(batches: Iterable[VectorBatch], source: Source, task: EmbeddingTask) -> Embeddings:
    """Batches in one table, in the source's order."""
    num_examples, size = source.examples.num_rows, modality_named(task.recipe.modality).baseline.size
    vectors = np.zeros((num_examples if task.gathered else 0, task.recipe.vector_size), dtype=np.float32)
    baseline = np.zeros((num_examples, size), dtype=np.float32) if task.baseline and task.gathered else None
    found, bad, cost = np.zeros(num_examples, dtype="S32"), {}, 0.0
    remarks: dict[int, str] = {}
    for batch in batches:
        if batch.vectors is not None:
            vectors[batch.rows] = batch.vectors
        if baseline is not None and batch.baseline is not None:
            baseline[batch.rows] = batch.baseline
        found[batch.rows] = batch.digests
        bad.update({int(row): why for row, why in zip(batch.rows, batch.reasons, strict=True) if why})
        remarks.update(batch.remarked())
        cost += batch.cost
    return Embeddings(vectors=vectors, bad=bad, digests=found, baseline=baseline, remarks=remarks, cost=cost)


def applied_vectors(
    config: EvaluateConfig | PredictConfig, source: Source, recipe: Recipe, max_bad: int
) -> Iterator[VectorBatch]:
    """The batches of a source that a saved classifier is applied to, on the engine that its configuration names."""
    num_examples, root = source.examples.num_rows, None
    if config.embedding_cache is not None:
        root = storage.resolve("embedding_cache", config.embedding_cache)
    outputs, modality = (("embedding_cache", root),) if root else (), modality_named(recipe.modality)
    with opened(config.cluster, config.device, modality, num_examples, outputs=outputs, handful=HANDFUL) as engine:
        if not isinstance(engine, LocalEngine):  # in this process nothing has to start first
            announce("", num_examples, recipe.encoder, engine.resources, source.noun)
        cache = open_cache(root, recipe, engine.resources, key="embedding_cache") if root else None
        digests = engine.digests(source) if cache is not None and cache.files() else None
        yield from vector_batches(engine, source, EmbeddingTask(recipe=recipe, cache=cache), max_bad, digests)
