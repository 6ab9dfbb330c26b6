"""Compare candidates on the same examples and folds: which to train with, and what that choice is worth."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from golem_ray import artifact, storage
from golem_ray.config import GridConfig, Noun, TrainConfig
from golem_ray.config.presets import preset_text
from golem_ray.data import open_source
from golem_ray.data.encode import flat
from golem_ray.data.extra import named_together
from golem_ray.data.groups import kept_together
from golem_ray.data.labels import check_classes, check_labels, name_equal_files
from golem_ray.data.several import label_array
from golem_ray.data.split import Division, divide
from golem_ray.data.table import Source
from golem_ray.data.unusable import allowed, check_unusable
from golem_ray.embedding.cache import open_cache
from golem_ray.embedding.embeddings import Embeddings
from golem_ray.embedding.modality import modality_of
from golem_ray.embedding.stage import EmbeddingTask
from golem_ray.engine import Engine
from golem_ray.errors import ConfigError, DataError, StorageError
from golem_ray.heads.targets import target_of
from golem_ray.jobs.candidates import Candidate, Grid, spell_out
from golem_ray.jobs.engines import announce, opened
from golem_ray.jobs.fields import Fields
from golem_ray.jobs.vectors import gather
from golem_ray.metrics import comparison
from golem_ray.metrics.comparison import Round
from golem_ray.report import words
from golem_ray.report.comparison import render_comparison

_PRESET_MARK = "# The best of "

_BEGINNINGS = {"best.toml": _PRESET_MARK, "comparison.json": '{\n  "summary": "'}
"""How those files of ours begin."""


def run(config: TrainConfig, grid_config: GridConfig, output: str) -> dict[str, Any]:
    """Compare the grid's candidates; writes best.toml, comparison.json and report.html into `output`, a folder or URI.

    Returns {"summary", "bestPath", "reportPath", ...} and the figures. Raises UserError.
    """
    _check(config)
    output = storage.resolve("output", output, config.paths.storage_root)
    report_path = f"{output}/report.html"
    artifact.check_report("output", report_path)
    _refuse_to_overwrite(output)
    grid, modality = spell_out(config, grid_config), modality_of(config.dataset)
    division = divide(config, _source(config), modality.content)
    outputs = (("paths.embedding_cache", _embeddings(config, output)),)
    with opened(config.cluster, config.device, modality, len(division.tested), outputs=outputs) as engine:
        embedded, used = _embed(config, division, grid, engine, output)
        any_encoder = next(iter(embedded.values()))
        name_equal_files(division, any_encoder.digests, any_encoder.bad)
        labels = division.labels_of(used)
        groups = kept_together(division.groups, any_encoder.digests, used, division.noun)
        fields = Fields(
            engine=engine,
            source=division.source,
            config=config,
            grid=grid,
            embedded=embedded,
            used=used,
            labels=labels,
            groups=groups,
            extra=division.extra[used] if division.beside else None,
            num_classes=len(division.source.labels),
        )
        if not fields.can_play():
            many = division.noun.many
            raise DataError(
                f"dataset.name: expected a class with two {many}, or two groups, to cross-validate on, found none; "
                f"take more {many}."
            )
        rounds = fields.play(grid.candidates)
        found = comparison.compare(rounds, groups)
        best = found["order"][0]
        curves = fields.learning_curves({number: rounds[number] for number in dict.fromkeys([0, best])})
    result = _result(config, grid, found, curves, division, used, _num_tested(rounds))
    preset = _preset(config, grid, grid.candidates[best], result, division.noun)
    for name, text in (("best.toml", preset), ("comparison.json", json.dumps(result, indent=2) + "\n")):
        try:
            storage.write(f"{output}/{name}", text.encode())
        except StorageError as error:
            raise ConfigError(
                f"output: expected to be able to write {output}/{name}, but {error}; mend that and run again."
            ) from None
    written = artifact.save_report(report_path, render_comparison(result, division.noun))
    return {**result, "bestPath": f"{output}/best.toml", "reportPath": report_path if written else None}


def _check(config: TrainConfig) -> None:
    """Raise ConfigError for what has no place in a comparison."""
    if config.paths.run_dir is not None:
        raise ConfigError(
            "paths.run_dir: expected none for a comparison, which keeps its embeddings in --output, found one; leave "
            "it out."
        )
    for key in ("split", "holdout"):
        if getattr(config.evaluation, key) is not None:
            raise ConfigError(
                f"evaluation.{key}: expected none in a comparison, which cross-validates, got "
                f"{getattr(config.evaluation, key)!r}; test the winner on those {config.dataset.noun.many} with "
                "golem-ray train."
            )
    if config.evaluation.reject is not None:
        raise ConfigError(
            f"evaluation.reject: expected none in a comparison, which keeps no classifier, got "
            f"{config.evaluation.reject!r}; train the winner with it."
        )
    if config.evaluation.repeats < 1:
        raise ConfigError("evaluation.repeats: expected 1 or more in a comparison, got 0.")


def _refuse_to_overwrite(output: str) -> None:
    """Raise ConfigError if files of somebody else lie where the winner's preset and the figures go."""
    for name, beginning in _BEGINNINGS.items():
        place = f"{output}/{name}"
        try:
            ours = not storage.exists(place) or storage.read_head(place, 100).startswith(beginning.encode())
        except StorageError as error:
            raise ConfigError(f"output: expected to be able to read {place}, but {error}") from None
        if not ours:
            raise ConfigError(f"output: expected room for {name}, found another file at {place}; name another folder.")


