"""Sources: a Hub dataset, a local folder, a manifest, or either of them at a URI -> labelled clips in order."""

from __future__ import annotations

import dataclasses
import os

from golem_ray import hub
from golem_ray.config import SAMPLE, DatasetConfig
from golem_ray.data.files import MANIFEST_SUFFIXES, open_files
from golem_ray.data.hub_dataset import open_hub_dataset
from golem_ray.data.table import Source, clip_name, encode_labels, read_audio
from golem_ray.errors import DataError

__all__ = ["Source", "clip_name", "encode_labels", "open_source", "read_audio"]


def open_source(dataset: DatasetConfig, max_samples: int | None) -> Source:
    """The first max_samples clips of the configured dataset (None: all), audio not yet read.

    Raises DataError if the dataset, its configuration, split or columns are not there, or if it is empty.
    """
    name = dataset.name
    if name == "sample":
        source = open_files(dataclasses.replace(dataset, name=str(SAMPLE)), max_samples)
    elif "://" in name or os.path.exists(os.path.expanduser(name)):
        source = open_files(dataset, max_samples)
    elif hub.is_hub_id(name) and not name.lower().endswith(MANIFEST_SUFFIXES):
        source = open_hub_dataset(dataset, max_samples)
    else:
        raise DataError(f"dataset.name: expected a Hub id, a local folder or a manifest, found nothing at {name!r}.")
    if source.clips.num_rows == 0:
        raise DataError(f"dataset.name: expected clips, found none in {name}, split {dataset.split!r}.")
    if len(source.labels) < 2:
        raise DataError(
            f"dataset.label_column: expected at least two classes in {name}, found "
            f"{len(source.labels)} ({', '.join(source.labels) or 'no label at all'})."
        )
    return source
