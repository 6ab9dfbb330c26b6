"""Share a saved classifier: its weights, its sidecar and a model card, in one commit to a repository of the Hub.

Does not know how files get to the Hub, nor what is left out of them: artifact/sharing.py and published.py do.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

from golem_ray import artifact, storage
from golem_ray.artifact import sharing
from golem_ray.artifact.model_card import model_card
from golem_ray.artifact.published import published, published_report
from golem_ray.errors import ConfigError, StorageError


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """What was shared, and where."""

    files: tuple[str, ...]
    """Names in the repository."""
    url: str
    """Of the commit."""


def run(place: str, repo_id: str, *, private: bool = False, report: bool = False) -> Pushed:
    """Push the artifact at `place` to the model repository `user/name`, with its report if asked for.

    `private` is for a new repository. Raises ConfigError, before anything is sent, without a token in HF_TOKEN, and
    for an artifact or a report that cannot be had; later for what the Hub refuses.
    """
    token = sharing.write_token()
    saved = artifact.load(place)
    document = published(saved.document)
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    files = {
        sharing.WEIGHTS: saved.weights,
        sharing.SIDECAR: text.encode(),
        "README.md": model_card(document, repo_id).encode(),
    }
    if saved.joined is not None:
        files[sharing.JOINED] = saved.joined.content
    if report:
        files["report.html"] = published_report(_report(saved.place), saved.document).encode()
    url = sharing.push(repo_id, files, private=private, token=token)
    return Pushed(files=tuple(files), url=url)


def _report(place: str) -> str:
    """The report beside the artifact. Raises ConfigError if there is none."""
    path = artifact.report_path(place)
    try:
        return storage.read(path if "://" in path else os.path.expanduser(path)).decode()
    except (StorageError, UnicodeDecodeError) as error:
        kind = error.kind if isinstance(error, StorageError) else type(error).__name__
        raise ConfigError(
            f"report: expected {path} beside the artifact, but {kind}; leave out --report, or train again to have one."
        ) from None
