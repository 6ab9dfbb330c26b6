"""The commands' flags, and the configurations that they and presets give.

Does not know what a command does with its configuration, nor how a command line is read (parser.py).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from golem_ray.cli.described import described
from golem_ray.cli.parser import FLAT, HIDDEN, POSITIONAL, parse
from golem_ray.cli.resume import begun, resumed
from golem_ray.config import (
    DatasetConfig,
    DescribeConfig,
    EvaluateConfig,
    GridConfig,
    PredictConfig,
    TrainConfig,
    left_open,
    refuse_credentials,
)
from golem_ray.config.presets import config_from_dict, grid_from, read_preset, read_source, split_sidecar
from golem_ray.errors import ConfigError

MANIFESTS = frozenset(
    f"dataset.{key}" for key in ("audio_column", "text_column", "label_column", "delimiter", "encoding")
)
"""Keys of a dataset that say how a manifest is read, and so may stand beside files."""


@dataclass(frozen=True, kw_only=True)
class TrainCommand:
    """The training that a command line asks for, and how to run and report it."""

    config: TrainConfig = field(default_factory=TrainConfig, metadata=FLAT)
    auto: bool = False
    """Choose layer, pooling, head, and whether the baseline's vector is joined, by cross-validation, but for what flags
    say; and trim silence. Short for `auto` as the value of these keys."""
    reject: float | Literal["unlike"] | None = None
    """Short for `evaluation.reject`: call examples `unsure`, so that other labels are right with this precision, or
    those that are unlike all classes."""
    json: bool = False
    """End stdout with one line: {"savedArtifactPath": ..., "summary": ...}."""
    allow_drift: bool = False
    """Go on where the libraries, revisions or inputs differ from those in the sidecar given as PRESET."""
    resume: str | None = None
    """Go on with the run that has this folder or URI as its paths.run_dir, by the configuration that is kept there."""
    sidecar: dict[str, Any] | None = field(default=None, metadata=HIDDEN)
    """The artifact that the configuration was taken from, if the preset was one."""


@dataclass(frozen=True, kw_only=True)
class DescribeCommand:
    """The description of a dataset that a command line asks for, and how to report it."""

    source: str = field(default="", metadata=POSITIONAL)
    """The dataset: what `dataset.name` takes."""
    preset: str | None = None
    """A preset, as `train` takes one, of which the dataset counts: its columns, its `label_map`, its column of groups,
    and its name where SOURCE is not given. Flags win over it."""
    config: DescribeConfig = field(default_factory=DescribeConfig, metadata=FLAT)
    json: bool = False
    """End stdout with one line that holds all figures."""


@dataclass(frozen=True, kw_only=True)
class EvaluateCommand:
    """The evaluation that a command line asks for, and how to report it."""

    artifact: str = field(default="", metadata=POSITIONAL)
    """The .pth file, at a path or URI, or a Hub repository."""
    config: EvaluateConfig = field(default_factory=EvaluateConfig, metadata=FLAT)
    json: bool = False
    """End stdout with one line that holds all figures."""


@dataclass(frozen=True, kw_only=True)
class PredictCommand:
    """The prediction that a command line asks for."""

    artifact: str = field(default="", metadata=POSITIONAL)
    """The .pth file, at a path or URI, or a Hub repository."""
    files: tuple[str, ...] = field(default=(), metadata=POSITIONAL)
    """Audio files, folders of them, manifests; at paths or URIs. Without any, the dataset."""
    config: PredictConfig = field(default_factory=PredictConfig, metadata=FLAT)


@dataclass(frozen=True, kw_only=True)
class CompareCommand:
    """The comparison that a command line asks for, and where the outcome goes."""

    config: TrainConfig = field(default_factory=TrainConfig, metadata=FLAT)
    output: str = "comparison"
    """Folder or URI for best.toml, report.html, comparison.json, and the embeddings (unless paths.embedding_cache)."""
    json: bool = False
    """End stdout with one line that holds all figures."""
    grid: GridConfig = field(default_factory=GridConfig, metadata=HIDDEN)

    def __post_init__(self) -> None:
        refuse_credentials("output", self.output)


@dataclass(frozen=True, kw_only=True)
class PushCommand:
    """The artifact that a command line asks to share, and the repository."""

    artifact: str = field(default="", metadata=POSITIONAL)
    """The artifact: a path or URI ending in .pth, with its .json beside it."""
    repo: str = field(default="", metadata=POSITIONAL)
    """The model repository on the Hub, USER/REPO; made if there is none."""
    private: bool = False
    """Make a new repository one that only its owner can read, and refuse one that everybody can."""
    report: bool = False
    """Upload report.html from beside the artifact too; it names examples, and has what audio or texts it was given."""


def parse_train(argv: Sequence[str]) -> TrainCommand:
    """The command that `[PRESET | --resume RUN_DIR] [--group.key value ...] [--json] [--allow-drift]` describes.

    PRESET comes first: a bundled preset's name, a TOML or JSON file, an artifact's sidecar, or `-` for standard input.
    Flags win over it. Raises ConfigError.
    """
    preset, rest = _preset(argv)
    values: dict[str, Any] = {}
    sidecar = None
    run_dir = resumed(argv)
    if preset is not None and run_dir is not None:
        raise ConfigError(
            f"--resume: expected no preset beside it, found {preset}; the run in {run_dir} has its own configuration."
        )
    if preset is not None:
        values, sidecar = split_sidecar(read_preset(read_source(preset), preset))
    elif run_dir is not None:
        values = begun(run_dir)
    before = config_from_dict(values)
    command, given = _parsed(
        TrainCommand(config=before, sidecar=sidecar),
        rest,
        "train [PRESET] [--group.key value ...]",
        "Train a classifier on labelled examples. PRESET, if given, comes first: the name of a bundled preset, a TOML "
        "or JSON file with these keys, an artifact's .json, or - for standard input. Flags win over it.",
    )
    if run_dir is not None and command.config.paths.run_dir != values["paths"]["run_dir"]:
        raise ConfigError(
            f"paths.run_dir: expected the folder of the run that --resume names, got {command.config.paths.run_dir}; "
            "leave it out."
        )
    config = _without_foreign_revisions(command.config, before, given)
    if command.reject is not None:
        if "evaluation.reject" in given:
            raise ConfigError("--reject: expected either this or --evaluation.reject, its long form, found both.")
        evaluation = dataclasses.replace(config.evaluation, reject=command.reject)
        config = dataclasses.replace(config, evaluation=evaluation)
    return dataclasses.replace(command, config=left_open(config, given) if command.auto else config)


def parse_describe(argv: Sequence[str]) -> DescribeCommand:
    """The command that `SOURCE [--preset PRESET] [--group.key value ...] [--output PAGE] [--json]` describes.

    Raises ConfigError unless a dataset is named, once: by the preset too, where nothing else does.
    """
    about = (
        "describe SOURCE [--preset PRESET] [--group.key value ...]",
        "Say what a dataset holds before anything is trained: examples per label, lengths, copies, what is unusable, "
        "whose they are; of clips rates, silence, clipping; of texts the alphabet; on a page too.",
    )
    command, given = _parsed(DescribeCommand(), argv, *about)
    before = described(command.preset) if command.preset is not None else DescribeConfig()
    command, given = _parsed(DescribeCommand(config=before), argv, *about)
    named = bool(command.source) + ("dataset.name" in given)
    if named > 1 or not (named or command.preset):
        found = "two" if named else "none"
        raise ConfigError(f"describe: expected a dataset, found {found}; for example `golem-ray describe recordings`.")
    dataset = dataclasses.replace(command.config.dataset, name=command.source or command.config.dataset.name)
    config = _own_revisions(dataclasses.replace(command.config, dataset=dataset), before.dataset, given)
    return dataclasses.replace(command, config=config)


def parse_evaluate(argv: Sequence[str], dataset: DatasetConfig) -> EvaluateCommand:
    """The command that `ARTIFACT [--group.key value ...] [--json]` describes; by default on `dataset`'s examples."""
    command, given = _parsed(
        EvaluateCommand(config=EvaluateConfig(dataset=dataset)),
        argv,
        "evaluate ARTIFACT [--group.key value ...]",
        "Test a saved classifier on labelled examples that it was not trained on; by default on the others of the "
        "dataset that it was trained on.",
    )
    return dataclasses.replace(command, config=_own_revisions(command.config, dataset, given))


