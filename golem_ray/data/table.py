"""The table of examples that every source gives, and what its columns may be made from.

    id     int64          the row's index in the source
    bytes  large_binary   the file, null where `path` says where it lies, or `shard`
    path   string         path, URI, or the name by which the example is reported
    label  int64          index into the source's labels, null where the example has none; 0 if none were asked for
    group  string         only where a group column was asked for: who speaks, say; null where that is not known
    shard  string         only where there are Parquet shards with files inside: the shard's place, null for others
    column string         its column with the files
    at     int64          and the row there

Lists examples and reads their bytes; knows nothing of what is in them.
"""

from __future__ import annotations

import dataclasses
import os
import re
import stat
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from golem_ray import storage
from golem_ray.config import NOUNS, DatasetConfig, Noun
from golem_ray.config.checks import default_of, separator
from golem_ray.errors import DataError, ExampleError, StorageError, without_credentials


@dataclass(frozen=True, kw_only=True)
class Content:
    """Where a modality's examples lie in a source."""

    key: str
    """The configuration's key that names their column."""
    suffixes: tuple[str, ...]
    """Of files that hold one example each."""
    what: str
    """What such a file holds, for messages."""
    noun: Noun = NOUNS["speech"]
    """What messages call an example."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What to read of each example, and what the columns are called."""

    content: Content
    """Of which kind the examples are."""
    column: str
    """The column that they lie in."""
    label: str | None
    """None where labels are not needed."""
    group: str | None = None
    """None where groups are not needed."""
    other_label: str | None = None
    """The column of labels where there is no `label`."""
    delimiter: str = ","
    """The character between the columns of a CSV."""
    encoding: str = "utf-8"
    """Of a CSV."""

    def among(self, names: list[str]) -> Columns:
        """These where a source has columns of those names: its column of labels may be the other one."""
        if self.label in names or self.other_label not in names:
            return self
        return dataclasses.replace(self, label=self.other_label)

    def needed(self) -> list[tuple[str, str]]:
        """(key of the configuration, column) of each."""
        keys = {
            self.content.key: self.column,
            "dataset.label_column": self.label,
            "evaluation.group_column": self.group,
        }
        return [(key, column) for key, column in keys.items() if column is not None]


def columns_of(dataset: DatasetConfig, content: Content, *, labelled: bool, group: str | None = None) -> Columns:
    """The columns that the configuration names."""
    is_default = dataset.label_column == default_of(dataset, "label_column")
    return Columns(
        content=content,
        column=getattr(dataset, content.key.rsplit(".", 1)[-1]),
        label=dataset.label_column if labelled else None,
        group=group,
        other_label="label" if labelled and is_default else None,
        delimiter=separator(dataset.delimiter),
        encoding=dataset.encoding,
    )


@dataclass(frozen=True, kw_only=True)
class Source:
    """The first examples of a dataset, in its order, and what their labels are called."""

    examples: pa.Table
    labels: tuple[str, ...]
    """Names of all classes of the source, also of those that no example here has; none where none were asked for."""
    revision: str | None = None
    """Commit of a Hub dataset."""
    total: int | None = None
    """How many examples there are, taken or not; None where that was not asked for."""
    noun: Noun = NOUNS["speech"]
    """What messages call an example."""


def read_content(content: bytes | None, path: str | None, what: str = "content") -> bytes:
    """The bytes of an example's file, which holds `what`. Raises ExampleError if there is none to be read."""
    if content is not None:
        return content
    if not path:
        raise ExampleError(f"no {what}")
    path = on_disk(path)
    check_regular(path)
    try:
        return storage.read(path)
    except StorageError as error:
        if error.missing and error.__cause__ is not None:  # fsspec says so of every failed request
            raise ExampleError(f"cannot be fetched ({type(error.__cause__).__name__})") from None
        if error.missing:
            raise ExampleError("missing file") from None
        raise ExampleError(f"cannot be read ({error.kind}: {error})") from None


