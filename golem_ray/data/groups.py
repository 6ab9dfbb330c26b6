"""Which examples belong together, so that none of them is on the other side of a split."""

from __future__ import annotations

import logging

import numpy as np
import pyarrow.compute as pc

from golem_ray.config import Noun
from golem_ray.data.table import Source

log = logging.getLogger(__name__)


def groups_of(source: Source) -> np.ndarray | None:
    """(N,) int64: a number for each group; an example without one is a group of its own."""
    if "group" not in source.examples.column_names:
        return None
    codes = pc.index_in(source.examples["group"], pc.unique(source.examples["group"]).drop_null())
    alone = np.arange(len(codes)) + len(codes)
    return np.where(codes.is_valid().to_numpy(), codes.fill_null(0).to_numpy(), alone).astype(np.int64)


def joined_groups(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(N,) int64: one number for all that are linked, step by step, by a number of either kind, (N,) int each."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows, (_, one), (_, other) = np.arange(len(first)), *(np.unique(x, return_inverse=True) for x in (first, second))
    ends = np.concatenate([len(rows) + one, len(rows) + one.max() + 1 + other])
    size = int(ends.max()) + 1
    links = coo_array((np.ones(len(ends)), (np.concatenate([rows, rows]), ends)), shape=(size, size))
    return connected_components(links, directed=False)[1][: len(rows)].astype(np.int64)


def kept_together(groups: np.ndarray | None, digests: np.ndarray, used: np.ndarray, noun: Noun) -> np.ndarray | None:
    """(N,) int64: which of the used examples are never on both sides of a fold: those of one group, and equal files.

    None where any may be. groups: (M,) int64 or None, digests: (M,) S32, used: (N,) rows of both.
    """
    groups = None if groups is None else groups[used]
    _, files = np.unique(digests[used], return_inverse=True)
    num_copies = len(files) - len(np.unique(files))
    if num_copies == 0:
        return groups
    copies = "%d of %d %s are copies of others (equal files): folds keep them together"
    log.warning(copies, num_copies, len(used), noun.many)
    return files if groups is None else joined_groups(files, groups)
