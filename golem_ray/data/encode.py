"""Columns of labels and groups as numbers, and what these are called. Knows no file and no example."""

from __future__ import annotations

import re
import unicodedata

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from golem_ray.errors import DataError


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
