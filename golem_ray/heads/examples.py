"""Examples as a head is fitted to them: their embeddings, labels and groups in one record."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from golem_ray.heads.rows import Rows


@dataclass(frozen=True)
class Examples:
    """N examples whose labels are known."""

    embeddings: Rows
    """(N, D) float32, or (N, C, D) of C layers to choose from."""
    labels: Tensor
    """(N,) int64, on the embeddings' device."""
    groups: np.ndarray | None = None
    """(N,) int, such as speakers: the examples of a group are never on both sides of a fold."""
    extra: np.ndarray | None = None
    """(N,) bool: those that are only ever trained on; None where there are none."""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: np.ndarray) -> Examples:
        """The examples of these rows, (M,) int or (N,) bool. The embeddings have to be in memory."""
        assert isinstance(self.embeddings, Tensor)
        groups, extra = (None if each is None else each[rows] for each in (self.groups, self.extra))
        return Examples(self.embeddings[rows], self.labels[rows], groups, extra)

    def of_layer(self, number: int) -> Examples:
        """The same examples with one layer's embeddings, (N, D), of (N, C, D)."""
        assert isinstance(self.embeddings, Tensor)
        return dataclasses.replace(self, embeddings=self.embeddings[:, number])

    def label_array(self) -> np.ndarray:
        """The labels as an array on the CPU."""
        return self.labels.cpu().numpy()
