"""Manifests: tables of examples in CSV, JSON Lines, .xlsx or Parquet, on any filesystem that fsspec knows.

Does not know how text and workbooks are read: text_tables.py and workbooks.py do.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from golem_ray.data.encode import encode_groups, no_labels
from golem_ray.data.several import encode
from golem_ray.data.shards import first_rows, listed
from golem_ray.data.table import Columns, NoColumnError, Source, examples_table, locate, split_content
from golem_ray.data.text_tables import TextFile, in_its_encoding, read_text_table
from golem_ray.data.workbooks import read_workbook
from golem_ray.errors import DataError

SPLIT_NAMES = {"train", "test", "validation", "val", "valid", "dev", "eval", "data"}

MANIFEST_SUFFIXES = (".parquet", ".csv", ".jsonl", ".tsv", ".xlsx")


def open_manifests(fs: Any, files: list[str], max_samples: int | None, columns: Columns) -> Source:
    """One table over several files: labels read whole, contents and groups only for the first max_samples rows."""
    label_parts: dict[str, list[pa.Array]] = {}
    parts, groups = [_NOTHING], [pa.array([], pa.string())]
    names, left = None, max_samples
    for file in files:
        manifest = _labelled_by_folders(_open_manifest(fs, file, columns), columns)
        found = _found_columns(manifest, columns, file)
        if found.label is not None:
            names = manifest.class_names(found.label)
        for place, column in zip(columns.labelled, found.labelled, strict=True):
            label_parts.setdefault(place, []).extend(manifest.read(column, None).chunks)
        if left is None or left > 0:
            parts.append(_contents(fs, file, manifest, found, left))
            if found.group is not None:
                groups.append(encode_groups(manifest.read(found.group, left)))
            left = None if left is None else left - parts[-1].num_rows
    contents = pa.concat_tables(parts, promote_options="permissive").unify_dictionaries().combine_chunks()
    labels: tuple[str, ...] = ()
    indices = no_labels(contents.num_rows)
    if columns.labelled:
        joined = {place: _joined(parts) for place, parts in label_parts.items()}
        labels, indices = encode(joined, names, **columns.about_labels)
    group_column = None if columns.group is None else pa.concat_arrays(groups)
    examples = examples_table(contents, indices[: contents.num_rows], group_column)
    total = len(indices) if columns.labelled else None
    return Source(examples=examples, labels=labels, total=total, noun=columns.content.noun)


_NOTHING = pa.table({"bytes": pa.array([], pa.large_binary()), "path": pa.array([], pa.string())})


def _contents(fs: Any, file: str, manifest: _Manifest, columns: Columns, limit: int | None) -> pa.Table:
    """Where the examples of the first rows (None: all) lie, as columns of their table; Parquet's stay there."""
    column, key = columns.column, columns.content.key
    inline = columns.content.inline and column != "file_name"
    if file.lower().endswith(".parquet"):
        table = listed(fs, file, column, limit, inline)
        if table is not None:
            return table
    folder = file.rsplit("/", 1)[0]
    contents, paths = split_content(manifest.read(column, limit), partial(locate, fs, folder), key, inline)
    found = {"bytes": contents, "path": paths}
    return pa.table({name: values for name, values in found.items() if values is not None})


def _joined(parts: list[pa.Array]) -> pa.ChunkedArray:
    """The label column of several shards; where they write it differently, as text."""
    kinds = {part.type for part in parts if not pa.types.is_null(part.type)}
    if len(kinds) == 1:
        kind = kinds.pop()
    elif any(map(pa.types.is_nested, kinds)):
        if not all(map(pa.types.is_nested, kinds)):
            found = ", ".join(sorted(map(str, kinds)))
            raise DataError(f"dataset.label_column: expected lists of labels in all files or in none, found {found}.")
        inner = {kind.value_type for kind in kinds if pa.types.is_list(kind) and not pa.types.is_null(kind.value_type)}
        kind = pa.list_(inner.pop() if len(inner) == 1 else pa.string())
    else:
        kind = pa.int64() if kinds and all(map(pa.types.is_integer, kinds)) else pa.string()
    return pa.chunked_array([part.cast(kind) for part in parts], kind)


