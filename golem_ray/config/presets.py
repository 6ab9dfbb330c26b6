"""Presets (TOML, JSON, an artifact's sidecar) as configurations, and back.

Does not know what the keys mean: groups.py does.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from golem_ray import storage
from golem_ray.config.checks import default_of
from golem_ray.config.extra import as_extra
from golem_ray.config.grid import GridConfig
from golem_ray.config.groups import DatasetConfig
from golem_ray.config.jobs import TrainConfig
from golem_ray.errors import ConfigError, StorageError

SIDECAR_FORMAT = "golem_ray.artifact"
"""The value of `format` by which a preset is recognised as an artifact's sidecar."""


SIDECAR_VERSION = 1
"""The newest version of the sidecar's format that this package writes and reads."""


SIDECAR_KINDS = {"modality": ("speech", "text"), "target": ("single-label", "multi-label")}
"""Entries of a sidecar -> the values that this package knows; the first is that of sidecars without the entry."""


NEWER_KEYS = (
    *("dataset.extra", "dataset.text_column"),
    *("dataset.label_columns", "dataset.label_separator", "dataset.label_map"),
    *("processing.max_tokens", "processing.emoji_language", "processing.replacements"),
    *("head.normalization", "head.threshold", "head.at_least_one", "training.optimizer"),
    "cluster.batch_tokens",
)
"""Keys that records have only where they are not at their defaults: those of older versions do not know them."""


def camel_case(key: str) -> str:
    """The JSON spelling of a key: name_alias -> nameAlias."""
    head, *rest = key.split("_")
    return head + "".join(word.capitalize() for word in rest)


def known_keys() -> list[str]:
    """All keys of the contract, as group.key in snake_case."""
    groups = {group.name: get_type_hints(TrainConfig)[group.name] for group in dataclasses.fields(TrainConfig)}
    return [f"{name}.{key.name}" for name, cls in groups.items() for key in dataclasses.fields(cls)]


def _unknown(key: str) -> ConfigError:
    """The error for a key that is not in the contract; names the nearest that is."""
    keys = known_keys()
    spellings = {alias: known for known in keys for alias in _aliases(known)}
    near = difflib.get_close_matches(key, spellings, n=1, cutoff=0.6)
    hint = f"did you mean {spellings[near[0]]}?" if near else f"known groups: {', '.join(_groups())}."
    return ConfigError(f"{key}: expected a key of the configuration, found none of that name; {hint}")


def _aliases(key: str) -> tuple[str, ...]:
    group, name = key.split(".")
    return key, f"{group}.{camel_case(name)}", name, camel_case(name)


def _groups() -> list[str]:
    return [group.name for group in dataclasses.fields(TrainConfig)]


