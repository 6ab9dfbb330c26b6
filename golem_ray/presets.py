"""How presets (TOML, JSON, an artifact's sidecar) and flags become one configuration.

Knows nothing of what the keys mean: that is config.py's.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typeguard
import tyro

from golem_ray import storage
from golem_ray.config import DatasetConfig, EvaluateConfig, PathsConfig, PredictConfig, TrainConfig, refuse_credentials
from golem_ray.errors import ConfigError, UserError
from golem_ray.grid import GridConfig

SIDECAR_FORMAT = "golem_ray.artifact"
"""The value of `format` by which a preset is recognised as an artifact's sidecar."""

SIDECAR_VERSION = 1
"""The newest version of the sidecar's format that this package writes and reads."""


@dataclass(frozen=True, kw_only=True)
class TrainCommand:
    """What a command line asks for: the configuration, and how to run and report it."""

    config: Annotated[TrainConfig, tyro.conf.arg(name="")]
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """End stdout with one line: {"savedArtifactPath": ..., "summary": ...}."""
    allow_drift: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Go on where the libraries, revisions or inputs differ from those in the sidecar given as PRESET."""
    resume: Annotated[str | None, tyro.conf.arg(metavar="RUN_DIR")] = None
    """Go on with the run that has this folder or URI as its paths.run_dir, by the configuration that is kept there."""
    sidecar: Annotated[dict[str, Any] | None, tyro.conf.Suppress] = None
    """The artifact that the configuration was taken from, if the preset was one."""


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


def _type_name(hint: Any) -> str:
    """How a reader would write the type: int | Literal["all"] -> int or 'all'."""
    if get_origin(hint) is Literal:
        return " or ".join(repr(value) for value in get_args(hint))
    if get_origin(hint) is tuple:
        return f"a list of {_type_name(get_args(hint)[0])}"
    if get_args(hint):
        return " or ".join(_type_name(part) for part in get_args(hint))
    return "null" if hint is type(None) else hint.__name__


def _coerce(key: str, value: object, hint: Any) -> object:
    """The value if it has the key's type (an int is a float, a bool is no number); else ConfigError."""
    if get_origin(hint) is tuple and isinstance(value, list) and not any(isinstance(each, bool) for each in value):
        value = tuple(value)
    if hint is float and type(value) is int and abs(value) < 1e300:
        return float(value)
    try:
        if isinstance(value, bool) and hint is not bool:
            raise typeguard.TypeCheckError("bool")
        return typeguard.check_type(value, hint)
    except typeguard.TypeCheckError:
        found = f"{value!r} ({type(value).__name__})"
        raise ConfigError(f"{key}: expected {_type_name(hint)}, got {found}.") from None


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
        key_hints = get_type_hints(hints[group])
        names = {spelling: key for key in key_hints for spelling in (key, camel_case(key))}
        arguments: dict[str, Any] = {}
        for spelling, value in content.items():
            if spelling not in names:
                raise _unknown(f"{group}.{spelling}")
            key = names[spelling]
            if key in arguments:
                raise ConfigError(f"{group}.{key}: expected once, found as {key} and {camel_case(key)}.")
            arguments[key] = _coerce(f"{group}.{key}", value, key_hints[key])
        groups[group] = hints[group](**arguments)
    return TrainConfig(**groups)


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
    for group in ("config", "data", "encoder", "versions"):
        if not isinstance(values.get(group), dict):
            raise ConfigError(f"the sidecar: expected a group {group!r}, found {values.get(group)!r}; it was changed.")
    return values["config"], values


@dataclass(frozen=True, kw_only=True)
class EvaluateCommand:
    """What a command line asks to evaluate, and how to report it."""

    artifact: Annotated[str, tyro.conf.Positional] = ""
    """The .pth file, at a path or URI, or a Hub repository."""
    config: Annotated[EvaluateConfig, tyro.conf.arg(name="")]
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """End stdout with one line that holds all figures."""


