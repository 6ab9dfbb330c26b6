"""Say what a saved classifier takes clips for: python jobs/predict.py ARTIFACT FILES... [--group.key value ...]"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout runs without being installed

from golem_ray.cli.commands import dataset_of, exit_status, first_artifact
from golem_ray.cli.flags import parse_predict


def predict(argv: list[str]) -> Iterable[str]:
    """Predict; what to print."""
    saved = first_artifact(argv, parse_predict)
    command = parse_predict(argv, dataset_of(saved))
    from golem_ray.jobs.predict import as_text, check_output, predict, write_predictions

    output = check_output(command.config)
    rows = predict(saved, command.files, command.config)
    if output is None:
        return as_text(rows)
    return [f"Wrote {write_predictions(output, rows)} predictions to {output}"]


if __name__ == "__main__":
    sys.exit(exit_status(lambda: predict(sys.argv[1:])))
