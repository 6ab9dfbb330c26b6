"""Test a saved classifier on labelled clips, and write the report."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from golem_ray import artifact
from golem_ray.artifact.classifier import recipe_of
from golem_ray.config import EvaluateConfig
from golem_ray.data import open_source
from golem_ray.data.shards import with_contents
from golem_ray.data.split import drawn, renumbered
from golem_ray.data.table import Source, read_content
from golem_ray.data.unusable import MAX_NAMED, allowed, check_unusable, example_at
from golem_ray.errors import DataError, ExampleError
from golem_ray.heads.target import softmax
from golem_ray.jobs.engines import embed, placed
from golem_ray.metrics.figures import FIGURES, confusion, evaluate
from golem_ray.report.classifier import Judged, render
from golem_ray.report.drawings import Points
from golem_ray.report.words import percent

log = logging.getLogger(__name__)


def evaluate_artifact(saved: artifact.Artifact, config: EvaluateConfig) -> dict[str, Any]:
    """How the artifact does on labelled clips that it was not trained on; writes the report beside it.

    Returns {"summary", "reportPath", "num_clips", "num_also_trained_on", "figures", ...}. Raises UserError.
    """
    report_path = artifact.report_path(saved.place) if saved.from_hub is None else "report.html"
    if config.report is not None or saved.from_hub is not None:
        report_path = placed("report", config.report or report_path)
    artifact.check_report("report", report_path)
    recipe = recipe_of(saved, config.encoder)
    limit = config.processing.max_samples
    source = open_source(config.dataset, None if limit == "all" else limit)
    names, clips = renumbered(source, saved.labels)
    source = Source(examples=clips, labels=names, revision=source.revision)
    embedded = embed(source, recipe, config.device, config.cluster, config.embedding_cache, _max_bad(config, source))
    records = [{"clip": example_at(source, row), "reason": reason} for row, reason in sorted(embedded.bad.items())]
    check_unusable(records, clips.num_rows, config.processing.max_bad_fraction)

    good = np.array([row not in embedded.bad for row in range(clips.num_rows)])
    known, trained = _trained_on(saved, source, embedded.digests, good)
    rows = np.flatnonzero(good if config.include_trained else good & ~trained)
    labels = _labels(saved, config, source, rows)
    probabilities = softmax(saved.logits(embedded.vectors[rows]), saved.temperature)
    found = {
        "num_also_trained_on": int(trained.sum()),
        "include_trained": config.include_trained,
        "bad": records,
        **evaluate(probabilities, labels, names, _largest_class(saved)),
        "confusion": confusion(probabilities.argmax(axis=1), labels, len(names)).tolist(),
    }
    judged = Judged(
        how=_how(config, len(rows), known),
        clips=[example_at(source, row) for row in rows],
        labels=labels,
        probabilities=probabilities,
        names=names,
        figures=found["figures"],
        baselines=found["baselines"],
    )
    document = {**saved.document, "clips": {**saved.document["clips"], "bad": records}}
    audio = (lambda row: _audio(source, int(rows[row]))) if config.audio else None
    page = render(document, judged, _points(source, embedded.vectors, trained, rows), audio=audio)
    written = artifact.save_report(report_path, page)
    return {"summary": _summary(saved, config, found), "reportPath": report_path if written else None, **found}


def _labels(saved: artifact.Artifact, config: EvaluateConfig, source: Source, rows: np.ndarray) -> np.ndarray:
    """The rows' labels, (M,) int64. Raises DataError without rows, or if the artifact knows no label."""
    where = f"{config.dataset.name}, split {config.dataset.split!r}"
    if not len(rows):
        raise DataError(
            f"dataset.name: expected clips that {saved.place} was not trained on, found none among the "
            f"{source.examples.num_rows} of {where}; name other clips, or another split."
        )
    labels = source.examples["label"].to_numpy()[rows].astype(np.int64)
    others = ", ".join(source.labels[len(saved.labels) :][:20])
    if labels.min() >= len(saved.labels):
        raise DataError(
            f"dataset.label_column: expected labels that {saved.place} knows ({', '.join(saved.labels[:20])}), found "
            f"none among {others}; name another column, or write them alike."
        )
    return labels


def _how(config: EvaluateConfig, num_examples: int, known: bool) -> str:
    """A sentence for the report: which clips these are."""
    which = f"The {num_examples} clips of {config.dataset.name}, split {config.dataset.split!r}, "
    if not known:
        return which + "of which the artifact does not say whether they were trained on."
    return which + (
        "those that were trained on among them." if config.include_trained else "none of which was trained on."
    )


