"""Columns that give an example several labels, or none: lists, text with a separator, and columns of 0 and 1.

Knows no file and no example. What comes out is a column of lists of indices into the labels' names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from golem_ray.data.encode import clean_label, encode_labels, flat
from golem_ray.errors import DataError

LISTS = pa.list_(pa.int64())

_BRACKETS = re.compile(r"\s*\[([^\[\]]*)\]\s*")
_COMMAS, _SPACES = (re.compile(rf"\s*('[^']*'|\"[^\"]*\"|{plain})") for plain in ("[^,]+", r"\S+"))
"""What stands in brackets, by what separates it there; in quotes that may be in a name."""


def is_several(values: pa.ChunkedArray, separator: str | None) -> bool:
    """Whether a label column gives an example several labels: lists, text in brackets throughout, or by a separator."""
    kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    if separator is not None or _is_list(kind):
        return True
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return False
    written = [text for text in pc.unique(values).to_pylist() if text and text.strip()]
    return bool(written) and all(map(_BRACKETS.fullmatch, written))


def encode(
    columns: Mapping[str, pa.ChunkedArray],
    names: list[str] | None,
    *,
    separator: str | None = None,
    several: bool = False,
    label_map: Mapping[str, str] | None = None,
) -> tuple[tuple[str, ...], pa.Array]:
    """Names of the labels, and the column `label` of the table of examples, from all that say it.

    That is one column, in which an example may have several if it looks so (`is_several`), or `several` of 0 and 1.
    Raises DataError for what is neither.
    """
    if several:
        found, column = encode_columns(columns)
    else:
        (values,) = columns.values()
        if is_several(values, separator):
            found, column = encode_several(values, names, separator)
        else:
            found, column = encode_labels(values, names)
    return mapped(found, column, label_map) if label_map else (found, column)


def encode_several(
    values: pa.ChunkedArray, names: list[str] | None, separator: str | None
) -> tuple[tuple[str, ...], pa.Array]:
    """Names of the labels, and each row's indices into them, of a whole label column; no label where it is null.

    A row with a label that `names` (a ClassLabel's) lacks, or with null among its labels, is null: these are not known.
    """
    if pa.types.is_dictionary(values.type):  # pandas' categories
        values = values.cast(values.type.value_type)
    lists = values if _is_list(values.type) else pa.chunked_array([_split(flat(values), separator)])
    lists = flat(lists.cast(pa.list_(lists.type.value_type)))
    lists = pc.if_else(lists.is_valid(), lists, pa.scalar([], lists.type))
    labels, lengths = lists.flatten(), lists.value_lengths().to_numpy()
    if pa.types.is_string(labels.type) or pa.types.is_large_string(labels.type):  # of which a blank one says nothing
        says = pc.not_equal(pc.utf8_trim_whitespace(labels), "").fill_null(True)
        rows = np.repeat(np.arange(len(lengths)), lengths)[says.to_numpy(zero_copy_only=False)]
        labels, lengths = labels.filter(says), np.bincount(rows, minlength=len(lengths))
    found, numbers = encode_labels(pa.chunked_array([labels]), names)
    return found, _of_rows(lengths, numbers)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _split(values: pa.Array, separator: str | None) -> pa.Array:
    """Text as lists of text: `[4 27]`, `['joy', 'fear']`, `joy;fear`."""

    def labels(text: str) -> list[str]:
        inside = _BRACKETS.fullmatch(text)
        if inside is not None and separator is None:
            inner = inside[1]
            parts = [_unquoted(part.strip()) for part in (_COMMAS if "," in inner else _SPACES).findall(inner)]
        else:
            parts = text.split(separator or ",")
        return [part for part in map(str.strip, parts) if part]

    distinct = pc.unique(values)
    lists = pa.array([labels(text or "") for text in distinct.cast(pa.string()).to_pylist()], pa.list_(pa.string()))
    return lists.take(pc.index_in(values, distinct))


def _unquoted(name: str) -> str:
    return name[1:-1] if len(name) > 1 and name[0] in "'\"" and name[0] == name[-1] else name


def _of_rows(lengths: np.ndarray, numbers: pa.Array) -> pa.Array:
    """Lists of so many numbers each, ascending and each once; null where one of them is null."""
    rows = np.repeat(np.arange(len(lengths)), lengths)
    known = numbers.is_valid().to_numpy(zero_copy_only=False)
    unknown = np.zeros(len(lengths), dtype=bool)
    unknown[rows[~known]] = True
    pairs = np.unique(np.stack([rows[known], numbers.drop_null().to_numpy()], axis=1), axis=0)
    counts = np.bincount(pairs[:, 0], minlength=len(lengths)) if len(pairs) else np.zeros(len(lengths), dtype=np.int64)
    return _lists(counts, pairs[:, 1] if len(pairs) else np.zeros(0, dtype=np.int64), unknown)


def _lists(counts: np.ndarray, numbers: np.ndarray, unknown: np.ndarray) -> pa.Array:
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
    lists = pa.ListArray.from_arrays(offsets, pa.array(numbers, pa.int64()))
    return pc.if_else(pa.array(unknown), pa.scalar(None, LISTS), lists) if unknown.any() else lists


def encode_columns(columns: Mapping[str, pa.ChunkedArray]) -> tuple[tuple[str, ...], pa.Array]:
    """The columns' names as labels, and for each row the indices of those that hold 1.

    An empty cell is no; a row with anything else than 0, 1, true and false is null. Raises DataError for a column that
    holds no such thing at all.
    """
    names = tuple(map(clean_label, columns))
    if len(set(names)) < len(names):
        raise DataError(f"dataset.label_columns: expected names that differ by more than white space, found {names}.")
    flags, unknown = [], np.zeros(len(next(iter(columns.values()))), dtype=bool)
    for name, values in columns.items():
        if pa.types.is_nested(values.type):
            raise DataError(f"dataset.label_columns: expected 0 and 1 in {name!r}, found {values.type}.")
        words = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False, "": False}
        text = flat(values.cast(pa.string()))
        distinct = pc.unique(text)
        meant = [words.get((word or "").strip().lower()) for word in distinct.to_pylist()]
        if all(each is None for each in meant):
            raise DataError(
                f"dataset.label_columns: expected 0 and 1 in {name!r}, found {values.type} of other values."
            )
        found = pa.array(meant, pa.bool_()).take(pc.index_in(text, distinct))
        unknown |= ~found.is_valid().to_numpy(zero_copy_only=False)
        flags.append(found.fill_null(False).to_numpy(zero_copy_only=False))
    matrix = np.stack(flags, axis=1)
    rows, numbers = np.nonzero(matrix)
    return names, _lists(np.bincount(rows, minlength=len(matrix)), numbers.astype(np.int64), unknown)


def mapped(names: Sequence[str], column: pa.Array, label_map: Mapping[str, str]) -> tuple[tuple[str, ...], pa.Array]:
    """Labels called as the map says, in the order in which it names them, and the column with indices of these.

    A label that the map leaves out by '' is none; of one that it does not name it is not known what it is: the row is
    null. Labels that are the map's own names stay.
    """
    wanted = list(dict.fromkeys(clean_label(name) for name in label_map.values() if clean_label(name)))
    called = {clean_label(name): clean_label(other) for name, other in label_map.items()}
    number_of = {name: number for number, name in enumerate(wanted)}
    numbers = [number_of.get(called.get(name, name)) for name in names]
    if not pa.types.is_list(column.type):
        return tuple(wanted), pa.array(numbers, pa.int64()).take(column)
    kept = column.is_valid().to_numpy(zero_copy_only=False)
    lengths = np.where(kept, column.value_lengths().fill_null(0).to_numpy(), 0)
    left_out = pa.array([called.get(name) == "" for name in names], pa.bool_())
    old = column.drop_null().flatten()
    new, out = pa.array(numbers, pa.int64()).take(old), left_out.take(old).to_numpy(zero_copy_only=False)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    stays = np.bincount(rows[~out], minlength=len(lengths))
    found = _of_rows(stays, new.filter(pa.array(~out)))
    return tuple(wanted), found if kept.all() else pc.if_else(pa.array(kept), found, pa.scalar(None, LISTS))


def taken(numbers: pa.Array, column: pa.Array) -> pa.Array:
    """A label column with other numbers: those in the places that it names."""
    if not pa.types.is_list(column.type):
        return numbers.take(column)
    known = column.is_valid().to_numpy(zero_copy_only=False)
    lengths = np.where(known, column.value_lengths().fill_null(0).to_numpy(), 0)
    found = _of_rows(lengths, numbers.take(column.drop_null().flatten()))
    return found if known.all() else pc.if_else(pa.array(known), found, pa.scalar(None, LISTS))


def one_each(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """A column of one label for each as one of lists, null where it is null."""
    column = flat(column)
    known = column.is_valid().to_numpy(zero_copy_only=False)
    return _lists(known.astype(np.int64), column.drop_null().to_numpy(), ~known)


def label_array(column: pa.ChunkedArray | pa.Array, num_labels: int) -> np.ndarray:
    """What a label column says: (N,) int64, or (N, num_labels) bool where there may be several. Nothing may be null."""
    column = flat(column)
    if not pa.types.is_list(column.type):
        found: np.ndarray = column.to_numpy(zero_copy_only=False).astype(np.int64)
        return found
    labels = np.zeros((len(column), num_labels), dtype=bool)
    rows = np.repeat(np.arange(len(column)), column.value_lengths().to_numpy())
    labels[rows, column.flatten().to_numpy()] = True
    return labels


def counts_of(labels: np.ndarray, num_labels: int) -> np.ndarray:
    """How many examples have each label, (num_labels,) int64, of labels (N,) or (N, K)."""
    if labels.ndim == 1:
        return np.bincount(labels, minlength=num_labels)
    return np.pad(labels.sum(axis=0), (0, num_labels - labels.shape[1]))


def kinds_of(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """(N,) float64: one number for all rows with the same label, or the same labels; NaN where these are not known."""
    column = flat(column)
    known = column.is_valid().to_numpy(zero_copy_only=False)
    if not pa.types.is_list(column.type):
        return np.where(known, column.fill_null(0).to_numpy(), np.nan)
    numbers: dict[tuple[int, ...], int] = {}
    sets = (None if each is None else tuple(each) for each in column.to_pylist())
    return np.array([np.nan if each is None else numbers.setdefault(each, len(numbers)) for each in sets], dtype=float)
