"""Test a saved classifier on labelled examples, and write the report."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable
from typing import Any

import numpy as np

from golem_ray import artifact, storage
from golem_ray.artifact.recipe import recipe_of
from golem_ray.config import EvaluateConfig, Noun
from golem_ray.data import Content, Source, open_source, read_content, with_contents
from golem_ray.data.groups import groups_of
from golem_ray.data.several import counts_of, one_each
from golem_ray.data.table import renumbered
from golem_ray.data.unusable import MAX_NAMED, allowed, check_unusable, example_at
from golem_ray.embedding.embeddings import VectorBatch
from golem_ray.embedding.modality import modality_named
from golem_ray.embedding.recipe import Recipe
from golem_ray.errors import DataError, ExampleError, printable
from golem_ray.heads.single_label import SINGLE_LABEL
from golem_ray.jobs.explain import words_column
from golem_ray.jobs.seen import Seen, labels_of
from golem_ray.jobs.vectors import applied_vectors
from golem_ray.metrics.figures import MOST_CONFUSED, confusion
from golem_ray.metrics.several import AT_HALF
from golem_ray.report import words_of_several
from golem_ray.report.classifier import render, worst_mistakes
from golem_ray.report.drawings import Points
from golem_ray.report.judged import Column, Judged
from golem_ray.report.several import worst_of_several
from golem_ray.report.words import covered_words, evaluation_table, percent

log = logging.getLogger(__name__)

GIVEN = "those given"
"""What stands for the name of a dataset, in messages and in the sidecar, where a caller gives the examples."""


def evaluate_artifact(saved: artifact.Artifact, config: EvaluateConfig) -> dict[str, Any]:
    """How the artifact does on labelled examples that it was not trained on; writes the report beside it.

    Returns {"summary", "reportPath", "num_clips", "num_also_trained_on", "figures", ...}. Raises UserError.
    """
    report_path = artifact.evaluation_path(saved.place) if saved.from_hub is None else "evaluation.html"
    if config.report is not None or saved.from_hub is not None:
        report_path = storage.resolve("report", config.report or report_path)
    artifact.check_report("report", report_path)
    recipe = recipe_of(saved, config.encoder)
    shown = config.shows(recipe.noun)
    source, by = _opened(saved, config, modality_named(recipe.modality).content)
    most = allowed(config.processing.max_bad_fraction, source.examples.num_rows)
    found, rows, judged, points = judge(saved, config, source, by, applied_vectors(config, source, recipe, most))
    document = {**saved.document, "clips": {**saved.document["clips"], "bad": found["bad"]}}
    columns = _columns(saved, config, source, rows, judged, recipe) if shown else ()
    page = render(document, judged, points, columns=columns)
    written = artifact.save_report(report_path, page)
    return {"summary": found.pop("summary"), "reportPath": report_path if written else None, **found}


def judge(
    saved: artifact.Artifact, config: EvaluateConfig, source: Source, by: str | None, batches: Iterable[VectorBatch]
) -> tuple[dict[str, Any], np.ndarray, Judged, Points]:
    """The figures of the source's examples, whose vectors come in batches; and the rows that the report shows, and how.

    `by` is the column of the examples' groups. Raises DataError if too many of them cannot be used, if none is left
    that was not trained on, or if the artifact knows no label.
    """
    names, examples = renumbered(_alike(saved, config, source), saved.labels)
    source = dataclasses.replace(source, examples=examples, labels=names)
    seen = Seen(saved, source)
    for batch in batches:
        seen.take(batch)
    records = [{"clip": example_at(source, row), "reason": reason} for row, reason in sorted(seen.bad.items())]
    check_unusable(records, len(seen.good), config.processing.max_bad_fraction, source.noun)

    known, trained = _trained_on(saved, source, seen.digests, seen.good)
    del seen.digests
    groups = groups_of(source)
    groups_known, of_groups = _groups_trained_on(saved, source, groups, trained)
    groups_known = groups_known and (
        by == _trained_by(saved) or bool(of_groups.any())
    )  # else they may be of another kind
    of_groups &= seen.good & ~trained
    rows = np.flatnonzero(seen.good if config.include_trained else seen.good & ~trained & ~of_groups)
    labels = _labels(saved, config, source, rows, by)
    answers = seen.answers(rows)
    beside = {AT_HALF: saved.target.answers(answers.probabilities)} if labels.ndim == 2 else None
    found = {
        "num_also_trained_on": int(trained.sum()),
        "group_column": by,
        "groups_known": groups_known,
        "num_of_groups_trained_on": int(of_groups.sum()),
        "include_trained": config.include_trained,
        "bad": records,
        **saved.target.evaluate(
            answers, labels, names, *_trained_counts(saved), beside, None if groups is None else groups[rows]
        ),
        "confusion": confusion(answers.decisions, labels, len(names)).tolist()
        if len(names) <= MOST_CONFUSED and labels.ndim == 1
        else None,
    }
    judged = Judged(
        how=_how(config, f"{len(rows)} {source.noun.many}", known, by if groups_known else None),
        example=lambda index: example_at(source, rows[index]),
        labels=labels,
        answers=answers,
        names=names,
        figures=found["figures"],
        baselines=found["baselines"],
        rejected=found.get("rejected"),
        per_class=found["per_class"],
    )
    found = {"summary": _summary(saved, config, found, source.noun), **found}
    return found, rows, judged, seen.points(rows, trained)


def _alike(saved: artifact.Artifact, config: EvaluateConfig, source: Source) -> Source:
    """The source with several labels for each example, or with one, as the artifact has them. Raises DataError."""
    several = saved.target.name != SINGLE_LABEL.name
    if source.several and not several:
        raise DataError(
            f"dataset.label_column: expected one label for each {source.noun.one}, as {saved.place} gives, found lists "
            f"of them in {_where(config)}."
        )
    if source.several == several:
        return source
    place = source.examples.schema.get_field_index("label")
    lists = one_each(source.examples["label"])
    return dataclasses.replace(source, examples=source.examples.set_column(place, "label", lists))


def _opened(saved: artifact.Artifact, config: EvaluateConfig, content: Content) -> tuple[Source, str | None]:
    """The examples to test on, and the column of their groups: that of the flag, else that of training, if it is there.

    Raises UserError if the examples cannot be had, or have no column that the flag names.
    """
    given = config.evaluation.group_column
    column = _trained_by(saved) if given is None else given or None
    try:
        return open_source(config.dataset, content, config.processing.limit, group_column=column), column
    except DataError as error:
        if given or not str(error).startswith("evaluation.group_column: "):
            raise
    return open_source(config.dataset, content, config.processing.limit), None


def _trained_by(saved: artifact.Artifact) -> str | None:
    """The column of groups that the artifact was trained with."""
    judged = saved.document["config"].get("evaluation")
    column = judged.get("group_column") if isinstance(judged, dict) else None
    return column if isinstance(column, str) and column else None


def _labels(
    saved: artifact.Artifact, config: EvaluateConfig, source: Source, rows: np.ndarray, by: str | None
) -> np.ndarray:
    """The rows' labels, (M,) int64. Raises DataError without rows, or if the artifact knows no label."""
    where, many = _where(config), source.noun.many
    if not len(rows):
        raise DataError(
            f"dataset.name: expected {many} that {saved.place} was not trained on"
            f"{f', nor on others of the same {by}' if by else ''}, found none among the "
            f"{source.examples.num_rows} of {where}; name other {many}, or another split."
        )
    labels = labels_of(source, rows)
    others = ", ".join(source.labels[len(saved.labels) :][:20])
    if others and not counts_of(labels, len(source.labels))[: len(saved.labels)].any():
        raise DataError(
            f"dataset.label_column: expected labels that {saved.place} knows ({', '.join(saved.labels[:20])}), found "
            f"none among {others}; name another column, or write them alike."
        )
    return labels


