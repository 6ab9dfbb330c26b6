"""A cache of embeddings: examples' vectors by the sha256 of their files, in Parquet, at any path or URI.

    FOLDER/<key>/recipe.json     what the vectors were made by, for people; the key is its digest
    FOLDER/<key>/<name>.parquet  id (the example's row in the run that wrote it), digest (32 bytes), vector (D float32),
                                 baseline (F float32 or null); its metadata name the modality and the format's version

What there is to say of an example stands in its file's metadata too: {its row in the file: remark}.

Files of version 1 have no such metadata, and another name for the last column: they are read as well.

Every file is written once, whole or not at all, under a name of its own, by the worker that made its vectors, so that
any number of workers and runs may write at the same time, and what a stopped run had finished is there for the next. A
file that is damaged is noticed by its checksums, removed, and its examples are embedded again. Knows no engine, and
nothing of what is in an example.
"""

from __future__ import annotations

import hashlib
import json
import logging
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from golem_ray import storage
from golem_ray.config import NOUNS
from golem_ray.devices import Resources
from golem_ray.embedding.columns import binary, lists, matrix
from golem_ray.embedding.modality import modality_named
from golem_ray.embedding.recipe import Recipe
from golem_ray.errors import ConfigError, StorageError

log = logging.getLogger(__name__)

RECIPE_VERSION = 1
"""To be raised when this package comes to compute other vectors from the same recipe."""

FORMAT_VERSION = 2
_METADATA = b"golem_ray"


_FILES_AT_ONCE = 16


def describe(recipe: Recipe, *, gpu: bool, threads: int) -> dict[str, Any]:
    """Everything that a vector depends on besides the example: on one kind of CPU to the last bit, on a GPU to 1e-5,
    where the examples beside it change rounding. Only compiled passes use several threads for an example.
    """
    compiled = f"cpu, {threads} threads a clip"  # as version 1 wrote it: other words would be another key
    return {
        "version": RECIPE_VERSION,
        **modality_named(recipe.modality).fingerprint(recipe),
        "device": "gpu" if gpu else compiled if recipe.compiled else "cpu",
    }


def open_cache(
    root: str, recipe: Recipe, resources: Resources, *, key: str = "paths.embedding_cache", mark: str = ""
) -> EmbeddingCache:
    """The cache of this recipe's vectors on such workers. Raises ConfigError if it cannot be written."""
    described = describe(recipe, gpu=resources.gpu, threads=resources.threads)
    size = modality_named(recipe.modality).baseline.size
    options: dict[str, Any] = {"modality": recipe.modality, "key": key, "mark": mark}
    return EmbeddingCache(root, described, recipe.vector_size, size, **options)