@dataclass(frozen=True, kw_only=True)
class PredictCommand:
    """What a command line asks to predict."""

    artifact: Annotated[str, tyro.conf.Positional] = ""
    """The .pth file, at a path or URI, or a Hub repository."""
    files: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Audio files, folders of them, manifests; at paths or URIs. Without any, the dataset."""
    config: Annotated[PredictConfig, tyro.conf.arg(name="")]


def parse_evaluate(argv: Sequence[str], dataset: DatasetConfig) -> EvaluateCommand:
    """The command that `ARTIFACT [--group.key value ...] [--json]` describes; by default on `dataset`'s clips."""
    return tyro.cli(
        EvaluateCommand,
        args=list(argv),
        default=EvaluateCommand(config=EvaluateConfig(dataset=dataset)),
        prog="evaluate.py",
        description=(
            "Test a saved classifier on labelled clips that it was not trained on; by default on the others of the "
            "dataset that it was trained on."
        ),
    )


def parse_predict(argv: Sequence[str], dataset: DatasetConfig) -> PredictCommand:
    """The command that `ARTIFACT FILES... | --dataset.name ... [--group.key value ...]` describes.

    Raises ConfigError where it names both files and a dataset, or neither.
    """
    command = tyro.cli(
        PredictCommand,
        args=list(argv),
        default=PredictCommand(config=PredictConfig(dataset=dataset)),
        prog="predict.py",
        description="Say what a saved classifier takes clips for: files, folders, manifests, or a dataset.",
    )
    column = ("--dataset.audio-column", "--dataset.audio_column")  # which a manifest among the files needs as well
    named = any(argument.startswith("--dataset.") and not argument.startswith(column) for argument in argv)
    if named == bool(command.files):
        raise ConfigError(
            f"predict: expected either files or --dataset flags, found {'both' if named else 'neither'}; for example "
            "`jobs/predict.py voice.pth clip.wav`."
        )
    return command


def _read_source(source: str) -> str:
    try:
        if source == "-":
            text = sys.stdin.read() if sys.stdin is not None else ""
            if not text.strip():
                raise ConfigError("-: expected a preset on standard input, found nothing.")
            return text
        if "://" in source:
            fs, place = storage.filesystem(source)
            return bytes(fs.cat_file(place)).decode("utf-8-sig")
        return Path(source).read_text(encoding="utf-8-sig")
    except UserError:
        raise
    except Exception as error:  # a store's own, besides OSError
        reason = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else _reason(error)
        raise ConfigError(f"{source}: expected a preset (TOML or JSON), but {reason}.") from None


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def parse(argv: Sequence[str]) -> TrainCommand:
    """The command that `[PRESET | --resume RUN_DIR] [--group.key value ...] [--json] [--allow-drift]` describes.

    PRESET comes first: a TOML or JSON file, an artifact's sidecar, or `-` for standard input. Flags win over
    it. Raises ConfigError; tyro itself ends the process with status 2 on flags that it cannot read.
    """
    has_preset = bool(argv) and (argv[0] == "-" or not argv[0].startswith("-"))
    values: dict[str, Any] = {}
    sidecar = None
    run_dir = _resumed(argv)
    if has_preset and run_dir is not None:
        raise ConfigError(
            f"--resume: expected no preset beside it, found {argv[0]}; the run in {run_dir} has its own configuration."
        )
    if has_preset:
        values, sidecar = split_sidecar(read_preset(_read_source(argv[0]), argv[0]))
    elif run_dir is not None:
        values = _begun(run_dir)

    command = tyro.cli(
        TrainCommand,
        args=list(argv[has_preset:]),
        default=TrainCommand(config=config_from_dict(values), sidecar=sidecar),
        prog="train.py [PRESET]",
        description=(
            "Train a classifier on labelled clips. PRESET, if given, comes first: a TOML or JSON file with these "
            "keys, an artifact's .json, or - for standard input. Flags win over it."
        ),
    )
    if run_dir is not None and command.config.paths.run_dir != values["paths"]["run_dir"]:
        raise ConfigError(
            f"paths.run_dir: expected the folder of the run that --resume names, got {command.config.paths.run_dir}; "
            "leave it out."
        )
    return command


def _resumed(argv: Sequence[str]) -> str | None:
    """What --resume names, which the other flags' defaults come from."""
    for number, argument in enumerate(argv):
        if argument.startswith("--resume="):
            return argument.removeprefix("--resume=")
        if argument == "--resume" and number + 1 < len(argv):
            return argv[number + 1]
    return None


