"""Which examples a process was at work on when it ended, so that one that ends its process every time is left out.

A crash in a decoder, or a kernel that takes a process for want of memory, names no example, and a cluster would start
the process anew for ever. Knows no engine: notes are kept in a store that outlives processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from golem_ray import storage
from golem_ray.errors import StorageError

MOST_DEATHS = 2
"""Processes that an example may end while it is worked on alone, after it has ended one together with others."""

CRASHED = f"it ended {MOST_DEATHS + 1} processes that worked on it (a decoder that crashes, or too long for the memory)"
"""The reason why such an example cannot be used."""


class Store(Protocol):
    """Numbers by name, seen by every process of a run; 0 where none was put."""

    def get(self, key: str) -> int:
        """The number."""

    def put(self, key: str, value: int) -> None:
        """Have it written down when this returns; 0 removes it."""


class NoStore:
    """A store for work that nobody goes on with when its process ends."""

    def get(self, key: str) -> int:
        """Zero."""
        return 0

    def put(self, key: str, value: int) -> None:
        """Nothing."""


class FolderStore:
    """A store in a folder, at a path or URI, for a run that is gone on with in another process.

    A folder that cannot be written keeps no notes: the work itself goes on.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder.rstrip("/")

    def get(self, key: str) -> int:
        """The number in the key's file."""
        try:
            return int(storage.read(self._file(key)) or b"0")
        except (StorageError, ValueError):
            return 0

    def put(self, key: str, value: int) -> None:
        """A file for each key that has a number."""
        try:
            if value:
                storage.write(self._file(key), str(value).encode())
            else:
                storage.remove(self._file(key))
        except StorageError:
            pass

    def _file(self, key: str) -> str:
        return f"{self.folder}/{key.replace('/', '-')}"


class CrashNotes:
    """The notes of one stage of a run."""

    def __init__(self, stage: str = "", store: Store | None = None) -> None:
        self._stage = stage
        self._store: Store = NoStore() if store is None else store

    @contextmanager
    def block(self, ids: Sequence[int]) -> Iterator[bool]:
        """For working on these examples within; yields whether a process ended when they were last worked on."""
        with self._noted(f"{self._stage}/{ids[0]}+{len(ids)}" if ids else f"{self._stage}/nothing") as deaths:
            yield deaths > 0

    @contextmanager
    def example(self, example_id: int) -> Iterator[bool]:
        """For working on this example alone within; yields whether it has ended too many processes for that."""
        key = f"{self._stage}/{example_id}"
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
