"""Training and evaluating on examples that a caller has in memory, or in files that it names one by one.

The same line as train.py's and evaluate.py's, in this process where the examples are few; vectors are kept for the next
call. Nothing is written but by `save`.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from golem_ray import artifact
from golem_ray.config import DatasetConfig, DeviceConfig, EvaluateConfig, GroupsConfig, PathsConfig, TrainConfig
from golem_ray.data import Source
from golem_ray.data.encode import encode_groups, no_labels
from golem_ray.data.labels import name_equal_files
from golem_ray.data.several import encode
from golem_ray.data.table import examples_table
from golem_ray.data.unusable import check_unusable, example_at
from golem_ray.embedding.embeddings import Embeddings, VectorBatch
from golem_ray.embedding.modality import modality_named, modality_of
from golem_ray.embedding.recipe import Recipe
from golem_ray.embedding.stage import EmbeddingTask
from golem_ray.engine import Engine
from golem_ray.errors import ConfigError, DataError, ExampleError
from golem_ray.jobs import outcome
from golem_ray.jobs.engines import opened
from golem_ray.jobs.evaluate import GIVEN, judge
from golem_ray.jobs.train import divided, trained
from golem_ray.jobs.training_data import Terms
from golem_ray.jobs.vectors import joined
from golem_ray.progress import Stopwatch

FEW = 1000
"""Most examples that this process embeds by itself, where no cluster is named."""

_MOST_KEPT = 20_000
"""Vectors that are kept for the next call: with 768 numbers each, 60 MB."""

_GROUP = "group"


def train(
    config: TrainConfig,
    examples: Sequence[Any],
    labels: Sequence[Any],
    groups: Sequence[Any] | None,
    how: dict[str, Any],
) -> tuple[artifact.Artifact, Callable[[], str]]:
    """The artifact of a head trained on the examples, and what makes its report. Raises UserError.

    `how` says how examples are given, as `Modality.given` takes it.
    """
    config = _for_memory(config, groups is not None)
    recipe = modality_of(config.dataset).recipe(config.model, config.processing)
    clock = Stopwatch()
    division = divided(config, _source(recipe, examples, labels, groups, how))
    clock.lap("listing")
    with opened(config.cluster, config.device, modality_named(recipe.modality), len(examples), handful=FEW) as engine:
        clock.lap("joining the cluster")

        def embed() -> Embeddings:
            size = modality_named(recipe.modality).baseline.size
            task = EmbeddingTask(recipe=recipe, baseline=size > 0)
            embedded = joined(_batches(engine, division.source, task), division.source, task)
            name_equal_files(division, embedded.digests, embedded.bad)
            clock.lap("embedding")
            return embedded

        done = trained(config, division, recipe, engine, embed, clock)
    saved = artifact.in_memory(done.head.weights, outcome.sidecar(done), done.head.joined)
    return saved, lambda: outcome.report(done, saved.document)


def evaluate(
    saved: artifact.Artifact,
    recipe: Recipe,
    examples: Sequence[Any],
    labels: Sequence[Any],
    groups: Sequence[Any] | None,
    include_trained: bool,
    device: str,
    how: dict[str, Any],
) -> dict[str, Any]:
    """What `evaluate_artifact` finds, without a report. Raises UserError."""
    by = None if groups is None else _GROUP
    config = EvaluateConfig(
        dataset=DatasetConfig(name=GIVEN),
        evaluation=GroupsConfig(group_column=by),
        device=DeviceConfig(backend=device),  # type: ignore[arg-type]
        include_trained=include_trained,
    )
    source = _source(recipe, examples, labels, groups, how)
    with opened(config.cluster, config.device, modality_named(recipe.modality), len(examples), handful=FEW) as engine:
        found, *_ = judge(saved, config, source, by, _batches(engine, source, EmbeddingTask(recipe=recipe)))
    return found


def probabilities(
    saved: artifact.Artifact, recipe: Recipe, examples: Sequence[Any], device: str, how: dict[str, Any]
) -> np.ndarray:
    """The probability of each class, in the order of the artifact's labels: (N, K) float64.

    Raises DataError for an example that cannot be used.
    """
    config = EvaluateConfig(device=DeviceConfig(backend=device))  # type: ignore[arg-type]
    source = _source(recipe, examples, None, None, how)
    with opened(config.cluster, config.device, modality_named(recipe.modality), len(examples), handful=FEW) as engine:
        task = EmbeddingTask(recipe=recipe)
        embedded = joined(_batches(engine, source, task), source, task)
    records = [{"clip": example_at(source, row), "reason": reason} for row, reason in sorted(embedded.bad.items())]
    check_unusable(records, len(examples), 0, source.noun)
    return saved.probabilities(embedded.vectors)


def save(saved: artifact.Artifact, place: str, report: Callable[[], str] | None) -> str:
    """Save the artifact there, and its report beside it if there is one; the absolute place. Raises ConfigError."""
    path = PathsConfig(save_path=place).place("save_path")
    page = artifact.report_path(path)
    artifact.check_writable(path)
    if report is not None:
        artifact.check_report("paths.report_path", page)
    joined = None if saved.joined is None else saved.joined.content
    artifact.save(path, saved.weights, saved.document, joined)
    if report is not None:
        artifact.save_report(page, report())
    return path


def _for_memory(config: TrainConfig, grouped: bool) -> TrainConfig:
    """The configuration as it holds for examples in memory: all of them. Raises ConfigError for what cannot be."""
    many = config.dataset.noun.many
    if config.evaluation.split is not None:
        raise ConfigError(
            f"evaluation.split: expected none for {many} that are given, got {config.evaluation.split!r}; call "
            f"evaluate with the {many} to test on, or set evaluation.holdout."
        )
    if config.dataset.extra:
        raise ConfigError(
            f"dataset.extra: expected none for {many} that are given, which are all that there is, found some; leave "
            "it out, or train on datasets with golem_ray.train."
        )
    for key, value in vars(config.paths).items():
        if value != getattr(PathsConfig(), key):
            raise ConfigError(f"paths.{key}: expected none for {many} that are given, got {value!r}; call save.")
    return dataclasses.replace(
        config,
        dataset=DatasetConfig(name=GIVEN, name_alias=None, text_column=config.dataset.text_column),
        processing=dataclasses.replace(config.processing, max_samples="all"),
        evaluation=dataclasses.replace(config.evaluation, group_column=_GROUP if grouped else None),
        cluster=dataclasses.replace(config.cluster, threads_per_worker=1),  # which wait for nothing, and suffice
    )


def _source(
    recipe: Recipe,
    examples: Sequence[Any],
    labels: Sequence[Any] | None,
    groups: Sequence[Any] | None,
    how: dict[str, Any],
) -> Source:
    """The examples as every source gives them. Raises UserError for lengths that differ, and what is no example."""
    many = recipe.noun.many
    for name, values in (("labels", labels), ("groups", groups)):
        if values is not None and len(values) != len(examples):
            raise ConfigError(f"{name}: expected one for each of the {len(examples)} {many}, found {len(values)}.")
    if not len(examples):
        raise DataError(f"{many}: expected some, found none.")
    contents, paths = [], []
    for number, example in enumerate(examples):
        content, path = _placed(recipe, number, example, how)
        contents.append(content)
        paths.append(path)
    names: tuple[str, ...] = ()
    indices = no_labels(len(examples))
    if labels is not None:
        is_matrix = getattr(labels, "ndim", 1) > 1
        columns = _flag_columns(labels) if is_matrix else {"labels": _labels_column(labels)}
        chunked = {name: pa.chunked_array([column]) for name, column in columns.items()}
        names, indices = encode(chunked, None, several=is_matrix)
    table = pa.table({"bytes": pa.array(contents, pa.large_binary()), "path": pa.array(paths, pa.string())})
    group_column = None if groups is None else encode_groups(pa.chunked_array([_column("groups", groups)]))
    return Source(examples=examples_table(table, indices, group_column), labels=names, noun=recipe.noun)


def _placed(recipe: Recipe, number: int, example: Any, how: dict[str, Any]) -> tuple[bytes | None, str | None]:
    """The bytes of an example's file, or its path."""
    modality = modality_named(recipe.modality)
    if isinstance(example, bytes | bytearray | memoryview):
        return bytes(example), None
    if isinstance(example, os.PathLike) or (isinstance(example, str) and not modality.content.inline):
        path = os.fspath(example)
        return None, path if "://" in path else os.path.abspath(os.path.expanduser(path))
    try:
        return modality.as_file(example, recipe, **how), None
    except ExampleError as error:
        one = recipe.noun.one
        raise DataError(f"{one} {number}: expected a {one} that can be used, found {error}.") from None


