"""Folders and manifests, on this machine or at any URI that fsspec knows."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa

from golem_ray.config import DatasetConfig
from golem_ray.data.table import Source, clips_table, encode_labels, flat, no_column, one_line, split_audio
from golem_ray.errors import DataError

METADATA_FILES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
MANIFEST_SUFFIXES = (".parquet", ".csv", ".jsonl")
AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aiff", ".aif", ".au", ".m4a")
SPLIT_NAMES = {"train", "test", "validation", "val", "valid", "dev", "eval", "data"}


def open_files(dataset: DatasetConfig, max_samples: int | None) -> Source:
    """The first max_samples clips (None: all) of a folder or a manifest."""
    try:
        if "://" in dataset.name:
            fs, root = fsspec.core.url_to_fs(dataset.name)
        else:  # not through fsspec's URL parser, to which `a::b` is a chain
            fs, root = fsspec.filesystem("file"), str(Path(os.path.expanduser(dataset.name)).resolve())
        root = root.rstrip("/")
        if fs.isfile(root):
            if dataset.split != "train":
                raise DataError(
                    f"dataset.split: expected 'train', the only split of a manifest, got {dataset.split!r}."
                )
            return _open_manifests(dataset, fs, [root], max_samples)
        if not fs.isdir(root):
            raise DataError(f"dataset.name: expected a folder or a manifest, found nothing at {dataset.name!r}.")
        return _open_folder(dataset, fs, root, max_samples)
    except DataError:
        raise
    except Exception as error:  # every filesystem has its own, and so has pyarrow
        raise DataError(
            f"dataset.name: expected {dataset.name} to be readable, but {type(error).__name__}: {one_line(error)}"
        ) from None


def _open_folder(dataset: DatasetConfig, fs: Any, root: str, max_samples: int | None) -> Source:
    """A folder (or its subfolder for the split) with metadata, with the split's manifest, or a folder per label."""
    split = dataset.split
    has_subfolder = _holds_split(fs, root, split)
    if has_subfolder:
        root = f"{root}/{split}"
    for place in (root, f"{root}/data", f"{root}/{dataset.name_alias}"):
        found = [f"{place}/{split}{suffix}" for suffix in MANIFEST_SUFFIXES if fs.isfile(f"{place}/{split}{suffix}")]
        shards = found[:1] or sorted(fs.glob(f"{glob.escape(f'{place}/{split}')}-*.parquet"))
        if shards:
            return _open_manifests(dataset, fs, shards, max_samples)
    if split != "train" and not has_subfolder:
        raise DataError(
            f"dataset.split: expected a subfolder or a manifest called {split!r} in {dataset.name}, found none; a "
            "folder without them is all 'train'."
        )
    for file in METADATA_FILES:
        if fs.isfile(f"{root}/{file}"):
            return _open_manifests(dataset, fs, [f"{root}/{file}"], max_samples)
    return _open_label_folders(fs, root, max_samples)


def _holds_split(fs: Any, root: str, split: str) -> bool:
    """Whether root's subfolder holds the split: metadata, or folders per label with only other splits beside it."""
    if not fs.isdir(f"{root}/{split}"):
        return False
    inside = fs.ls(f"{root}/{split}", detail=True)
    if any(_name(entry) in METADATA_FILES for entry in inside):
        return True
    folders = {_name(entry) for entry in fs.ls(root, detail=True) if fs.isdir(entry["name"])}
    labels_beside = {name for name in folders if not name.startswith(".")} - SPLIT_NAMES - {split}
    return not labels_beside and any(fs.isdir(entry["name"]) for entry in inside)


def _name(entry: dict[str, Any]) -> str:
    return entry["name"].rstrip("/").rsplit("/", 1)[-1]


def _open_label_folders(fs: Any, root: str, max_samples: int | None) -> Source:
    """A folder per label; in turn one clip of each label, so that the first N clips hold every label.

    Every file in a label's folder counts as a clip, hidden ones aside; so does audio beside the folders, which
    has no label.
    """
    by_label: dict[str, list[str]] = {}
    for path in sorted(_walk(fs, root)):
        parts = path[len(root) + 1 :].split("/")
        if any(part.startswith(".") for part in parts):
            continue
        if len(parts) > 1:
            by_label.setdefault(parts[0], []).append(path)
        elif path.lower().endswith(AUDIO_SUFFIXES):
            by_label.setdefault("", []).append(path)
    names = sorted(label for label in by_label if label)
    rows = [
        (path, names.index(label) if label else None)
        for group in zip_longest(*([(path, label) for path in paths] for label, paths in sorted(by_label.items())))
        for path, label in filter(None, group)
    ][:max_samples]
    paths = pa.array([_absolute(fs, path) for path, _ in rows], pa.string())
    labels = pa.array([label for _, label in rows], pa.int64())
    return Source(clips=clips_table(None, paths, labels), labels=tuple(names))


def _walk(fs: Any, root: str) -> Iterator[str]:
    """Every file below root; on this machine also behind symbolic links, which fsspec takes for files."""
    if "file" not in fs.protocol:
        yield from fs.find(root)
        return
    for folder, _, files in os.walk(root, followlinks=True):
        yield from (f"{folder}/{file}" for file in files)


