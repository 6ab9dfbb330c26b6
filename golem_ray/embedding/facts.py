"""What there is to say of every example of a source: each is read once, in this process, and nothing of it is kept.

Knows the kinds of facts (embedding/modality.py), not which ones there are.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from golem_ray.data import Source, with_contents
from golem_ray.embedding.examples import describe_example, rows_of
from golem_ray.embedding.modality import Fact, Modality
from golem_ray.progress import ProgressBar

_BLOCK_ROWS = 64

_AHEAD = 4
"""Examples for each thread whose files are in memory, or on their way."""


MOST_THINGS = 20_000
"""Different things of which each has a count of its own: of characters, more than texts have in any script."""


@dataclass
class Tally:
    """How often what is there, in all usable examples together."""

    counts: Counter[str] = field(default_factory=Counter)
    """Of the first MOST_THINGS different things."""
    rest: int = 0
    """Of all others together."""

    def add(self, counts: Mapping[str, int]) -> None:
        """Count what is in one more example."""
        for thing, count in counts.items():
            if thing in self.counts or len(self.counts) < MOST_THINGS:
                self.counts[thing] += count
            else:
                self.rest += count


@dataclass(frozen=True, kw_only=True)
class FactTable:
    """The facts of N examples, a column for each but for counts, of which there is the sum."""

    columns: dict[str, np.ndarray]
    """By the fact's key, (N,) each: float64, NaN for none; int32 into `names`, -1 for none; bool; S16."""
    names: dict[str, dict[str, int]]
    """Of a category's key: the number of each thing that it may be, in the order in which they occur."""
    tallies: dict[str, Tally]
    """By the key of counts."""
    digests: np.ndarray
    """(N,) S32: sha256 of each file, zeros where it could not be read."""
    bad: dict[int, str]
    """Row -> why it cannot be used."""

    @property
    def good(self) -> np.ndarray:
        """(N,) bool: which examples have facts."""
        usable = np.ones(len(self.digests), dtype=bool)
        usable[list(self.bad)] = False
        return usable


def facts_of(source: Source, modality: Modality) -> FactTable:
    """The facts of each of a source's N examples, by as many threads as there are cores."""
    num_examples = source.examples.num_rows
    table = _empty(modality.facts, num_examples)
    bar = ProgressBar("reading", num_examples, source.noun.many)
    threads = os.cpu_count() or 1
    pool = ThreadPoolExecutor(threads)
    try:
        waiting: deque[Future[tuple[bytes, dict[str, Any], str]]] = deque()
        done = 0
        for row in _rows(source.examples):
            waiting.append(pool.submit(describe_example, row, modality))
            if len(waiting) >= _AHEAD * threads:
                done = _take(table, modality, done, waiting, bar)
        while waiting:
            done = _take(table, modality, done, waiting, bar)
    finally:
        pool.shutdown(cancel_futures=True)  # of a signal: what is under way ends, and no more begins
        bar.close()
    return table


def _empty(facts: tuple[Fact, ...], num_examples: int) -> FactTable:
    kinds: dict[str, Any] = {
        "number": lambda: np.full(num_examples, np.nan),
        "category": lambda: np.full(num_examples, -1, dtype=np.int32),
        "flag": lambda: np.zeros(num_examples, dtype=bool),
        "identity": lambda: np.zeros(num_examples, dtype="S16"),
    }
    return FactTable(
        columns={fact.key: kinds[fact.kind]() for fact in facts if fact.kind in kinds},
        names={fact.key: {} for fact in facts if fact.kind == "category"},
        tallies={fact.key: Tally() for fact in facts if fact.kind == "counts"},
        digests=np.zeros(num_examples, dtype="S32"),
        bad={},
    )


def _rows(examples: pa.Table) -> Iterator[pa.Table]:
    """Each example as a table, with its content where that is in a shard."""
    for start in range(0, examples.num_rows, _BLOCK_ROWS):
        yield from rows_of(with_contents(examples.slice(start, _BLOCK_ROWS)))


def _take(table: FactTable, modality: Modality, row: int, waiting: deque[Any], bar: ProgressBar) -> int:
    """Put the facts of the example that has waited longest into its row; the next row."""
    table.digests[row], facts, reason = waiting.popleft().result()
    if reason:
        table.bad[row] = reason
    for fact in modality.facts if facts else ():
        value = facts[fact.key]
        if fact.kind == "counts":
            table.tallies[fact.key].add(value)
            continue
        if fact.kind == "category":
            names = table.names[fact.key]
            value = names.setdefault(value, len(names))
        table.columns[fact.key][row] = value
    bar.update(row + 1, f"{len(table.bad)} bad" if table.bad else "")
    return row + 1
