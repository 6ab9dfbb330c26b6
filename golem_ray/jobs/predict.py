"""Say what a saved classifier takes clips for, on the terminal or in a file."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from golem_ray import artifact, storage
from golem_ray.artifact.classifier import recipe_of
from golem_ray.config import PredictConfig
from golem_ray.data import open_source
from golem_ray.data.files import open_paths
from golem_ray.data.table import Source
from golem_ray.data.unusable import MAX_NAMED, allowed, check_unusable, example_at, shown_path
from golem_ray.embedding.embeddings import Embeddings
from golem_ray.errors import ConfigError, DataError, one_line
from golem_ray.heads.target import softmax
from golem_ray.jobs.engines import embed, placed

UNSURE = "unsure"
"""What stands for the label of a clip whose likeliest class is less likely than the threshold."""


def predict(saved: artifact.Artifact, files: Sequence[str], config: PredictConfig) -> Iterator[dict[str, Any]]:
    """What the artifact says of each clip of the files (without any: of the dataset), in order.

    {"id", "label", "probability", "label_2", "probability_2", ..., "problem"}; label and probability are None for a
    clip that cannot be used, and `problem` says why. With a threshold, a clip that is less likely than that is
    labelled `unsure`, and "likeliest" says of what class it would have been.

    Raises UserError, also where no clip at all can be used.
    """
    recipe = recipe_of(saved, config.encoder)
    limit = None if config.processing.max_samples == "all" else config.processing.max_samples
    if files:
        source = open_paths(files, config.dataset.audio_column)
        source = Source(examples=source.examples.slice(0, limit), labels=())
    else:
        source = open_source(config.dataset, limit, labelled=False)
    num_examples = source.examples.num_rows
    if num_examples == 0:
        raise DataError(f"{', '.join(files)}: expected clips, found none.")
    _refuse_to_overwrite(config, files, source)
    most = allowed(config.processing.max_bad_fraction, num_examples)
    embedded = embed(source, recipe, config.device, config.cluster, config.embedding_cache, most)
    records = [{"clip": example_at(source, row), "reason": reason} for row, reason in sorted(embedded.bad.items())]
    if len(records) == num_examples:
        named = "; ".join(f"{record['clip']}: {record['reason']}" for record in records[:MAX_NAMED])
        raise DataError(f"expected clips that can be used, found none among {num_examples} ({named}).")
    check_unusable(records, num_examples, config.processing.max_bad_fraction)
    return _predictions(saved, config, source, embedded)


def _predictions(
    saved: artifact.Artifact, config: PredictConfig, source: Source, embedded: Embeddings
) -> Iterator[dict[str, Any]]:
    names, top_k = saved.labels, min(config.top_k, len(saved.labels))
    paths = source.examples["path"]
    for start in range(0, len(embedded.vectors), 4096):
        probabilities = softmax(saved.logits(embedded.vectors[start : start + 4096]), saved.temperature)
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
        for row, (given, ranked) in enumerate(zip(probabilities, order, strict=True), start):
            record: dict[str, Any] = {"id": shown_path(paths[row].as_py()) or str(row)}
            for place, number in enumerate(ranked, 1):
                suffix = "" if place == 1 else f"_{place}"
                record[f"label{suffix}"] = None if row in embedded.bad else names[number]
                record[f"probability{suffix}"] = None if row in embedded.bad else float(given[number])
            if config.threshold is not None:
                record["likeliest"] = record["label"]
                if record["label"] is not None and record["probability"] < config.threshold:
                    record["label"] = UNSURE
            yield {**record, "problem": embedded.bad.get(row)}


def _refuse_to_overwrite(config: PredictConfig, files: Sequence[str], source: Source) -> None:
    """Raise ConfigError if the predictions would replace what they are made from."""
    if config.output is None:
        return
    output = placed("output", config.output)
    inputs = [config.dataset.name, *files, *filter(None, source.examples["path"].to_pylist())]
    if output in {name if "://" in name else os.path.realpath(os.path.expanduser(name)) for name in inputs}:
        raise ConfigError(f"output: expected another file than those that are read, got {output}; choose another name.")


def check_output(config: PredictConfig) -> str | None:
    """Where predictions go; None for the terminal. Raises ConfigError if it cannot be written."""
    if config.output is None:
        return None
    path = placed("output", config.output)
    try:
        storage.check_file(path)
    except OSError as error:
        raise ConfigError(f"output: expected to be able to write {path}, but {error}") from None
    return path


def as_text(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """A line for each prediction: id, label, probability, and the classes that come next."""
    for row in rows:
        if row["problem"]:
            yield f"{row['id']}  -  {row['problem']}"
            continue
        others = [
            f"{row[key]} {row[key.replace('label', 'probability')]:.1%}" for key in row if key.startswith("label_")
        ]
        likeliest = f"{row['likeliest']} " if row["label"] == UNSURE and "likeliest" in row else ""
        told = "; ".join([f"{likeliest}{row['probability']:.1%}", *others])
        yield f"{row['id']}  {row['label']}  ({told})"


def _as_table(rows: Iterator[dict[str, Any]]) -> pa.Table:
    """The predictions as a table, built in parts: as dictionaries they would take far more memory."""
    parts: list[pa.Table] = []
    while part := list(islice(rows, 65536)):
        kinds = {key: pa.float64() if key.startswith("probability") else pa.string() for key in part[0]}
        parts.append(pa.Table.from_pylist(part, schema=pa.schema(kinds)))
    return pa.concat_tables(parts)


def write_predictions(path: str, rows: Iterator[dict[str, Any]]) -> int:
    """Write predictions as the suffix says (.csv, .jsonl, .parquet), whole or not at all; how many."""
    table = _as_table(rows)
    sink = io.BytesIO()
    if path.lower().endswith(".csv"):
        import pyarrow.csv

        pyarrow.csv.write_csv(table, sink)
    elif path.lower().endswith(".jsonl"):
        for batch in table.to_batches():
            sink.writelines(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in batch.to_pylist())
    else:
        import pyarrow.parquet

        pyarrow.parquet.write_table(table, sink)
    try:
        storage.write(path, sink.getvalue())
    except Exception as error:  # every filesystem has its own
        raise ConfigError(f"output: expected to be able to write {path}, but {one_line(error)}") from None
    return int(table.num_rows)
