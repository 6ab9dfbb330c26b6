"""Sources: a Hub dataset, a local folder, a manifest, or either of them at a URI -> labelled clips in order."""

from __future__ import annotations

import dataclasses
import os

from golem_ray import hub
from golem_ray.config import DatasetConfig
from golem_ray.data.files import open_files, open_paths
from golem_ray.data.hub_dataset import open_hub_dataset
from golem_ray.data.manifests import MANIFEST_SUFFIXES
from golem_ray.data.shards import with_contents
from golem_ray.data.table import Columns, Source, encode_labels, example_name, read_content
from golem_ray.errors import DataError
from golem_ray.sample import SAMPLE

__all__ = ["Source", "encode_labels", "example_name", "open_paths", "open_source", "read_content", "with_contents"]


def open_source(
    dataset: DatasetConfig, max_samples: int | None, *, labelled: bool = True, group_column: str | None = None
) -> Source:
    """The first max_samples clips of the configured dataset (None: all), audio not yet read.

    With their labels, unless they need none, and with the group of each where a column of groups is named. Raises
    DataError if the dataset, its configuration, split or columns are not there, or if it is empty.
    """
    name = dataset.name
    columns = Columns(audio=dataset.audio_column, label=dataset.label_column if labelled else None, group=group_column)
    if name == "sample":
        source = open_files(dataclasses.replace(dataset, name=str(SAMPLE)), max_samples, columns)
    elif "://" in name or os.path.exists(os.path.expanduser(name)):
        source = open_files(dataset, max_samples, columns)
    elif hub.is_hub_id(name) and not name.lower().endswith(MANIFEST_SUFFIXES):
        source = open_hub_dataset(dataset, max_samples, columns)
    else:
        raise DataError(f"dataset.name: expected a Hub id, a local folder or a manifest, found nothing at {name!r}.")
    if source.examples.num_rows == 0:
        raise DataError(f"dataset.name: expected clips, found none in {name}, split {dataset.split!r}.")
    if labelled and not source.labels:
        raise DataError(f"dataset.label_column: expected classes in {name}, found no label at all.")
    return source
