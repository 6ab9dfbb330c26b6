"""The commands: each takes its arguments and gives the lines to print. Raise UserError.

Know which job does the work and what of its outcome is printed; do not know how it is done. Jobs are imported only
when the flags are read, so that --help needs neither Ray nor PyTorch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from golem_ray.cli import flags
from golem_ray.config import DatasetConfig
from golem_ray.config.presets import config_from_dict
from golem_ray.errors import ConfigError, printable
from golem_ray.progress import waiting_for

if TYPE_CHECKING:
    from golem_ray.artifact import Artifact


def describe(argv: Sequence[str]) -> Iterable[str]:
    """Say what a dataset holds before anything is trained: SOURCE"""
    command = flags.parse_describe(argv)
    from golem_ray.jobs.describe import describe

    found = describe(command.config)
    lines = [found["summary"], *_report_line(found)]
    return [*lines, json.dumps(found)] if command.json else lines


def train(argv: Sequence[str]) -> Iterable[str]:
    """Train a classifier and save it: [PRESET]"""
    command = flags.parse_train(argv)
    from golem_ray import artifact
    from golem_ray.jobs.train import run

    result = run(command.config, sidecar=command.sidecar, allow_drift=command.allow_drift)
    paths, saved = command.config.paths, result["savedArtifactPath"]
    report = paths.place("report_path") if paths.report_path else artifact.report_path(saved)
    lines = [result["summary"], f"Saved to {printable(saved)}", f"Report in {printable(report)}"]
    return [*lines, json.dumps(result)] if command.json else lines


def evaluate(argv: Sequence[str]) -> Iterable[str]:
    """Test a saved classifier on labelled examples: ARTIFACT"""
    saved = _artifact(argv, flags.parse_evaluate)
    command = flags.parse_evaluate(argv, _dataset(saved))
    from golem_ray.jobs.evaluate import evaluate_artifact

    found = evaluate_artifact(saved, command.config)
    lines = [found["summary"], *_report_line(found)]
    return [*lines, json.dumps(found)] if command.json else lines


def predict(argv: Sequence[str]) -> Iterable[str]:
    """Say what a saved classifier takes examples for: ARTIFACT FILES..."""
    saved = _artifact(argv, flags.parse_predict)
    command = flags.parse_predict(argv, _dataset(saved))
    from golem_ray.jobs import predict as job

    output = job.check_output(command.config)
    rows = job.predict(saved, command.files, command.config)
    if output is None:
        return job.as_text(rows, command.config.top_k)
    return [f"Wrote {job.write_predictions(output, rows)} predictions to {output}"]


def compare(argv: Sequence[str]) -> Iterable[str]:
    """Compare candidates on the same examples and folds: [GRID]"""
    command = flags.parse_compare(argv)
    from golem_ray.jobs.compare import run

    found = run(command.config, command.grid, command.output)
    lines = [found["summary"], f"To train with the best: golem-ray train {found['bestPath']}"]
    lines += _report_line(found)
    return [*lines, json.dumps(found)] if command.json else lines


def push(argv: Sequence[str]) -> Iterable[str]:
    """Share an artifact through the Hugging Face Hub: ARTIFACT USER/REPO"""
    command = flags.parse_push(argv)
    from golem_ray.jobs.push import run

    pushed = run(command.artifact, command.repo, private=command.private, report=command.report)
    return [f"Pushed {', '.join(pushed.files)}", f"to {pushed.url.rpartition('/commit/')[0]}", f"as {pushed.url}"]


COMMANDS: dict[str, Callable[[Sequence[str]], Iterable[str]]] = {
    "describe": describe,
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "compare": compare,
    "push": push,
}
"""Name of a command -> what runs it."""


def _artifact(argv: Sequence[str], parse: Callable[[Sequence[str], DatasetConfig], object]) -> Artifact:
    """The artifact that the first argument names. Raises ConfigError without one; --help ends the process."""
    if argv:  # what is wrong with the flags is said before anything is loaded
        parse(argv, DatasetConfig())
    if argv and not argv[0].startswith("-"):
        with waiting_for(f"{printable(argv[0])}, and PyTorch to read it"):
            from golem_ray import artifact

            return artifact.load(argv[0])
    raise ConfigError(
        "ARTIFACT: expected a .pth file or a Hub repository (user/name) as the first argument, found none."
    )


def _dataset(saved: Artifact) -> DatasetConfig:
    """The dataset that the artifact was trained on, which flags then change."""
    return config_from_dict({"dataset": saved.document["config"].get("dataset", {})}).dataset


def _report_line(found: dict[str, Any]) -> list[str]:
    return [f"Report in {found['reportPath']}"] if found["reportPath"] else []
