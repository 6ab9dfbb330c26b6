"""What a speech encoder is, and how the configured embeddings are made with it.

An encoder's kind follows from its config.json, never from its name. Does not load weights: encoders.py does.
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from typing import Any

from golem_ray.config import ModelConfig, ProcessingConfig
from golem_ray.embedding.checkpoint import KEY, LOCAL_COPY, check_width, find_checkpoint, positive
from golem_ray.embedding.recipe import EncoderInfo, Recipe
from golem_ray.errors import ConfigError
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
    if model.pooling == "cls":
        raise ConfigError(f"model.pooling: expected 'mean', 'mean+std' or 'auto' for clips, got {model.pooling!r}.")
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
    found = find_checkpoint(model, SAMPLE / "encoder", ("preprocessor_config.json",))
    name, config, preprocessor = found.name, found.config, found.others["preprocessor_config.json"] or {}
    family = family_of(str(config.get("model_type")), name)
    info = EncoderInfo(
        name=name,
        **found.where,
        model_type=str(config.get("model_type")),
        embedding_size=positive(config.get(family.width_key)),
        num_layers=positive(config.get(family.blocks_key, 12)),
        exact_in_batches=family.exact_in_batches(config),
        traits=SpeechTraits(
            sampling_rate=positive(preprocessor.get("sampling_rate")),
            has_adapter=family.has_adapter(config),
            window_s=family.window_s(preprocessor),
            shortest_s=max(MIN_DURATION_S, family.shortest_s),
        ),
    )
    if not info.traits.sampling_rate or not info.embedding_size:
        missing = "sampling_rate in preprocessor_config.json"
        missing = missing if info.embedding_size else f"{family.width_key} in config.json"
        raise ConfigError(f"{KEY}: expected {missing} of {name}, found none; {LOCAL_COPY}.")
    problem = family.check(name, config, preprocessor)
    if problem:
        raise ConfigError(f"{KEY}: {problem}; {LOCAL_COPY}.")
    check_width(model, info.embedding_size)
    return info
