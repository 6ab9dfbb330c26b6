"""What an encoder is, and what else decides a clip's vector.

An encoder's kind follows from its config.json, never from its name. That is read without importing PyTorch, which
would cost the driver two seconds that it has no other use for; encoders.py does the work.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from golem_ray import hub
from golem_ray.config import ModelConfig
from golem_ray.embedding.recipe import EncoderInfo, Recipe
from golem_ray.errors import ConfigError, one_line
from golem_ray.sample import SAMPLE

MODEL_TYPES = ("wav2vec2", "hubert", "wavlm", "unispeech-sat", "data2vec-audio", "whisper")
"""Families of encoders, as config.json's model_type names them."""


_KEY = "model.feature_extractor_model"


_LOCAL_COPY = f"point {_KEY} at a local folder that save_pretrained wrote"


def recipe_for(model: ModelConfig, max_seconds: float | None = None) -> Recipe:
    """How the configured embeddings are made; all layers where one is still to be chosen.

    Raises ConfigError if the encoder cannot be had, or has no such layer.
    """
    info = inspect_encoder(model)
    layer: int | str = model.layer
    if isinstance(layer, int) and layer > info.num_layers:
        raise ConfigError(f"model.layer: expected 0 to {info.num_layers}, the blocks of {info.name}, got {layer}.")
    if layer in ("auto", "mean") and info.has_adapter:
        raise ConfigError(
            f"model.layer: expected 'last' or a number for {info.name}, whose adapter gives other frames than its "
            f"blocks, got {layer!r}."
        )
    if layer in ("auto", info.num_layers):
        layer = "all" if layer == "auto" else "last"
    return Recipe(
        encoder=info,
        precision=model.precision,
        max_seconds=max_seconds,
        compiled=model.compile,
        layer=layer,
        pooling=model.pooling,
    )


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

    config, preprocessor = files["config.json"], files["preprocessor_config.json"]
    if config is None:
        raise ConfigError(f"{_KEY}: expected a config.json in {name}, found none; {_LOCAL_COPY}.")
    whisper = config.get("model_type") == "whisper"
    info = EncoderInfo(
        name=name,
        **where,
        sha256=None if where["revision"] or where["cached"] else _digest(folder),
        model_type=str(config.get("model_type")),
        sampling_rate=_positive((preprocessor or {}).get("sampling_rate")),
        embedding_size=_positive(config.get("d_model" if whisper else "hidden_size")),
        num_layers=_positive(config.get("encoder_layers" if whisper else "num_hidden_layers", 12)),
        has_adapter=bool(config.get("add_adapter")),
        window_s=float(_positive((preprocessor or {}).get("chunk_length", 30))) if whisper else None,
        exact_in_batches=_exact_in_batches(config),
    )
    if info.model_type not in MODEL_TYPES:
        raise ConfigError(
            f"{_KEY}: expected a speech encoder ({', '.join(MODEL_TYPES)}), found {name} to be {info.model_type!r}."
        )
    if not info.sampling_rate or not info.embedding_size:
        width = "d_model" if whisper else "hidden_size"
        missing = "sampling_rate in preprocessor_config.json" if info.embedding_size else f"{width} in config.json"
        raise ConfigError(f"{_KEY}: expected {missing} of {name}, found none; {_LOCAL_COPY}.")
    if whisper:
        _check_whisper(name, config, preprocessor or {})
    wanted, vector_size = model.classifier_input_features, info.embedding_size * len(model.pooling.split("+"))
    if wanted not in ("auto", vector_size):
        raise ConfigError(
            f"model.classifier_input_features: expected {vector_size}, the width of {name} with model.pooling "
            f"{model.pooling!r}, got {wanted}; leave it at auto or choose another encoder."
        )
    return info


def check_sampling_rate(info: EncoderInfo, target_rate: int) -> None:
    """Raise ConfigError if the encoder was made for another rate than target_rate (Hz)."""
    if target_rate != info.sampling_rate:
        raise ConfigError(
            f"processing.target_sampling_rate: expected {info.sampling_rate}, which {info.name} was made for, "
            f"got {target_rate}."
        )


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


def _check_whisper(name: str, config: dict[str, Any], preprocessor: dict[str, Any]) -> None:
    """Raise ConfigError unless the preprocessor's windows are those that the encoder takes."""
    given = _positive(preprocessor.get("chunk_length", 30)) * _positive(preprocessor.get("sampling_rate"))
    taken = 2 * _positive(config.get("max_source_positions", 1500)) * _positive(preprocessor.get("hop_length", 160))
    if not given or given != taken:
        raise ConfigError(
            f"{_KEY}: expected chunk_length in preprocessor_config.json of {name} to fit max_source_positions in "
            f"config.json, found windows of {given} and of {taken} samples; {_LOCAL_COPY}."
        )


def _exact_in_batches(config: dict[str, Any]) -> bool:
    """Whether padded frames can be kept from the real ones: where convolutions follow upon each other, or a norm
    turns zeros into something else, between the mask and the layers, they cannot.
    """
    stacked = config.get("model_type") == "data2vec-audio"
    return not (stacked or config.get("add_adapter") or config.get("conv_pos_batch_norm"))


def _positive(value: object) -> int:
    """The value if it is a positive integer, else 0."""
    return value if isinstance(value, int) and value > 0 else 0


def _read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file, None without the file."""
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise ConfigError(f"{_KEY}: expected {path} to hold a JSON object, found something else.")
    return values


def _digest(folder: Path) -> str:
    """sha256 over the names and contents of the files that decide what a local encoder computes."""
    total = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in (".json", ".safetensors", ".bin") and path.is_file():
            with path.open("rb") as file:
                total.update(path.name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()
