"""Train a classifier on labelled clips: python jobs/train.py [PRESET] [--group.key value ...]"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout runs without being installed

from golem_ray.errors import UserError
from golem_ray.presets import parse


def main(argv: list[str]) -> int:
    """Run the job; the exit status: 0, 2 for what the user can mend, 1 (a traceback) for a bug."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("golem_ray").setLevel(logging.INFO)
    try:
        command = parse(argv)
        from golem_ray.job import run  # imports Ray, which --help does not need

        result = run(command.config, sidecar=command.sidecar, allow_drift=command.allow_drift)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    try:
        print(f"{result['summary']}\nSaved to {result['savedArtifactPath']}", flush=True)
        if command.json:
            print(json.dumps(result), flush=True)
    except BrokenPipeError:  # nobody reads on; the artifact is saved all the same
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
