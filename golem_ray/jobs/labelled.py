"""Which labels a dataset's examples have, one each or several, and which come together: what a description counts.

Knows nothing else of an example.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from golem_ray.data import Source
from golem_ray.data.encode import flat
from golem_ray.data.several import kinds_of

MOST_TOGETHER = 40
"""Labels, those of most examples, of which it is said how often each comes with each."""

_MOST_PAIRS, _MOST_TIED = 20, 50


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """The labels of N examples, as P pairs of an example and a label of its."""

    names: tuple[str, ...]
    rows: np.ndarray
    """(P,) int64, ascending."""
    labels: np.ndarray
    """(P,) int64, ascending within a row."""
    known: np.ndarray
    """(N,) bool: of which it is known what labels they have; none may be one of several answers."""
    kinds: np.ndarray
    """(N,) float64: one number for all with the same labels, NaN where these are not known."""

    def of_each(self, wanted: np.ndarray) -> list[np.ndarray]:
        """The rows of each label, ascending, that are wanted, (N,) bool."""
        kept = wanted[self.rows]
        rows, labels = self.rows[kept], self.labels[kept]
        order = np.argsort(labels, kind="stable")
        return (
            np.split(rows[order], np.searchsorted(labels[order], np.arange(1, len(self.names)))) if self.names else []
        )

    def under(self, rows: np.ndarray) -> list[int]:
        """The labels that some of these rows have, ascending."""
        found = [self.labels[slice(*np.searchsorted(self.rows, [row, row + 1]))] for row in rows]
        return np.unique(np.concatenate(found)).tolist() if found else []

    def named(self, row: int | np.integer) -> list[str]:
        """The names of an example's labels."""
        return [self.names[label] for label in self.under(np.array([row]))]


def labelled(source: Source) -> Labelled:
    """The labels of a source's examples."""
    column = flat(source.examples["label"])
    known = column.is_valid().to_numpy(zero_copy_only=False)
    rows = np.flatnonzero(known)
    if source.several:
        rows = np.repeat(rows, column.drop_null().value_lengths().to_numpy())
    values = column.drop_null().flatten() if source.several else column.drop_null()
    labels = values.to_numpy(zero_copy_only=False).astype(np.int64)
    if not source.labels:
        rows, labels = rows[:0], labels[:0]
    return Labelled(names=source.labels, rows=rows, labels=labels, known=known, kinds=kinds_of(column))


def together(found: Labelled, used: np.ndarray) -> dict[str, Any]:
    """How many labels examples have, and which come together, of those that are used, (N,) bool; plain JSON values.

    "per_example" counts examples by their number of labels, from none; "pairs" are those of most examples, beside how
    many had both if labels came by chance; "tied" are labels that never come without another, unless chance may do
    that; "counts" say how often each of the labels of most examples comes with each, and in all.
    """
    from scipy.sparse import csr_array

    kept, total = used[found.rows], int(used.sum())
    rows, labels = found.rows[kept], found.labels[kept]
    shape = (len(used), len(found.names))
    has = csr_array((np.ones(len(rows), dtype=np.int64), (rows, labels)), shape=shape)
    both = (has.T @ has).tocoo()
    counts = np.bincount(labels, minlength=shape[1])
    pairs = both.row < both.col
    first, second, times = both.row[pairs], both.col[pairs], both.data[pairs]
    expected = counts[first] * counts[second] / max(total, 1)
    order = np.lexsort((second, first, expected, -times))[:_MOST_PAIRS].tolist()
    largest = np.argsort(-counts, kind="stable")[:MOST_TOGETHER]
    return {
        "per_example": np.bincount(np.bincount(rows, minlength=len(used))[used]).tolist(),
        "num_pairs": len(times),
        "pairs": [
            {
                "labels": [found.names[first[at]], found.names[second[at]]],
                "num_clips": int(times[at]),
                "by_chance": float(expected[at]),
                "lift": float(times[at] / expected[at]),
            }
            for at in order
        ],
        "tied": _tied(found.names, counts, both, total),
        "counts": {
            "labels": [found.names[label] for label in largest],
            "together": has[:, largest].T.dot(has[:, largest]).toarray().tolist(),
        },
    }


def _tied(names: tuple[str, ...], counts: np.ndarray, both: Any, total: int) -> list[dict[str, Any]]:
    """Labels all of whose examples have another too, where chance gives that less than once in a hundred times."""
    found = []
    for label, other, times in zip(both.row.tolist(), both.col.tolist(), both.data.tolist(), strict=True):
        is_mutual = counts[label] == counts[other]
        if label == other or times < counts[label] or (is_mutual and label > other):
            continue
        if (counts[other] / total) ** int(times) < 0.01:
            found.append({"label": names[label], "other": names[other], "num_clips": times, "is_mutual": is_mutual})
    found.sort(key=lambda each: -each["num_clips"])
    return [{**each, "is_mutual": bool(each["is_mutual"])} for each in found[:_MOST_TIED]]
