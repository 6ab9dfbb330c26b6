"""golem_ray: a handful of labelled clips in, a working classifier out, as a Ray batch job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from golem_ray.artifact.classifier import Classifier

__version__ = "0.1.0"
__all__ = ["load", "train"]


def load(place: str, *, encoder: str | None = None, device: str = "auto") -> Classifier:
    """A saved classifier, for use in this process, without Ray: load("voice.pth").predict("clip.wav").label

    `place` is a path or URI ending in .pth, or a Hub repository (`user/repo`). `encoder` says where the encoder lies,
    if not under the name that it was trained with; `device` is `cpu`, `cuda` or `auto`. Raises
    golem_ray.errors.UserError for an artifact or encoder that is missing, damaged or another; no code in an artifact
    is run.
    """
    from golem_ray import artifact
    from golem_ray.artifact.classifier import Classifier

    return Classifier(artifact.load(place), encoder=encoder, device=device)


def train(config: dict[str, Any], *, allow_drift: bool = False) -> dict[str, str]:
    """Train a classifier and save it; returns {"savedArtifactPath": ..., "summary": ...}.

    `config` has the groups and keys of a preset, in snake_case or camelCase, or is an artifact's sidecar, which
    is then made again (with allow_drift, also on other versions or inputs). Runs on the Ray that this process is
    connected to, else on the one that config["cluster"]["address"] says. Raises golem_ray.errors.UserError for
    what the caller can mend; a previous artifact then stays as it was.
    """
    from golem_ray.config.presets import config_from_dict, split_sidecar
    from golem_ray.jobs.train import run

    values, sidecar = split_sidecar(config)
    return run(config_from_dict(values), sidecar=sidecar, allow_drift=allow_drift)
