"""How a saved classifier's embeddings are made. Does not know what is embedded."""

from __future__ import annotations

import dataclasses
import os

from golem_ray.artifact.files import Artifact
from golem_ray.embedding.modality import modality_named
from golem_ray.embedding.recipe import Recipe
from golem_ray.errors import ConfigError


def recipe_of(saved: Artifact, encoder: str | None = None) -> Recipe:
    """How the artifact's embeddings are made. `encoder` says where its encoder lies, if not where the sidecar says.

    Raises ConfigError if the encoder cannot be had, or is not the one that the head was trained on.
    """
    recorded = saved.document["encoder"]
    encoder = os.path.expanduser(encoder) if encoder is not None else None
    name = encoder or str(recorded.get("name"))
    revision = None if os.path.isdir(name) else recorded.get("revision")
    try:
        recipe = modality_named(saved.modality).recorded_recipe(recorded, name, revision)
    except ConfigError as error:
        raise ConfigError(
            f"{error} It is the encoder of {saved.place}: if it lies elsewhere, say where (encoder)."
        ) from None
    if saved.joined is not None:
        if modality_named(saved.modality).terms is None:
            many = recipe.noun.many
            raise ConfigError(f"{saved.place}: expected no .npz beside it for {many}, found one in its sidecar.")
        recipe = dataclasses.replace(recipe, joined=saved.joined.size, fitted=saved.joined)
    info = recipe.encoder
    found = {"sha256": info.sha256, "revision": info.revision, "embedding_size": recipe.vector_size}
    wanted = {**recorded, "embedding_size": saved.document["head"]["in_features"]}
    for key, value in found.items():
        if value != wanted.get(key):
            raise ConfigError(
                f"the encoder: expected the one that {saved.place} was trained on ({key} {wanted.get(key)}), found "
                f"{value} in {name}; say where that one lies (encoder), or train again."
            )
    return recipe
