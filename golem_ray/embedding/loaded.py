"""The encoder of this process: the one that was loaded last is kept, so that the next use of it need not load it."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from golem_ray.config import ClusterConfig
from golem_ray.embedding.examples import NO_DATA, baseline_of
from golem_ray.embedding.modality import Encoder, modality_named
from golem_ray.embedding.recipe import Recipe
from golem_ray.errors import ConfigError
from golem_ray.progress import waiting_for

_LOADING = threading.Lock()
"""One encoder at a time: transformers sets defaults of the whole process while it loads one."""

_kept: dict[tuple[Recipe, str, float | None], Encoder] = {}


def loaded_encoder(recipe: Recipe, device: str, batch_cost: float | None) -> Encoder:
    """As `Modality.load_encoder`, and the same one for the same arguments as in the last call, whatever is joined."""
    recipe = dataclasses.replace(recipe, joined=0, fitted=None)
    key = (recipe, device, batch_cost)
    with _LOADING:
        if key not in _kept:
            _kept.clear()  # before another is loaded: both may not fit
            with waiting_for(f"the encoder {recipe.encoder.name} and the libraries that it needs"):
                _kept[key] = modality_named(recipe.modality).load_encoder(recipe, device, batch_cost)
        encoder = _kept[key]
    encoder.batch_cost = batch_cost  # who had it before may have halved that
    return encoder


def encoder_here(recipe: Recipe, device: str, cluster: ClusterConfig | None = None) -> Encoder:
    """The encoder in this process, on a device (`cpu`, `cuda` or `auto`), in batches as an engine has them.

    Raises ConfigError if that device is not there, or the encoder cannot be loaded.
    """
    import torch

    modality, usable = modality_named(recipe.modality), torch.cuda.is_available()
    if device == "cuda" and not usable:
        raise ConfigError("device: expected a GPU that PyTorch can use for 'cuda', found none; use 'cpu' or 'auto'.")
    gpu = usable and device != "cpu"
    batched = gpu and recipe.encoder.exact_in_batches
    batch_cost = modality.gpu_batch(cluster or ClusterConfig()) if batched else None if gpu else modality.cpu_batch
    return loaded_encoder(recipe, "cuda" if gpu else "cpu", batch_cost)


class Read(NamedTuple):
    """An example as its modality reads it, and what is joined to the encoder's vector."""

    data: np.ndarray
    """(T,)."""
    baseline: np.ndarray
    """(F,) float32; (0,) where nothing is joined."""


def read_file(content: bytes, recipe: Recipe) -> Read:
    """An example from its file. Raises ExampleError."""
    return _read(content, modality_named(recipe.modality).read(content, recipe), recipe)


def read_given(example: object, recipe: Recipe, how: dict[str, Any]) -> Read:
    """An example that a caller has in memory, given as `Modality.given` takes it. Raises ExampleError."""
    modality = modality_named(recipe.modality)
    content = None if recipe.fitted is None else modality.as_file(example, recipe, **how)
    return _read(content, modality.given(example, recipe, **how), recipe)


def _read(content: bytes | None, data: np.ndarray, recipe: Recipe) -> Read:
    return Read(data, baseline_of(content, data, recipe) if recipe.joined else NO_DATA)


def embedded(encoder: Encoder, recipe: Recipe, examples: Sequence[Read]) -> np.ndarray:
    """N examples -> (N, vector_size) float32, the baseline's vector in it if it is joined."""
    vectors = encoder.embed([each.data for each in examples])
    return (
        np.concatenate([vectors, np.stack([each.baseline for each in examples])], axis=1) if recipe.joined else vectors
    )


def stop(encoder: Encoder) -> None:
    """End calls of other threads soon; nobody is handed this encoder again."""
    for key in [key for key, other in _kept.items() if other is encoder]:
        _kept.pop(key, None)
    encoder.stop()
