"""golem_ray: a handful of labelled clips or texts in, a working classifier out, as a Ray batch job."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    from golem_ray.classifier import TrainedClassifier
    from golem_ray.config import TrainConfig
    from golem_ray.estimator import Classifier

__version__ = "0.1.0"
__all__ = ["Classifier", "load", "train"]


def __getattr__(name: str) -> Any:
    """The estimator, imported when it is asked for: scikit-learn takes a second."""
    if name == "Classifier":
        from golem_ray.estimator import Classifier

        return Classifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load(place: str, *, encoder: str | None = None, device: str = "auto") -> TrainedClassifier:
    """A saved classifier, for use in this process, without Ray: load("voice.pth").predict("clip.wav").label

    `place` is a path or URI ending in .pth, or a Hub repository (`user/repo`). `encoder` says where the encoder lies,
    if not under the name that it was trained with; `device` is `cpu`, `cuda` or `auto`. Raises
    golem_ray.errors.UserError for an artifact or encoder that is missing, damaged or another; no code in an artifact
    is run.
    """
    from golem_ray import artifact
    from golem_ray.classifier import TrainedClassifier

    return TrainedClassifier(artifact.load(place), encoder=encoder, device=device)


@overload
def train(config: dict[str, Any] | None = None, *, auto: bool = False, allow_drift: bool = False) -> dict[str, str]: ...


@overload
def train(
    config: dict[str, Any] | None = None,
    *,
    clips: Sequence[Any],
    labels: Sequence[Any],
    groups: Sequence[Any] | None = None,
    encoder: str | None = None,
    sampling_rate: int | None = None,
    auto: bool = False,
) -> TrainedClassifier: ...


@overload
def train(
    config: dict[str, Any] | None = None,
    *,
    texts: Sequence[Any],
    labels: Sequence[Any],
    groups: Sequence[Any] | None = None,
    encoder: str | None = None,
    auto: bool = False,
) -> TrainedClassifier: ...


def train(
    config: dict[str, Any] | None = None,
    *,
    clips: Sequence[Any] | None = None,
    texts: Sequence[Any] | None = None,
    labels: Sequence[Any] | None = None,
    groups: Sequence[Any] | None = None,
    encoder: str | None = None,
    sampling_rate: int | None = None,
    auto: bool = False,
    allow_drift: bool = False,
) -> dict[str, str] | TrainedClassifier:
    """Train a classifier: of the dataset that `config` names, saved; or of `clips` or `texts`, here.

    `config` has the groups and keys of a preset, in snake_case or camelCase; `encoder` is short for its
    `model.feature_extractor_model`. `auto` leaves layer, pooling and head to cross-validation, but for what `config`
    says of them.

    Without either the classifier is saved, and {"savedArtifactPath": ..., "summary": ...} returned. `config` may then
    be an artifact's sidecar, which is made again (with allow_drift, also on other versions or inputs). That runs on the
    Ray that this process is connected to, else on the one that config["cluster"]["address"] says; an artifact that was
    there stays as it was if it fails.

    With either, all of which are taken, what is returned can `predict`, `evaluate` and `save`; nothing is written. A
    clip is a path or URI, an audio file's bytes, or samples (T,) in [-1, 1] at `sampling_rate` Hz (by default the
    encoder's); `labels` has its name or number, or a list of names; or is a matrix (N, K) of 0 and 1, whose columns are
    labels. `groups` may say who speaks, so that no speaker is on both sides of a fold. Up to a thousand are done
    without Ray, unless a cluster is named. With texts, `dataset.text_column` is "text" where `config` names none.

    Raises golem_ray.errors.UserError for what the caller can mend.
    """
    from golem_ray.config import left_open
    from golem_ray.config.presets import config_from_dict, named_keys, split_sidecar, with_encoder
    from golem_ray.errors import ConfigError

    if config is not None and not isinstance(config, dict):
        raise ConfigError(
            f"config: expected a dictionary with groups of keys, got {config!r}; for a folder of clips: "
            '{"dataset": {"name": "folder"}}.'
        )
    for key, given in (("clips", clips), ("texts", texts)):
        if isinstance(given, str | bytes):
            raise ConfigError(f"{key}: expected a list of {key}, found one; or name a folder of them in config.")
    values, sidecar = split_sidecar(config or {})
    values = with_encoder(values, encoder)
    wanted = config_from_dict(values)
    wanted = left_open(wanted, named_keys(values)) if auto else wanted
    wanted = _with_given(wanted, clips, texts, sampling_rate)
    noun = wanted.dataset.noun
    examples = clips if texts is None else texts
    if examples is None:
        if labels is not None or groups is not None or sampling_rate is not None:
            raise ConfigError(f"{noun.many}: expected those that labels, groups or sampling_rate are of, found none.")
        from golem_ray.jobs.train import run

        return run(wanted, sidecar=sidecar, allow_drift=allow_drift)
    if labels is None:
        raise ConfigError(f"labels: expected one for each {noun.one}, found none.")
    from golem_ray.classifier import TrainedClassifier
    from golem_ray.jobs.memory import train as train_in_memory

    how = {} if sampling_rate is None else {"sampling_rate": sampling_rate}
    saved, report = train_in_memory(wanted, examples, labels, groups, how)
    return TrainedClassifier(saved, device=wanted.device.backend, report=report)


def _with_given(
    config: TrainConfig, clips: Sequence[Any] | None, texts: Sequence[Any] | None, sampling_rate: int | None
) -> TrainConfig:
    """The configuration, of texts where a caller gives some. Raises ConfigError for what does not go together."""
    from golem_ray.errors import ConfigError

    column = config.dataset.text_column
    if clips is not None and texts is not None:
        raise ConfigError("clips: expected either clips or texts, found both; leave one out.")
    if clips is not None and column is not None:
        raise ConfigError(f"dataset.text_column: expected none for clips, got {column!r}; give texts, or leave it out.")
    if texts is not None and sampling_rate is not None:
        raise ConfigError(f"sampling_rate: expected none for texts, got {sampling_rate!r}; leave it out.")
    if texts is None or column is not None:
        return config
    return dataclasses.replace(config, dataset=dataclasses.replace(config.dataset, text_column="text"))