def storable(path: str) -> str:
    """A path of this machine as text that goes into tables, files and terminals: what is no UTF-8 in it as `\\xe9`."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def on_disk(path: str) -> str:
    """The path that `storable` made such text of, as this process names it in its locale; others stay as they are."""
    if "://" in path or os.path.lexists(path):
        return path
    name = path.encode("utf-8", "surrogateescape")
    name = re.sub(rb"\\x([89a-f][0-9a-f])", lambda found: bytes.fromhex(found[1].decode()), name)
    return os.fsdecode(name)


_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


def check_regular(path: str) -> None:
    """Raise ExampleError for what is there on this machine but is no file: to read a pipe or a device may never end."""
    local = path.removeprefix("file://")
    try:
        mode = 0 if "://" in local else os.stat(local).st_mode
    except (OSError, ValueError):  # reading it says why
        return
    if mode and not stat.S_ISREG(mode):
        raise ExampleError(f"{_KINDS.get(stat.S_IFMT(mode), 'a device')}, not a file")


def example_name(example_id: int, path: str | None, noun: Noun) -> str:
    """How an example is named in reports: its row, and its path without anything secret in it."""
    return f"{noun.one} {example_id}" + (f" ({without_credentials(path)})" if path else "")


def examples_table(contents: pa.Table, labels: pa.Array, groups: Any = None) -> pa.Table:
    """The table of examples, in the source's order; `contents` has the columns that say where they lie."""
    nothing = {"bytes": pa.large_binary(), "path": pa.string()}
    columns = {name: pa.nulls(len(labels), kind) for name, kind in nothing.items()}
    columns |= {name: contents[name] for name in contents.column_names}
    columns = {"id": pa.array(np.arange(len(labels))), **columns, "label": labels}
    return pa.table(columns if groups is None else {**columns, "group": groups})


def no_labels(num_examples: int) -> pa.Array:
    """The label column of examples whose labels were not asked for."""
    return pa.array(np.zeros(num_examples, dtype=np.int64))


def clean_label(name: str) -> str:
    """The label as every source gives it: in Unicode's composed form (NFC), without white space around it."""
    return unicodedata.normalize("NFC", name).strip()


def encode_labels(values: pa.ChunkedArray, names: list[str] | None) -> tuple[tuple[str, ...], pa.Array]:
    """Class names, and each row's index into them (null where it has none), of a whole label column.

    With `names` (a ClassLabel's) integers are indices and keep them, unused classes included, unless `clean_label`
    makes two names one. Without, the classes are the distinct values: numbers in numerical order, names in alphabetical
    order.
    """
    given = None if names is None else [clean_label(name) for name in names]
    names = None if given is None else list(dict.fromkeys(given))
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_nested(values.type) or pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
        raise DataError(f"dataset.label_column: expected names or integers, found {values.type}.")
    if pa.types.is_floating(values.type):  # integers with gaps, as pandas writes them
        values = values.cast(pa.float64())
        values = pc.if_else(pc.equal(values, pc.floor(values)), values, None).cast(pa.int64())
    if names is not None and given is not None and pa.types.is_integer(values.type):
        indices = values.cast(pa.int64())
        known = pc.and_(pc.greater_equal(indices, 0), pc.less(indices, len(given)))
        number_of = {name: number for number, name in enumerate(names)}
        numbers = pa.array([number_of[name] for name in given], pa.int64())
        return tuple(names), numbers.take(flat(pc.if_else(known, indices, None)))
    if not pa.types.is_string(values.type) and not pa.types.is_large_string(values.type):
        values = values.cast(pa.string())
    written = pc.unique(values)
    cleaned = pa.array([clean_label(name or "") or None for name in written.to_pylist()], values.type)
    values = cleaned.take(flat(pc.index_in(values, written)))
    if names is None:
        names = [name for name in cleaned.unique().to_pylist() if name is not None]
        numbers = all(re.fullmatch(r"-?\d+", name) for name in names)
        names.sort(key=(lambda name: (int(name), name)) if numbers else None)
    return tuple(names), flat(pc.index_in(values, pa.array(names, values.type))).cast(pa.int64())


