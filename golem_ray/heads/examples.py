"""Examples as a head is fitted to them: their embeddings, labels and groups in one record."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from golem_ray.heads.joined import Counted
from golem_ray.heads.rows import Rows, Streamed
from golem_ray.heads.training_set import Columns


@dataclass(frozen=True)
class Examples:
    """N examples whose labels are known."""

    embeddings: Rows
    """(N, D) float32."""
    labels: Tensor
    """(N,) int64, or (N, K) bool where there may be several; on the embeddings' device."""
    groups: np.ndarray | None = None
    """(N,) int, such as speakers: the examples of a group are never on both sides of a fold."""
    extra: np.ndarray | None = None
    """(N,) bool: those that are only ever trained on; None where there are none."""
    terms: Counted | None = None
    """What the baseline counts in them, where a head may take what it says of that."""
    num_joined: int = 0
    """How many of the embeddings' columns, the last, are what it says: see joined.py."""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: np.ndarray) -> Examples:
        """The examples of these rows, (M,) int or (N,) bool. The embeddings have to be in memory."""
        assert isinstance(self.embeddings, Tensor)
        groups, extra = (None if each is None else each[rows] for each in (self.groups, self.extra))
        terms = None if self.terms is None else self.terms.take(rows)
        return Examples(self.embeddings[rows], self.labels[rows], groups, extra, terms, self.num_joined)

    def in_memory(self, rows: np.ndarray | None) -> Examples:
        """The examples of these rows, (M,) int, or all, with their embeddings in memory."""
        if not isinstance(self.embeddings, Streamed):
            return self if rows is None else self.take(rows)
        values, device = self.embeddings.values, self.embeddings.device
        kept = dataclasses.replace(self, embeddings=torch.zeros(len(self), 0)).take(
            np.arange(len(self)) if rows is None else rows
        )
        taken = torch.tensor(np.array(values if rows is None else values[rows]), device=device)
        return dataclasses.replace(kept, embeddings=taken)

    def of_columns(self, columns: Columns) -> Examples:
        """The same examples with these columns of their embeddings; of embeddings not in memory all of them."""
        if columns == ((0, self.embeddings.shape[1]),):
            return self
        assert isinstance(self.embeddings, Tensor)
        parts = [self.embeddings[:, start:stop] for start, stop in columns]
        return dataclasses.replace(self, embeddings=torch.cat(parts, dim=1))

    def label_array(self) -> np.ndarray:
        """The labels as an array on the CPU."""
        return self.labels.cpu().numpy()
