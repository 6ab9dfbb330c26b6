"""What a text encoder is, and how the configured embeddings are made with it.

An encoder's kind follows from its config.json, never from its name. Does not load weights: encoders.py does.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
from typing import Any, get_args

from golem_ray.config import ModelConfig, ProcessingConfig
from golem_ray.config.checks import default_of
from golem_ray.config.groups import EmojiLanguage
from golem_ray.embedding.checkpoint import KEY, LOCAL_COPY, check_width, find_checkpoint, positive
from golem_ray.embedding.recipe import EncoderInfo, Recipe
from golem_ray.errors import ConfigError
from golem_ray.text.families import USUAL_LONGEST, family_of
from golem_ray.text.ngrams import SIZES, WIDTH
from golem_ray.text.prepare import Preparation, configured_preparation
from golem_ray.text.traits import TextTraits, preparation_of, traits_of

NGRAMS = "ngrams"
"""Name of the encoder that comes with the package and was not trained."""

_LIBRARIES = ("torch", "transformers", "tokenizers", "numpy")
"""Whose versions change a text's vector; of `ngrams` scikit-learn's alone."""


def configured_recipe(model: ModelConfig, processing: ProcessingConfig) -> Recipe:
    """The recipe of a run's configuration; with all layers where one is still to be chosen. Raises ConfigError."""
    for key in ("max_seconds", "trim_silence", "target_sampling_rate"):
        if getattr(processing, key) not in (default_of(processing, key), False):  # false is what a sidecar has
            raise ConfigError(f"processing.{key}: expected none for texts, got {getattr(processing, key)!r}.")
    return _recipe(model, configured_preparation(processing))


def _recipe(model: ModelConfig, preparation: Preparation) -> Recipe:
    info = _ngrams(model) if model.feature_extractor_model == NGRAMS else inspect_encoder(model)
    traits: TextTraits = info.traits
    layer: int | str = model.layer
    if isinstance(layer, int) and layer > info.num_layers:
        raise ConfigError(f"model.layer: expected 0 to {info.num_layers}, the blocks of {info.name}, got {layer}.")
    if layer == "mean" and not info.num_layers:
        raise ConfigError(f"model.layer: expected 'last' for {info.name}, which has no layers, got {layer!r}.")
    if layer == "auto":
        layer = "all" if info.num_layers else "last"
    elif layer == info.num_layers:
        layer = "last"
    if model.pooling == "cls" and not traits.has_cls:
        raise ConfigError(f"model.pooling: expected 'mean' for {info.name}, which has no [CLS] token, got 'cls'.")
    if model.pooling == "mean+std" and not info.num_layers:
        raise ConfigError(f"model.pooling: expected 'mean' for {info.name}, which has no tokens, got 'mean+std'.")
    pooling = ("mean+cls" if traits.has_cls else "mean") if model.pooling == "auto" else model.pooling
    longest = [each for each in (traits.longest, preparation.max_tokens or USUAL_LONGEST) if each is not None]
    most = min(longest) if traits.tokenizes else None
    if preparation.max_tokens is not None and preparation.max_tokens != most:
        raise ConfigError(
            f"processing.max_tokens: expected {most or 'none'}{' or fewer' if most else ''} for {info.name}, got "
            f"{preparation.max_tokens}."
        )
    return Recipe(
        modality="text",
        encoder=info,
        precision=model.precision,
        compiled=model.compile and traits.tokenizes,
        layer=layer,
        pooling=pooling,
        reading=dataclasses.replace(preparation, max_tokens=most),
    )


def recorded_recipe(record: dict[str, Any], name: str, revision: str | None) -> Recipe:
    """The recipe that a sidecar's group `encoder` records, with the encoder of that name. Raises ConfigError.

    Whether PyTorch compiled it is left out: that changes rounding alone.
    """
    kept = {key: record[key] for key in ("precision", "layer", "pooling") if key in record}
    model = ModelConfig(feature_extractor_model=name, revision=revision, **kept)
    return _recipe(model, _recorded_preparation(record))


