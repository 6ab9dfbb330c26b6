"""Which clips a process was at work on when it ended: a clip that ends its process every time is found, and left out.

A crash in a decoder, or a kernel that takes a process for want of memory, tells nobody which clip was to blame, and a
cluster would start the process anew for ever. Knows nothing of Ray: notes are kept in a store that outlives processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

MOST_DEATHS = 2
"""Processes that a clip may end while it is worked on alone, after it has ended one together with others."""


GUILTY = f"it ended {MOST_DEATHS + 1} processes that worked on it (a decoder that crashes, or too long for the memory)"
"""The reason why such a clip cannot be used."""


class Store(Protocol):
    """Numbers by name, seen by every process of a run; 0 where none was put."""

    def get(self, key: str) -> int:
        """The number."""

    def put(self, key: str, value: int) -> None:
        """Have it written down when this returns; 0 removes it."""


class Nowhere:
    """A store for work that ends with its only process."""

    def get(self, key: str) -> int:
        """Zero."""
        return 0

    def put(self, key: str, value: int) -> None:
        """Nothing."""


class Journal:
    """The notes of one stage of a run."""

    def __init__(self, stage: str = "", store: Store | None = None) -> None:
        self._stage = stage
        self._store: Store = Nowhere() if store is None else store

    @contextmanager
    def block(self, ids: Sequence[int]) -> Iterator[bool]:
        """For working on these clips within; yields whether a process ended when they were last worked on."""
        with self._noted(f"{self._stage}/{ids[0]}+{len(ids)}" if ids else f"{self._stage}/nothing") as deaths:
            yield deaths > 0

    @contextmanager
    def clip(self, clip_id: int) -> Iterator[bool]:
        """For working on this clip alone within; yields whether it has ended too many processes for that."""
        key = f"{self._stage}/{clip_id}"
        if self._store.get(key) >= MOST_DEATHS:
            yield True  # and the note stays
            return
        with self._noted(key):
            yield False

    @contextmanager
    def _noted(self, key: str) -> Iterator[int]:
        deaths = self._store.get(key)
        self._store.put(key, deaths + 1)
        try:
            yield deaths
        finally:  # an exception is no death
            self._store.put(key, 0)
