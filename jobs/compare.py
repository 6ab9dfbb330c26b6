"""Compare recipes on the same clips and folds: python jobs/compare.py [GRID] [--group.key value ...]"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout runs without being installed

from golem_ray.cli.commands import exit_status
from golem_ray.cli.flags import parse_compare


def compare(argv: list[str]) -> list[str]:
    """Compare; what to print."""
    command = parse_compare(argv)
    from golem_ray.jobs.compare import run  # imports Ray, which --help does not need

    found = run(command.config, command.grid, command.output)
    lines = [found["summary"], f"To train with the best: python jobs/train.py {found['bestPath']}"]
    lines += [f"Report in {found['reportPath']}"] if found["reportPath"] else []
    return [*lines, json.dumps(found)] if command.json else lines


if __name__ == "__main__":
    sys.exit(exit_status(lambda: compare(sys.argv[1:])))
