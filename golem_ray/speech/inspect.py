"""What a speech encoder is, and how the configured embeddings are made with it.

An encoder's kind follows from its config.json, never from its name. That is read without importing PyTorch, which
would cost the driver two seconds that it has no other use for; encoders.py does the work.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from golem_ray import hub
from golem_ray.config import ModelConfig, ProcessingConfig
from golem_ray.embedding.recipe import EncoderInfo, Recipe
from golem_ray.errors import ConfigError, one_line
from golem_ray.sample import SAMPLE
from golem_ray.speech.families import (
    LOG_MEL_SIZE,
    MARGIN_S,
    MIN_DURATION_S,
    QUIET_DB,
    SILENT_DB,
    TRIM_WINDOW_S,
    family_of,
)

_LIBRARIES = ("torch", "torchaudio", "transformers", "soundfile", "numpy")
"""Whose versions change a clip's vector. Not PyAV, by whose rounding those of some files alone differ: that it is
installed or renewed should cost nobody the vectors of all other files. The sidecar has its version.
"""

_KEY = "model.feature_extractor_model"


_LOCAL_COPY = f"point {_KEY} at a local folder that save_pretrained wrote"


@dataclass(frozen=True, kw_only=True)
class SpeechTraits:
    """What there is to know of a speech encoder besides what any encoder has (`EncoderInfo.traits`)."""

    sampling_rate: int
    """Hz."""
    has_adapter: bool
    """Whether what it gives has other frames than its blocks."""
    window_s: float | None
    """Length of the windows that it takes, in seconds; None if it takes any length."""
    shortest_s: float
    """Seconds below which a clip cannot be used."""


def traits_of(recipe: Recipe) -> SpeechTraits:
    """Those of the recipe's encoder."""
    assert isinstance(recipe.encoder.traits, SpeechTraits)
    return recipe.encoder.traits


def recipe_for(model: ModelConfig, max_seconds: float | None = None, *, trimmed: bool = False) -> Recipe:
    """How the configured embeddings are made; with all that there is to choose from where that is still to be chosen.

    Clips longer than max_seconds are split into windows. Raises ConfigError if the encoder cannot be had, or has no
    such layer.
    """
    info = inspect_encoder(model)
    layer: int | str = model.layer
    if isinstance(layer, int) and layer > info.num_layers:
        raise ConfigError(f"model.layer: expected 0 to {info.num_layers}, the blocks of {info.name}, got {layer}.")
    if layer == "mean" and info.traits.has_adapter:
        raise ConfigError(
            f"model.layer: expected 'last', 'auto' or a number for {info.name}, whose adapter gives other frames than "
            f"its blocks, got {layer!r}."
        )
    if layer == "auto":
        layer = "last" if info.traits.has_adapter else "all"
    elif layer == info.num_layers:
        layer = "last"
    return Recipe(
        modality="speech",
        encoder=info,
        precision=model.precision,
        window=max_seconds,
        compiled=model.compile,
        layer=layer,
        pooling="mean+std" if model.pooling == "auto" else model.pooling,
        trimmed=trimmed,
        joined=LOG_MEL_SIZE if model.join_baseline else 0,
    )


def configured_recipe(model: ModelConfig, processing: ProcessingConfig) -> Recipe:
    """The recipe of a run's configuration. Raises ConfigError, also if the encoder is of another rate."""
    trim = processing.trim_silence
    recipe = recipe_for(model, processing.max_seconds, trimmed=model.pooling == "auto" if trim == "auto" else trim)
    made_for = traits_of(recipe).sampling_rate
    if processing.target_sampling_rate != made_for:
        raise ConfigError(
            f"processing.target_sampling_rate: expected {made_for}, which {recipe.encoder.name} was made for, got "
            f"{processing.target_sampling_rate}."
        )
    return recipe


def recorded_recipe(record: dict[str, Any], name: str, revision: str | None) -> Recipe:
    """The recipe that a sidecar's group `encoder` records, with the encoder of that name. Raises ConfigError.

    Whether PyTorch compiled it is left out: that changes rounding alone.
    """
    kept = {key: record[key] for key in ("precision", "layer", "pooling", "join_baseline") if key in record}
    model = ModelConfig(feature_extractor_model=name, revision=revision, **kept)
    return recipe_for(model, record.get("max_seconds"), trimmed=record.get("trim_silence", False))


def provenance(recipe: Recipe) -> dict[str, Any]:
    """What a sidecar's group `encoder` says of the recipe."""
    encoder = recipe.encoder
    return {
        "name": encoder.name,
        "revision": encoder.revision,
        "sha256": encoder.sha256,
        "model_type": encoder.model_type,
        "sampling_rate": traits_of(recipe).sampling_rate,
        "layer": recipe.layer,
        "pooling": recipe.pooling,
        "precision": recipe.precision,
        "max_seconds": recipe.window,
        "trim_silence": recipe.trimmed,
        "join_baseline": bool(recipe.joined),
        "compiled": recipe.compiled,
    }