class EmbeddingCache:
    """The vectors of one recipe under a folder or URI; may be sent to other processes.

    Raises ConfigError if it cannot be written there. What fails later is a warning: the run goes on.
    """

    def __init__(
        self,
        root: str,
        recipe: dict[str, Any],
        width: int,
        baseline_size: int,
        *,
        modality: str = "speech",
        key: str = "paths.embedding_cache",
        mark: str = "",
    ) -> None:
        self.width, self.baseline_size = width, baseline_size
        self.mark = mark  # what this run's files begin with
        self._recipe = json.dumps(recipe, indent=2, sort_keys=True) + "\n"
        self.key = hashlib.sha256(self._recipe.encode()).hexdigest()[:24]
        self.folder = f"{root.rstrip('/')}/{self.key}"
        self._modality, self.noun = modality, NOUNS[modality]
        self._said = {"format_version": FORMAT_VERSION, "modality": modality}
        self._schema = pa.schema(
            {
                "id": pa.int64(),
                "digest": pa.binary(32),
                "vector": pa.list_(pa.float32(), width),
                "baseline": pa.list_(pa.float32(), baseline_size),
            },
            metadata={_METADATA: json.dumps(self._said)},
        )
        self._described = False
        try:
            storage.check_folder(root)
            self._list()
        except StorageError as error:
            raise ConfigError(f"{key}: expected to be able to read and write {root}, but {error}") from None

    def files(self) -> list[str]:
        """The files with vectors of this recipe, whoever wrote them."""
        try:
            return self._list()
        except StorageError as error:
            log.warning("%s cannot be listed (%s): going on without", self.folder, error)
            return []

    def own_files(self, mark: str = "") -> list[str]:
        """The files that begin with this cache's mark, and with that after it."""
        return [file for file in self.files() if file.rsplit("/", 1)[-1].startswith(self.mark + mark)]

    def _list(self) -> list[str]:
        return [file for file in storage.list_folder(self.folder) if file.endswith(".parquet")]

    def known(
        self, digests: np.ndarray, names: Sequence[str], *, with_baseline: bool = False
    ) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """For which of (N,) S32 digests there are vectors (with_baseline: the baseline's as well), file by file.

        Gives (M,) int64 rows, each row once, and the columns `names` of these: `vector` (M, D), `baseline` (M, F),
        float32, and `remark` (M,). A digest of zeros, an example that could not be read, is never known.
        """
        order = np.argsort(digests, kind="stable")
        unique, starts, counts = np.unique(digests[order], return_index=True, return_counts=True)
        found = unique == b""
        needed = ["baseline"] if with_baseline else []
        for _, table in self._read_all(self.files(), binary(unique), list(names), needed):
            at, first = np.unique(table["at"].to_numpy(), return_index=True)
            new = ~found[at]
            at, first = at[new], first[new]
            if not len(at):
                continue
            found[at] = True
            rows = order[_ranges(starts[at], counts[at])]
            taken = table.take(first)
            columns = {name: matrix(taken[name]) for name in names}
            columns["remark"] = taken["remark"].to_numpy()
            yield rows, {name: np.repeat(values, counts[at], axis=0) for name, values in columns.items()}

    def look_up(
        self,
        digests: np.ndarray,
        *,
        vectors: np.ndarray | None,
        baseline: np.ndarray | None,
        with_baseline: bool = False,
    ) -> np.ndarray:
        """(N,) bool: the known ones, put into `vectors` (N, D) and `baseline` (N, F), float32, where given."""
        into = {"vector": vectors, "baseline": baseline}
        given = {name: values for name, values in into.items() if values is not None}
        known = np.zeros(len(digests), dtype=bool)
        for rows, columns in self.known(digests, list(given), with_baseline=with_baseline):
            for name, values in given.items():
                values[rows] = columns[name]
            known[rows] = True
        return known

    def recorded(self, num_examples: int) -> np.ndarray:
        """(N,) S32: the digest that each row of the run had when its vector was kept, zeros where none was.

        By the files that begin with this cache's mark.
        """
        digests = np.zeros(num_examples, dtype="S32")
        for _, table in self._read_all(self.own_files(), None, ["id"], needed=[]):
            ids = table["id"].to_numpy()
            inside = ids < num_examples
            content = b"".join(digest.as_py() for digest in table["digest"])
            digests[ids[inside]] = np.frombuffer(content, dtype="S32")[inside]
        return digests

    def tables(self, files: list[str]) -> Iterator[tuple[str, pa.Table]]:
        """Each file and all that is in it, remarks in a last column; not those that cannot be had."""
        schema = self._schema.append(pa.field("remark", pa.string()))
        for file, table in self._read_all(files, None, self._schema.names, []):
            yield file, table.select(schema.names).cast(schema)

    def _read_all(
        self, files: list[str], wanted: pa.Array | None, names: list[str], needed: list[str]
    ) -> Iterator[tuple[str, pa.Table]]:
        """Each file and what `_read` gives of it, several at a time, as many as are waited for."""
        with ThreadPoolExecutor(_FILES_AT_ONCE) as threads:
            for start in range(0, len(files), _FILES_AT_ONCE):
                batch = files[start : start + _FILES_AT_ONCE]
                tables = threads.map(lambda file: self._read(file, wanted, names, needed), batch)
                for file, table in zip(batch, tables, strict=True):
                    if table is not None:
                        yield file, table

    def _read(self, file: str, wanted: pa.Array | None, names: list[str], needed: list[str]) -> pa.Table | None:
        """A file's columns and digests, of the rows that are wanted, and where in `wanted` those stand (`at`).

        Of rows where the needed columns are not null. None if there are none, or if it cannot be had; a file that is
        damaged is removed.
        """
        try:
            content = storage.read(file)
        except StorageError as error:
            log.warning("%s cannot be read (%s): its %s are embedded again", file, error.kind, self.noun.many)
            return None
        try:
            parquet = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
            stored = parquet.schema_arrow
            if stored.types != self._schema.types or not self._is_ours(stored.metadata or {}):
                log.warning("%s has columns of another kind: left alone", file)
                return None
            places = [self._schema.get_field_index(name) for name in dict.fromkeys(["digest", *names, *needed])]
            table = parquet.read([stored.names[place] for place in places])
            table = table.rename_columns([self._schema.names[place] for place in places])
            table = table.append_column("remark", _remarks(stored.metadata or {}, table.num_rows))
            if wanted is not None:
                table = table.append_column("at", pc.index_in(table["digest"], wanted))
                needed = [*needed, "at"]
            for column in needed:
                table = table.filter(pc.is_valid(table[column]))
            return table if table.num_rows else None
        except (OSError, ValueError):  # Arrow's, of a file that was cut or whose checksums do not fit
            log.warning("%s is damaged: its %s are embedded again", file, self.noun.many)
        try:
            storage.remove(file)
        except StorageError as error:  # read-only, or another run was faster
            log.info("%s could not be removed (%s)", file, error.kind)
        return None

    def _is_ours(self, metadata: dict[bytes, bytes]) -> bool:
        """Whether a file is of this modality; one of version 1 does not say, but its folder's key does."""
        if _METADATA not in metadata:
            return True
        said = json.loads(metadata[_METADATA])
        return isinstance(said, dict) and said.get("modality") == self._modality

    def add(
        self,
        ids: np.ndarray,
        digests: np.ndarray,
        vectors: np.ndarray,
        baseline: np.ndarray | None,
        remarks: Sequence[str] = (),
    ) -> str:
        """Keep the vectors (N, D) float32 of (N,) int64 rows and (N,) S32 digests, the baseline's (N, F), and remarks.

        Returns why that could not be done, '' if it could.
        """
        if not len(ids):
            return ""
        kind = self._schema.field("baseline").type
        columns = [pa.array(ids), binary(digests), lists(vectors, self._schema.field("vector").type)]
        columns.append(pa.nulls(len(ids), kind) if baseline is None else lists(baseline, kind))
        try:
            if not self._described:
                storage.write(f"{self.folder}/recipe.json", self._recipe.encode())
                self._described = True
            self.write(pa.Table.from_arrays(columns, schema=self._schema), remarks)
        except StorageError as error:
            return f"embeddings could not be kept in {self.folder} ({error})"
        return ""

    def write(self, table: pa.Table, remarks: Sequence[str] = (), mark: str = "") -> None:
        """Write a file of its own, whole or not at all; `mark` comes after this cache's. Raises StorageError."""
        sink = pa.BufferOutputStream()
        options = {"compression": "none", "use_dictionary": False, "write_page_checksum": True}
        said = {row: remark for row, remark in enumerate(remarks) if remark}
        if said:
            table = table.replace_schema_metadata({_METADATA: json.dumps({**self._said, "remarks": said})})
        pq.write_table(table, sink, **options)
        storage.write(f"{self.folder}/{self.mark}{mark}{uuid.uuid4().hex}.parquet", sink.getvalue().to_pybytes())


def _remarks(metadata: dict[bytes, bytes], num_rows: int) -> pa.Array:
    """What a file says of each of its rows, '' for nothing."""
    said = json.loads(metadata.get(_METADATA, b"{}")).get("remarks", {})
    return pa.array([str(said.get(str(row), "")) for row in range(num_rows)], pa.string())


def _ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The numbers from each start, so many of them: (N,), (N,) -> (sum of counts,)."""
    ends = np.cumsum(counts)
    return np.repeat(starts - np.concatenate([[0], ends[:-1]]), counts) + np.arange(ends[-1] if len(ends) else 0)
