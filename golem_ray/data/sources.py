"""Which source a dataset's name stands for. A new kind of source is a function that gives a Source, and a line here."""

from __future__ import annotations

import dataclasses
import difflib
import os

from golem_ray import hub
from golem_ray.config import DatasetConfig
from golem_ray.data.files import open_files
from golem_ray.data.hub_dataset import open_hub_dataset
from golem_ray.data.manifests import MANIFEST_SUFFIXES
from golem_ray.data.table import Content, Source, columns_of
from golem_ray.errors import DataError
from golem_ray.progress import waiting_for
from golem_ray.sample import DATASETS


def open_source(
    dataset: DatasetConfig,
    content: Content,
    max_samples: int | None,
    *,
    labelled: bool = True,
    group_column: str | None = None,
) -> Source:
    """The first max_samples examples of the configured dataset (None: all), their files not yet read.

    With their labels, unless they need none, and with the group of each where a column of groups is named. Raises
    DataError if the dataset, its configuration, split or columns are not there, or if it is empty.
    """
    with waiting_for(f"the {content.noun.many} of {dataset.name} to be listed"):
        return _opened(dataset, content, max_samples, labelled, group_column)


def _opened(
    dataset: DatasetConfig, content: Content, max_samples: int | None, labelled: bool, group_column: str | None
) -> Source:
    name = dataset.name
    columns = columns_of(dataset, content, labelled=labelled, group=group_column)
    if name in DATASETS:
        source = open_files(dataclasses.replace(dataset, name=str(DATASETS[name])), max_samples, columns)
    elif "://" in name or os.path.exists(os.path.expanduser(name)):
        source = open_files(dataset, max_samples, columns)
    elif hub.is_hub_id(name) and not name.lower().endswith(MANIFEST_SUFFIXES):
        try:
            source = open_hub_dataset(dataset, max_samples, columns)
        except DataError as error:
            here = "" if "/" in name else f" Nor is there a file or folder {name!r} in {os.getcwd()}."
            if not (hint := here + _bundled_like(name)) or not str(error).startswith("dataset.name: "):
                raise  # what it is called is right
            raise DataError(f"{error}{hint}") from None
    else:
        raise DataError(
            f"dataset.name: expected a Hub id, a local folder or a manifest, found nothing at {name!r}."
            f"{_bundled_like(name)}"
        )
    assert group_column is None or "group" in source.examples.column_names, "a source has to give the groups"
    if source.examples.num_rows == 0:
        many = content.noun.many
        raise DataError(f"dataset.name: expected {many}, found none in {name}, split {dataset.split!r}.")
    if labelled and not source.labels:
        raise DataError(f"dataset.label_column: expected classes in {name}, found no label at all.")
    return source


def _bundled_like(name: str) -> str:
    """The rest of an error message about a name that is near a bundled dataset's; empty if it is near none."""
    near = difflib.get_close_matches(name.lower(), DATASETS, n=1)
    return f" Bundled under a name like it: {near[0]}." if near else ""