def renumbered(source: Source, labels: Sequence[str]) -> tuple[tuple[str, ...], pa.Table]:
    """The source's examples with labels numbered as in `labels`, and the names of all those numbers.

    What an example of the source is labelled with but `labels` lacks comes after them. `labels` may be of an artifact
    whose labels were not cleaned.
    """
    used = {index for index in pc.unique(source.examples["label"]).to_pylist() if index is not None}
    number_of = {clean_label(name): number for number, name in enumerate(labels)}
    number_of |= {name: number for number, name in enumerate(labels)}
    others = [name for index, name in enumerate(source.labels) if index in used and name not in number_of]
    names = (*labels, *others)
    number_of |= {name: len(labels) + number for number, name in enumerate(others)}
    numbers = pa.array([number_of.get(name) for name in source.labels], pa.int64())
    column = pa.chunked_array([numbers.take(chunk) for chunk in source.examples["label"].chunks], pa.int64())
    return names, source.examples.set_column(source.examples.schema.get_field_index("label"), "label", column)


def encode_groups(values: pa.ChunkedArray) -> pa.Array:
    """A whole group column as text, as `clean_label` has it, null where it is null or empty."""
    if pa.types.is_nested(values.type):
        raise DataError(f"evaluation.group_column: expected names or numbers, found {values.type}.")
    text = flat(values.cast(pa.string()))
    distinct = pc.unique(text)
    names = pa.array([clean_label(name or "") or None for name in distinct.to_pylist()], pa.string())
    return names.take(pc.index_in(text, distinct))


def flat(values: pa.ChunkedArray | pa.Array) -> pa.Array:
    """The column as one array."""
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


class NoColumnError(DataError):
    """A column that a source does not have."""

    def __init__(self, key: str, wanted: str, found: list[str], where: str) -> None:
        super().__init__(
            f"{key}: expected a column of {where}, found none called {wanted!r}; it has {', '.join(found)}: name one "
            f"by --{key.replace('_', '-')}."
        )
        self.found = found
        """The columns that it has."""


def split_content(
    column: pa.ChunkedArray, locate: Callable[[str], str], key: str
) -> tuple[pa.ChunkedArray | None, pa.Array | None]:
    """The bytes and paths in the column that the key `key` names: a path, bytes, or the Hub's {bytes, path}.

    `locate` makes a path absolute; a path beside bytes is only a name and stays as it is.
    """
    kind = column.type
    if pa.types.is_struct(kind):
        fields = {field.name: pc.struct_field(column, field.name) for field in kind}
        contents, paths = fields.get("bytes"), fields.get("path")
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        contents, paths = column, None
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        contents, paths = None, column
    else:
        raise DataError(f"{key}: expected paths, bytes or {{bytes, path}}, found {kind}.")
    if contents is not None:
        contents = contents.cast(pa.large_binary())
    if paths is not None:
        held = contents.is_valid().to_pylist() if contents is not None else [False] * len(paths)
        located = [
            path if inside or not path else locate(path) for path, inside in zip(paths.to_pylist(), held, strict=True)
        ]
        paths = pa.array(located, pa.string())
    return contents, paths


def absolute(fs: Any, path: str) -> str:
    """The path as a worker can open it: plain for local files, with its protocol elsewhere."""
    return storable(path) if "file" in fs.protocol else fs.unstrip_protocol(path)


def locate(fs: Any, folder: str, path: str) -> str:
    """A manifest's path, relative ones taken from the manifest's folder."""
    if "://" in path or path.startswith("/"):
        return path
    return absolute(fs, f"{folder}/{path}")