def fingerprint(recipe: Recipe) -> dict[str, Any]:
    """Everything that a clip's vector depends on besides the clip and the device."""
    encoder = recipe.encoder
    which = {"sha256": encoder.sha256} if encoder.sha256 else {"name": encoder.name, "revision": encoder.revision}
    return {
        "encoder": which,
        "sampling_rate": traits_of(recipe).sampling_rate,
        "precision": recipe.precision,
        "max_seconds": recipe.window,
        "compiled": recipe.compiled,
        "layer": recipe.layer,
        "pooling": recipe.pooling,
        **({"trim_silence": [QUIET_DB, SILENT_DB, MARGIN_S, TRIM_WINDOW_S]} if recipe.trimmed else {}),
        **({"join_baseline": recipe.joined} if recipe.joined else {}),
        "libraries": {name: importlib.metadata.version(name) for name in _LIBRARIES},
    }


def inspect_encoder(model: ModelConfig) -> EncoderInfo:
    """What the configured encoder is, from its config.json and preprocessor_config.json.

    Raises ConfigError if it cannot be had, is no speech encoder of a known family, or has another width than
    model.classifier_input_features.
    """
    name = model.feature_extractor_model
    folder = SAMPLE / "encoder" if name == "sample" else Path(os.path.expanduser(name))
    if os.path.isdir(folder):
        where: dict[str, Any] = {"path": str(folder.resolve()), "revision": None, "cached": False}
        files = {file: _read_json(folder / file) for file in ("config.json", "preprocessor_config.json")}
    elif hub.is_hub_id(name):
        where, files = _inspect_on_hub(name, model.revision)
    else:
        raise ConfigError(f"{_KEY}: expected a Hub id or a local folder, found neither at {name!r}.")

    config, preprocessor = files["config.json"], files["preprocessor_config.json"] or {}
    if config is None:
        raise ConfigError(f"{_KEY}: expected a config.json in {name}, found none; {_LOCAL_COPY}.")
    family = family_of(str(config.get("model_type")), name)
    info = EncoderInfo(
        name=name,
        **where,
        sha256=None if where["revision"] or where["cached"] else _digest(folder),
        model_type=str(config.get("model_type")),
        embedding_size=_positive(config.get(family.width_key)),
        num_layers=_positive(config.get(family.blocks_key, 12)),
        exact_in_batches=family.exact_in_batches(config),
        traits=SpeechTraits(
            sampling_rate=_positive(preprocessor.get("sampling_rate")),
            has_adapter=family.has_adapter(config),
            window_s=family.window_s(preprocessor),
            shortest_s=max(MIN_DURATION_S, family.shortest_s),
        ),
    )
    if not info.traits.sampling_rate or not info.embedding_size:
        missing = "sampling_rate in preprocessor_config.json"
        missing = missing if info.embedding_size else f"{family.width_key} in config.json"
        raise ConfigError(f"{_KEY}: expected {missing} of {name}, found none; {_LOCAL_COPY}.")
    problem = family.check(name, config, preprocessor)
    if problem:
        raise ConfigError(f"{_KEY}: {problem}; {_LOCAL_COPY}.")
    wanted, vector_size = model.classifier_input_features, info.embedding_size * len(model.pooling.split("+"))
    if wanted not in ("auto", vector_size):
        raise ConfigError(
            f"model.classifier_input_features: expected {vector_size}, the width of {name} with model.pooling "
            f"{model.pooling!r}, got {wanted}; leave it at auto or choose another encoder."
        )
    return info


def _inspect_on_hub(name: str, revision: str | None) -> tuple[dict[str, Any], dict[str, dict[str, Any] | None]]:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, LocalEntryNotFoundError

    cached = hub.resolve_commit(name, "model", revision, _KEY, ConfigError) is None
    commit: str | None = None  # that of the first file: asked for by branch, so that the cache learns what that is
    files: dict[str, dict[str, Any] | None] = {}
    for file in ("config.json", "preprocessor_config.json"):
        try:
            path = Path(hf_hub_download(name, file, revision=commit or revision, local_files_only=cached))
        except GatedRepoError:
            raise ConfigError(f"{_KEY}: expected an encoder that may be read, found {hub.gated(name)}") from None
        except LocalEntryNotFoundError:
            raise hub.unreachable(name, _KEY, ConfigError, _LOCAL_COPY) from None
        except EntryNotFoundError:
            files[file] = None
        except Exception as error:  # the HTTP library's own, when the connection breaks halfway
            reason = f"{type(error).__name__}: {one_line(error)}"
            raise ConfigError(f"{_KEY}: expected to read {file} of {name}, but {reason}") from None
        else:
            files[file] = _read_json(path)
            commit = commit or path.parent.name  # the cache keeps a folder per commit
    return {"path": name, "revision": commit, "cached": cached}, files


def _positive(value: object) -> int:
    """The value if it is a positive integer, else 0."""
    return value if isinstance(value, int) and value > 0 else 0


def _read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file, None without the file."""
    try:
        with _readable():
            values = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        return None
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise ConfigError(f"{_KEY}: expected {path} to hold a JSON object, found something else.")
    return values


@contextmanager
def _readable() -> Iterator[None]:
    """Turn the system's refusal of a file into a ConfigError."""
    try:
        yield
    except PermissionError as error:
        raise ConfigError(f"{_KEY}: expected to be able to read {error.filename}, but {error.strerror}.") from None


def _digest(folder: Path) -> str:
    """sha256 over the names and contents of the files that decide what a local encoder computes."""
    total = hashlib.sha256()
    with _readable():
        for path in sorted(folder.iterdir()):
            if path.suffix in (".json", ".safetensors", ".bin") and path.is_file():
                with path.open("rb") as file:
                    total.update(path.name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()
