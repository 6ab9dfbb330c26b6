"""golem_ray: a handful of labelled clips in, a working classifier out, as a Ray batch job."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
__all__ = ["train"]


def train(config: dict[str, Any], *, allow_drift: bool = False) -> dict[str, str]:
    """Train a classifier and save it; returns {"savedArtifactPath": ..., "summary": ...}.

    `config` has the groups and keys of a preset, in snake_case or camelCase, or is an artifact's sidecar, which
    is then made again (with allow_drift, also on other versions or inputs). Runs on the Ray that this process is
    connected to, else on the one that config["cluster"]["address"] says. Raises golem_ray.errors.UserError for
    what the caller can mend; a previous artifact then stays as it was.
    """
    from golem_ray.job import run
    from golem_ray.presets import config_from_dict, split_sidecar

    values, sidecar = split_sidecar(config)
    return run(config_from_dict(values), sidecar=sidecar, allow_drift=allow_drift)
