"""Examples whose files lie in Parquet shards: listed by the driver, read where they are used.

The driver reads labels, names and row counts; what is in a row stays in its shard until a worker asks for it. Row
groups of a hundred to a thousand examples suit that best: for some rows a worker reads their group up to the last.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from golem_ray import storage
from golem_ray.data.encode import flat
from golem_ray.data.table import absolute, locate, on_disk, split_content
from golem_ray.errors import StorageError, as_storage_errors

_ROWS_AT_ONCE = 64


def listed(fs: Any, file: str, column: str, limit: int | None, inline: bool = False) -> pa.Table | None:
    """The first rows (None: all) of a shard: {path, shard, column, at}; None if no files are inside.

    With `inline` text is as good as a file.
    """
    with fs.open(file, "rb") as stream:
        parquet = pq.ParquetFile(stream)
        kind = parquet.schema_arrow.field(column).type
        leaf = f"{column}.bytes" if pa.types.is_struct(kind) else column
        is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        is_file = pa.types.is_struct(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
        if not (is_file or (inline and is_text)):
            return None
        if leaf not in _leaves(parquet) or _is_all_null(parquet, leaf):
            return None
        num_rows = parquet.metadata.num_rows if limit is None else min(limit, parquet.metadata.num_rows)
        paths: pa.Array = pa.nulls(num_rows, pa.string())
        if f"{column}.path" in _leaves(parquet):
            names = first_rows(parquet, f"{column}.path", limit)
            paths = flat(names).field("path").cast(pa.string())
    return pa.table(
        {
            "path": paths,
            "shard": pa.repeat(absolute(fs, file), num_rows).dictionary_encode(),
            "column": pa.repeat(column, num_rows).dictionary_encode(),
            "at": pa.array(np.arange(num_rows)),
        }
    )


def first_rows(parquet: pq.ParquetFile, column: str, limit: int | None) -> pa.ChunkedArray:
    """The first rows (None: all) of a column, or of a part of one (`column.path`)."""
    name = column.split(".")[0] if column not in parquet.schema_arrow.names else column
    if limit is None:
        return parquet.read(columns=[column])[name]
    batches, left = [], limit
    for batch in parquet.iter_batches(batch_size=min(1024, limit), columns=[column]):
        batches.append(batch.column(0).slice(0, left))
        left -= len(batches[-1])
        if left == 0:
            break
    if not batches:
        return parquet.schema_arrow.empty_table()[name]
    return pa.chunked_array(batches, batches[0].type)


def _leaves(parquet: pq.ParquetFile) -> list[str]:
    return [parquet.schema.column(number).path for number in range(len(parquet.schema))]


def _is_all_null(parquet: pq.ParquetFile, leaf: str) -> bool:
    number = _leaves(parquet).index(leaf)
    for group in range(parquet.metadata.num_row_groups):
        chunk = parquet.metadata.row_group(group).column(number)
        known = chunk.statistics is not None and chunk.statistics.has_null_count
        if not known or chunk.statistics.null_count < chunk.num_values:
            return False
    return True


def with_contents(batch: pa.Table) -> pa.Table:
    """A table of examples with the `bytes` of those in shards; where these cannot be read, with the `problem`."""
    if "shard" not in batch.column_names:
        return batch
    contents, paths = batch["bytes"].to_pylist(), batch["path"].to_pylist()
    problems: list[str | None] = [None] * batch.num_rows
    places = list(zip(batch["shard"].to_pylist(), batch["column"].to_pylist(), strict=True))
    at = batch["at"].to_numpy()
    for place in dict.fromkeys(places):
        if place[0] is None:
            continue
        rows = sorted((row for row, other in enumerate(places) if other == place), key=at.__getitem__)
        try:
            with as_storage_errors():  # Arrow's too
                read = storage.retried(partial(_read_rows, *place, at[rows].astype(np.int64)))
        except StorageError as error:
            for row in rows:
                problems[row] = f"cannot be read ({error.kind}: {error})"
            continue
        for row, content, path in zip(rows, *read, strict=True):
            contents[row], paths[row] = content, path
    filled = {
        "bytes": pa.array(contents, pa.large_binary()),
        "path": pa.array(paths, pa.string()),
        "problem": pa.array(problems, pa.string()),
    }
    kept = [name for name in batch.column_names if name not in (*filled, "shard", "column", "at")]
    return pa.table({**{name: batch[name] for name in kept}, **filled})


def _read_rows(shard: str, column: str, at: np.ndarray) -> tuple[list[bytes | None], list[str | None]]:
    """The files in rows `at` (N,) of a shard, in ascending order, and their paths."""
    assert (np.diff(at) >= 0).all()
    fs, file = storage.filesystem(on_disk(shard))
    parts: list[pa.Array] = []
    with fs.open(file, "rb") as stream:
        parquet = pq.ParquetFile(stream)
        start = 0
        for group in range(parquet.metadata.num_row_groups):
            stop = start + parquet.metadata.row_group(group).num_rows
            wanted = at[(at >= start) & (at < stop)] - start
            if len(wanted):
                batches = parquet.iter_batches(_ROWS_AT_ONCE, row_groups=[group], columns=[column])
                parts += _taken((batch.column(0) for batch in batches), wanted)
            start = stop
    values = pa.chunked_array(parts)
    assert len(values) == len(at), f"{len(values)} of {len(at)} rows of {shard}: are there fewer now?"
    contents, paths = split_content(values, partial(locate, fs, file.rsplit("/", 1)[0]), column, inline=True)
    nothing = pa.nulls(len(at))
    return (nothing if contents is None else contents).to_pylist(), (nothing if paths is None else paths).to_pylist()


def _taken(batches: Any, wanted: np.ndarray) -> list[pa.Array]:
    """The wanted rows (ascending) of consecutive arrays; reads no further than the last of them."""
    parts, start = [], 0
    for batch in batches:
        inside = wanted[(wanted >= start) & (wanted < start + len(batch))] - start
        if len(inside):
            parts.append(batch.take(pa.array(inside)))
        start += len(batch)
        if start > wanted[-1]:
            break
    return parts
