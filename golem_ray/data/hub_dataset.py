"""A dataset on the Hub, its files undecoded, or its copy in the local cache."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from golem_ray import hub
from golem_ray.config import DatasetConfig
from golem_ray.data.encode import encode_groups, no_labels
from golem_ray.data.several import encode
from golem_ray.data.table import Columns, NoColumnError, Source, examples_table, split_content
from golem_ray.errors import DataError, one_line

log = logging.getLogger(__name__)

_LOCAL_COPY = "point dataset.name at a local copy (a folder, or the dataset's .parquet file)"


def open_hub_dataset(dataset: DatasetConfig, max_samples: int | None, columns: Columns) -> Source:
    """The first max_samples examples (None: all) of a Hub dataset's split."""
    if dataset.trust_remote_code:
        log.info("dataset.trust_remote_code: datasets no longer runs a dataset's own code; going on without")
    commit = hub.resolve_commit(dataset.name, "dataset", dataset.revision, "dataset.name", DataError)
    split, revision = _load_split(dataset, commit)
    if dataset.revision and not revision.startswith(commit or dataset.revision):
        raise DataError(
            f"dataset.revision: expected {dataset.revision}, found {revision} in the cache, with the Hub out of "
            "reach; connect once, or drop the pin."
        )
    import datasets

    columns = columns.among(split.column_names)
    for key, column in columns.needed():
        if column not in split.column_names:
            raise NoColumnError(key, column, split.column_names, dataset.name)
    num_examples = min(len(split), max_samples or len(split))
    labels: tuple[str, ...] = ()
    indices = no_labels(num_examples)
    if columns.labelled:
        feature = split.features[columns.labelled[0]]
        inner = getattr(feature, "feature", feature)  # of a list, that of what is in it
        names = inner.names if isinstance(inner, datasets.ClassLabel) else None
        found = {name: _column(split, name) for name in columns.labelled}
        labels, indices = encode(found, names, **columns.about_labels)

    first = split.select(range(num_examples))
    files, feature = first.select_columns([columns.column]), split.features[columns.column]
    if hasattr(feature, "decode"):  # of files that datasets would decode
        files = files.cast_column(columns.column, dataclasses.replace(feature, decode=False))
    contents, paths = split_content(
        _column(files, columns.column), lambda path: path, columns.content.key, columns.content.inline
    )
    groups = None if columns.group is None else encode_groups(_column(first, columns.group))
    found = {"bytes": contents, "path": paths}
    content_columns = pa.table({name: values for name, values in found.items() if values is not None})
    examples = examples_table(content_columns, indices[:num_examples], groups)
    noun = columns.content.noun
    return Source(examples=examples, labels=labels, revision=revision, total=len(split), noun=noun)


def _column(split: Any, name: str) -> Any:
    return split.select_columns([name]).with_format("arrow")[:][name]


def _load_split(dataset: DatasetConfig, commit: str | None) -> tuple[Any, str]:
    """The split as `datasets` reads it, and its commit; from the cache alone where commit is None."""
    import datasets

    name, alias = dataset.name, dataset.name_alias or None
    try:
        with _cache_only(commit is None):
            builder = datasets.load_dataset_builder(name, alias, revision=commit or dataset.revision)
            builder.download_and_prepare()
            if dataset.split.split("[")[0] not in (builder.info.splits or {}):
                raise DataError(
                    f"dataset.split: expected one of {', '.join(builder.info.splits)} for {name}, "
                    f"got {dataset.split!r}."
                )
            return _as_split(builder, dataset), builder.hash
    except DataError:
        raise
    except datasets.exceptions.DatasetNotFoundError as error:
        if "is a gated dataset" in str(error):  # what is in it is refused; that it exists is public
            raise DataError(
                f"dataset.name: expected a dataset that this account may read, found {hub.gated(name)}"
            ) from None
        raise DataError(f"dataset.name: expected a dataset that can be read, but: {one_line(error)}") from None
    except ConnectionError:
        raise hub.unreachable(name, "dataset.name", DataError, _LOCAL_COPY) from None
    except ValueError as error:
        if "onfig" in str(error) and ("not found" in str(error) or "missing" in str(error)):
            raise DataError(f"dataset.name_alias: expected a configuration of {name}, but {one_line(error)}") from None
        if commit is None:
            raise hub.unreachable(name, "dataset.name", DataError, _LOCAL_COPY) from None
        raise DataError(f"dataset.name: expected a dataset that can be read, but: {one_line(error)}") from None
    except Exception as error:  # among them the HTTP library's own, when the connection breaks halfway
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise DataError(f"dataset.name: expected a dataset that can be read, but {reason}") from None


def _as_split(builder: Any, dataset: DatasetConfig) -> Any:
    """The configured split, or the slice of one that it asks for (`train[:50]`)."""
    try:
        return builder.as_dataset(split=dataset.split)
    except ValueError as error:
        raise DataError(
            f"dataset.split: expected a split of {dataset.name}, or a slice of one (train[:50]), but: {one_line(error)}"
        ) from None


@contextmanager
def _cache_only(active: bool) -> Iterator[None]:
    """Keep `datasets` from asking a Hub that has just not answered, which takes it half a minute of retries."""
    import datasets

    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = before or active
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before
