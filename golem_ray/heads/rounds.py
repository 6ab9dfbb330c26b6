"""Rounds of a comparison as workers play them. Importing this loads no PyTorch: a driver names these functions only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from golem_ray.heads.training_set import HeadSpec, TrainingSet
from golem_ray.metrics.comparison import Round

if TYPE_CHECKING:
    from golem_ray.heads.examples import Examples


def play_round(data: TrainingSet, spec: HeadSpec, repeats: int, number: int) -> Round:
    """A candidate in one round of cross-validation: see `select.round_on`."""
    from golem_ray.heads.select import round_on

    return round_on(_examples(data), spec, repeats, number)


def play_fewer(data: TrainingSet, spec: HeadSpec, repeats: int, number: int, sizes: Sequence[int]) -> np.ndarray:
    """A candidate in one round with fewer examples to train on: see `select.fewer_on`."""
    from golem_ray.heads.select import fewer_on

    return fewer_on(_examples(data), spec, repeats, number, sizes)


def _examples(data: TrainingSet) -> Examples:
    """The training set on the CPU, for a worker of one thread."""
    import torch

    from golem_ray.heads.examples import Examples
    from golem_ray.heads.joined import Counted

    torch.set_num_threads(1)
    terms = None if data.terms is None else Counted(data.terms)
    return Examples(torch.tensor(data.embeddings), torch.tensor(data.labels), data.groups, data.extra, terms)


def warm_up() -> None:
    """Import what training the head needs, so that Ray finds a process that is ready when the embeddings are.

    This saves three seconds, which pass while the encoder's own imports run.
    """
    import torch._dynamo  # noqa: F401  what torch's optimizers import with their first step

    import golem_ray.heads.train_head  # noqa: F401
