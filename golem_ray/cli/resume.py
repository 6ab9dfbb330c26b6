"""--resume: which run is meant, and the configuration that it began with, which other flags then change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from golem_ray import storage
from golem_ray.config import refuse_credentials
from golem_ray.errors import ConfigError


def resumed(argv: Sequence[str]) -> str | None:
    """The folder that --resume names; the other flags' defaults come from the run there. None without the flag."""
    for number, argument in enumerate(argv):
        if argument.startswith("--resume="):
            return argument.removeprefix("--resume=")
        if argument == "--resume" and number + 1 < len(argv):
            return argv[number + 1]
    return None


def begun(run_dir: str) -> dict[str, Any]:
    """The configuration of the run that was begun there. Raises ConfigError if there is none."""
    from golem_ray.embedding import run_folder

    refuse_credentials("--resume", run_dir)
    place = storage.resolve("--resume", run_dir)
    document = run_folder.recorded(place, "--resume")
    if document is None:
        raise ConfigError(f"--resume: expected a folder that paths.run_dir of a run named, found no run in {place}.")
    values: dict[str, Any] = document["config"]
    values["paths"]["run_dir"] = place
    return values
