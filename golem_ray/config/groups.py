"""The contract of the jobs: groups of keys, their defaults and meanings, and the checks that need nothing else.

Where a job runs is in places.py; what needs several groups to be judged, or said, is judged in jobs.py. A value that
needs a dataset, an encoder or a cluster to be judged is judged where it is used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from golem_ray.config.checks import check_delimiter, check_encoding, check_positive, default_of, refuse_credentials
from golem_ray.config.nouns import NOUNS, Noun
from golem_ray.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class DatasetConfig:
    """Which labelled clips or texts."""

    name: str = "PolyAI/minds14"
    """A Hub id, a folder, a .parquet, .csv, .tsv, .jsonl or .xlsx, one of these at a URI, or what is bundled: `sample`
    (spoken bank requests) or `sample-digits` (spoken digits)."""
    name_alias: str | None = "en-US"
    """The Hub dataset's configuration; '' for its default. Local sources have none."""
    split: str = "train"
    """The split; a local folder may hold one subfolder per split."""
    trust_remote_code: bool = True
    """Accepted for the contract's sake: datasets can no longer run remote code."""
    revision: str | None = None
    """Commit of the Hub dataset to pin; the newest one if not given."""
    audio_column: str = "audio"
    """Column with the audio: bytes, a path or a URI. Where it is missing, `file_name` is used."""
    text_column: str | None = None
    """Column with the texts; naming it says that the examples are texts, not clips."""
    label_column: str = "intent_class"
    """Column with the label; where there is none of this default name, `label` is used. A folder per label has none."""
    delimiter: str = ","
    """What separates the columns of a .csv: one character, or `tab`. A .tsv has tabs."""
    encoding: str = "utf-8"
    """Encoding of a .csv or .tsv, such as cp1251 or utf-16; a .jsonl is always in UTF-8."""
    extra: tuple[DatasetConfig, ...] = field(default=(), metadata={"hidden": True})
    """More datasets, all of whose examples are trained on and none tested: TOML tables `[[dataset.extra]]` of these
    keys. What a table leaves out has its default, not what is given above. There are no flags for them."""

    def __post_init__(self) -> None:
        for name in ("name", "split", "audio_column", "label_column"):
            if not getattr(self, name):
                raise ConfigError(f"dataset.{name}: expected a name, found ''.")
        if self.text_column == "":
            raise ConfigError("dataset.text_column: expected a column, found ''; leave it out for clips.")
        refuse_credentials("dataset.name", self.name)
        check_delimiter("dataset.delimiter", self.delimiter)
        check_encoding("dataset.encoding", self.encoding)
        if any(each.extra for each in self.extra):
            raise ConfigError("dataset.extra: expected no `extra` inside its tables, found one; put all into one list.")

    @property
    def modality(self) -> str:
        """Name of the modality of its examples."""
        return "speech" if self.text_column is None else "text"

    @property
    def noun(self) -> Noun:
        """What messages call its examples."""
        return NOUNS[self.modality]