def _recorded_preparation(record: dict[str, Any]) -> Preparation:
    """What is done to texts, from a sidecar, which anybody may have written."""
    most, language, pairs = (record.get(key) for key in ("max_tokens", "emoji_language", "replacements"))
    for key, fits in (
        ("max_tokens", most is None or (type(most) is int and most >= 3)),
        ("emoji_language", language is None or language in get_args(EmojiLanguage)),
        ("replacements", _are_pairs([] if pairs is None else pairs)),
    ):
        if not fits:
            raise ConfigError(f"encoder.{key}: expected what this package writes in a sidecar, found something else.")
    found = configured_preparation(ProcessingConfig(emoji_language=language))
    return dataclasses.replace(found, replacements=tuple(map(tuple, pairs or [])), max_tokens=most)


def _are_pairs(values: object) -> bool:
    """Whether the value is a list of lists of two strings."""
    return isinstance(values, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(each, str) for each in pair) for pair in values
    )


def provenance(recipe: Recipe) -> dict[str, Any]:
    """What a sidecar's group `encoder` says of the recipe."""
    encoder, preparation = recipe.encoder, preparation_of(recipe)
    return {
        "name": encoder.name,
        "revision": encoder.revision,
        "sha256": encoder.sha256,
        "model_type": encoder.model_type,
        "layer": recipe.layer,
        "pooling": recipe.pooling,
        "precision": recipe.precision,
        "max_tokens": preparation.max_tokens,
        "emoji_language": preparation.emoji,
        "replacements": [list(pair) for pair in preparation.replacements],
        "compiled": recipe.compiled,
    }


def fingerprint(recipe: Recipe) -> dict[str, Any]:
    """Everything that a text's vector depends on besides the text and the device."""
    encoder, preparation = recipe.encoder, preparation_of(recipe)
    which = {"sha256": encoder.sha256} if encoder.sha256 else {"name": encoder.name, "revision": encoder.revision}
    libraries: tuple[str, ...] = _LIBRARIES if traits_of(recipe).tokenizes else ("scikit-learn",)
    libraries += ("emoji",) if preparation.emoji else ()
    return {
        "encoder": which,
        "precision": recipe.precision,
        "compiled": recipe.compiled,
        "layer": recipe.layer,
        "pooling": recipe.pooling,
        "reading": _digest(dataclasses.asdict(preparation)),
        **({} if recipe.fitted is None else {"joined": recipe.fitted.sha256}),
        "libraries": {name: importlib.metadata.version(name) for name in libraries},
    }


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _ngrams(model: ModelConfig) -> EncoderInfo:
    """The encoder that was not trained."""
    check_width(model, WIDTH)
    return EncoderInfo(
        name=NGRAMS,
        path=NGRAMS,
        revision=None,
        sha256=_digest({"sizes": SIZES}),
        model_type=NGRAMS,
        embedding_size=WIDTH,
        num_layers=0,
        exact_in_batches=True,
        cached=False,
        traits=TextTraits(tokenizes=False, has_cls=False, longest=None),
    )


def inspect_encoder(model: ModelConfig) -> EncoderInfo:
    """What the configured encoder is, from its config.json.

    Raises ConfigError if it cannot be had, is no text encoder of a known family, or has another width than
    model.classifier_input_features.
    """
    if model.feature_extractor_model == "sample":
        raise ConfigError(f"{KEY}: expected a text encoder, such as {NGRAMS!r}, got 'sample', which is one of clips.")
    found = find_checkpoint(model, None, ())
    config, model_type = found.config, str(found.config.get("model_type"))
    family = family_of(model_type, found.name)
    info = EncoderInfo(
        name=found.name,
        **found.where,
        model_type=model_type,
        embedding_size=positive(config.get(family.width_key)),
        num_layers=positive(config.get(family.blocks_key, 12)),
        exact_in_batches=True,
        traits=TextTraits(tokenizes=True, has_cls=family.has_cls, longest=family.longest(config)),
    )
    if not info.embedding_size:
        raise ConfigError(
            f"{KEY}: expected {family.width_key} in config.json of {found.name}, found none; {LOCAL_COPY}."
        )
    check_width(model, info.embedding_size)
    return info
