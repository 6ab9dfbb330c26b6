"""Reading examples on the workers: their files, digests and data, one by one or in groups for a GPU.

Each function works on a table of examples (data/table.py) and runs on any engine. What is in a file its modality reads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from golem_ray.data import read_content, with_contents
from golem_ray.embedding.crash_notes import CRASHED, CrashNotes
from golem_ray.embedding.modality import Modality, modality_named
from golem_ray.embedding.recipe import Recipe
from golem_ray.errors import ExampleError, reading_example


class Example(NamedTuple):
    """An example as it was read, or the reason why it cannot be used."""

    id: int
    digest: bytes
    """sha256 of its file, zeros where it could not be read."""
    data: np.ndarray
    """(T,) as its modality reads it, empty where there is a reason."""
    reason: str
    baseline: np.ndarray
    """(F,) float32, zeros where there is a reason; (0,) where no baseline was asked for."""
    cost: float = 0.0
    """In its modality's unit, 0 where there is a reason."""
    remark: str = ""
    """What there is to say of one that can be used."""


NO_DATA = np.zeros(0, dtype=np.float32)


def rows_of(batch: pa.Table) -> list[pa.Table]:
    """Each row as a table."""
    return [batch.slice(number, 1) for number in range(batch.num_rows)]


def _read_file(row: pa.Table, what: str = "content") -> tuple[dict[str, Any], bytes, bytes, str]:
    """A row's fields, its file, that file's digest, and the reason why there is none ('' if there is one)."""
    (fields,) = row.to_pylist()
    if fields.get("problem"):
        return fields, b"", bytes(32), fields["problem"]
    try:
        content = read_content(fields["bytes"], fields["path"], what)
    except ExampleError as error:
        return fields, b"", bytes(32), str(error)
    return fields, content, hashlib.sha256(content).digest(), ""


def hash_batch(batch: pa.Table) -> dict[str, Any]:
    """The digests alone: a table of examples -> {id, digest}."""
    return {"id": batch["id"].to_numpy(), "digest": [_read_file(row)[2] for row in rows_of(with_contents(batch))]}


def describe_example(row: pa.Table, modality: Modality) -> tuple[bytes, dict[str, Any], str]:
    """What there is to say of the example in a table's only row: its file's sha256, its facts, or why there are none.

    A label it need not have.
    """
    _, content, digest, reason = _read_file(row, modality.content.what)
    if reason:
        return digest, {}, reason
    try:
        with reading_example():
            return digest, modality.describe(content), ""
    except ExampleError as error:
        return digest, {}, str(error)


def read_example(row: pa.Table, recipe: Recipe, baseline: bool) -> Example:
    """The example in a table's only row, as the recipe's encoder takes it; with baseline, the baseline's vector too."""
    modality = modality_named(recipe.modality)
    fields, content, digest, reason = _read_file(row, modality.content.what)
    data, vector, remark = NO_DATA, _no_baseline(recipe, baseline), ""
    if not reason and fields["label"] is None:
        reason = "no label, or one that the source does not name"
    if not reason:
        try:
            with reading_example():
                read = modality.read(content, recipe)
                vector = baseline_of(content, read, recipe) if baseline else vector
            data, remark = read, modality.remark(read, recipe)
        except ExampleError as error:
            reason = str(error)
    return Example(fields["id"], digest, data, reason, vector, modality.cost(len(data), recipe), remark)


def baseline_of(content: bytes | None, read: np.ndarray, recipe: Recipe) -> np.ndarray:
    """The baseline's vector of an example, (F,) float32, from its file or from what was read of that."""
    modality = modality_named(recipe.modality)
    if recipe.fitted is not None and modality.terms is not None:
        return recipe.fitted.scores(modality.terms([content], recipe))[0]
    return NO_DATA if modality.baseline_vector is None else modality.baseline_vector(read, recipe)


def _no_baseline(recipe: Recipe, baseline: bool) -> np.ndarray:
    size = recipe.joined or modality_named(recipe.modality).baseline.size
    return np.zeros(size if baseline else 0, dtype=np.float32)


def group_examples(
    batch: pa.Table, recipe: Recipe, baseline: bool, most_cost: float, notes: CrashNotes | None = None
) -> Iterator[pa.Table]:
    """Examples for a GPU, in groups of at most so much cost (one that costs more alone), one group a row.

    Bounds what is in memory at a time, whatever the examples' lengths. `ungroup` takes them apart again.
    """
    notes = notes or CrashNotes()
    group: list[Example] = []
    with notes.block(batch["id"].to_pylist()) as suspicious:
        for row in rows_of(batch if suspicious else with_contents(batch)):
            one = _read_alone(row, recipe, baseline, notes) if suspicious else read_example(row, recipe, baseline)
            if group and sum(each.cost for each in group) + one.cost > most_cost:
                yield _group(group)
                group = []
            group.append(one)
        if group:
            yield _group(group)


def _read_alone(row: pa.Table, recipe: Recipe, baseline: bool, notes: CrashNotes) -> Example:
    """What `read_example` gives, of an example that may have ended a process."""
    example_id = row["id"][0].as_py()
    with notes.example(example_id) as crashes:
        if crashes:
            return crashed_example(example_id, recipe, baseline)
        return read_example(with_contents(row), recipe, baseline)


def crashed_example(example_id: int, recipe: Recipe, baseline: bool) -> Example:
    """One that ended the processes that worked on it."""
    return Example(example_id, bytes(32), NO_DATA, CRASHED, _no_baseline(recipe, baseline))


def _group(examples: list[Example]) -> pa.Table:
    data = [each.data for each in examples if each.data.size]
    columns = {
        "id": pa.array([each.id for each in examples], pa.int64()),
        "digest": pa.array([each.digest for each in examples], pa.binary()),
        "reason": pa.array([each.reason for each in examples], pa.string()),
        "cost": pa.array([each.cost for each in examples], pa.float64()),
        "remark": pa.array([each.remark for each in examples], pa.string()),
        "length": pa.array([len(each.data) for each in examples], pa.int64()),
        "data": pa.array(np.concatenate(data or [NO_DATA])),
        "baseline": pa.array(np.concatenate([each.baseline for each in examples])),
    }
    one_row = {
        name: pa.LargeListArray.from_arrays(pa.array([0, len(values)], pa.int64()), values)
        for name, values in columns.items()
    }
    return pa.table(one_row)


def ungroup(groups: pa.Table) -> list[Example]:
    """The examples in rows that `group_examples` made; their data are views."""
    examples = []
    for number in range(groups.num_rows):
        parts = {name: groups[name].slice(number, 1).combine_chunks().flatten() for name in groups.column_names}
        ends = np.cumsum(parts["length"].to_numpy())
        data = np.split(parts["data"].to_numpy(), ends[:-1])
        baseline = np.split(parts["baseline"].to_numpy(), len(ends))
        plain = ("id", "digest", "reason", "cost", "remark")
        ids, digests, reasons, costs, remarks = (parts[name].to_pylist() for name in plain)
        rows = zip(ids, digests, data, reasons, baseline, costs, remarks, strict=True)
        examples += [Example(*row) for row in rows]
    return examples
