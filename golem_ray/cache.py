"""A cache of embeddings: clips' vectors by the sha256 of their audio files, in Parquet, at any path or URI.

    FOLDER/<key>/recipe.json     what the vectors were made by, for people; the key is its digest
    FOLDER/<key>/<name>.parquet  digest (32 bytes), vector (D float32), log_mel (80 float32 or null)

Every file is written once, whole or not at all, under a name of its own, so that any number of runs may write at the
same time, and what a stopped run had finished is there for the next. A file that is damaged is noticed by its
checksums, removed, and its clips are embedded again. Knows nothing of Ray or of audio.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import logging
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from golem_ray import storage
from golem_ray.data.table import one_line
from golem_ray.encoder_info import Recipe
from golem_ray.errors import ConfigError

log = logging.getLogger(__name__)

RECIPE_VERSION = 1
"""To be raised when this package comes to compute other vectors from the same recipe."""

WRITE_EVERY_S = 10.0
"""Seconds of work that a run which is stopped may lose, besides what its actors work on."""

_WRITE_EVERY_ROWS = 16384
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
    """The vectors of one recipe under a folder or URI, and those of this run that are still to be written.

    Raises ConfigError if it cannot be written there. What fails later is told in a warning: the run goes on.
    """

    def __init__(self, root: str, recipe: dict[str, Any], width: int, log_mel_size: int) -> None:
        self._recipe = json.dumps(recipe, indent=2, sort_keys=True) + "\n"
        self.folder = f"{root.rstrip('/')}/{hashlib.sha256(self._recipe.encode()).hexdigest()[:24]}"
        self._schema = pa.schema(
            {
                "digest": pa.binary(32),
                "vector": pa.list_(pa.float32(), width),
                "log_mel": pa.list_(pa.float32(), log_mel_size),
            }
        )
        self._pending: list[pa.Table] = []
        self._written_at = time.monotonic()
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
            return [str(file) for file in sorted(fs.ls(place, detail=False)) if str(file).endswith(".parquet")]
        except FileNotFoundError:
            return []

    def look_up(self, digests: np.ndarray, *, log_mel: bool) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        """What is known of (N,) S32 digests: vectors (N, D) float32, log-mel statistics (N, 80) float32 if asked for,
        and for which rows, (N,) bool. A digest of zeros, a clip that could not be read, is never known.
        """
        unique, rows = np.unique(digests, return_inverse=True)
        wanted = _binary(unique)
        names = ["vector", "log_mel"] if log_mel else ["vector"]
        values = {
            name: np.zeros((len(unique), self._schema.field(name).type.list_size), dtype=np.float32) for name in names
        }
        known = np.zeros(len(unique), dtype=bool)
        with ThreadPoolExecutor(_FILES_AT_ONCE) as threads:
            for table in threads.map(lambda file: self._read(file, wanted, names), self.files()):
                if table is None:
                    continue
                at = table["at"].to_numpy()
                for name in names:
                    values[name][at] = _matrix(table[name])
                known[at] = True
        known &= unique != b""
        return values["vector"][rows], values["log_mel"][rows] if log_mel else None, known[rows]

    def _read(self, file: str, wanted: pa.Array, names: list[str]) -> pa.Table | None:
        """A file's columns, of the rows that are wanted and where in `wanted` those stand.

        None if there are none, or if it cannot be had; a file that is damaged is removed.
        """
        fs, _ = storage.filesystem(self.folder)
        try:
            content = fs.cat_file(file)
        except Exception as error:  # every filesystem has its own
            log.warning("%s cannot be read (%s): its clips are embedded again", file, type(error).__name__)
            return None
        try:
            parquet = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
            if parquet.schema_arrow != self._schema:
                log.warning("%s has columns of another kind: left alone", file)
                return None
            at = pc.index_in(parquet.read(["digest"])["digest"], wanted)
            if at.null_count == len(at):
                return None
            table = parquet.read(names).append_column("at", at)
            return table.filter(pc.and_(pc.is_valid(at), pc.is_valid(table[names[-1]])))
        except (OSError, ValueError):  # Arrow's, of a file that was cut or whose checksums do not fit
            log.warning("%s is damaged: its clips are embedded again", file)
        try:
            fs.rm_file(file)
        except Exception as error:  # read-only, or another run was faster
            log.info("%s could not be removed (%s)", file, type(error).__name__)
        return None

    def add(self, digests: np.ndarray, vectors: np.ndarray, log_mel: np.ndarray | None) -> None:
        """Keep the vectors (N, D) float32 of (N,) S32 digests, and log-mel statistics; written before long."""
        if len(digests):
            columns = [_binary(digests), _lists(vectors, self._schema.field("vector").type)]
            kind = self._schema.field("log_mel").type
            columns.append(pa.nulls(len(digests), kind) if log_mel is None else _lists(log_mel, kind))
            self._pending.append(pa.Table.from_arrays(columns, schema=self._schema))
        waiting = sum(table.num_rows for table in self._pending)
        if waiting >= _WRITE_EVERY_ROWS or time.monotonic() - self._written_at >= WRITE_EVERY_S:
            self.write()

    def write(self) -> None:
        """Write what is still to be written."""
        tables, self._pending = self._pending, []
        self._written_at = time.monotonic()
        if not tables:
            return
        try:
            sink = pa.BufferOutputStream()
            options = {"compression": "none", "use_dictionary": False, "write_page_checksum": True}
            pq.write_table(pa.concat_tables(tables), sink, **options)
            if not self._described:
                storage.write(f"{self.folder}/recipe.json", self._recipe.encode())
                self._described = True
            storage.write(f"{self.folder}/{uuid.uuid4().hex}.parquet", sink.getvalue().to_pybytes())
        except Exception as error:  # every filesystem has its own
            log.warning("embeddings could not be kept in %s (%s): going on without", self.folder, one_line(error))


def _binary(digests: np.ndarray) -> pa.Array:
    """(N,) S32 as an Arrow array of 32 bytes each: numpy itself would drop zeros at the end."""
    content = pa.py_buffer(np.ascontiguousarray(digests, dtype="S32").tobytes())
    return pa.Array.from_buffers(pa.binary(32), len(digests), [None, content])


def _lists(matrix: np.ndarray, kind: pa.DataType) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(matrix).reshape(-1)), type=kind)


def _matrix(lists: pa.ChunkedArray) -> np.ndarray:
    flat = lists.combine_chunks()
    return flat.flatten().to_numpy(zero_copy_only=False).reshape(len(flat), lists.type.list_size)