def _flag_columns(labels: Any) -> dict[str, pa.Array]:
    """The columns of a matrix (N, K) of 0 and 1, called by their numbers; those of a DataFrame by their names."""
    matrix = np.asarray(labels)
    try:
        flags = matrix.astype(np.float64)
    except (TypeError, ValueError):
        flags = np.full(matrix.shape, np.nan)
    if matrix.ndim != 2 or matrix.shape[1] < 2 or not np.isin(flags, (0, 1)).all():
        raise ConfigError(
            f"labels: expected a matrix (N, K) of 0 and 1 with two columns or more, found "
            f"{matrix.shape} of {matrix.dtype}; where each has one label, give a list of them."
        )
    names = [str(name) for name in getattr(labels, "columns", range(matrix.shape[1]))]
    if len(set(names)) < len(names):
        raise ConfigError(f"labels: expected columns of different names, found {names}.")
    return {name: pa.array(column) for name, column in zip(names, flags.T == 1, strict=True)}


def _labels_column(labels: Sequence[Any]) -> pa.Array:
    """Labels as a column: of lists of names where one of them is a list, a tuple or a set."""
    if not any(isinstance(each, list | tuple | set | frozenset) for each in labels):
        return _column("labels", labels)
    lists = []
    for each in labels:
        if isinstance(each, str) or not isinstance(each, list | tuple | set | frozenset):
            raise ConfigError(f"labels: expected a list of names for each, found a {type(each).__name__} beside lists.")
        lists.append(sorted(map(str, each)))
    return pa.array(lists, pa.list_(pa.string()))