def _joined(parts: list[pa.Array]) -> pa.ChunkedArray:
    """The label column of several shards; where they write it differently, as text."""
    kinds = {part.type for part in parts if not pa.types.is_null(part.type)}
    if len(kinds) == 1:
        kind = kinds.pop()
    else:
        kind = pa.int64() if kinds and all(map(pa.types.is_integer, kinds)) else pa.string()
    return pa.chunked_array([part.cast(kind) for part in parts], kind)


def _open_manifests(dataset: DatasetConfig, fs: Any, files: list[str], max_samples: int | None) -> Source:
    """One table over several files: labels read whole, audio only for the first max_samples rows."""
    label_parts: list[pa.Array] = []
    contents = [pa.array([], pa.large_binary())]
    paths = [pa.array([], pa.string())]
    names, left = None, max_samples
    for file in files:
        manifest = _open_manifest(fs, file)
        label_column, audio_column = dataset.label_column, dataset.audio_column
        if "file_name" in manifest.columns and (audio_column not in manifest.columns or audio_column == label_column):
            audio_column = "file_name"
        for key, column in (("audio_column", audio_column), ("label_column", label_column)):
            if column not in manifest.columns:
                raise no_column(f"dataset.{key}", column, manifest.columns, file.rsplit("/", 1)[-1])
            if manifest.columns.count(column) > 1:
                raise DataError(f"dataset.{key}: expected one column {column!r} in {file}, found several.")
        names = manifest.class_names(label_column)
        label_parts.extend(manifest.read(label_column, None).chunks)
        if left is None or left > 0:
            folder = file.rsplit("/", 1)[0]
            audio = manifest.read(audio_column, left)
            held, located = split_audio(audio, partial(_locate, fs, folder))
            contents.append(pa.nulls(len(audio), pa.large_binary()) if held is None else flat(held))
            paths.append(pa.nulls(len(audio), pa.string()) if located is None else located)
            left = None if left is None else left - len(audio)
    labels, indices = encode_labels(_joined(label_parts), names)
    path_column = pa.concat_arrays(paths)
    clips = clips_table(pa.concat_arrays(contents), path_column, indices[: len(path_column)])
    return Source(clips=clips, labels=labels)


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
        return feature.get("names") if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" else None


def _open_manifest(fs: Any, file: str) -> _Manifest:
    if not file.lower().endswith(MANIFEST_SUFFIXES):
        raise DataError(
            f"dataset.name: expected a folder or a manifest ({', '.join(MANIFEST_SUFFIXES)}), found {file}."
        )
    if file.lower().endswith(".parquet"):
        return _open_parquet(fs, file)
    table = _read_text_table(fs, file)
    return _Manifest(table.column_names, lambda column, limit: table[column].slice(0, limit), {})


def _open_parquet(fs: Any, file: str) -> _Manifest:
    import pyarrow.parquet as pq

    def read(column: str, limit: int | None) -> pa.ChunkedArray:
        with fs.open(file, "rb") as stream:
            parquet = pq.ParquetFile(stream)
            if limit is None:
                return parquet.read(columns=[column])[column]
            batches, left = [], limit
            for batch in parquet.iter_batches(batch_size=min(1024, limit), columns=[column]):
                batches.append(batch.column(0).slice(0, left))
                left -= len(batches[-1])
                if left == 0:
                    break
            return pa.chunked_array(batches, parquet.schema_arrow.field(column).type)

    with fs.open(file, "rb") as stream:
        schema = pq.read_schema(stream)
    stored = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    info = stored.get("info") if isinstance(stored, dict) else None
    return _Manifest(schema.names, read, info.get("features") if isinstance(info, dict) else None)


def _read_text_table(fs: Any, file: str) -> pa.Table:
    """A CSV (every column as text, empty cells null) or JSON Lines file."""
    import pyarrow.csv
    import pyarrow.json

    with fs.open(file, "rb") as stream:
        if file.lower().endswith(".jsonl"):
            return pyarrow.json.read_json(stream, pyarrow.json.ReadOptions(block_size=16 << 20))
        parsing = pyarrow.csv.ParseOptions(newlines_in_values=True)
        header = pyarrow.csv.open_csv(stream, parse_options=parsing).schema.names
    with fs.open(file, "rb") as stream:
        return pyarrow.csv.read_csv(
            stream,
            parse_options=parsing,
            convert_options=pyarrow.csv.ConvertOptions(
                column_types={name: pa.string() for name in header}, strings_can_be_null=True, null_values=[""]
            ),
        )


def _absolute(fs: Any, path: str) -> str:
    """The path as a worker can open it: plain for local files, with its protocol elsewhere."""
    return path if "file" in fs.protocol else fs.unstrip_protocol(path)


def _locate(fs: Any, folder: str, path: str) -> str:
    """A manifest's path, relative ones taken from the manifest's folder."""
    if "://" in path or path.startswith("/"):
        return path
    return _absolute(fs, f"{folder}/{path}")
