"""Folders and manifests, on this machine or at any URI that fsspec knows."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import zip_longest
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa

from golem_ray.config import DatasetConfig
from golem_ray.data.encode import clean_label, no_labels
from golem_ray.data.manifests import MANIFEST_SUFFIXES, SPLIT_NAMES, open_manifests
from golem_ray.data.several import encode
from golem_ray.data.table import Columns, Source, absolute, check_regular, examples_table, on_disk, storable
from golem_ray.errors import DataError, ExampleError, StorageError, as_storage_errors
from golem_ray.sample import SAMPLE

log = logging.getLogger(__name__)

METADATA_FILES = tuple(f"metadata{suffix}" for suffix in sorted(MANIFEST_SUFFIXES))


def open_files(dataset: DatasetConfig, max_samples: int | None, columns: Columns) -> Source:
    """The first max_samples examples (None: all) of a folder or a manifest."""
    try:
        with as_storage_errors():  # pyarrow's too
            return _open(dataset, max_samples, columns)
    except StorageError as error:
        raise DataError(f"dataset.name: expected {dataset.name} to be readable, but {error.kind}: {error}") from None


def _open(dataset: DatasetConfig, max_samples: int | None, columns: Columns) -> Source:
    fs, root = _place(dataset.name)
    if fs.isfile(root):
        if dataset.split != "train":
            raise DataError(f"dataset.split: expected 'train', the only split of a manifest, got {dataset.split!r}.")
        return open_manifests(fs, [root], max_samples, columns)
    if not fs.isdir(root):
        raise DataError(f"dataset.name: expected a folder or a manifest, found nothing at {dataset.name!r}.")
    return _open_folder(dataset, fs, root, max_samples, columns)


def other_splits(dataset: DatasetConfig) -> list[str]:
    """Splits of usual names that a folder has beside the configured one; none if it is no folder."""
    with suppress(StorageError), as_storage_errors():
        fs, root = _place(str(SAMPLE) if dataset.name == "sample" else dataset.name)
        if fs.isdir(root):
            return [
                split
                for split in sorted(SPLIT_NAMES - {dataset.split, "data"})
                if _holds_split(fs, root, split) or _shards_of(fs, root, split, dataset.name_alias)
            ]
    return []


def open_paths(paths: Sequence[str], columns: Columns) -> Source:
    """The examples, without labels, of files, folders (every file of theirs below) and manifests, here or at a URI."""
    suffixes = columns.content.suffixes
    parts = [paths_table([])]
    for path in paths:
        if not path.strip():
            raise DataError(f"files: expected paths or URIs, found {path!r} among them.")
        try:
            with as_storage_errors():  # pyarrow's too
                fs, root = _place(path)
                if root.lower().endswith(MANIFEST_SUFFIXES):
                    check_regular(root)
                    parts.append(open_manifests(fs, [root], None, columns).examples.drop_columns(["id", "label"]))
                    continue
                files = _files_below(fs, root, suffixes) if fs.isdir(root) else [root]
                missing = "://" not in path and not os.path.lexists(on_disk(root))
        except StorageError as error:
            raise DataError(f"{path}: expected to be able to read it, but {error.kind}: {error}") from None
        except ExampleError as error:
            raise DataError(f"{path}: expected a manifest, found {error}.") from None
        if not files:
            what = columns.content.what
            raise DataError(f"{path}: expected {what} files ({', '.join(suffixes)}) in the folder, found none.")
        if missing and len(paths) == 1:  # among others it is one that cannot be used
            raise DataError(f"{path}: expected {columns.content.what} files, or folders of them, found nothing there.")
        parts.append(paths_table([absolute(fs, file) for file in files]))
    contents = pa.concat_tables(parts, promote_options="permissive").unify_dictionaries()
    examples = examples_table(contents, no_labels(contents.num_rows))
    return Source(examples=examples, labels=(), noun=columns.content.noun)


def paths_table(paths: Sequence[str]) -> pa.Table:
    """Where examples lie that are files of their own, as columns of the table of examples."""
    return pa.table({"path": pa.array(paths, pa.string())})


def _place(name: str) -> tuple[Any, str]:
    """The filesystem that a path or URI lies on, and its place there."""
    if "://" in name:
        fs, root = fsspec.core.url_to_fs(name)
    else:  # not through fsspec's URL parser, to which `a::b` is a chain
        fs, root = fsspec.filesystem("file"), str(Path(os.path.expanduser(name)).resolve())
    return fs, root.rstrip("/")


def _files_below(fs: Any, root: str, suffixes: tuple[str, ...]) -> list[str]:
    """The files below a folder that hold an example each, hidden ones aside, in order."""
    return [
        path
        for path in sorted(_walk(fs, root))
        if path.lower().endswith(suffixes)
        and not any(part.startswith(".") for part in path[len(root) + 1 :].split("/"))
    ]


def _open_folder(dataset: DatasetConfig, fs: Any, root: str, max_samples: int | None, columns: Columns) -> Source:
    """A folder (or its subfolder for the split) with metadata, with the split's manifest, or a folder per label."""
    split = dataset.split
    has_subfolder = _holds_split(fs, root, split)
    if has_subfolder:
        root = f"{root}/{split}"
    if shards := _shards_of(fs, root, split, dataset.name_alias):
        return open_manifests(fs, shards, max_samples, columns)
    if has_subfolder and (shards := _numbered_shards(fs, root)):
        return open_manifests(fs, shards, max_samples, columns)
    if split != "train" and not has_subfolder:
        raise DataError(
            f"dataset.split: expected a subfolder or a manifest called {split!r} in {dataset.name}, found none; a "
            "folder without them is all 'train'."
        )
    for file in METADATA_FILES:
        if fs.isfile(f"{root}/{file}"):
            return open_manifests(fs, [f"{root}/{file}"], max_samples, columns)
    if columns.group is not None:
        raise DataError(
            f"evaluation.group_column: expected metadata with a column {columns.group!r} in {dataset.name}, found none."
        )
    if not columns.labelled:
        paths = [absolute(fs, path) for path in _files_below(fs, root, columns.content.suffixes)][:max_samples]
        examples = examples_table(paths_table(paths), no_labels(len(paths)))
        return Source(examples=examples, labels=(), noun=columns.content.noun)
    if columns.label_columns:
        raise DataError(
            f"dataset.label_columns: expected metadata with columns of 0 and 1 in {dataset.name}, found folders alone."
        )
    return _open_label_folders(fs, root, max_samples, columns)