def _column(key: str, values: Sequence[Any]) -> pa.Array:
    """Names or whole numbers as a column; null for None."""
    plain = [value.item() if isinstance(value, np.generic) else value for value in values]
    if all(value is None or type(value) is int for value in plain):
        return pa.array(plain, pa.int64())
    for value in plain:
        if not isinstance(value, str | int | float | None):
            raise ConfigError(f"{key}: expected names or numbers, found a {type(value).__name__}.")
    return pa.array([None if value is None else str(value) for value in plain], pa.string())


_kept: OrderedDict[tuple[str, bytes], tuple[np.ndarray, np.ndarray | None, str]] = OrderedDict()
"""(recipe, digest of the file) -> vector (D,), the baseline's (F,) where that was wanted, remark; the newest last."""


def _batches(engine: Engine, source: Source, task: EmbeddingTask) -> Iterator[VectorBatch]:
    """Every example, embedded. What a training has fitted is applied here: what is kept does not depend on it."""
    recipe, fitted = task.recipe, task.recipe.fitted
    if fitted is None:
        yield from _encoded(engine, source, task)
        return
    count = Terms(examples=source.examples, recipe=recipe)
    plain = dataclasses.replace(task, recipe=dataclasses.replace(recipe, joined=0, fitted=None))
    for batch in _encoded(engine, source, plain):
        assert batch.vectors is not None
        beside = fitted.scores(count(batch.rows)) if len(batch.rows) else np.zeros((0, fitted.size), dtype=np.float32)
        yield batch._replace(vectors=np.concatenate([batch.vectors, beside], axis=1))


def _encoded(engine: Engine, source: Source, task: EmbeddingTask) -> Iterator[VectorBatch]:
    """Every example, embedded: first those that an earlier call has embedded. What is embedded now is kept."""
    fingerprint = modality_named(task.recipe.modality).fingerprint(task.recipe)
    made = json.dumps([fingerprint, engine.resources.gpu])
    digests, labelled = engine.digests(source), source.examples["label"].is_valid().to_numpy()
    wanted, rows, known = np.ones(len(digests), dtype=bool), [], []
    for row, digest in enumerate(digests.tolist()):
        kept = _kept.get((made, digest))
        if kept is not None and labelled[row] and not (task.baseline and kept[1] is None):
            wanted[row] = False
            rows.append(row)
            known.append(kept)
    if known:
        baseline = np.stack([kept[1] for kept in known]) if task.baseline else None  # type: ignore[misc]
        vectors, remarks = np.stack([kept[0] for kept in known]), [kept[2] for kept in known]
        yield VectorBatch(np.array(rows), vectors, baseline, digests[rows], [""] * len(rows), remarks)
    if not wanted.any():
        return
    for batch in engine.embed(source, task, wanted):
        assert batch.vectors is not None
        said = zip(batch.digests.tolist(), batch.reasons, batch.remarks or batch.reasons, strict=True)
        for number, (digest, reason, remark) in enumerate(said):
            if not reason:
                plain = None if batch.baseline is None else batch.baseline[number].copy()
                _kept[made, digest] = (batch.vectors[number].copy(), plain, remark)
        yield batch
    while len(_kept) > _MOST_KEPT:
        _kept.popitem(last=False)