_TYPE_NAMES = {type(None): "none", bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def type_name(hint: Any) -> str:
    """How a reader would say the type: int | Literal["all"] -> a whole number or 'all'."""
    if get_origin(hint) is Literal:
        return " or ".join(repr(value) for value in get_args(hint))
    if get_origin(hint) is Mapping:
        return "a table of texts"
    if get_origin(hint) is tuple:
        return f"a list, each {type_name(get_args(hint)[0])}"
    if get_args(hint):
        return " or ".join(type_name(part) for part in get_args(hint))
    return _TYPE_NAMES.get(hint, hint.__name__)


def coerce(key: str, value: object, hint: Any) -> object:
    """The value if it has the key's type (an int is a float, a bool is no number); else ConfigError."""
    import typeguard

    items = [item for kind in (hint, *get_args(hint)) if get_origin(kind) is tuple for item in get_args(kind)]
    if items and isinstance(value, list) and (bool in items or not any(isinstance(each, bool) for each in value)):
        value = tuple(value)
    if hint is float and type(value) is int and abs(value) < 1e300:
        return float(value)
    try:
        if isinstance(value, bool) and bool not in (hint, *get_args(hint)):
            raise typeguard.TypeCheckError("bool")
        return typeguard.check_type(value, hint)
    except typeguard.TypeCheckError:
        found = f"{value!r} ({type(value).__name__})"
        raise ConfigError(f"{key}: expected {type_name(hint)}, got {found}.") from None


def config_from_dict(values: dict[str, Any]) -> TrainConfig:
    """The configuration that nested groups describe, keys in snake_case or camelCase.

    Raises ConfigError, naming the nearest right key, for an unknown key, and for a value of a wrong type.
    """
    groups = {}
    hints = get_type_hints(TrainConfig)
    for group, content in values.items():
        if group not in hints:
            inner = next(iter(content), None) if isinstance(content, dict) else None
            raise _unknown(f"{group}.{inner}" if inner else group)
        if not isinstance(content, dict):
            raise ConfigError(f"{group}: expected a group of keys, got {content!r}.")
        groups[group] = _group_from_dict(group, content, hints[group])
    return TrainConfig(**groups)


def _group_from_dict(group: str, content: dict[str, Any], kind: type[Any]) -> Any:
    """The record of one group's keys."""
    key_hints = get_type_hints(kind)
    names = {spelling: key for key in key_hints for spelling in (key, camel_case(key))}
    arguments: dict[str, Any] = {}
    for spelling, value in content.items():
        if spelling not in names:
            raise _unknown(f"{group}.{spelling}")
        key = names[spelling]
        if key in arguments:
            raise ConfigError(f"{group}.{key}: expected once, found as {key} and {camel_case(key)}.")
        beside = (group, key) == ("dataset", "extra")
        arguments[key] = _extra(value) if beside else coerce(f"{group}.{key}", value, key_hints[key])
    return kind(**arguments)


def _extra(tables: object) -> tuple[DatasetConfig, ...]:
    """The datasets beside the main one, each from a table of its own."""
    if not isinstance(tables, list | tuple) or not all(isinstance(table, dict) for table in tables):
        raise ConfigError(
            f"dataset.extra: expected a list of tables, each under [[dataset.extra]], found {type(tables).__name__}."
        )
    found = []
    for number, table in enumerate(tables):
        try:
            if "name" not in table:
                raise ConfigError("dataset.name: expected the name of a dataset, found none; give one.")
            if "extra" in table:
                raise ConfigError("dataset.extra: expected no tables inside a table; put all into one list.")
            found.append(_group_from_dict("dataset", table, DatasetConfig))
        except ConfigError as error:
            raise ConfigError(as_extra(str(error), number)) from None
    return tuple(found)


def recorded(config: TrainConfig) -> dict[str, Any]:
    """The configuration as sidecars and runs keep it: every key, but those of NEWER_KEYS only if they are given."""
    values = dataclasses.asdict(config)
    for name in NEWER_KEYS:
        group, key = name.split(".")
        records = (values["dataset"], *values["dataset"].get("extra", ())) if group == "dataset" else (values[group],)
        default = default_of(getattr(config, group), key)
        for record in records:
            if record[key] == default:
                del record[key]
    return values


def with_encoder(values: dict[str, Any], encoder: str | None) -> dict[str, Any]:
    """The nested dictionary with this encoder in it, if one is named."""
    if encoder is None:
        return values
    model = {key: value for key, value in values.get("model", {}).items() if key != "featureExtractorModel"}
    return {**values, "model": {**model, "feature_extractor_model": encoder}}


def named_keys(values: dict[str, Any]) -> set[str]:
    """The keys that a nested dictionary names, as group.key in snake_case."""
    by_spelling = {spelling: key for key in known_keys() for spelling in _aliases(key)}
    return {by_spelling[f"{group}.{key}"] for group, content in values.items() for key in content}


def read_preset(text: str, source: str) -> dict[str, Any]:
    """The nested dictionary in a preset's text: JSON if it starts with a brace, else TOML."""
    try:
        values = json.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # both parsers' errors are ValueErrors
        raise ConfigError(f"{source}: expected JSON or TOML, but {error}.") from None
    assert isinstance(values, dict)
    return values


def split_sidecar(values: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The configuration in a preset, and the preset itself if it is an artifact's sidecar.

    Raises ConfigError for a sidecar of a format that this version does not know, or that lacks what it must say.
    """
    if values.get("format") != SIDECAR_FORMAT:
        return values, None
    version = values.get("format_version")
    if version != SIDECAR_VERSION:
        raise ConfigError(
            f"the sidecar: expected format_version {SIDECAR_VERSION}, found {version!r}; use the golem_ray that "
            "wrote it, or a newer one."
        )
    for entry, known in SIDECAR_KINDS.items():
        if values.get(entry, known[0]) not in known:
            raise ConfigError(
                f"the sidecar: expected {entry} {' or '.join(map(repr, known))}, found {values[entry]!r}; use the "
                "golem_ray that wrote it, or a newer one."
            )
    for group in ("config", "data", "encoder", "versions"):
        if not isinstance(values.get(group), dict):
            raise ConfigError(f"the sidecar: expected a group {group!r}, found {values.get(group)!r}; it was changed.")
    return values["config"], values


def bundled_presets() -> dict[str, Path]:
    """Name of each preset that comes with the package -> its file."""
    return {path.stem: path for path in sorted(Path(__file__).parents[1].glob("presets/*.toml"))}


def read_source(source: str) -> str:
    """The text of a preset at a path or URI, of a bundled one by its name, or on standard input for `-`.

    Raises ConfigError if there is none.
    """
    bundled = bundled_presets()
    if source in bundled and not os.path.exists(source):
        source = str(bundled[source])
    try:
        if source != "-":
            return storage.read(source).decode("utf-8-sig")
        text = sys.stdin.read() if sys.stdin is not None else ""
    except UnicodeDecodeError:
        reason = "it is not UTF-8 text"
    except StorageError as error:
        reason = error.strerror or f"{error.kind}: {error}"
    else:
        if text.strip():
            return text
        raise ConfigError("-: expected a preset on standard input, found nothing.")
    if os.path.isdir(source):
        reason = f"it is a folder; for one of clips: --dataset.name {source}"
    raise ConfigError(
        f"{source}: expected a preset: a TOML or JSON file, or one of {', '.join(bundled)}, but {reason}."
    )


def grid_from(values: object) -> GridConfig:
    """The grid that a preset's group describes. Raises ConfigError."""
    hints = get_type_hints(GridConfig)
    if not isinstance(values, dict):
        raise ConfigError(f"grid: expected a group of keys, got {values!r}.")
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        if key not in hints:
            raise ConfigError(f"grid.{key}: expected one of {', '.join(hints)}, found none of that name.")
        if key != "heads":
            arguments[key] = coerce(f"grid.{key}", value, hints[key])
        elif not isinstance(value, dict) or not all(isinstance(head, dict) for head in value.values()):
            raise ConfigError(f"grid.heads: expected groups of keys, each under a name of its own, got {value!r}.")
        else:
            arguments[key] = {name: config_from_dict({"head": head}).head for name, head in value.items()}
    return GridConfig(**arguments)


def preset_text(config: TrainConfig, comments: Sequence[str]) -> str:
    """The configuration as a preset: what differs from the defaults, but for paths and the cluster; comments above."""
    import tomli_w

    groups = {}
    for group in dataclasses.fields(TrainConfig):
        changed = _changed(getattr(config, group.name))
        if changed and group.name not in ("paths", "cluster"):
            groups[group.name] = changed
    return "".join(f"# {line}\n" for line in comments) + "\n" + tomli_w.dumps(groups)


def _changed(content: Any) -> dict[str, Any]:
    """What differs from a group's defaults, as TOML has it."""
    found: dict[str, Any] = {}
    for key in dataclasses.fields(content):
        value = getattr(content, key.name)
        if value == getattr(type(content)(), key.name):
            continue
        if isinstance(content, DatasetConfig) and key.name == "extra":
            value = [{"name": each.name} | _changed(each) for each in value]
        if isinstance(value, tuple | Mapping):
            value = list(value) if isinstance(value, tuple) else dict(value)
        found[key.name] = "" if value is None else value
    return found