def _source(config: TrainConfig) -> Source:
    content, groups = modality_of(config.dataset).content, config.evaluation.group_column
    source = open_source(config.dataset, content, config.processing.limit, group_column=groups)
    check_classes(config, source)
    check_labels(source, label_array(flat(source.examples["label"]).drop_null(), len(source.labels)))
    return source


def _embeddings(config: TrainConfig, output: str) -> str:
    """Where vectors are kept."""
    root = config.paths.embedding_cache
    return f"{output}/embeddings" if root is None else config.paths.place("embedding_cache")


def _embed(
    config: TrainConfig, division: Division, grid: Grid, engine: Engine, output: str
) -> tuple[dict[str, Embeddings], np.ndarray]:
    """Every example's vectors by each encoder, one pass each, through the cache; and the rows to use, (N,)."""
    source, root = division.source, _embeddings(config, output)
    digests, used = None, np.zeros(0, dtype=np.int64)
    embedded: dict[str, Embeddings] = {}
    for name, recipe in grid.recipes.items():
        num_examples = source.examples.num_rows
        announce(named_together(config.dataset), num_examples, recipe.encoder, engine.resources, source.noun)
        key = "output" if config.paths.embedding_cache is None else "paths.embedding_cache"
        cache = open_cache(root, recipe, engine.resources, key=key)
        if digests is None and cache.files():
            digests = engine.digests(source)
        most = allowed(config.processing.max_bad_fraction, num_examples)
        embedded[name] = gather(engine, source, EmbeddingTask(recipe=recipe, cache=cache), most, digests)
        used = _usable(config, division, embedded)
    return embedded, used


def _usable(config: TrainConfig, division: Division, embedded: dict[str, Embeddings]) -> np.ndarray:
    """(N,) rows that every encoder could embed. Raises DataError if too many could not be."""
    source = division.source
    bad: dict[int, str] = {}
    for encoder, each in embedded.items():
        bad = {row: f"{reason} (encoder {encoder})" for row, reason in each.bad.items()} | bad  # the first that refused
    records = [{"clip": division.name(row), "reason": bad[row]} for row in sorted(bad)]
    check_unusable(records, source.examples.num_rows, config.processing.max_bad_fraction, source.noun)
    used = np.array([row for row in range(source.examples.num_rows) if row not in bad], dtype=np.int64)
    if bad:
        check_labels(source, division.labels_of(used))
    return used


def _num_tested(rounds: Sequence[Sequence[Round]]) -> int:
    return int(np.any([each.folds >= 0 for each in rounds[0]], axis=0).sum())


def _result(
    config: TrainConfig,
    grid: Grid,
    found: dict[str, Any],
    curves: dict[int, list[dict[str, Any]]],
    division: Division,
    used: np.ndarray,
    num_tested: int,
) -> dict[str, Any]:
    """The comparison as plain JSON values."""
    (own, *beside), target = division.counts(used), target_of(division.several)
    labels = division.labels_of(used[~division.extra[used]])  # of those that may be tested
    rows = [
        {**dataclasses.asdict(candidate), "name": str(candidate), **figures}
        for candidate, figures in zip(grid.candidates, found["candidates"], strict=True)
    ]
    for row in rows:
        row["head_config"] = _changed(grid.heads[row["head"]])
    result = {
        "dataset": config.dataset.name,
        "split": config.dataset.split,
        "num_clips": num_tested,
        "num_single_clip_classes": own - num_tested,
        "num_classes": len(division.source.labels),
        "group_column": config.evaluation.group_column,
        "repeats": config.evaluation.repeats,
        "seed": config.training.seed,
        "measure": target.measure,
        **target.blind_scores(labels),
        "default": rows[0]["name"],
        "best": rows[found["order"][0]]["name"],
        "candidates": [rows[number] for number in found["order"]],
        "nested": {
            **found["nested"],
            "chosen": [{"name": rows[number]["name"], "folds": count} for number, count in found["nested"]["chosen"]],
        },
        "learning_curves": [{"name": rows[number]["name"], "points": points} for number, points in curves.items()],
    }
    if beside:
        tables = zip(config.dataset.extra, beside, strict=True)
        result["extra"] = [{"dataset": each.name, "split": each.split, "num_clips": n} for each, n in tables]
    return {"summary": words.summary(result, division.noun), **result}


def _preset(config: TrainConfig, grid: Grid, best: Candidate, result: dict[str, Any], noun: Noun) -> str:
    """What trains the best candidate, as a preset."""
    nested, rows = result["nested"], result["candidates"]
    comments = [
        f"{_PRESET_MARK.removeprefix('# ')}{len(rows)} candidates on {result['num_clips']} {noun.many} of "
        f"{result['dataset']}:",
        f"{best}.",
        f"Cross-validated {result['measure']} {words.percent(rows[0]['accuracy'])}, too good by its being chosen.",
        f"Choosing anew in each fold {words.percent(nested['accuracy'])},",
        f"against the default {words.points(nested['against_default'])}.",
    ]
    return preset_text(grid.config(config, best), comments)


def _changed(group: Any) -> dict[str, Any]:
    """What differs from the group's defaults."""
    return {
        field.name: list(value) if isinstance(value, tuple) else value
        for field in dataclasses.fields(group)
        if (value := getattr(group, field.name)) != field.default
    }
