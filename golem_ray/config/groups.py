"""The contract of the jobs: groups of keys, their defaults and meanings, and the checks that need nothing else.

Where a job runs is in places.py; what needs several groups to be judged, or said, is judged in jobs.py. A value that
needs a dataset, an encoder or a cluster to be judged is judged where it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from golem_ray.config.checks import check_delimiter, check_encoding, check_positive, refuse_credentials
from golem_ray.config.nouns import NOUNS, Noun
from golem_ray.errors import ConfigError

LabelMap = Mapping[str, str]

EmojiLanguage = Literal["ar", "de", "en", "es", "fa", "fr", "id", "it", "ja", "ko", "pt", "ru", "tr", "zh"]


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
    label_columns: tuple[str, ...] = ()
    """Columns of 0 and 1, one for each label, in place of a column with the label: an example may have several labels,
    or none."""
    label_separator: str | None = None
    """What stands between labels in one column, such as `;`: an example may have several, or none. Columns of lists,
    and text such as `[4 27]`, need none."""
    label_map: LabelMap = field(default_factory=dict, metadata={"hidden": True})
    """What labels of the source are called: a TOML table `[dataset.label_map]` of the source's label and the wanted
    one, in which several may be one; '' leaves a label out. Labels that it does not name cannot be used."""
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
        if self.label_columns and self.label_separator is not None:
            raise ConfigError(
                "dataset.label_columns: expected either columns of 0 and 1 or dataset.label_separator, found both; "
                "leave one out."
            )
        if len(set(self.label_columns)) < len(self.label_columns):
            raise ConfigError(f"dataset.label_columns: expected each column once, got {list(self.label_columns)}.")
        if self.label_separator == "":
            raise ConfigError("dataset.label_separator: expected characters, found ''; leave it out for one label.")
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
    max_tokens: int | None = None
    """Tokens of a text that are read, what follows is left out; if not given, as many as the encoder takes, and 512 at
    most."""
    emoji_language: EmojiLanguage | None = None
    """Write the emoji of texts out in words of this language; if not given, they stay as they are."""
    replacements: str | None = None
    """A CSV, path or URI, with columns `from` and `to`: words of texts, such as a speech recogniser's errors, and what
    is read in their place, upper case kept; none if not given."""

    def __post_init__(self) -> None:
        check_positive("processing.target_sampling_rate", self.target_sampling_rate)
        check_positive("processing.max_samples", self.max_samples, "all")
        if self.max_seconds is not None and not 1 <= self.max_seconds <= 1e6:
            raise ConfigError(
                f"processing.max_seconds: expected 1 or more, got {self.max_seconds!r}; leave it out for windows "
                "of very long clips alone."
            )
        if self.max_tokens is not None and self.max_tokens < 3:
            raise ConfigError(
                f"processing.max_tokens: expected 3 or more, got {self.max_tokens}; leave it out for 512."
            )
        if self.replacements == "":
            raise ConfigError("processing.replacements: expected a CSV, found ''; leave it out for none.")
        refuse_credentials("processing.replacements", self.replacements or "")
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
    """Hub id or local folder of the encoder, or `sample`: a small one for clips that comes with the package. For texts
    the default is `ngrams`, hashed n-grams, which take no training and no network."""
    revision: str | None = None
    """Commit of the Hub encoder to pin; the newest one if not given."""
    precision: Literal["float32", "tf32", "float16", "bfloat16"] = "float32"
    """Arithmetic of the encoder. float32 is the reference; the vectors of the others are off by 1e-3 to 1e-2."""
    compile: bool = False
    """Have PyTorch compile the encoder: a minute or so more at the start, for many examples."""
    layer: int | Literal["last", "mean", "auto"] = "last"
    """Which layer, from 0 (what goes into the first block), or the mean of all; `auto` chooses by cross-validation."""
    pooling: Literal["mean", "mean+std", "cls", "auto"] = "mean"
    """What is kept of a layer over time; with the standard deviation embeddings are twice as wide. `auto` chooses."""
    join_baseline: bool | Literal["auto"] = False
    """Put the baseline's vector behind the encoder's: of clips log-mel statistics, 80 numbers; of texts a score for
    each label, by a regression on TF-IDF that was fitted to other texts. `auto` chooses."""
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
