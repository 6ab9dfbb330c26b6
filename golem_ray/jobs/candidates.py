"""The candidates of a comparison: a grid of encoders, layers, poolings and heads around the configured one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from golem_ray.config import GridConfig, HeadConfig, ModelConfig, TrainConfig
from golem_ray.embedding.modality import modality_named, modality_of
from golem_ray.embedding.recipe import Recipe
from golem_ray.errors import ConfigError

DEFAULT = "default"
"""Name of the configured head, where the grid has none like it."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An encoder, a layer, a pooling and a head that are compared with others."""

    encoder: str
    layer: int | str
    pooling: str
    join_baseline: bool = False
    head: str
    """Its name."""

    def __str__(self) -> str:
        joined = ", joined with the baseline" if self.join_baseline else ""
        return f"{self.encoder}, layer {self.layer}, {self.pooling}{joined}, {self.head}"


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A grid, spelled out."""

    candidates: tuple[Candidate, ...]
    """The configured one first."""
    heads: Mapping[str, HeadConfig]
    models: Mapping[str, ModelConfig]
    """Configuration of each encoder."""
    recipes: Mapping[str, Recipe]
    """How each encoder embeds examples, once for all of its candidates."""

    def config(self, base: TrainConfig, candidate: Candidate) -> TrainConfig:
        """What trains the candidate."""
        chosen: dict[str, Any] = {"layer": candidate.layer, "pooling": candidate.pooling}
        model = dataclasses.replace(self.models[candidate.encoder], **chosen, join_baseline=candidate.join_baseline)
        return dataclasses.replace(base, model=model, head=self.heads[candidate.head])


def spell_out(base: TrainConfig, grid: GridConfig) -> Grid:
    """The grid's candidates, each once.

    Raises ConfigError if an encoder cannot be had or lacks a layer, or a head cannot be trained as configured.
    """
    for key in ("model.layer", "model.pooling", "model.join_baseline", "head.kind"):
        group, name = key.split(".")
        if getattr(getattr(base, group), name) == "auto":
            raise ConfigError(f"{key}: expected something to compare with, got 'auto'; the grid is the choice here.")
    if base.model.classifier_input_features != "auto":
        raise ConfigError(
            "model.classifier_input_features: expected 'auto' in a comparison, whose encoders and poolings differ in "
            f"width, got {base.model.classifier_input_features}."
        )
    modality_of(base.dataset).recipe(base.model, base.processing)
    heads = {name: head.deciding_as(base.head) for name, head in grid.heads.items()}
    for head in heads.values():
        dataclasses.replace(base, head=head)  # which refuses what does not go together
    own_head = next((name for name, head in heads.items() if head == base.head), DEFAULT)
    if heads.setdefault(own_head, base.head) != base.head:
        raise ConfigError(
            f"grid.heads: expected another name than {DEFAULT!r}, which is the configured head's, for one that differs."
        )
    own = base.model.feature_extractor_model
    encoders = dict.fromkeys([own, *(grid.encoders or (own,))])
    joins = (bool(base.model.join_baseline),) if grid.join_baseline is None else grid.join_baseline
    models = {name: _model(base.model, name, joined=any(joins)) for name in encoders}
    every = {name: _all_layers(base, model) for name, model in models.items()}
    poolings = {name: _poolings(base, models[name], grid) for name in grid.encoders or (own,)}
    default = Candidate(
        encoder=own,
        layer=_named(base.model.layer, every[own]),
        pooling=base.model.pooling,
        join_baseline=bool(base.model.join_baseline),
        head=own_head,
    )
    candidates = [default]
    for encoder in grid.encoders or (own,):
        layers: list[int | str] = []
        usual = tuple(layer for layer in ("last", "mean") if layer in every[encoder].layers)
        for layer in grid.layers or usual:
            layers += every[encoder].layers if layer == "all" else [_named(layer, every[encoder])]
        candidates += [
            dataclasses.replace(default, encoder=encoder, layer=layer, pooling=pooling, join_baseline=joined, head=head)
            for joined in joins
            for layer in layers
            for pooling in poolings[encoder]
            for head in grid.heads
        ]
    distinct = tuple(dict.fromkeys(candidates))
    recipes = {
        name: _covering(recipe, [each for each in distinct if each.encoder == name]) for name, recipe in every.items()
    }
    return Grid(candidates=distinct, heads=heads, models=models, recipes=recipes)


def _model(base: ModelConfig, name: str, joined: bool) -> ModelConfig:
    """The configuration of the encoder of that name, with the baseline's vector if any candidate has it joined.

    A commit is that of the configured one.
    """
    revision = base.revision if name == base.feature_extractor_model else None
    joined = joined or base.join_baseline is True
    return dataclasses.replace(base, feature_extractor_model=name, revision=revision, join_baseline=joined)


def _all_layers(base: TrainConfig, model: ModelConfig) -> Recipe:
    return modality_of(base.dataset).recipe(dataclasses.replace(model, layer="auto"), base.processing)


def _poolings(base: TrainConfig, model: ModelConfig, grid: GridConfig) -> tuple[str, ...]:
    """What is to be kept of an encoder's layers. Raises ConfigError if it lacks one that the grid names."""
    for pooling in grid.poolings or ():
        _all_layers(base, dataclasses.replace(model, pooling=pooling))
    return grid.poolings or poolings_of(_all_layers(base, dataclasses.replace(model, pooling="auto")))


def poolings_of(every: Recipe) -> tuple[str, ...]:
    """Those of the recipe's modality to choose from that are in vectors of the recipe."""
    kept = set(every.pooling.split("+"))
    return tuple(each for each in modality_named(every.modality).poolings if set(each.split("+")) <= kept)


def _named(layer: int | str, every: Recipe) -> int | str:
    """The layer as a recipe names it."""
    if layer == every.encoder.num_layers:
        return "last"
    if layer not in every.layers:
        raise ConfigError(
            f"grid.layers: expected 0 to {every.encoder.num_layers}, 'last', 'mean' or 'all' for {every.encoder.name}, "
            f"got {layer!r}."
        )
    return layer


def _covering(every: Recipe, candidates: list[Candidate]) -> Recipe:
    """What embeds examples for all of the candidates in one pass, and no more than they need if that is one kind."""
    layers, poolings = ({getattr(each, key) for each in candidates} for key in ("layer", "pooling"))
    return dataclasses.replace(
        every,
        layer=layers.pop() if len(layers) == 1 else "all",
        pooling="+".join(each for each in ("mean", "std", "cls") if any(each in one.split("+") for one in poolings)),
    )