def _how(config: EvaluateConfig, counted: str, known: bool, by: str | None) -> str:
    """A sentence for the report: which examples these are, `10 clips` of them.

    `by` is the column of groups, if those trained are known.
    """
    which = f"The {counted} of {_where(config)}, "
    if not known:
        return which + "of which the artifact does not say whether they were trained on."
    if config.include_trained:
        return which + "those that were trained on among them."
    return which + f"none of which was trained on{f', nor others of the same {by}' if by else ''}."


def _trained_on(
    saved: artifact.Artifact, source: Source, digests: np.ndarray, good: np.ndarray
) -> tuple[bool, np.ndarray]:
    """Whether that is known, and (N,) bool: the usable examples whose file was trained on. They are named."""
    trained, many = artifact.trained_on(saved.document, digests), source.noun.many
    if trained is None:
        log.warning("the artifact does not say which %s it was trained on: make sure that these are others", many)
        return False, np.zeros(len(digests), dtype=bool)
    trained &= good
    rows = np.flatnonzero(trained)
    if len(rows):
        most = MAX_NAMED
        named = "; ".join(example_at(source, row) for row in rows[:most])
        more = f"; and {len(rows) - most} more" if len(rows) > most else ""
        log.warning("%d of %d %s were trained on: %s%s", len(rows), len(digests), many, named, more)
    num_good = int(good.sum())
    if copies := num_good - len(np.unique(digests[good])):
        said = "%d of %d %s are copies of others (equal files): intervals take them for %s of their own"
        log.warning(said, copies, num_good, many, many)
    return True, trained