@dataclass(frozen=True, kw_only=True)
class ProcessingConfig:
    """What is done to the clips or texts, and how many are taken."""

    target_sampling_rate: int = 16000
    """Rate in Hz that clips are resampled to; the encoder must have been made for it."""
    max_samples: int | Literal["all"] = 50
    """The first N examples in the source's order; `all` for every one. Of `dataset.extra` all are taken."""
    max_bad_fraction: float = 0.0
    """Share of the examples of a split that may be unusable before the job fails, 0 to 1."""
    max_seconds: float | None = None
    """A longer clip is split into windows of so many seconds, whose frames are averaged; if not given, only clips of
    more than five minutes are, into 30 s."""
    trim_silence: bool | Literal["auto"] = "auto"
    """Leave out what comes before and after a clip's sound: what stays 35 dB below its loudest moment, but for the
    tenth of a second beside it. `auto` does so where `model.pooling` is `auto`."""

    def __post_init__(self) -> None:
        check_positive("processing.target_sampling_rate", self.target_sampling_rate)
        check_positive("processing.max_samples", self.max_samples, "all")
        if self.max_seconds is not None and not 1 <= self.max_seconds <= 1e6:
            raise ConfigError(
                f"processing.max_seconds: expected 1 or more, got {self.max_seconds!r}; leave it out for windows "
                "of very long clips alone."
            )
        if not 0 <= self.max_bad_fraction <= 1:
            raise ConfigError(f"processing.max_bad_fraction: expected 0 to 1, got {self.max_bad_fraction!r}.")

    @property
    def limit(self) -> int | None:
        """How many examples to take at most; None for all."""
        return None if self.max_samples == "all" else self.max_samples


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The frozen encoder, and the size of the head on it."""

    feature_extractor_model: str = "facebook/wav2vec2-base"
    """Hub id or local folder of the encoder, or `sample`: a small one that comes with the package."""
    revision: str | None = None
    """Commit of the Hub encoder to pin; the newest one if not given."""
    precision: Literal["float32", "tf32", "float16", "bfloat16"] = "float32"
    """Arithmetic of the encoder. float32 is the reference; the vectors of the others are off by 1e-3 to 1e-2."""
    compile: bool = False
    """Have PyTorch compile the encoder: a minute or so more at the start, for many examples."""
    layer: int | Literal["last", "mean", "auto"] = "last"
    """Which layer, from 0 (what goes into the first block), or the mean of all; `auto` chooses by cross-validation."""
    pooling: Literal["mean", "mean+std", "auto"] = "mean"
    """What is kept of a layer over time; with the standard deviation embeddings are twice as wide. `auto` chooses."""
    join_baseline: bool | Literal["auto"] = False
    """Put the baseline's vector (log-mel statistics, 80 numbers) behind the encoder's. `auto` chooses."""
    classifier_input_features: int | Literal["auto"] = "auto"
    """Width of the embedding; a number is checked against the encoder."""
    classifier_output_classes: int | Literal["auto"] = "auto"
    """Number of classes; a number is checked against the labels."""

    def __post_init__(self) -> None:
        if not self.feature_extractor_model:
            raise ConfigError("model.feature_extractor_model: expected a Hub id or a folder, found ''.")
        refuse_credentials("model.feature_extractor_model", self.feature_extractor_model)
        if isinstance(self.layer, int) and self.layer < 0:
            raise ConfigError(f"model.layer: expected 0 or more, got {self.layer}; the last one is 'last'.")
        for name in ("classifier_input_features", "classifier_output_classes"):
            check_positive(f"model.{name}", getattr(self, name), "auto")


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """What is trained on the embeddings: a linear layer, one with hidden layers before it, or a logistic regression."""

    kind: Literal["gradient", "logistic", "auto"] = "gradient"
    """`gradient` is trained by Adam; `logistic` is a regularised logistic regression, its strength cross-validated;
    `auto` chooses by cross-validation: gradient, with a hidden layer or without, or logistic."""
    hidden: tuple[int, ...] = ()
    """Widths of hidden layers; none for a linear head."""
    activation: Literal["relu", "gelu", "tanh"] = "relu"
    """What follows each hidden layer."""
    layer_norm: bool = False
    """Normalise each hidden layer's output, before its activation."""
    dropout: float = 0.0
    """Share of each hidden layer's outputs that a training step leaves out."""
    standardize: bool = False
    """Bring the embeddings to zero mean and unit variance first; folded into the weights. `logistic` always does."""
    weight_decay: float = 0.0
    """Decoupled weight decay (AdamW); 0 is plain Adam."""
    class_weights: bool = False
    """Weigh each class's loss by one over its examples, so that rare classes count as much."""
    label_smoothing: float = 0.0
    """Share of each label that is spread over all classes in the loss."""
    patience: int | None = None
    """Stop when the loss on a fifth of the examples, kept for that, has not fallen for so many epochs."""

    def __post_init__(self) -> None:
        if any(width <= 0 for width in self.hidden):
            raise ConfigError(f"head.hidden: expected positive widths, got {list(self.hidden)}.")
        for name in ("dropout", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"head.{name}: expected 0 to less than 1, got {getattr(self, name)!r}.")
        if not 0 <= self.weight_decay < math.inf:
            raise ConfigError(f"head.weight_decay: expected 0 or more, got {self.weight_decay!r}.")
        if self.patience is not None and self.patience < 1:
            raise ConfigError(f"head.patience: expected 1 or more, got {self.patience!r}; leave it out for none.")
        unused = [key for key, value in vars(self).items() if key != "kind" and value != default_of(self, key)]
        if self.kind != "gradient" and unused:
            raise ConfigError(
                f"head.{unused[0]}: expected nothing but head.kind for {self.kind!r}, got "
                f"{getattr(self, unused[0])!r}; leave it out, or use 'gradient'."
            )
        lone = [key for key in ("dropout", "layer_norm") if getattr(self, key) and not self.hidden]
        if lone:
            raise ConfigError(f"head.{lone[0]}: expected hidden layers to use it on, found none; set head.hidden.")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How the head is trained: Adam on cross-entropy."""

    epochs: int = 100
    """Passes over all embeddings."""
    batch_size: int | None = None
    """Examples of a step of Adam, in an order shuffled by the seed; all of them, one step an epoch, if not given."""
    learning_rate: float = 0.01
    """Adam's learning rate."""
    seed: int = 0
    """Seed of the head's initial weights, of the order of batches and of the cross-validation folds."""

    def __post_init__(self) -> None:
        check_positive("training.epochs", self.epochs)
        if not 0 < self.learning_rate <= 1e30:
            raise ConfigError(f"training.learning_rate: expected a number above 0, got {self.learning_rate!r}.")
        if not 0 <= self.seed < 2**32:
            raise ConfigError(f"training.seed: expected 0 to 2**32 - 1, got {self.seed!r}.")


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How the trained head is judged."""

    repeats: int = 5
    """Rounds of stratified cross-validation, each with folds of its own; 0 for no cross-validation."""
    split: str | None = None
    """A split of the same dataset, all of whose examples the trained head is tested on; none if not given."""
    holdout: int | float | None = None
    """Examples, or a share of them between 0 and 1, that are kept from training and tested on; none if not given."""
    group_column: str | None = None
    """Column, such as the speaker, whose values are never on both sides of a fold or of the holdout."""
    reject: float | Literal["unlike"] | None = None
    """Which examples the classifier calls `unsure`: a precision, 0 to 1, has cross-validation find where labels are
    right that often; `unlike` means examples that are unlike all classes; none if not given."""

    def __post_init__(self) -> None:
        if self.holdout is not None and self.split is not None:
            raise ConfigError(
                "evaluation.holdout: expected either a holdout or evaluation.split, found both; leave one out."
            )
        if self.group_column == "":
            raise ConfigError("evaluation.group_column: expected a column, found ''; leave it out for none.")
        if self.split == "":
            raise ConfigError("evaluation.split: expected a name, found ''; leave it out for none.")
        if self.repeats < 0:
            raise ConfigError(f"evaluation.repeats: expected 0 or more, got {self.repeats!r}.")
        if isinstance(self.reject, float | int) and not 0 < self.reject < 1:
            raise ConfigError(
                f"evaluation.reject: expected a precision between 0 and 1, such as 0.9, or 'unlike', got "
                f"{self.reject!r}."
            )
        if self.reject is not None and not self.repeats:
            raise ConfigError(
                "evaluation.reject: expected rounds of cross-validation, by which it is found, got evaluation.repeats "
                "0; leave one of the two out."
            )