def parse_predict(argv: Sequence[str], dataset: DatasetConfig) -> PredictCommand:
    """The command that `ARTIFACT FILES... | --dataset.name ... [--group.key value ...]` describes.

    Raises ConfigError where it names both files and a dataset, or neither.
    """
    command, given = _parsed(
        PredictCommand(config=PredictConfig(dataset=dataset)),
        argv,
        "predict ARTIFACT FILES... [--group.key value ...]",
        "Say what a saved classifier takes examples for: files, folders, manifests, or a dataset.",
    )
    named = any(key.startswith("dataset.") for key in given - MANIFESTS)
    if named == bool(command.files):
        raise ConfigError(
            f"predict: expected either files or --dataset flags, found {'both' if named else 'neither'}; for example "
            "`golem-ray predict voice.pth clip.wav`."
        )
    return dataclasses.replace(command, config=_own_revisions(command.config, dataset, given))


def parse_compare(argv: Sequence[str]) -> CompareCommand:
    """The command that `[GRID] [--group.key value ...] [--output FOLDER] [--json]` describes.

    GRID is a preset with a group `grid` more. Raises ConfigError.
    """
    preset, rest = _preset(argv)
    values = {} if preset is None else read_preset(read_source(preset), preset)
    grid, before = grid_from(values.pop("grid", {})), config_from_dict(values)
    command, given = _parsed(
        CompareCommand(config=before, grid=grid),
        rest,
        "compare [GRID] [--group.key value ...]",
        "Compare encoders, layers, poolings and heads on the same examples and folds. GRID, if given, comes first: a "
        "preset like train's, or the name of a bundled one, with a group [grid] of encoders, layers, poolings and "
        "heads.",
    )
    return dataclasses.replace(command, config=_without_foreign_revisions(command.config, before, given))


