"""What each job depends on: the groups of keys that it takes, and keys of its own.

Does not know what the keys of a group mean: groups.py and places.py do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

from golem_ray.config.checks import check_positive, default_of, refuse_credentials
from golem_ray.config.groups import DatasetConfig, ModelConfig, ProcessingConfig
from golem_ray.config.learning import EvaluationConfig, HeadConfig, TrainingConfig
from golem_ray.config.nouns import NOUNS, Noun
from golem_ray.config.places import ClusterConfig, DeviceConfig, PathsConfig
from golem_ray.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that a training run depends on, besides its inputs and the versions of its libraries."""

    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    processing: ProcessingConfig = field(default_factory=ProcessingConfig)
    device: DeviceConfig = field(default_factory=DeviceConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)

    def __post_init__(self) -> None:
        encoder = default_of(self.model, "feature_extractor_model")
        if self.dataset.modality == "text" and self.model.feature_extractor_model == encoder:
            object.__setattr__(self, "model", dataclasses.replace(self.model, feature_extractor_model="ngrams"))
        holdout, batch_size, noun = self.evaluation.holdout, self.training.batch_size, self.dataset.noun
        if batch_size is not None and batch_size < 1:
            raise ConfigError(
                f"training.batch_size: expected 1 or more, got {batch_size!r}; leave it out for all {noun.many} at "
                "once."
            )
        if holdout is not None and not (0 < holdout < 1 or (isinstance(holdout, int) and holdout >= 1)):
            raise ConfigError(
                f"evaluation.holdout: expected a number of {noun.many}, or a share between 0 and 1, got {holdout!r}."
            )
        if self.head.kind != "gradient" and batch_size is not None:
            raise ConfigError(
                f"training.batch_size: expected none for head.kind {self.head.kind!r}, which is not trained by steps, "
                f"got {batch_size}; leave it out, or use 'gradient'."
            )


def left_open(config: TrainConfig, but: Collection[str] = ()) -> TrainConfig:
    """The configuration with layer, pooling, what is joined, and head left to `auto`; not the keys that `but` names.

    A key of `head` there keeps the whole head.
    """
    open_keys = {key: "auto" for key in ("layer", "pooling", "join_baseline") if f"model.{key}" not in but}
    model = dataclasses.replace(config.model, **open_keys)  # type: ignore[arg-type]
    kept = any(key.startswith("head.") for key in but)
    return dataclasses.replace(config, model=model, head=config.head if kept else HeadConfig(kind="auto"))


@dataclass(frozen=True, kw_only=True)
class ExamplesConfig:
    """How many clips or texts an artifact is applied to."""

    max_samples: int | Literal["all"] = "all"
    """The first N examples in the source's order; `all` for every one."""
    max_bad_fraction: float = 0.0
    """Share of the examples that may be unusable before the job fails, 0 to 1."""

    def __post_init__(self) -> None:
        check_positive("processing.max_samples", self.max_samples, "all")
        if not 0 <= self.max_bad_fraction <= 1:
            raise ConfigError(f"processing.max_bad_fraction: expected 0 to 1, got {self.max_bad_fraction!r}.")

    @property
    def limit(self) -> int | None:
        """How many examples to take at most; None for all."""
        return None if self.max_samples == "all" else self.max_samples