def _points(source: Source, vectors: np.ndarray, trained: np.ndarray, rows: np.ndarray) -> Points:
    """What the report maps."""
    shown = drawn(rows)
    return Points(
        vectors=vectors[shown],
        labels=source.examples["label"].to_numpy()[shown].astype(np.int64),
        clips=[example_at(source, row) for row in shown],
        tested=~trained[shown],
    )


def _trained_on(
    saved: artifact.Artifact, source: Source, digests: np.ndarray, good: np.ndarray
) -> tuple[bool, np.ndarray]:
    """Whether that is known, and (N,) bool: the usable clips whose audio file was trained on. They are named."""
    trained = artifact.trained_on(saved.document, digests)
    if trained is None:
        log.warning("the artifact does not say which clips it was trained on: make sure that these are others")
        return False, np.zeros(len(digests), dtype=bool)
    trained &= good
    rows = np.flatnonzero(trained)
    if len(rows):
        most = MAX_NAMED
        named = "; ".join(example_at(source, row) for row in rows[:most])
        more = f"; and {len(rows) - most} more" if len(rows) > most else ""
        log.warning("%d of %d clips were trained on: %s%s", len(rows), len(digests), named, more)
    copies = int(good.sum()) - len(np.unique(digests[good]))
    if copies:
        log.warning(
            "%d of %d clips are copies of others (equal files): intervals take them for clips of their own",
            copies,
            int(good.sum()),
        )
    return True, trained


def _largest_class(saved: artifact.Artifact) -> int:
    """The class that most clips were trained on."""
    per_class = saved.document["clips"]["per_class"]
    return int(np.argmax([per_class.get(name, 0) for name in saved.labels]))


def _max_bad(config: EvaluateConfig, source: Source) -> int:
    return allowed(config.processing.max_bad_fraction, source.examples.num_rows)


def _audio(source: Source, row: int) -> bytes | None:
    clip = with_contents(source.examples.slice(int(row), 1)).to_pylist()[0]
    try:
        return read_content(clip["bytes"], clip["path"])
    except ExampleError:
        return None


_MOST_CLASSES = 100


_SHOWN = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "weighted_f1": "weighted F1",
    "top_5_accuracy": "top-5 accuracy",
    "log_loss": "log-loss",
    "expected_calibration_error": "calibration error",
}


def _summary(saved: artifact.Artifact, config: EvaluateConfig, found: dict[str, Any]) -> str:
    """The evaluation in words and a table."""
    where = f"{config.dataset.name}, split {config.dataset.split!r}"
    line = f"{saved.place} on {found['num_clips']} clips of {where}"
    if found["num_also_trained_on"]:
        kept = "counted in, so that this is no honest figure" if config.include_trained else "left out"
        line += f" ({found['num_also_trained_on']} that were trained on {kept})"
    lines = [f"{line}: accuracy {percent(found['figures']['accuracy'])}."]
    if found["unknown_labels"]:
        named = ", ".join(f"{name} ({count})" for name, count in found["unknown_labels"].items())
        lines.append(f"Labels that the artifact does not know, counted as missed: {named}.")
    lines.append(f"{'':20} {'value':>8}   {'95 % interval':18} {'chance':>8} {'majority':>9}")
    for name in FIGURES:
        if name in found["figures"]:
            figure = found["figures"][name]
            low, high = figure["interval_95"]
            beside = [found["baselines"][row].get(name) for row in ("chance", "majority")]
            shown = [f"{value:.3f}" if value is not None else "" for value in beside]
            lines.append(
                f"{_SHOWN[name]:20} {figure['value']:8.3f}   {low:.3f} to {high:.3f}     {shown[0]:>8} {shown[1]:>9}"
            )
    lines.append(f"\n{'class':32} {'clips':>8} {'precision':>10} {'recall':>8} {'F1':>8}")
    for record in found["per_class"][:_MOST_CLASSES]:
        shown = ["" if record[key] is None else f"{record[key]:.3f}" for key in ("precision", "recall", "f1")]
        lines.append(f"{record['label']:32.32} {record['num_clips']:8} {shown[0]:>10} {shown[1]:>8} {shown[2]:>8}")
    if len(found["per_class"]) > _MOST_CLASSES:
        lines.append(f"and {len(found['per_class']) - _MOST_CLASSES} more classes: see the report")
    return "\n".join(lines)
