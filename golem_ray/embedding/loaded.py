"""The encoder of this process: the one that was loaded last is kept, so that the next use of it need not load it."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from golem_ray.config import ClusterConfig
from golem_ray.embedding.modality import Encoder, modality_named
from golem_ray.embedding.recipe import Recipe
from golem_ray.errors import ConfigError
from golem_ray.progress import waiting_for

_LOADING = threading.Lock()
"""One encoder at a time: transformers sets defaults of the whole process while it loads one."""

_kept: dict[tuple[Recipe, str, float | None], Encoder] = {}


def loaded_encoder(recipe: Recipe, device: str, batch_cost: float | None) -> Encoder:
    """As `Modality.load_encoder`, and the same one for the same arguments as in the last call."""
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


def embedded(encoder: Encoder, recipe: Recipe, examples: Sequence[np.ndarray]) -> np.ndarray:
    """N examples as their modality reads them -> (N, vector_size) float32, the baseline's in it if it is joined."""
    vectors = encoder.embed(examples)
    if not recipe.joined:
        return vectors
    baseline_vector = modality_named(recipe.modality).baseline_vector
    assert baseline_vector is not None
    return np.concatenate([vectors, np.stack([baseline_vector(example, recipe) for example in examples])], axis=1)


def stop(encoder: Encoder) -> None:
    """End calls of other threads soon; nobody is handed this encoder again."""
    for key in [key for key, other in _kept.items() if other is encoder]:
        _kept.pop(key, None)
    encoder.stop()
