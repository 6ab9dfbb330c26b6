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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from golem_ray import storage
from golem_ray.config import NOUNS, DatasetConfig, Noun
from golem_ray.config.checks import default_of, separator
from golem_ray.data.encode import clean_label, flat
from golem_ray.data.several import taken
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
    inline: bool = False
    """Whether text in the column is the example itself; if not, it is a path."""


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
    label_columns: tuple[str, ...] = ()
    """Columns of 0 and 1, in place of `label`."""
    separator: str | None = None
    """Between labels in one column, where an example may have several."""
    label_map: Mapping[str, str] = field(default_factory=dict)
    """What labels are called: empty for as they are."""
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
        several = [("dataset.label_columns", column) for column in self.label_columns]
        return [*((key, column) for key, column in keys.items() if column is not None), *several]

    @property
    def about_labels(self) -> dict[str, Any]:
        """How columns of labels are read, as `several.encode` takes it."""
        several = bool(self.label_columns)
        return {"separator": self.separator, "several": several, "label_map": self.label_map}

    @property
    def labelled(self) -> tuple[str, ...]:
        """The columns that say the labels; none where labels are not needed."""
        return self.label_columns or ((self.label,) if self.label is not None else ())


def columns_of(dataset: DatasetConfig, content: Content, *, labelled: bool, group: str | None = None) -> Columns:
    """The columns that the configuration names."""
    is_default = dataset.label_column == default_of(dataset, "label_column")
    return Columns(
        content=content,
        column=getattr(dataset, content.key.rsplit(".", 1)[-1]),
        label=dataset.label_column if labelled and not dataset.label_columns else None,
        group=group,
        other_label="label" if labelled and is_default and not dataset.label_columns else None,
        label_columns=dataset.label_columns if labelled else (),
        separator=dataset.label_separator,
        label_map=dataset.label_map,
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

    @property
    def several(self) -> bool:
        """Whether an example may have several labels, or none."""
        return pa.types.is_list(self.examples["label"].type)


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


def renumbered(source: Source, labels: Sequence[str]) -> tuple[tuple[str, ...], pa.Table]:
    """The source's examples with labels numbered as in `labels`, and the names of all those numbers.

    What an example of the source is labelled with but `labels` lacks comes after them. `labels` may be of an artifact
    whose labels were not cleaned.
    """
    column = flat(source.examples["label"])
    used = set(pc.unique(column.flatten() if source.several else column).drop_null().to_pylist())
    number_of = {clean_label(name): number for number, name in enumerate(labels)}
    number_of |= {name: number for number, name in enumerate(labels)}
    others = [name for index, name in enumerate(source.labels) if index in used and name not in number_of]
    names = (*labels, *others)
    number_of |= {name: len(labels) + number for number, name in enumerate(others)}
    numbers = pa.array([number_of.get(name) for name in source.labels], pa.int64())
    column = taken(numbers, column)
    return names, source.examples.set_column(source.examples.schema.get_field_index("label"), "label", column)


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
    column: pa.ChunkedArray, locate: Callable[[str], str], key: str, inline: bool = False
) -> tuple[pa.ChunkedArray | None, pa.Array | None]:
    """The bytes and paths in the column that the key `key` names: a path, bytes, or the Hub's {bytes, path}.

    `locate` makes a path absolute; a path beside bytes is only a name and stays as it is. With `inline` text is the
    example itself.
    """
    if pa.types.is_dictionary(column.type):  # pandas' categories
        column = column.cast(column.type.value_type)
    kind = column.type
    if pa.types.is_struct(kind):
        fields = {field.name: pc.struct_field(column, field.name) for field in kind}
        contents, paths = fields.get("bytes"), fields.get("path")
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        contents, paths = column, None
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        contents, paths = (column, None) if inline else (None, column)
    elif pa.types.is_null(kind):
        contents, paths = column, None
    else:
        wanted = "texts" if inline else "paths, bytes or {bytes, path}"
        raise DataError(f"{key}: expected {wanted}, found {kind}.")
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
