"""A cache of embeddings: clips' vectors by the sha256 of their audio files, in Parquet, at any path or URI.

    FOLDER/<key>/recipe.json     what the vectors were made by, for people; the key is its digest
    FOLDER/<key>/<name>.parquet  id (the clip's row in the run that wrote it), digest (32 bytes), vector (D float32),
                                 log_mel (80 float32 or null)

Every file is written once, whole or not at all, under a name of its own, by the actor that made its vectors, so that
any number of actors and runs may write at the same time, and what a stopped run had finished is there for the next. A
file that is damaged is noticed by its checksums, removed, and its clips are embedded again. Knows nothing of Ray or of
audio.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import logging
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from golem_ray import storage
from golem_ray.embedding.recipe import Recipe
from golem_ray.errors import ConfigError, one_line

log = logging.getLogger(__name__)

RECIPE_VERSION = 1
"""To be raised when this package comes to compute other vectors from the same recipe."""


_FILES_AT_ONCE = 16


_LIBRARIES = ("torch", "torchaudio", "transformers", "soundfile", "numpy")


def describe(recipe: Recipe, *, gpu: bool, threads: int) -> dict[str, Any]:
    """Everything that a vector depends on besides the clip: on one kind of CPU to the last bit, on a GPU to 1e-5,
    where the clips beside it change rounding. Only compiled passes use several threads for a clip.
    """
    encoder = recipe.encoder
    which = {"sha256": encoder.sha256} if encoder.sha256 else {"name": encoder.name, "revision": encoder.revision}
    return {
        "version": RECIPE_VERSION,
        "encoder": which,
        "sampling_rate": encoder.sampling_rate,
        **{name: value for name, value in dataclasses.asdict(recipe).items() if name != "encoder"},
        "device": "gpu" if gpu else f"cpu, {threads} threads a clip" if recipe.compiled else "cpu",
        "libraries": {name: importlib.metadata.version(name) for name in _LIBRARIES},
    }


class EmbeddingCache:
    """The vectors of one recipe under a folder or URI; may be sent to other processes.

    Raises ConfigError if it cannot be written there. What fails later is told in a warning: the run goes on.
    """

    def __init__(self, root: str, recipe: dict[str, Any], width: int, log_mel_size: int, *, mark: str = "") -> None:
        self.width = width
        self._mark = mark  # what this run's files begin with
        self._recipe = json.dumps(recipe, indent=2, sort_keys=True) + "\n"
        self.key = hashlib.sha256(self._recipe.encode()).hexdigest()[:24]
        self.folder = f"{root.rstrip('/')}/{self.key}"
        self._schema = pa.schema(
            {
                "id": pa.int64(),
                "digest": pa.binary(32),
                "vector": pa.list_(pa.float32(), width),
                "log_mel": pa.list_(pa.float32(), log_mel_size),
            }
        )
        self._described = False
        try:
            storage.check_folder(root)
            self._list()
        except Exception as error:  # every filesystem has its own
            raise ConfigError(
                f"paths.embedding_cache: expected to be able to read and write {root}, but {one_line(error)}"
            ) from None

    def files(self) -> list[str]:
        """The files with vectors of this recipe, whoever wrote them."""
        try:
            return self._list()
        except Exception as error:  # every filesystem has its own
            log.warning("%s cannot be listed (%s): going on without", self.folder, one_line(error))
            return []

    def _list(self) -> list[str]:
        fs, place = storage.filesystem(self.folder)
        fs.invalidate_cache()
        try:
            entries = storage.retried(partial(fs.ls, place, detail=False))
        except FileNotFoundError:
            return []
        return [str(file) for file in sorted(entries) if str(file).endswith(".parquet")]

    def look_up(
        self, digests: np.ndarray, *, vectors: np.ndarray | None, log_mel: np.ndarray | None, baseline: bool = False
    ) -> np.ndarray:
        """For which of (N,) S32 digests there are vectors (with baseline, log-mel statistics as well): (N,) bool.

        Writes them into `vectors` (N, D) and `log_mel` (N, 80), float32, where these are given. A digest of zeros, a
        clip that could not be read, is never known.
        """
        order = np.argsort(digests, kind="stable")
        unique, starts, counts = np.unique(digests[order], return_index=True, return_counts=True)
        into = {"vector": vectors, "log_mel": log_mel}
        names = [name for name, values in into.items() if values is not None]
        known = np.zeros(len(digests), dtype=bool)
        for table in self._read_all(self.files(), _binary(unique), names, needed=["log_mel"] if baseline else []):
            at = table["at"].to_numpy()
            rows = order[_ranges(starts[at], counts[at])]
            for name in names:
                into[name][rows] = np.repeat(_matrix(table[name]), counts[at], axis=0)  # type: ignore[index]
            known[rows] = True
        return known & (digests != b"")

    def recorded(self, num_examples: int) -> np.ndarray:
        """(N,) S32: the digest that each row of the run had when its vector was kept, zeros where none was.

        By the files that begin with this cache's mark.
        """
        digests = np.zeros(num_examples, dtype="S32")
        own = [file for file in self.files() if file.rsplit("/", 1)[-1].startswith(self._mark)]
        for table in self._read_all(own, None, ["id"], needed=[]):
            ids = table["id"].to_numpy()
            inside = ids < num_examples
            content = b"".join(digest.as_py() for digest in table["digest"])
            digests[ids[inside]] = np.frombuffer(content, dtype="S32")[inside]
        return digests

    def _read_all(
        self, files: list[str], wanted: pa.Array | None, names: list[str], needed: list[str]
    ) -> Iterator[pa.Table]:
        """What `_read` gives of each file, several at a time, as many as are waited for."""
        with ThreadPoolExecutor(_FILES_AT_ONCE) as threads:
            for start in range(0, len(files), _FILES_AT_ONCE):
                batch = files[start : start + _FILES_AT_ONCE]
                for table in threads.map(lambda file: self._read(file, wanted, names, needed), batch):
                    if table is not None:
                        yield table

    def _read(self, file: str, wanted: pa.Array | None, names: list[str], needed: list[str]) -> pa.Table | None:
        """A file's columns and digests, of the rows that are wanted, and where in `wanted` those stand (`at`).

        Of rows where the needed columns are not null. None if there are none, or if it cannot be had; a file that is
        damaged is removed.
        """
        fs, _ = storage.filesystem(self.folder)
        try:
            content = storage.retried(partial(fs.cat_file, file))
        except Exception as error:  # every filesystem has its own
            log.warning("%s cannot be read (%s): its clips are embedded again", file, type(error).__name__)
            return None
        try:
            parquet = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
            if parquet.schema_arrow != self._schema:
                log.warning("%s has columns of another kind: left alone", file)
                return None
            table = parquet.read(list(dict.fromkeys(["digest", *names, *needed])))
            if wanted is not None:
                table = table.append_column("at", pc.index_in(table["digest"], wanted))
                needed = [*needed, "at"]
            for column in needed:
                table = table.filter(pc.is_valid(table[column]))
            return table if table.num_rows else None
        except (OSError, ValueError):  # Arrow's, of a file that was cut or whose checksums do not fit
            log.warning("%s is damaged: its clips are embedded again", file)
        try:
            fs.rm_file(file)
        except Exception as error:  # read-only, or another run was faster
            log.info("%s could not be removed (%s)", file, type(error).__name__)
        return None

    def add(self, ids: np.ndarray, digests: np.ndarray, vectors: np.ndarray, log_mel: np.ndarray | None) -> str:
        """Keep the vectors (N, D) float32 of (N,) int64 rows and (N,) S32 digests, and log-mel statistics.

        Returns why that could not be done, '' if it could.
        """
        if not len(ids):
            return ""
        kind = self._schema.field("log_mel").type
        columns = [pa.array(ids), _binary(digests), _lists(vectors, self._schema.field("vector").type)]
        columns.append(pa.nulls(len(ids), kind) if log_mel is None else _lists(log_mel, kind))
        try:
            sink = pa.BufferOutputStream()
            options = {"compression": "none", "use_dictionary": False, "write_page_checksum": True}
            pq.write_table(pa.Table.from_arrays(columns, schema=self._schema), sink, **options)
            if not self._described:
                storage.write(f"{self.folder}/recipe.json", self._recipe.encode())
                self._described = True
            storage.write(f"{self.folder}/{self._mark}{uuid.uuid4().hex}.parquet", sink.getvalue().to_pybytes())
        except Exception as error:  # every filesystem has its own
            return f"embeddings could not be kept in {self.folder} ({one_line(error)})"
        return ""


def _ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The numbers from each start, so many of them: (N,), (N,) -> (sum of counts,)."""
    ends = np.cumsum(counts)
    return np.repeat(starts - np.concatenate([[0], ends[:-1]]), counts) + np.arange(ends[-1] if len(ends) else 0)


def _binary(digests: np.ndarray) -> pa.Array:
    """(N,) S32 as an Arrow array of 32 bytes each: numpy itself would drop zeros at the end."""
    content = pa.py_buffer(np.ascontiguousarray(digests, dtype="S32").tobytes())
    return pa.Array.from_buffers(pa.binary(32), len(digests), [None, content])


def _lists(matrix: np.ndarray, kind: pa.DataType) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(matrix).reshape(-1)), type=kind)


def _matrix(lists: pa.ChunkedArray) -> np.ndarray:
    flat = lists.combine_chunks()
    return flat.flatten().to_numpy(zero_copy_only=False).reshape(len(flat), lists.type.list_size)