@dataclass(frozen=True, kw_only=True)
class GroupsConfig:
    """Which clips or texts belong together."""

    group_column: str | None = None
    """Column, such as the speaker: examples of values that were trained on are left out; by default that of training,
    '' for none (where other speakers have the same names)."""


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What evaluating an artifact depends on."""

    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    processing: ExamplesConfig = field(default_factory=ExamplesConfig)
    evaluation: GroupsConfig = field(default_factory=GroupsConfig)
    device: DeviceConfig = field(default_factory=DeviceConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    encoder: str | None = None
    """Hub id or folder of the artifact's encoder, where it is not to be had under the name that it was trained with."""
    embedding_cache: str | None = None
    """Folder or URI where vectors are kept, so that no example is embedded twice; none if not given."""
    include_trained: bool = False
    """Test on examples that were trained on, or whose group was, too: what comes out is no longer an honest figure."""
    report: str | None = None
    """Where the HTML report goes, ending in .html; `evaluation.html` beside the artifact if not given."""
    audio: bool = False
    """Put the audio of the worst mistakes into the report."""
    texts: bool = False
    """Put the texts of the worst mistakes into the report, and which words moved each."""

    def shows(self, noun: Noun) -> bool:
        """Whether the report shows the examples of the worst mistakes, called so. Raises ConfigError if those of the
        other kind were asked for.
        """
        asked = {NOUNS["speech"]: ("audio", self.audio), NOUNS["text"]: ("texts", self.texts)}
        flag, shown = asked.pop(noun)
        for other, (name, is_asked) in asked.items():
            if is_asked:
                raise ConfigError(
                    f"{name}: expected a classifier of {other.many}, found one of {noun.many}; take --{flag} to have "
                    "its worst mistakes in the report."
                )
        return shown

    def __post_init__(self) -> None:
        if self.report is not None and not self.report.endswith(".html"):
            raise ConfigError(f"report: expected a name ending in .html, got {self.report!r}.")
        for key in ("report", "encoder", "embedding_cache"):
            refuse_credentials(key, getattr(self, key) or "")


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """What predicting with an artifact depends on."""

    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    processing: ExamplesConfig = field(default_factory=lambda: ExamplesConfig(max_bad_fraction=1.0))
    device: DeviceConfig = field(default_factory=DeviceConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    encoder: str | None = None
    """Hub id or folder of the artifact's encoder, where it is not to be had under the name that it was trained with."""
    embedding_cache: str | None = None
    """Folder or URI where vectors are kept, so that no example is embedded twice; none if not given."""
    output: str | None = None
    """A .csv, .jsonl or .parquet file, path or URI, for the predictions; the terminal if not given."""
    top_k: int = 3
    """How many of the likeliest classes to name for each example."""
    explain: bool = False
    """Also say which words of a text moved the decision: each of the first 60 is left out in turn. At most 1,000 texts;
    in a file as a column `explanation`, which holds words of the texts."""
    threshold: float | None = None
    """A probability: an example whose likeliest class has less is called `unsure`; in place of what the classifier was
    trained to reject, if it was. Where an example may have several labels, those are given that have as much; in place
    of the thresholds that the classifier was trained with."""

    def __post_init__(self) -> None:
        check_positive("top_k", self.top_k)
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ConfigError(f"threshold: expected a probability, 0 to 1, got {self.threshold!r}.")
        if self.output is not None and not self.output.lower().endswith((".csv", ".jsonl", ".parquet")):
            raise ConfigError(f"output: expected a name ending in .csv, .jsonl or .parquet, got {self.output!r}.")
        for key in ("output", "encoder", "embedding_cache"):
            refuse_credentials(key, getattr(self, key) or "")


@dataclass(frozen=True, kw_only=True)
class DescribedGroupsConfig:
    """Which clips or texts belong together."""

    group_column: str | None = None
    """Column, such as the speaker, whose examples belong together; by default one called speaker, speaker_id, client_id
    or author, of texts author, author_id, user, user_id, username, speaker or source, if there is one; '' for none."""


@dataclass(frozen=True, kw_only=True)
class DescribeConfig:
    """What describing a dataset depends on."""

    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    processing: ExamplesConfig = field(default_factory=ExamplesConfig)
    evaluation: DescribedGroupsConfig = field(default_factory=DescribedGroupsConfig)
    output: str | None = None
    """An .html file, path or URI, for the page; none is written if not given."""
    trained_on: int | Literal["all"] = field(default=ProcessingConfig().max_samples, metadata={"hidden": True})
    """As many of the examples a training takes."""

    def __post_init__(self) -> None:
        if self.output is not None and not self.output.lower().endswith(".html"):
            raise ConfigError(f"output: expected a name ending in .html, got {self.output!r}.")
        refuse_credentials("output", self.output or "")
