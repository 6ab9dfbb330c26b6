"""What a run starts from: a sidecar whose artifact it makes again, a run folder that it goes on from, or nothing."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import numpy as np

from golem_ray import artifact
from golem_ray.artifact.provenance import provenance
from golem_ray.config import DatasetConfig, TrainConfig
from golem_ray.config.presets import config_from_dict
from golem_ray.data.split import Division
from golem_ray.embedding import run_folder
from golem_ray.embedding.recipe import Recipe
from golem_ray.errors import ConfigError

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Origin:
    """The sidecar of the artifact that a run makes again, if it does."""

    sidecar: dict[str, Any] | None
    allow_drift: bool
    """Go on where versions, revisions or inputs differ from the sidecar's."""

    def pinned(self, config: TrainConfig) -> TrainConfig:
        """The configuration with the Hub's commits that the sidecar, or the run's folder, records, where it names none.

        Raises ConfigError if the run's folder cannot be read.
        """
        begun = None
        if config.paths.run_dir is not None:
            begun = run_folder.recorded(config.paths.place("run_dir"), "paths.run_dir")
        for document in (self.sidecar, begun):
            if document is not None:
                config = _pinned(config, document)
        return config

    def check(self, division: Division, recipe: Recipe, digests: np.ndarray, gpu: bool) -> None:
        """Name what differs from the sidecar, if there is one; ConfigError unless that is allowed."""
        if self.sidecar is None:
            return
        current = provenance(division, recipe, digests)
        if current["encoder"]["sha256"] is not None:
            del current["encoder"]["name"]  # a folder may lie elsewhere: its digest says what is in it
        if current["encoder"].get("layer") == "all":
            del current["encoder"]["layer"]  # it is still to be chosen
        differing = artifact.differences(self.sidecar, current)
        if gpu != self.sidecar.get("gpu"):
            differing.append(f"gpu: {self.sidecar.get('gpu')} then, {gpu} now")
        if not differing:
            return
        named = "; ".join(differing)
        if not self.allow_drift:
            raise ConfigError(
                f"the sidecar: expected its versions, revisions and inputs, found others ({named}); mend that, or pass "
                "--allow-drift to go on with other bytes."
            )
        log.warning("going on although the sidecar differs: %s", named)


def _pinned(config: TrainConfig, document: dict[str, Any]) -> TrainConfig:
    dataset, model, recorded = config.dataset, config.model, config_from_dict(document["config"])
    if dataset.revision is None and dataset.name == recorded.dataset.name:
        dataset = dataclasses.replace(dataset, revision=document["data"].get("revision"))
    dataset = dataclasses.replace(dataset, extra=_pinned_extra(dataset, recorded.dataset, document))
    if model.revision is None and model.feature_extractor_model == recorded.model.feature_extractor_model:
        model = dataclasses.replace(model, revision=document["encoder"].get("revision"))
    return dataclasses.replace(config, dataset=dataset, model=model)


def _pinned_extra(dataset: DatasetConfig, then: DatasetConfig, document: dict[str, Any]) -> tuple[DatasetConfig, ...]:
    """The datasets beside the main one, with the commits that were recorded for those of the same names and places."""
    commits = document["data"].get("extra_revisions") or []
    before = dict(enumerate(zip((each.name for each in then.extra), commits, strict=False)))
    return tuple(
        dataclasses.replace(each, revision=before[number][1])
        if each.revision is None and number in before and each.name == before[number][0]
        else each
        for number, each in enumerate(dataset.extra)
    )


def log_going_on(place: str) -> None:
    """Say that the run in that folder is gone on with."""
    log.info("going on with the run in %s", place)
