"""Folders and manifests, on this machine or at any URI that fsspec knows."""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Callable
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


def open_files(dataset: DatasetConfig, max_samples: int | None) -> Source:
    """The first max_samples clips (None: all) of a folder or a manifest."""
    name = dataset.name if "://" in dataset.name else str(Path(dataset.name).expanduser().resolve())
    try:
        fs, root = fsspec.core.url_to_fs(name)
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
    except (OSError, ImportError, ValueError) as error:  # pyarrow's errors are ValueErrors and OSErrors
        raise DataError(
            f"dataset.name: expected {dataset.name} to be readable, but {type(error).__name__}: {one_line(error)}"
        ) from None


def _open_folder(dataset: DatasetConfig, fs: Any, root: str, max_samples: int | None) -> Source:
    """A folder (or its subfolder for the split) with metadata, with the split's manifest, or a folder per label."""
    split = dataset.split
    has_subfolder = _holds_split(fs, f"{root}/{split}")
    if has_subfolder:
        root = f"{root}/{split}"
    for place in (root, f"{root}/data", f"{root}/{dataset.name_alias}"):
        found = [f"{place}/{split}{suffix}" for suffix in MANIFEST_SUFFIXES if fs.isfile(f"{place}/{split}{suffix}")]
        shards = found[:1] or sorted(fs.glob(f"{place}/{split}-*.parquet"))
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


def _holds_split(fs: Any, folder: str) -> bool:
    """Whether the folder holds a split (metadata or folders per label) and is not itself the folder of a label."""
    if not fs.isdir(folder):
        return False
    entries = fs.ls(folder, detail=True)
    return any(entry["type"] == "directory" or entry["name"].rsplit("/", 1)[-1] in METADATA_FILES for entry in entries)


def _open_label_folders(fs: Any, root: str, max_samples: int | None) -> Source:
    """A folder per label; in turn one clip of each label, so that the first N clips hold every label.

    Every file in a label's folder counts as a clip, hidden ones aside; so does audio beside the folders, which
    has no label.
    """
    by_label: dict[str, list[str]] = {}
    for path in sorted(fs.find(root)):
        parts = path[len(root) + 1 :].split("/")
        if any(part.startswith(".") for part in parts):
            continue
        if len(parts) > 1:
            by_label.setdefault(parts[0], []).append(path)
        elif (mimetypes.guess_type(path)[0] or "").startswith("audio/"):
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


def _open_manifests(dataset: DatasetConfig, fs: Any, files: list[str], max_samples: int | None) -> Source:
    """One table over several files: labels read whole, audio only for the first max_samples rows."""
    label_parts: list[pa.Array] = []
    contents = [pa.array([], pa.large_binary())]
    paths = [pa.array([], pa.string())]
    names, left = None, max_samples
    for file in files:
        manifest = _open_manifest(fs, file)
        label_column, audio_column = dataset.label_column, dataset.audio_column
        if audio_column not in manifest.columns and "file_name" in manifest.columns:
            audio_column = "file_name"
        for key, column in (("audio_column", audio_column), ("label_column", label_column)):
            if column not in manifest.columns:
                raise no_column(f"dataset.{key}", column, manifest.columns, file.rsplit("/", 1)[-1])
        names = manifest.class_names(label_column)
        label_parts.extend(manifest.read(label_column, None).chunks)
        if left is None or left > 0:
            folder = file.rsplit("/", 1)[0]
            audio = manifest.read(audio_column, left)
            held, located = split_audio(audio, partial(_locate, fs, folder))
            contents.append(pa.nulls(len(audio), pa.large_binary()) if held is None else flat(held))
            paths.append(pa.nulls(len(audio), pa.string()) if located is None else located)
            left = None if left is None else left - len(audio)
    labels, indices = encode_labels(pa.chunked_array(label_parts or [pa.array([], pa.string())]), names)
    path_column = pa.concat_arrays(paths)
    clips = clips_table(pa.concat_arrays(contents), path_column, indices[: len(path_column)])
    return Source(clips=clips, labels=labels)


@dataclass(frozen=True)
class _Manifest:
    """A manifest's columns, and a way to read the first rows (None: all) of one of them."""

    columns: list[str]
    read: Callable[[str, int | None], pa.ChunkedArray]
    features: dict[str, Any]
    """The Hub's description of the columns, where a Parquet file carries one."""

    def class_names(self, column: str) -> list[str] | None:
        """The names of a ClassLabel column; None for any other."""
        feature = self.features.get(column, {})
        return feature.get("names") if feature.get("_type") == "ClassLabel" else None


def _open_manifest(fs: Any, file: str) -> _Manifest:
    if not file.endswith(MANIFEST_SUFFIXES):
        raise DataError(
            f"dataset.name: expected a folder or a manifest ({', '.join(MANIFEST_SUFFIXES)}), found {file}."
        )
    if file.endswith(".parquet"):
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
    return _Manifest(schema.names, read, stored.get("info", {}).get("features", {}))


def _read_text_table(fs: Any, file: str) -> pa.Table:
    """A CSV (every column as text, empty cells null) or JSON Lines file."""
    import pyarrow.csv
    import pyarrow.json

    with fs.open(file, "rb") as stream:
        if file.endswith(".jsonl"):
            return pyarrow.json.read_json(stream, pyarrow.json.ReadOptions(block_size=16 << 20))
        header = pyarrow.csv.open_csv(stream).schema.names
    with fs.open(file, "rb") as stream:
        return pyarrow.csv.read_csv(
            stream,
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
