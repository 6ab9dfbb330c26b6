"""What a training run chooses by itself: the candidates for what its configuration leaves to `auto`, and the outcome.

Does not know how a candidate is judged: heads/select.py does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from golem_ray.config import HeadConfig, TrainConfig
from golem_ray.config.grid import HEADS
from golem_ray.embedding.modality import modality_named
from golem_ray.embedding.recipe import Recipe, columns_of
from golem_ray.heads.training_set import HeadCandidate
from golem_ray.jobs.candidates import Candidate, poolings_of

_PLAIN = "configured"
"""Name of the configured head where that is not chosen."""


def candidates_for(config: TrainConfig, recipe: Recipe) -> tuple[Candidate, ...]:
    """Every combination of what there is to choose from, the plain one first; none where nothing is left to choose."""
    model = config.model
    if "auto" not in (model.layer, model.pooling, model.join_baseline, config.head.kind):
        return ()
    layers = recipe.layers if model.layer == "auto" else (recipe.layer,)
    poolings = poolings_of(recipe) if model.pooling == "auto" else (model.pooling,)
    may_join = recipe.joined or modality_named(recipe.modality).terms is not None
    joined = (False, True) if model.join_baseline == "auto" and may_join else (model.join_baseline is True,)
    heads = tuple(HEADS) if config.head.kind == "auto" else (_PLAIN,)
    found = [
        Candidate(encoder=recipe.encoder.name, layer=layer, pooling=pooling, join_baseline=join, head=head)
        for head in heads
        for join in joined
        for pooling in poolings
        for layer in sorted(layers, key=lambda layer: layer != "last")
    ]
    return tuple(found)


def head_candidates(config: TrainConfig, recipe: Recipe, candidates: Sequence[Candidate]) -> tuple[HeadCandidate, ...]:
    """The same as heads know them: columns of the recipe's vectors, and a head."""
    counted = modality_named(recipe.modality).terms is not None
    return tuple(
        HeadCandidate(
            columns=columns_of(recipe, each.layer, each.pooling, each.join_baseline and not counted),
            head=_head(config, each),
            joined=each.join_baseline and counted,
        )
        for each in candidates
    )


def decided(config: TrainConfig, recipe: Recipe, candidate: Candidate | None) -> tuple[TrainConfig, Recipe]:
    """The configuration and the recipe with what was chosen, if something was, in place of every `auto`."""
    processing = dataclasses.replace(config.processing, trim_silence=recipe.trimmed)
    if candidate is None:
        return dataclasses.replace(config, processing=processing), recipe
    chosen: dict[str, Any] = {"layer": candidate.layer, "pooling": candidate.pooling}
    model = dataclasses.replace(config.model, **chosen, join_baseline=candidate.join_baseline)
    joined = recipe.joined if candidate.join_baseline else 0
    return (
        dataclasses.replace(config, processing=processing, model=model, head=_head(config, candidate)),
        dataclasses.replace(recipe, **chosen, joined=joined),
    )


def record(
    candidates: Sequence[Candidate], chosen: int, scores: Sequence[dict[str, Any]], measure: str
) -> dict[str, Any]:
    """What a sidecar says of the choice, as plain JSON values.

    {"chosen", "second": names, "plain", "measure", "candidates": [{"name", "layer", ..., "accuracy", "log_loss",
    "rounds"}, ...]}, those that were tried, as `Choice.records` orders them; `second` is the best but the chosen one,
    and `measure` is what "accuracy" is.
    """
    rows = [
        {**dataclasses.asdict(candidates[score["number"]]), "name": str(candidates[score["number"]]), **score}
        for score in scores
    ]
    for row in rows:
        del row["encoder"], row["number"]
    others = [row["name"] for row in rows if row["name"] != str(candidates[chosen])]
    return {
        "chosen": str(candidates[chosen]),
        "second": others[0] if others else None,
        "plain": str(candidates[0]),
        "measure": measure,
        "candidates": rows,
    }


def _head(config: TrainConfig, candidate: Candidate) -> HeadConfig:
    return config.head if candidate.head == _PLAIN else HEADS[candidate.head].deciding_as(config.head)
