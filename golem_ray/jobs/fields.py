"""The rounds of a comparison: every candidate on the same examples, in the same folds, on whatever engine there is.

Does not know what the rounds show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from golem_ray.config import TrainConfig
from golem_ray.data.folds import Folds
from golem_ray.data.several import counts_of
from golem_ray.data.table import Source
from golem_ray.embedding.embeddings import Embeddings
from golem_ray.embedding.modality import modality_named
from golem_ray.embedding.recipe import part_of
from golem_ray.engine import Engine
from golem_ray.heads.rounds import play_fewer, play_round
from golem_ray.heads.target import Target
from golem_ray.heads.targets import target_of
from golem_ray.heads.training_set import HeadSpec, TrainingSet
from golem_ray.jobs.candidates import Candidate, Grid
from golem_ray.jobs.training_data import Terms
from golem_ray.metrics import comparison
from golem_ray.metrics.comparison import Round

SIZES = (1, 2, 5, 10)
"""Examples per class of the learning curve, besides all."""


@dataclass(frozen=True, kw_only=True)
class Fields:
    """Where candidates play against each other."""

    engine: Engine
    source: Source
    config: TrainConfig
    grid: Grid
    embedded: dict[str, Embeddings]
    used: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None
    extra: np.ndarray | None
    num_classes: int

    def can_play(self) -> bool:
        """Whether there are folds to play in."""
        return bool(self._folds(1))

    def play(self, candidates: Sequence[Candidate]) -> list[list[Round]]:
        """Every round of each candidate."""
        repeats = self.config.evaluation.repeats
        parts = {self._part(each): each for each in candidates}
        shared = {part: self.engine.share(self._data(each)) for part, each in parts.items()}
        jobs = [
            (shared[self._part(each)], self._spec(each), repeats, number)
            for each in candidates
            for number in range(repeats)
        ]
        rounds = self.engine.map(play_round, jobs, "comparing", "rounds")
        return [rounds[start : start + repeats] for start in range(0, len(rounds), repeats)]

    def learning_curves(self, played: dict[int, list[Round]]) -> dict[int, list[dict[str, Any]]]:
        """Accuracy by examples per class, of candidates whose rounds with all examples were played.

        Those beside the main dataset are not counted: they are trained on with each number of the others.
        """
        repeats = self.config.evaluation.repeats
        counted = np.ones(len(self.labels), dtype=bool) if self.extra is None else ~self.extra
        own = (self.labels[train[counted[train]]] for train, _ in self._folds(repeats))
        most = max(int(counts_of(labels, self.num_classes).max()) for labels in own)
        sizes = tuple(size for size in SIZES if size < most)
        jobs = []
        for candidate in (self.grid.candidates[number] for number in played):
            data, spec = self.engine.share(self._data(candidate)), self._spec(candidate)
            jobs += [(data, spec, repeats, number, sizes) for number in range(repeats)]
        fewer = self.engine.map(play_fewer, jobs, "learning curves", "rounds")
        return {
            number: comparison.curve(
                sizes,
                np.stack(fewer[start : start + repeats]),
                np.stack([each.right for each in rounds]),
                self.groups,
            )
            for start, (number, rounds) in zip(range(0, len(fewer), repeats), played.items(), strict=True)
        }

    @property
    def _target(self) -> Target:
        return target_of(self.labels.ndim == 2)

    def _part(self, candidate: Candidate) -> tuple[str, int | str, str, bool]:
        return candidate.encoder, candidate.layer, candidate.pooling, candidate.join_baseline

    def _spec(self, candidate: Candidate) -> HeadSpec:
        head = self.grid.heads[candidate.head]
        return HeadSpec(
            num_classes=self.num_classes,
            head=head,
            training=self.config.training,
            target=self._target,
            joined=candidate.join_baseline and self._count is not None,
        )

    def _data(self, candidate: Candidate) -> TrainingSet:
        recipe, vectors = self.grid.recipes[candidate.encoder], self.embedded[candidate.encoder].vectors
        beside = candidate.join_baseline and recipe.joined > 0
        return TrainingSet(
            embeddings=part_of(vectors, recipe, candidate.layer, candidate.pooling, beside)[self.used],
            labels=self.labels,
            groups=self.groups,
            extra=self.extra,
            terms=self._terms if self._spec(candidate).joined else None,
        )

    @property
    def _count(self) -> Any:
        return modality_named(next(iter(self.grid.recipes.values())).modality).terms

    @cached_property
    def _terms(self) -> Any:
        """What the baseline counts in the examples: (N, V) in CSR form."""
        return Terms(examples=self.source.examples, recipe=next(iter(self.grid.recipes.values())))(self.used)

    def _folds(self, repeats: int) -> Folds:
        seed = self.config.training.seed
        return self._target.folds(self.labels, repeats, seed, self.groups, self.extra)
