"""The commands' flags, and the configurations that they and presets give.

The one module that imports the command-line parser. Does not know what a command does with its configuration.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import tyro

from golem_ray import storage
from golem_ray.config import (
    DatasetConfig,
    EvaluateConfig,
    GridConfig,
    PredictConfig,
    TrainConfig,
    refuse_credentials,
)
from golem_ray.config.presets import config_from_dict, grid_from, read_preset, read_source, split_sidecar
from golem_ray.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class TrainCommand:
    """The training that a command line asks for, and how to run and report it."""

    config: Annotated[TrainConfig, tyro.conf.arg(name="")]
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """End stdout with one line: {"savedArtifactPath": ..., "summary": ...}."""
    allow_drift: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Go on where the libraries, revisions or inputs differ from those in the sidecar given as PRESET."""
    resume: Annotated[str | None, tyro.conf.arg(metavar="RUN_DIR")] = None
    """Go on with the run that has this folder or URI as its paths.run_dir, by the configuration that is kept there."""
    sidecar: Annotated[dict[str, Any] | None, tyro.conf.Suppress] = None
    """The artifact that the configuration was taken from, if the preset was one."""


@dataclass(frozen=True, kw_only=True)
class EvaluateCommand:
    """The evaluation that a command line asks for, and how to report it."""

    artifact: Annotated[str, tyro.conf.Positional] = ""
    """The .pth file, at a path or URI, or a Hub repository."""
    config: Annotated[EvaluateConfig, tyro.conf.arg(name="")]
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """End stdout with one line that holds all figures."""


@dataclass(frozen=True, kw_only=True)
class PredictCommand:
    """The prediction that a command line asks for."""

    artifact: Annotated[str, tyro.conf.Positional] = ""
    """The .pth file, at a path or URI, or a Hub repository."""
    files: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Audio files, folders of them, manifests; at paths or URIs. Without any, the dataset."""
    config: Annotated[PredictConfig, tyro.conf.arg(name="")]


def parse_evaluate(argv: Sequence[str], dataset: DatasetConfig) -> EvaluateCommand:
    """The command that `ARTIFACT [--group.key value ...] [--json]` describes; by default on `dataset`'s clips."""
    command = tyro.cli(
        EvaluateCommand,
        args=list(argv),
        default=EvaluateCommand(config=EvaluateConfig(dataset=dataset)),
        prog="evaluate.py",
        description=(
            "Test a saved classifier on labelled clips that it was not trained on; by default on the others of the "
            "dataset that it was trained on."
        ),
    )
    return dataclasses.replace(command, config=_own_revisions(command.config, dataset, argv))


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
    return dataclasses.replace(command, config=_own_revisions(command.config, dataset, argv))


_Config = TypeVar("_Config", TrainConfig, EvaluateConfig, PredictConfig)


def _own_revisions(config: _Config, dataset: DatasetConfig, argv: Sequence[str]) -> _Config:
    """The configuration without the revision of `dataset`, from which it came, where flags name another dataset.

    The dataset's other keys stay: unlike a commit, another may have the same columns, splits and name_alias.
    """
    if config.dataset.name == dataset.name or any(each.startswith("--dataset.revision") for each in argv):
        return config
    return dataclasses.replace(config, dataset=dataclasses.replace(config.dataset, revision=None))


def parse_train(argv: Sequence[str]) -> TrainCommand:
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
        values, sidecar = split_sidecar(read_preset(read_source(argv[0]), argv[0]))
    elif run_dir is not None:
        values = _begun(run_dir)

    before = config_from_dict(values)
    command = tyro.cli(
        TrainCommand,
        args=list(argv[has_preset:]),
        default=TrainCommand(config=before, sidecar=sidecar),
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
    return dataclasses.replace(command, config=_without_foreign_revisions(command.config, before, argv))


def _without_foreign_revisions(config: TrainConfig, before: TrainConfig, argv: Sequence[str]) -> TrainConfig:
    """As `_own_revisions`, for the encoder's revision too. `before` is what the configuration was before the flags."""
    config, model = _own_revisions(config, before.dataset, argv), config.model
    named = any(each.startswith("--model.revision") for each in argv)
    if model.feature_extractor_model != before.model.feature_extractor_model and not named:
        return dataclasses.replace(config, model=dataclasses.replace(model, revision=None))
    return config


def _resumed(argv: Sequence[str]) -> str | None:
    """The folder that --resume names; the other flags' defaults come from the run there. None without the flag."""
    for number, argument in enumerate(argv):
        if argument.startswith("--resume="):
            return argument.removeprefix("--resume=")
        if argument == "--resume" and number + 1 < len(argv):
            return argv[number + 1]
    return None


def _begun(run_dir: str) -> dict[str, Any]:
    """The configuration of the run that was begun there. Raises ConfigError if there is none."""
    from golem_ray.embedding import run_folder

    refuse_credentials("--resume", run_dir)
    place = storage.resolve("--resume", run_dir)
    document = run_folder.recorded(place, "--resume")
    if document is None:
        raise ConfigError(f"--resume: expected a folder that paths.run_dir of a run named, found no run in {place}.")
    values: dict[str, Any] = document["config"]
    values["paths"]["run_dir"] = place
    return values


@dataclass(frozen=True, kw_only=True)
class CompareCommand:
    """The comparison that a command line asks for, and where the outcome goes."""

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
    values = read_preset(read_source(argv[0]), argv[0]) if has_preset else {}
    grid, before = grid_from(values.pop("grid", {})), config_from_dict(values)
    command = tyro.cli(
        CompareCommand,
        args=list(argv[has_preset:]),
        default=CompareCommand(config=before, grid=grid),
        prog="compare.py [GRID]",
        description=(
            "Compare encoders, layers, poolings and heads on the same clips and folds. GRID, if given, comes first: a "
            "preset like train.py's with a group [grid] of encoders, layers, poolings and heads."
        ),
    )
    return dataclasses.replace(command, config=_without_foreign_revisions(command.config, before, argv))


@dataclass(frozen=True, kw_only=True)
class PushCommand:
    """The artifact that a command line asks to share, and the repository."""

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
