"""Say what a saved classifier takes examples for, on the terminal or in a file."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from golem_ray import artifact, storage
from golem_ray.artifact.recipe import recipe_of
from golem_ray.config import PredictConfig
from golem_ray.data import Source, columns_of, open_paths, open_source
from golem_ray.data.table import storable
from golem_ray.data.unusable import MAX_NAMED, allowed, check_unusable, example_at, shown_path
from golem_ray.embedding.embeddings import VectorBatch
from golem_ray.embedding.modality import modality_named
from golem_ray.embedding.recipe import Recipe
from golem_ray.errors import ConfigError, DataError, StorageError, printable
from golem_ray.heads.single_label import SINGLE_LABEL
from golem_ray.heads.target import NOTHING
from golem_ray.jobs.explain import check_explained, explained, explanation_line
from golem_ray.jobs.vectors import applied_vectors

_ROWS_AT_ONCE = 1024

UNSURE = "unsure"
"""What stands for the label of an example whose likeliest class is less likely than the threshold, if one is given, and
else of one that the artifact had better not name."""


def predict(saved: artifact.Artifact, files: Sequence[str], config: PredictConfig) -> Iterator[dict[str, Any]]:
    """What the artifact says of each example of the files (without any: of the dataset), in order, as they come.

    {"id", "label", "probability", "label_2", "probability_2", ..., "problem", "remark"}, or where there may be several
    labels {"id", "labels", a "probability_..." of each, "problem", "remark"}; label and probability are None for an
    example that cannot be used, and `problem` says why; `remark` says what is odd of one that can. With a
    threshold, one that is less likely than that is labelled `unsure`, and "likeliest" says of what class it would have
    been; without, the same holds of what the artifact rejects, if it was trained to. Explained, all are made before the
    first comes, and each has an "explanation".

    Raises UserError: before the work what is seen by then; with the first predictions, that no example can be used;
    later, that too many cannot.
    """
    recipe = recipe_of(saved, config.encoder)
    modality, limit = modality_named(recipe.modality), config.processing.limit
    content = modality.content
    if files:
        columns = columns_of(config.dataset, content, labelled=False)
        source = open_paths(files, columns)
        source = dataclasses.replace(source, examples=source.examples.slice(0, limit))
    else:
        source = open_source(config.dataset, content, limit, labelled=False)
    if source.examples.num_rows == 0:
        raise DataError(f"{', '.join(files)}: expected {source.noun.many}, found none.")
    _refuse_to_overwrite(config, files, source)
    found = _predictions(saved, config, source, recipe)
    if not config.explain:
        return found
    check_explained(modality, source.examples.num_rows)
    return explained(found, saved, source, recipe, config)


def _predictions(
    saved: artifact.Artifact, config: PredictConfig, source: Source, recipe: Recipe
) -> Iterator[dict[str, Any]]:
    """Each example's prediction as soon as those before it are there.

    Held back until one can be used: that none can is an error, and nothing is written.
    """
    num_examples = source.examples.num_rows
    most = allowed(config.processing.max_bad_fraction, num_examples)
    ranked = _Ranked(saved, config, source)
    begun = False
    for batch in applied_vectors(config, source, recipe, most):
        ranked.take(batch)
        begun = begun or len(ranked.bad) < ranked.num_done
        if begun and len(ranked.bad) <= most:
            yield from ranked.ready()
    records = [{"clip": example_at(source, row), "reason": reason} for row, reason in sorted(ranked.bad.items())]
    if len(records) == num_examples:
        named = "; ".join(f"{record['clip']}: {record['reason']}" for record in records[:MAX_NAMED])
        raise DataError(f"expected {source.noun.many} that can be used, found none among {num_examples} ({named}).")
    check_unusable(records, num_examples, config.processing.max_bad_fraction, source.noun)
    yield from ranked.ready()


class _Ranked:
    """The likeliest classes of each example as vectors come by in any order, and those that are ready, in order."""

    def __init__(self, saved: artifact.Artifact, config: PredictConfig, source: Source) -> None:
        self.several = saved.target.name != SINGLE_LABEL.name
        top_k = len(saved.labels) if self.several else min(config.top_k, len(saved.labels))
        num_examples = source.examples.num_rows
        self.saved, self.config, self.paths = saved, config, source.examples["path"]
        self.classes = np.zeros((num_examples, top_k), dtype=np.int64)
        self.probabilities = np.zeros((num_examples, top_k))
        self.bad: dict[int, str] = {}
        self.remarks: dict[int, str] = {}
        self.num_done = self._next = 0
        self.given = np.zeros((num_examples, len(saved.labels)), dtype=bool) if self.several else None
        self.unsure: np.ndarray | None = None
        if not self.several and (config.threshold is not None or saved.document["metrics"].get("reject")):
            self.unsure = np.zeros(num_examples, dtype=bool)
        self._done = np.zeros(num_examples, dtype=bool)

    def take(self, batch: VectorBatch) -> None:
        """Some examples of the source."""
        assert batch.vectors is not None
        probabilities = self.saved.probabilities(batch.vectors)
        order = self.saved.target.ranking(probabilities, self.classes.shape[1])
        self.classes[batch.rows] = order
        self.probabilities[batch.rows] = np.take_along_axis(probabilities, order, axis=1)
        if self.unsure is not None:
            threshold, sure = self.config.threshold, self.probabilities[batch.rows, 0]
            rejected = self.saved.unsure(batch.vectors, probabilities) if threshold is None else sure < threshold
            self.unsure[batch.rows] = rejected
        if self.given is not None:
            threshold = self.config.threshold
            said = self.saved.answers(probabilities).decisions if threshold is None else probabilities >= threshold
            self.given[batch.rows] = said
        self.bad.update({int(row): why for row, why in zip(batch.rows, batch.reasons, strict=True) if why})
        self.remarks.update(batch.remarked())
        self._done[batch.rows] = True
        self.num_done += len(batch.rows)

    def ready(self) -> Iterator[dict[str, Any]]:
        """The predictions of examples whose predecessors are all there; each once."""
        while self._next < len(self._done) and self._done[self._next]:
            yield self._record(self._next)
            self._next += 1

    def _record(self, row: int) -> dict[str, Any]:
        problem, names = self.bad.get(row), self.saved.labels
        record: dict[str, Any] = {"id": shown_path(self.paths[row].as_py()) or str(row)}
        if self.given is not None:
            likeliest = [int(number) for number in self.classes[row] if self.given[row, number]]
            record["labels"] = None if problem else [names[number] for number in likeliest]
            of_each = dict(zip(self.classes[row].tolist(), self.probabilities[row].tolist(), strict=True))
            for number, name in enumerate(names):
                record[f"probability_{name}"] = None if problem else of_each[number]
            return {**record, "problem": problem, "remark": self.remarks.get(row)}
        for place, number in enumerate(self.classes[row], 1):
            suffix = "" if place == 1 else f"_{place}"
            record[f"label{suffix}"] = None if problem else names[number]
            record[f"probability{suffix}"] = None if problem else float(self.probabilities[row, place - 1])
        if self.unsure is not None:
            record["likeliest"] = record["label"]
            if not problem and self.unsure[row]:
                record["label"] = UNSURE
        return {**record, "problem": problem, "remark": self.remarks.get(row)}


def _refuse_to_overwrite(config: PredictConfig, files: Sequence[str], source: Source) -> None:
    """Raise ConfigError if the predictions would replace what they are made from."""
    if config.output is None:
        return
    output = storage.resolve("output", config.output)
    inputs = [config.dataset.name, *files, *filter(None, source.examples["path"].to_pylist())]
    if storable(output) in {name if "://" in name else os.path.realpath(os.path.expanduser(name)) for name in inputs}:
        raise ConfigError(f"output: expected another file than those that are read, got {output}; choose another name.")


def check_output(config: PredictConfig) -> str | None:
    """Where predictions go; None for the terminal. Raises ConfigError if it cannot be written."""
    if config.output is None:
        return None
    path = storage.resolve("output", config.output)
    try:
        storage.check_file(path)
    except StorageError as error:
        raise ConfigError(f"output: expected to be able to write {path}, but {error}") from None
    return path


def as_text(rows: Iterable[dict[str, Any]], top_k: int = 3) -> Iterator[str]:
    """A line for each prediction: id, labels, probability, and the classes that come next, top_k in all.

    Below it, if it is explained, a line of the words that moved it most.
    """
    for row in rows:
        yield _line(row, top_k)
        if row.get("explanation"):
            yield explanation_line(row["explanation"])


def _line(row: dict[str, Any], top_k: int) -> str:
    row = {key: printable(value) if isinstance(value, str) else value for key, value in row.items()}
    if row["problem"]:
        return f"{row['id']}  -  {row['problem']}"
    remark = f"  [{row['remark']}]" if row["remark"] else ""
    if "labels" in row:
        named = ", ".join(map(printable, row["labels"])) or NOTHING
        by_label = {key.removeprefix("probability_"): row[key] for key in row if key.startswith("probability_")}
        order = sorted(by_label, key=lambda name: -by_label[name])[: max(top_k, len(row["labels"]))]
        shown = "; ".join(f"{printable(name)} {by_label[name]:.1%}" for name in order)
        return f"{row['id']}  {named}  ({shown}){remark}"
    others = [f"{row[key]} {row[key.replace('label', 'probability')]:.1%}" for key in row if key.startswith("label_")]
    likeliest = f"{row['likeliest']} " if row["label"] == UNSURE and "likeliest" in row else ""
    said = "; ".join([f"{likeliest}{row['probability']:.1%}", *others])
    return f"{row['id']}  {row['label']}  ({said}){remark}"


def write_predictions(path: str, rows: Iterator[dict[str, Any]]) -> int:
    """Write predictions as they come, as the suffix says (.csv, .jsonl, .parquet), whole or not at all; how many."""
    count = 0
    try:
        with storage.writing(path) as sink, _writer(path, sink) as write:
            while part := list(islice(rows, _ROWS_AT_ONCE)):
                kinds = {key: _kind(key) for key in part[0]}
                write(pa.Table.from_pylist(part, schema=pa.schema(kinds)))
                count += len(part)
    except StorageError as error:
        raise ConfigError(f"output: expected to be able to write {path}, but {error}") from None
    return count


def _kind(key: str) -> pa.DataType:
    if key == "labels":
        return pa.list_(pa.string())
    return pa.float64() if key.startswith("probability") else pa.string()


@contextmanager
def _writer(path: str, sink: IO[bytes]) -> Iterator[Callable[[pa.Table], None]]:
    """What writes tables of one schema, one after another, into an open file."""
    suffix = path.lower().rsplit(".", 1)[-1]
    if suffix == "jsonl":
        yield lambda table: sink.writelines(
            json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in table.to_pylist()
        )
        return
    opened: list[Any] = []

    def write(table: pa.Table) -> None:
        if not opened:
            opened.append(_arrow_writer(suffix, sink, table.schema))
        opened[0].write_table(table)

    try:
        yield write
    except BaseException:
        for writer in opened:
            with suppress(Exception):  # what went wrong first says more
                writer.close()  # now, while the file is open: else by the garbage collector, with a traceback
        raise
    for writer in opened:
        writer.close()


class _CsvWriter:
    """Arrow's writer of CSV, for columns of lists too: their text is separated by semicolons."""

    def __init__(self, sink: IO[bytes], schema: pa.Schema) -> None:
        import pyarrow.csv

        flat = [field.with_type(pa.string()) if pa.types.is_list(field.type) else field for field in schema]
        self.schema = pa.schema(flat)
        self.writer = pyarrow.csv.CSVWriter(sink, self.schema)

    def write_table(self, table: pa.Table) -> None:
        """Write some rows."""
        columns = [pc.binary_join(each, ";") if pa.types.is_list(each.type) else each for each in table.columns]
        self.writer.write_table(pa.table(columns, schema=self.schema))

    def close(self) -> None:
        """End the file."""
        self.writer.close()


def _arrow_writer(suffix: str, sink: IO[bytes], schema: pa.Schema) -> Any:
    if suffix == "csv":
        return _CsvWriter(sink, schema)
    import pyarrow.parquet

    return pyarrow.parquet.ParquetWriter(sink, schema)