def _found_columns(manifest: _Manifest, wanted: Columns, file: str) -> Columns:
    """The columns that a manifest has of those wanted, `file_name` where it has no other for the examples."""
    wanted = wanted.among(manifest.columns)
    if "file_name" in manifest.columns and (wanted.column not in manifest.columns or wanted.column == wanted.label):
        wanted = dataclasses.replace(wanted, column="file_name")
    for key, column in wanted.needed():
        if column not in manifest.columns:
            raise NoColumnError(key, column, manifest.columns, file.rsplit("/", 1)[-1])
        if manifest.columns.count(column) > 1:
            raise DataError(f"{key}: expected one column {column!r} in {file}, found several.")
    return wanted


@dataclass(frozen=True)
class _Manifest:
    """A manifest's columns, and a way to read the first rows (None: all) of one of them."""

    columns: list[str]
    read: Callable[[str, int | None], pa.ChunkedArray]
    features: Any
    """The Hub's description of the columns, where a Parquet file carries one."""

    def class_names(self, column: str) -> list[str] | None:
        """The names of a ClassLabel column; None for any other."""
        feature = self.features.get(column) if isinstance(self.features, dict) else None
        inner = feature.get("feature") if isinstance(feature, dict) else None
        feature = inner if isinstance(inner, dict) else feature  # of a list, what is in it
        return feature.get("names") if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" else None


def _labelled_by_folders(manifest: _Manifest, columns: Columns) -> _Manifest:
    """The manifest; without a column of labels, and where none was named, with the folder that each file lies in.

    That is no label where all lie in one, or in splits.
    """
    wanted = columns.among(manifest.columns)
    unnamed = wanted.label is not None and wanted.label not in manifest.columns and wanted.other_label is not None
    if not unnamed or "file_name" not in manifest.columns or wanted.column in manifest.columns:
        return manifest

    def read(column: str, limit: int | None) -> pa.ChunkedArray:
        if column != wanted.label:
            return manifest.read(column, limit)
        paths = manifest.read("file_name", limit).to_pylist()
        return pa.chunked_array([pa.array([_folder(path) for path in paths], pa.string())])

    assert wanted.label is not None
    folders = set(read(wanted.label, None).to_pylist()) - {None}
    if len(folders) < 2 or folders <= SPLIT_NAMES:
        return manifest
    return dataclasses.replace(manifest, columns=[*manifest.columns, wanted.label], read=read)


def _folder(path: object) -> str | None:
    """The first folder of a relative path; None for any other."""
    parts = str(path or "").removeprefix("./").split("/")
    return parts[0] if len(parts) > 1 and parts[0] and "://" not in str(path) else None


def _open_manifest(fs: Any, file: str, columns: Columns) -> _Manifest:
    suffix = file.lower()
    if not suffix.endswith(MANIFEST_SUFFIXES):
        raise DataError(
            f"dataset.name: expected a folder or a manifest ({', '.join(MANIFEST_SUFFIXES)}), found {file}."
        )
    if suffix.endswith(".parquet"):
        return _open_parquet(fs, file)
    if suffix.endswith(".xlsx"):
        return _in_memory(read_workbook(fs, file), nullcontext)
    text = TextFile.of(fs, file, columns.delimiter, columns.encoding)
    return _in_memory(read_text_table(text), partial(in_its_encoding, text))


def _in_memory(table: pa.Table, checked: Callable[[], AbstractContextManager[None]]) -> _Manifest:
    def read(column: str, limit: int | None) -> pa.ChunkedArray:
        with checked():
            table[column].validate(full=True)  # which reading JSON does not see to
        return table[column].slice(0, limit)

    return _Manifest(table.column_names, read, {})


def _open_parquet(fs: Any, file: str) -> _Manifest:
    import pyarrow.parquet as pq

    def read(column: str, limit: int | None) -> pa.ChunkedArray:
        with fs.open(file, "rb") as stream:
            parquet = pq.ParquetFile(stream)
            return first_rows(parquet, column, limit)

    with fs.open(file, "rb") as stream:
        schema = pq.read_schema(stream)
    stored = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    info = stored.get("info") if isinstance(stored, dict) else None
    return _Manifest(schema.names, read, info.get("features") if isinstance(info, dict) else None)
