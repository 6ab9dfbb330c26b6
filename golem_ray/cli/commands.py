"""What every job's command does alike: logging, exit statuses, and output that a reader may stop reading."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable, Sequence

from golem_ray import artifact
from golem_ray.artifact.files import Artifact
from golem_ray.config import DatasetConfig
from golem_ray.config.presets import config_from_dict
from golem_ray.errors import ConfigError, UserError


def first_artifact(argv: Sequence[str], parse: Callable[[Sequence[str], DatasetConfig], object]) -> Artifact:
    """The artifact that the first argument names. Raises ConfigError where it names none; --help ends the process."""
    if argv and not argv[0].startswith("-"):
        return artifact.load(argv[0])
    if "-h" in argv or "--help" in argv:
        parse(argv, DatasetConfig())
    raise ConfigError(
        "ARTIFACT: expected a .pth file or a Hub repository (user/name) as the first argument, found none."
    )


def dataset_of(saved: Artifact) -> DatasetConfig:
    """The dataset that the artifact was trained on, which flags then change."""
    return config_from_dict({"dataset": saved.document["config"].get("dataset", {})}).dataset


def _stop(number: int, frame: object) -> None:
    """End like Ctrl-C does, so that Ray is left and nothing stays behind."""
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def exit_status(work: Callable[[], Iterable[str]]) -> int:
    """Do the work, print the lines that it gives; 0, or 2 for what the user can mend. A bug is a traceback and 1."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("golem_ray").setLevel(logging.INFO)
    signal.signal(signal.SIGTERM, _stop)  # what `ray job stop` sends, and Kubernetes
    try:
        lines = list(work())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; a run with paths.run_dir keeps what it has embedded: go on with --resume", file=sys.stderr)
        return 130
    try:
        print("\n".join(lines), flush=True)
    except BrokenPipeError:  # nobody reads on; what was to be saved is saved all the same
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