def _shards_of(fs: Any, root: str, split: str, alias: str | None) -> list[str]:
    """The split's manifests in root, or in one of its subfolders that the Hub's datasets have."""
    for place in (root, f"{root}/data", f"{root}/{alias}"):
        found = [f"{place}/{split}{suffix}" for suffix in MANIFEST_SUFFIXES if fs.isfile(f"{place}/{split}{suffix}")]
        shards = found[:1] or sorted(fs.glob(f"{glob.escape(f'{place}/{split}')}-*.parquet"))
        if shards:
            return shards
    return []


def _holds_split(fs: Any, root: str, split: str) -> bool:
    """Whether root's subfolder holds the split: metadata, or folders per label with only other splits beside it."""
    if not fs.isdir(f"{root}/{split}"):
        return False
    inside = fs.ls(f"{root}/{split}", detail=True)
    if any(_name(entry) in METADATA_FILES for entry in inside) or _numbered_shards(fs, f"{root}/{split}"):
        return True
    folders = {_name(entry) for entry in fs.ls(root, detail=True) if fs.isdir(entry["name"])}
    labels_beside = {name for name in folders if not name.startswith(".")} - SPLIT_NAMES - {split}
    return not labels_beside and any(fs.isdir(entry["name"]) for entry in inside)


def _numbered_shards(fs: Any, folder: str) -> list[str]:
    """`0000.parquet` and so on: what the Hub converts a split into."""
    return sorted(fs.glob(f"{glob.escape(folder)}/[0-9]*.parquet"))


def _name(entry: dict[str, Any]) -> str:
    return entry["name"].rstrip("/").rsplit("/", 1)[-1]


def _open_label_folders(fs: Any, root: str, max_samples: int | None, columns: Columns) -> Source:
    """A folder per label; in turn one example of each label, so that the first N examples hold every label.

    Every file in a label's folder counts as an example, hidden ones aside; so do such files beside the folders, which
    has no label.
    """
    by_label: dict[str, list[str]] = {}
    for path in sorted(_walk(fs, root)):
        parts = path[len(root) + 1 :].split("/")
        if any(part.startswith(".") for part in parts):
            continue
        if len(parts) > 1:
            by_label.setdefault(clean_label(storable(parts[0])), []).append(path)
        elif path.lower().endswith(columns.content.suffixes):
            by_label.setdefault("", []).append(path)
    names = sorted(label for label in by_label if label)
    number = {name: number for number, name in enumerate(names)}
    rows = [
        (path, number.get(label))
        for group in zip_longest(*([(path, label) for path in paths] for label, paths in sorted(by_label.items())))
        for path, label in filter(None, group)
    ]
    contents = paths_table([absolute(fs, path) for path, _ in rows[:max_samples]])
    labels = pa.array([label for _, label in rows], pa.int64())
    called = tuple(names)
    if columns.separator is not None or columns.label_map:
        written = pa.array(names, pa.string()).take(labels)
        called, labels = encode({"label": pa.chunked_array([written])}, None, **columns.about_labels)
    examples = examples_table(contents, labels[:max_samples])
    return Source(examples=examples, labels=called, total=len(rows), noun=columns.content.noun)


def _walk(fs: Any, root: str) -> Iterator[str]:
    """Every file below root; on this machine also behind symbolic links, which fsspec takes for files."""
    if "file" not in fs.protocol:
        yield from fs.find(root)
        return

    def unlisted(error: OSError) -> None:
        if error.filename == root:
            raise error
        log.warning("%s cannot be listed (%s): what is in it is left out", error.filename, error.strerror)

    for folder, _, files in os.walk(root, onerror=unlisted, followlinks=True):
        yield from (f"{folder}/{file}" for file in files)
