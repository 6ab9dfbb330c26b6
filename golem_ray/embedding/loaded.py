"""The encoder of this process: the one that was loaded last is kept, so that the next use of it need not load it."""

from __future__ import annotations

import threading

from golem_ray.embedding.modality import Encoder, modality_named
from golem_ray.embedding.recipe import Recipe
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


def stop(encoder: Encoder) -> None:
    """End calls of other threads soon; nobody is handed this encoder again."""
    for key in [key for key, other in _kept.items() if other is encoder]:
        _kept.pop(key, None)
    encoder.stop()