def _groups_trained_on(
    saved: artifact.Artifact, source: Source, groups: np.ndarray | None, trained: np.ndarray
) -> tuple[bool, np.ndarray]:
    """Whether the sidecar says which groups were trained on, and (N,) bool: the examples whose group was.

    groups: (N,) int; trained: (N,) bool, the examples that were trained on themselves, of whose groups that is known.
    """
    digests = artifact.group_digests(source.examples)
    if groups is None or digests is None:
        return False, np.zeros(len(trained), dtype=bool)
    listed, here = artifact.trained_on(saved.document, digests, "groups"), np.isin(groups, groups[trained])
    return listed is not None, here if listed is None else here | listed


def _trained_counts(saved: artifact.Artifact) -> tuple[np.ndarray, int]:
    """How many of the examples that were trained on had each label, (K,), and how many these were."""
    clips = saved.document["clips"]
    counts = np.array([clips["per_class"].get(name, 0) for name in saved.labels])
    return counts, clips.get("used", int(counts.sum()))


def _columns(
    saved: artifact.Artifact, config: EvaluateConfig, source: Source, rows: np.ndarray, judged: Judged, recipe: Recipe
) -> tuple[Column, ...]:
    """The report's columns that show examples, which are the rows (M,) of the source, and what moved their labels."""
    modality = modality_named(recipe.modality)

    def html(index: int) -> str:
        fields = with_contents(source.examples.slice(int(rows[index]), 1)).to_pylist()[0]
        try:
            return modality.html(read_content(fields["bytes"], fields["path"], modality.content.what))
        except ExampleError:
            return ""

    shown = Column(title=modality.shown, html=html)
    if modality.occluded is None:
        return (shown,)
    worst = (worst_of_several if judged.labels.ndim == 2 else worst_mistakes)(judged.labels, judged.answers)
    return shown, words_column(judged, worst.tolist(), rows, saved, source, recipe, config)


def _where(config: EvaluateConfig) -> str:
    """Where the examples are from."""
    return GIVEN if config.dataset.name == GIVEN else f"{config.dataset.name}, split {config.dataset.split!r}"


def _summary(saved: artifact.Artifact, config: EvaluateConfig, found: dict[str, Any], noun: Noun) -> str:
    """The evaluation in words and a table."""
    where, many, by = printable(_where(config)), noun.many, found["group_column"]
    line = f"{printable(saved.place)} on {found['num_clips']} {many} of {where}"
    trained, of_groups = found["num_also_trained_on"], found["num_of_groups_trained_on"]
    which = [f"{trained} that were trained on"] if trained else []
    which += [f"{of_groups} more of a {by} that was trained on"] if of_groups else []
    if which:
        kept = "counted in, so that this is no honest figure" if config.include_trained else "left out"
        line += f" ({' and '.join(which)} {kept})"
    several = saved.target.name != SINGLE_LABEL.name
    figures = found["figures"]
    shown = words_of_several.figures_in_words(figures) if several else f"accuracy {percent(figures['accuracy'])}"
    lines = [f"{line}: {shown}."]
    if by and not found["groups_known"]:
        lines.append(f"The artifact does not say which {by} it was trained on: {many} of the same may be among these.")
    elif by is None and config.evaluation.group_column is None and _trained_by(saved):
        lines.append(
            f"These {many} have no column {_trained_by(saved)!r}, by which the training kept {many} apart: some of "
            f"them may be of the same {_trained_by(saved)} as {many} that were trained on."
        )
    if found["unknown_labels"]:
        named = ", ".join(f"{printable(name)} ({count})" for name, count in found["unknown_labels"].items())
        lines.append(f"Labels that the artifact does not know, counted as missed: {named}.")
    if "rejected" in found:
        lines.append(f"It {covered_words(found['rejected'])}.")
    table = words_of_several.evaluation_table if several else evaluation_table
    return "\n".join([*lines, *table(found, noun)])