def parse_push(argv: Sequence[str]) -> PushCommand:
    """The command that `ARTIFACT USER/REPO [--private] [--report]` describes. Raises ConfigError without both."""
    command, _ = _parsed(
        PushCommand(),
        argv,
        "push ARTIFACT USER/REPO [--private] [--report]",
        "Share an artifact through the Hugging Face Hub: its weights, its sidecar and a model card, in one commit. "
        "Needs a token with write access in HF_TOKEN.",
    )
    if not command.artifact or not command.repo:
        found = "only one" if command.artifact else "neither"
        raise ConfigError(
            f"push: expected an artifact and a repository, found {found}; for example `golem-ray push v.pth user/v`."
        )
    return command


_MEANT = {
    "--encoder": "--model.feature-extractor-model",
    "--model": "--model.feature-extractor-model",
    "--output": "--paths.save-path",
}
"""Flags that people try -> those that there are, of commands without these."""

_Command = TypeVar("_Command")
_Config = TypeVar("_Config", TrainConfig, DescribeConfig, EvaluateConfig, PredictConfig)


def _parsed(default: _Command, argv: Sequence[str], usage: str, description: str) -> tuple[_Command, frozenset[str]]:
    found = parse(default, argv, usage=f"golem-ray {usage}", description=description, meant=_MEANT)
    return found.command, found.given


def _preset(argv: Sequence[str]) -> tuple[str | None, Sequence[str]]:
    """The preset that comes first, if one does, and the other arguments."""
    if argv and (argv[0] == "-" or not argv[0].startswith("-")):
        return argv[0], argv[1:]
    return None, argv


def _own_revisions(config: _Config, dataset: DatasetConfig, given: frozenset[str]) -> _Config:
    """The configuration without the revision of `dataset`, from which it came, where flags name another dataset.

    The dataset's other keys stay: unlike a commit, another may have the same columns, splits and name_alias.
    """
    if config.dataset.name == dataset.name or "dataset.revision" in given:
        return config
    return dataclasses.replace(config, dataset=dataclasses.replace(config.dataset, revision=None))


def _without_foreign_revisions(config: TrainConfig, before: TrainConfig, given: frozenset[str]) -> TrainConfig:
    """As `_own_revisions`, for the encoder's revision too. `before` is what the configuration was before the flags."""
    config, model = _own_revisions(config, before.dataset, given), config.model
    if model.feature_extractor_model != before.model.feature_extractor_model and "model.revision" not in given:
        return dataclasses.replace(config, model=dataclasses.replace(model, revision=None))
    return config


DEFAULTS: dict[str, Any] = {
    "describe": DescribeCommand(),
    "train": TrainCommand(),
    "evaluate": EvaluateCommand(),
    "predict": PredictCommand(),
    "compare": CompareCommand(),
    "push": PushCommand(),
}
"""Name of a command -> what its flags change."""
