"""Embeddings that do not fit in memory, a chunk of rows at a time, and the order in which batches of rows are taken.

Knows no head, no loss, and not who wrote the rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

CHUNK_ROWS = 65_536
"""Most rows that are in memory at once: 200 MB of a base-size encoder's."""


RUN_ROWS = 64
"""Neighbours that a shuffled order keeps near each other, so that a disk is not read row by row."""


@dataclass(frozen=True)
class Streamed:
    """(N, D) float32 that stay on disk. An index gives those rows, at most a chunk of them, as a tensor."""

    values: np.ndarray
    """Most often a memory map."""
    device: torch.device
    """Where the tensors go."""
    standards: tuple[tuple[Tensor, Tensor], ...] = ()
    """Applied in this order: a mean to subtract from each coordinate and a scale to divide it by, (D,) each."""

    def __len__(self) -> int:
        return len(self.values)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, D)."""
        return self.values.shape

    def __getitem__(self, rows: slice | Tensor) -> Tensor:
        values = self.values[rows if isinstance(rows, slice) else rows.numpy()]
        assert len(values) <= CHUNK_ROWS, f"{len(values)} rows at once"
        chunk = torch.tensor(values, device=self.device)
        for mean, scale in self.standards:
            chunk = (chunk - mean) / scale
        return chunk


Rows = Tensor | Streamed
"""(N, D) float32, in memory or not."""


def chunks(embeddings: Rows, rows: Tensor | None = None) -> list[slice | Tensor]:
    """Indices of the rows, (M,) int64 on the CPU, or of all, in pieces to take at once; of a tensor, one piece."""
    if isinstance(embeddings, Tensor):
        return [slice(None) if rows is None else rows]
    if rows is not None:
        return list(rows.split(CHUNK_ROWS))
    return [slice(start, start + CHUNK_ROWS) for start in range(0, len(embeddings), CHUNK_ROWS)]


def moments(embeddings: Streamed) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each coordinate, (D,) float64 each.

    Chunks are merged by the formula of Chan, Golub and LeVeque (Updating formulae and a pairwise algorithm for
    computing sample variances, 1979), which does not cancel as a mean of squares would.
    """
    mean = variance = torch.zeros(embeddings.shape[1], dtype=torch.float64, device=embeddings.device)
    seen = 0
    for chunk in chunks(embeddings):
        rows = embeddings[chunk].double()
        seen += len(rows)
        share = len(rows) / seen
        its_variance, its_mean = torch.var_mean(rows, dim=0, correction=0)
        gap = its_mean - mean
        variance = (1 - share) * variance + share * its_variance + share * (1 - share) * gap**2
        mean = mean + share * gap
    return mean, variance.sqrt()


def batches(num_rows: int, batch_size: int | None, generator: torch.Generator) -> Iterator[Tensor | None]:
    """The rows of each step of an epoch, (B,) int64: each row once, shuffled. Without a size, one None: all rows."""
    if batch_size is None:
        yield None
    else:
        yield from shuffled(num_rows, generator).split(batch_size)


def shuffled(num_rows: int, generator: torch.Generator) -> Tensor:
    """(N,) int64: each row once, in the order that the generator gives.

    If there are more rows than a chunk, runs of neighbours are drawn from everywhere, and as many runs as fill a chunk
    are shuffled together. Thus batches mix rows that are sorted by label, and rows that are near each other on disk are
    read at about the same time.
    """
    if num_rows <= CHUNK_ROWS:
        return torch.randperm(num_rows, generator=generator)
    runs = torch.randperm(-(-num_rows // RUN_ROWS), generator=generator)
    order = []
    for some in runs.split(max(1, CHUNK_ROWS // RUN_ROWS)):
        rows = (some[:, None] * RUN_ROWS + torch.arange(RUN_ROWS)).flatten()
        rows = rows[rows < num_rows]
        order.append(rows[torch.randperm(len(rows), generator=generator)])
    return torch.cat(order)
