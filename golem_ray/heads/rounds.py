"""Rounds of a comparison as workers play them. Importing this loads no PyTorch: a driver names these functions only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from golem_ray.config import HeadConfig, TrainingConfig
from golem_ray.heads.training_set import TrainingSet
from golem_ray.metrics.comparison import Round


def play_round(data: TrainingSet, config: HeadConfig, training: TrainingConfig, repeats: int, number: int) -> Round:
    """A recipe in one round of cross-validation: see round_on."""
    import torch

    from golem_ray.heads.select import round_on

    torch.set_num_threads(1)
    x, y = torch.tensor(data.embeddings), torch.tensor(data.labels)
    return round_on(x, y, data.num_classes, config, training, data.groups, repeats, number)


def play_fewer(
    data: TrainingSet, config: HeadConfig, training: TrainingConfig, repeats: int, number: int, sizes: Sequence[int]
) -> np.ndarray:
    """A recipe in one round with fewer clips to train on: see round_on."""
    import torch

    from golem_ray.heads.select import fewer_on

    torch.set_num_threads(1)
    x, y = torch.tensor(data.embeddings), torch.tensor(data.labels)
    return fewer_on(x, y, data.num_classes, config, training, data.groups, repeats, number, sizes)


def warm_up() -> None:
    """Import what the head's task needs: Ray then finds a process that is ready for it when the embeddings are.

    Saves three seconds, which embedding's own imports hide.
    """
    import torch._dynamo  # noqa: F401  what torch's optimizers import with their first step

    import golem_ray.heads.train  # noqa: F401
