"""Train a classifier on labelled clips: python jobs/train.py [PRESET] [--group.key value ...]"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout runs without being installed

from golem_ray.cli.commands import exit_status
from golem_ray.cli.flags import parse


def train(argv: list[str]) -> list[str]:
    """Train; what to print."""
    command = parse(argv)
    from golem_ray.jobs.train import run  # imports Ray, which --help does not need

    result = run(command.config, sidecar=command.sidecar, allow_drift=command.allow_drift)
    lines = [result["summary"], f"Saved to {result['savedArtifactPath']}"]
    return [*lines, json.dumps(result)] if command.json else lines


if __name__ == "__main__":
    sys.exit(exit_status(lambda: train(sys.argv[1:])))
