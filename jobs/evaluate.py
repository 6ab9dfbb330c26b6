"""Test a saved classifier on labelled clips: python jobs/evaluate.py ARTIFACT [--group.key value ...]"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout runs without being installed

from golem_ray.cli.commands import dataset_of, exit_status, first_artifact
from golem_ray.cli.flags import parse_evaluate


def evaluate(argv: list[str]) -> list[str]:
    """Evaluate; what to print."""
    saved = first_artifact(argv, parse_evaluate)
    command = parse_evaluate(argv, dataset_of(saved))
    from golem_ray.jobs.evaluate import evaluate_artifact  # imports Ray, which --help does not need

    found = evaluate_artifact(saved, command.config)
    lines = [found["summary"], *([f"Report in {found['reportPath']}"] if found["reportPath"] else [])]
    return [*lines, json.dumps(found)] if command.json else lines


if __name__ == "__main__":
    sys.exit(exit_status(lambda: evaluate(sys.argv[1:])))
