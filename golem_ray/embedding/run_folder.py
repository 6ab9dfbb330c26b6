"""A run's own folder: what the run is, and what it has embedded so far, so that it can go on after it was stopped.

    RUN_DIR/run.json      the configuration, the input and the recipe of the vectors
    RUN_DIR/embeddings/   the embedding cache of this run (cache.py), written block by block, then joined (joining.py)

Knows no engine. The same run is one with the same configuration, but for paths and the cluster, on the same input.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import pyarrow as pa

from golem_ray import storage
from golem_ray.config import Noun, TrainConfig
from golem_ray.config.presets import NEWER_KEYS
from golem_ray.config.presets import recorded as as_recorded
from golem_ray.data.split import Division
from golem_ray.data.unusable import MAX_NAMED
from golem_ray.embedding.cache import EmbeddingCache
from golem_ray.embedding.recipe import Recipe
from golem_ray.errors import ConfigError, DataError, StorageError, one_line
from golem_ray.locks import locked

FORMAT_VERSION = 1

_FREE = ("paths", "device", "cluster")
"""Groups that may change: where it runs. The kind of device is in the recipe."""

_GROUPS = ("config", "data", "encoder", "recipe")


def embeddings(run_dir: str) -> str:
    """Where a run's embedding cache lies."""
    return f"{run_dir.rstrip('/')}/embeddings"


def crash_notes(run_dir: str) -> str:
    """Where the notes of what ended a process of the run lie, if the engine has no store of its own."""
    return f"{run_dir.rstrip('/')}/crash_notes"


def recorded(run_dir: str, key: str) -> dict[str, Any] | None:
    """What a run's folder says of the run; None if there is none. Raises ConfigError if that cannot be read."""
    place = f"{run_dir.rstrip('/')}/run.json"
    try:
        document = json.loads(storage.read(place))
    except StorageError as error:
        if error.missing:
            return None
        raise ConfigError(f"{key}: expected a run that can be read in {run_dir}, but {error.kind}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"{key}: expected a run that can be read in {run_dir}, but {type(error).__name__}: {one_line(error)}"
        ) from None
    whole = isinstance(document, dict) and all(isinstance(document.get(group), dict) for group in _GROUPS)
    known = whole and _keys(document["config"]) == _keys(as_recorded(TrainConfig()))
    if not known or document.get("format_version") != FORMAT_VERSION:
        raise ConfigError(f"{key}: expected a run of format {FORMAT_VERSION} in {run_dir}, found another run.json.")
    return document


def _keys(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration's groups, and the keys in each, but for those that are not always there."""
    groups = {group: keys if isinstance(keys, dict) else {} for group, keys in config.items()}
    return {group: sorted(key for key in keys if f"{group}.{key}" not in NEWER_KEYS) for group, keys in groups.items()}


@contextmanager
def alone(run_dir: str | None) -> Iterator[None]:
    """Keep other runs of this machine out of the folder, if there is one; raises ConfigError if another is at work.

    Two would take each other's crash notes for those of a process that ended, and leave out clips for it.
    """
    with locked(embeddings(run_dir), wait=False) if run_dir is not None else nullcontext(True) as free:
        if not free:
            raise ConfigError(
                f"paths.run_dir: expected no other run at work in {run_dir}, found one; wait for its end, or begin "
                "a run in another folder."
            )
        yield


def enter(run_dir: str, config: TrainConfig, division: Division, recipe: Recipe, described: dict[str, Any]) -> bool:
    """Begin a run in this folder, or go on with the one that was begun there; whether it had been begun.

    `described` is the recipe as the cache describes it. Raises ConfigError if another run was begun there, or if the
    folder cannot be written.
    """
    document = {
        "format_version": FORMAT_VERSION,
        "config": as_recorded(config),
        "data": {**division.revisions, **_input(division)},
        "encoder": {"revision": recipe.encoder.revision},
        "recipe": described,
    }
    document = json.loads(json.dumps(document))
    before = recorded(run_dir, "paths.run_dir")
    if before is None:
        try:
            storage.check_folder(run_dir)
            storage.write(f"{run_dir.rstrip('/')}/run.json", (json.dumps(document, indent=2) + "\n").encode())
        except StorageError as error:
            raise ConfigError(f"paths.run_dir: expected to be able to read and write {run_dir}, but {error}") from None
        return False
    found = _differences(_identity(before), _identity(document), division.noun)
    if found:
        raise ConfigError(
            f"paths.run_dir: expected the run that was begun in {run_dir}, found another ({'; '.join(found[:10])}); "
            "put back what changed, or begin a run in another folder."
        )
    return True


def check_digests(run_dir: str, cache: EmbeddingCache, division: Division, digests: np.ndarray) -> None:
    """Raise DataError if an example that was embedded is another file now; digests: (N,) S32 as they are."""
    then = cache.recorded(len(digests))
    changed = np.flatnonzero((then != b"") & (then != digests))
    if len(changed):
        named = ", ".join(division.name(row) for row in changed[:MAX_NAMED])
        raise DataError(
            f"paths.run_dir: expected the {division.noun.many} that the run in {run_dir} began with, found "
            f"{len(changed)} changed or out of reach ({named}); put them back, or begin a run in another folder."
        )


def _input(division: Division) -> dict[str, Any]:
    """Which examples, in which order, with which labels: what a changed listing changes. Folders may be others."""
    examples, total = division.source.examples, hashlib.sha256()
    names = [name for name in examples.column_names if name != "bytes"]
    for batch in examples.select(names).to_batches(max_chunksize=8192):
        plain = [_plain(column) for column in batch.columns]
        total.update("\n".join(map(repr, zip(*plain, strict=True))).encode() + b"\n")
    total.update(repr((names, division.names)).encode() + np.packbits(division.tested).tobytes())
    if division.beside:
        total.update(np.packbits(division.extra).tobytes())
    return {"clips": examples.num_rows, "sha256": total.hexdigest()}


def _plain(column: pa.Array) -> list[Any]:
    values = (column.dictionary_decode() if pa.types.is_dictionary(column.type) else column).to_pylist()
    return [value.rsplit("/", 1)[-1] if isinstance(value, str) else value for value in values]


def _identity(document: dict[str, Any]) -> dict[str, Any]:
    """What must stay the same, flat: {"config.model.layer": "last", ...}."""
    config = {group: dict(keys) for group, keys in document["config"].items() if group not in _FREE}
    for group in ("dataset", "model"):
        config[group].pop("revision")  # the commits themselves are in the data and the recipe
    beside = enumerate(config["dataset"].pop("extra", []))
    config["dataset"] |= {f"extra[{number}]": {**keys, "revision": None} for number, keys in beside}
    config["processing"].pop("max_bad_fraction")  # a run with bad examples may go on with a larger one
    config["cluster"] = {"threads_per_worker": document["config"]["cluster"]["threads_per_worker"]}
    return _flat({"config": config, "data": document["data"], "recipe": document["recipe"]}, "")


def _flat(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {name: value}
    found: dict[str, Any] = {}
    for key, inner in value.items():
        found |= _flat(inner, f"{name}.{key}" if name else key)
    return found


def _differences(then: dict[str, Any], now: dict[str, Any], noun: Noun) -> list[str]:
    """What is another, in words."""
    names = sorted(then.keys() | now.keys())
    found = [
        f"{name.removeprefix('config.')}: {then.get(name)!r} then, {now.get(name)!r} now"
        for name in names
        if then.get(name) != now.get(name)
    ]
    other = f"other {noun.many}, labels or order"
    return [words if not words.startswith("data.sha256") else other for words in found]
