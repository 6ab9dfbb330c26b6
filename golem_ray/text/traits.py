"""What there is to know of a text encoder and of how its texts are read, besides what any recipe has."""

from __future__ import annotations

from dataclasses import dataclass

from golem_ray.embedding.recipe import Recipe
from golem_ray.text.prepare import Preparation


@dataclass(frozen=True, kw_only=True)
class TextTraits:
    """What there is to know of a text encoder (`EncoderInfo.traits`)."""

    tokenizes: bool
    """Whether it has a tokenizer; if not, it takes characters."""
    has_cls: bool
    """Whether its first token stands for the whole text."""
    longest: int | None
    """Tokens that it takes at most, those that it adds included; None if any number."""


def traits_of(recipe: Recipe) -> TextTraits:
    """Those of the recipe's encoder."""
    assert isinstance(recipe.encoder.traits, TextTraits)
    return recipe.encoder.traits


def preparation_of(recipe: Recipe) -> Preparation:
    """What is done to texts before the encoder's tokenizer gets them."""
    assert isinstance(recipe.reading, Preparation)
    return recipe.reading