def _begun(run_dir: str) -> dict[str, Any]:
    """The configuration of the run that was begun there. Raises ConfigError if there is none."""
    from golem_ray import run_folder

    refuse_credentials("--resume", run_dir)
    place = storage.resolve("--resume", run_dir, PathsConfig(), storage.in_submitted_job())
    document = run_folder.recorded(place, "--resume")
    if document is None:
        raise ConfigError(f"--resume: expected a folder that paths.run_dir of a run named, found no run in {place}.")
    values: dict[str, Any] = document["config"]
    values["paths"]["run_dir"] = place
    return values


@dataclass(frozen=True, kw_only=True)
class CompareCommand:
    """What a command line asks to compare, and where the outcome goes."""

    config: Annotated[TrainConfig, tyro.conf.arg(name="")]
    output: str = "comparison"
    """Folder or URI for best.toml, report.html, comparison.json, and the embeddings (unless paths.embedding_cache)."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """End stdout with one line that holds all figures."""
    grid: Annotated[GridConfig, tyro.conf.Suppress] = dataclasses.field(default_factory=GridConfig)

    def __post_init__(self) -> None:
        refuse_credentials("output", self.output)


def parse_compare(argv: Sequence[str]) -> CompareCommand:
    """The command that `[GRID] [--group.key value ...] [--output FOLDER] [--json]` describes.

    GRID is a preset with a group `grid` more. Raises ConfigError.
    """
    has_preset = bool(argv) and (argv[0] == "-" or not argv[0].startswith("-"))
    values = read_preset(_read_source(argv[0]), argv[0]) if has_preset else {}
    grid = _grid_from(values.pop("grid", {}))
    return tyro.cli(
        CompareCommand,
        args=list(argv[has_preset:]),
        default=CompareCommand(config=config_from_dict(values), grid=grid),
        prog="compare.py [GRID]",
        description=(
            "Compare encoders, layers, poolings and heads on the same clips and folds. GRID, if given, comes first: a "
            "preset like train.py's with a group [grid] of encoders, layers, poolings and heads."
        ),
    )


def _grid_from(values: object) -> GridConfig:
    """The grid that a preset's group describes. Raises ConfigError."""
    hints = get_type_hints(GridConfig)
    if not isinstance(values, dict):
        raise ConfigError(f"grid: expected a group of keys, got {values!r}.")
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        if key not in hints:
            raise ConfigError(f"grid.{key}: expected one of {', '.join(hints)}, found none of that name.")
        if key != "heads":
            arguments[key] = _coerce(f"grid.{key}", value, hints[key])
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
        content = getattr(config, group.name)
        changed = {key.name: getattr(content, key.name) for key in dataclasses.fields(content)}
        changed = {key: value for key, value in changed.items() if value != getattr(type(content)(), key)}
        if changed and group.name not in ("paths", "cluster"):
            groups[group.name] = {
                key: list(value) if isinstance(value, tuple) else "" if value is None else value
                for key, value in changed.items()
            }
    return "".join(f"# {line}\n" for line in comments) + "\n" + tomli_w.dumps(groups)


@dataclass(frozen=True, kw_only=True)
class PushCommand:
    """What is shared, and where."""

    artifact: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ARTIFACT")]
    """The artifact: a path or URI ending in .pth, with its .json beside it."""
    repo: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="USER/REPO")]
    """The model repository on the Hub; made if there is none."""
    private: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Make a new repository one that only its owner can read, and refuse one that everybody can."""
    report: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Upload report.html from beside the artifact too; it names clips, and holds what audio it was made with."""


def parse_push(argv: Sequence[str]) -> PushCommand:
    """The command that `ARTIFACT USER/REPO [--private] [--report]` describes."""
    return tyro.cli(
        PushCommand,
        args=list(argv),
        prog="push.py",
        description=(
            "Share an artifact through the Hugging Face Hub: its weights, its sidecar and a model card, in one commit. "
            "Needs a token with write access in HF_TOKEN."
        ),
    )
