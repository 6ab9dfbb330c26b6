"""Share an artifact through the Hugging Face Hub: python jobs/push.py ARTIFACT USER/REPO [--private] [--report]"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout runs without being installed

from golem_ray import artifact, storage
from golem_ray.artifact import sharing
from golem_ray.artifact.model_card import model_card
from golem_ray.cli.commands import exit_status
from golem_ray.cli.flags import parse_push
from golem_ray.errors import ConfigError


def push(argv: list[str]) -> list[str]:
    """Push; what to print."""
    command = parse_push(argv)
    token = sharing.write_token()
    saved = artifact.load(command.artifact)
    document = sharing.published(saved.document)
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    files = {
        sharing.WEIGHTS: saved.weights,
        sharing.SIDECAR: text.encode(),
        "README.md": model_card(document, command.repo).encode(),
    }
    if command.report:
        files["report.html"] = sharing.published_report(_report(saved.place), saved.document).encode()
    url = sharing.push(command.repo, files, private=command.private, token=token)
    return [f"Pushed {', '.join(files)}", f"to {url.rpartition('/commit/')[0]}", f"as {url}"]


def _report(place: str) -> str:
    """The report beside the artifact. Raises ConfigError if there is none."""
    path = artifact.report_path(place)
    try:
        fs, where = storage.filesystem(path if "://" in path else os.path.expanduser(path))
        return str(fs.cat_file(where), "utf-8")
    except Exception as error:  # every filesystem has its own
        raise ConfigError(
            f"report: expected {path} beside the artifact, but {type(error).__name__}; leave out --report, or train "
            "again to have one."
        ) from None


if __name__ == "__main__":
    sys.exit(exit_status(lambda: push(sys.argv[1:])))
