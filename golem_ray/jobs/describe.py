"""Describe a dataset before anything is trained: examples per label, what they are like, what is wrong, whose they are.

Reads every example once, in this process, without an encoder. Does not know which facts there are (a modality says
so), nor what to do about them (findings.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc

from golem_ray import artifact, storage
from golem_ray.config import DescribeConfig
from golem_ray.data import Source, open_source
from golem_ray.data.files import other_splits
from golem_ray.data.labels import under_two_labels
from golem_ray.data.table import NoColumnError
from golem_ray.data.unusable import example_at
from golem_ray.embedding.facts import FactTable, facts_of
from golem_ray.embedding.modality import Fact, Modality, modality_of
from golem_ray.errors import DataError
from golem_ray.jobs.findings import findings
from golem_ray.jobs.labelled import Labelled, labelled, together
from golem_ray.report.describe import MOST_CROSSED, render_description, summary

_MOST_NAMED, _MOST_SETS, _BINS = 50, 20, 30

_FENCE = 5
"""How many times the middle half's width an example's size is drawn apart from that at most."""


def describe(config: DescribeConfig) -> dict[str, Any]:
    """What there is to say of a dataset; writes the page if `output` names one.

    Returns {"summary", "reportPath", "num_clips", "labels", "facts", "bad", "findings", ...}, JSON values; where an
    example may have several labels also "several" (see `together`). Examples that cannot be used are named and counted,
    however many. Raises UserError for a dataset that cannot be had, or is empty.
    """
    report_path = None
    if config.output is not None:
        report_path = storage.resolve("output", config.output)
        artifact.check_report("output", report_path)
    modality = modality_of(config.dataset)
    source, column, no_labels = _opened(config, modality)
    table = facts_of(source, modality)
    labels = labelled(source)
    found = _figures(config, source, table, modality, labels)
    found |= {"no_labels": no_labels, "groups": _groups(config, source, table, labels, column)}
    if source.several:
        found["several"] = together(labels, table.good & labels.known)
    found["findings"] = findings(found, config, modality)
    written = report_path is not None and artifact.save_report(report_path, render_description(found, modality))
    return {"summary": summary(found, modality), "reportPath": report_path if written else None, **found}


def _opened(config: DescribeConfig, modality: Modality) -> tuple[Source, str | None, str]:
    """The examples, the column of their groups if there is one, and why they have no labels ('' where they have)."""
    given = config.evaluation.group_column
    column, no_labels = given, ""
    guesses = [guess for guess in modality.origins.columns if guess != config.dataset.label_column]
    if given is None:
        column = guesses.pop(0)
    while True:
        try:
            limit, labelled = config.processing.limit, not no_labels
            source = open_source(
                config.dataset, modality.content, limit, labelled=labelled, group_column=column or None
            )
            return source, column or None, no_labels
        except DataError as error:  # of which two are no reason to stop
            if given is None and column and str(error).startswith("evaluation.group_column: "):
                there = error.found if isinstance(error, NoColumnError) else []
                guesses = [guess for guess in guesses if guess in there]
                column = guesses.pop(0) if guesses else None
            elif not no_labels and str(error).startswith("dataset.label_column: "):
                no_labels = str(error).removeprefix("dataset.label_column: ").rstrip(".")
            else:
                raise


def _figures(
    config: DescribeConfig, source: Source, table: FactTable, modality: Modality, labels: Labelled
) -> dict[str, Any]:
    """Everything but whose they are and what to do."""
    good = table.good
    identities = {fact.title: table.columns[fact.key] for fact in modality.facts if fact.kind == "identity"}
    return {
        "dataset": config.dataset.name,
        "split": config.dataset.split,
        "other_splits": other_splits(config.dataset),
        "num_clips": source.examples.num_rows,
        "num_usable": int((good & labels.known).sum()),
        "num_without_label": int((~labels.known).sum()),
        "total": source.total,
        "labels": _per_label(table, labels, modality.facts),
        "facts": [_shown(fact, source, table, labels) for fact in modality.facts if fact.kind != "identity"],
        "num_under_two_labels": _num_under_two_labels(table, list(identities.values()), labels.kinds),
        "equal_files": _copies(source, table.digests, good, labels),
        "equal_content": [
            {"title": title, **_copies(source, each, good, labels, table.digests)} for title, each in identities.items()
        ],
        "bad": [{"clip": example_at(source, row), "reason": reason} for row, reason in sorted(table.bad.items())],
    }


def _per_label(table: FactTable, labels: Labelled, facts: Sequence[Fact]) -> list[dict[str, Any]]:
    """How many usable examples each label has, and how large they are."""
    sizes = [fact for fact in facts if fact.is_size]
    good, records = table.good, []
    for name, rows in zip(labels.names, labels.of_each(labels.known), strict=True):
        used = rows[good[rows]]
        numbers = {fact.key: _numbers(fact, table.columns[fact.key][used]) for fact in sizes}
        records.append({"label": name, "num_clips": len(used), "num_bad": len(rows) - len(used), **numbers})
    return records


def _numbers(fact: Fact, values: np.ndarray) -> dict[str, float] | None:
    """Quantiles of a fact's numbers (M,), and their sum if that is a size; None without any."""
    if not len(values):
        return None
    names = ("min", "q1", "median", "q3", "max")
    quantiles = dict(zip(names, np.quantile(values, [0, 0.25, 0.5, 0.75, 1]).tolist(), strict=True))
    return {**quantiles, "total": float(values.sum())} if fact.is_size else quantiles


def _histogram(values: np.ndarray, quantiles: dict[str, float] | None, fenced: bool) -> dict[str, Any] | None:
    """Counts of numbers (M,) in bins, {"counts": B, "edges": B + 1}; None without any.

    Fenced, the first and the last bin hold also what is far from the middle half: one giant would leave two bars.
    """
    if quantiles is None:
        return None
    if fenced and (middle := quantiles["q3"] - quantiles["q1"]) > 0:
        values = np.clip(values, quantiles["q1"] - _FENCE * middle, quantiles["q3"] + _FENCE * middle)
    counts, edges = np.histogram(values, _BINS)
    return {"counts": counts.tolist(), "edges": edges.tolist()}


def _shown(fact: Fact, source: Source, table: FactTable, labels: Labelled) -> dict[str, Any]:
    """A fact of all usable examples: quantiles and a histogram, counts, or the names of those with a flag."""
    record = {key: getattr(fact, key) for key in ("key", "title", "kind", "unit", "how", "advice", "is_size")}
    if fact.kind == "counts":
        tally = table.tallies[fact.key]
        ordered = sorted(tally.counts.items(), key=lambda pair: (-pair[1], pair[0]))
        return {**record, "counts": dict(ordered), "rest": tally.rest}
    values, good = table.columns[fact.key], table.good
    if fact.kind == "flag":
        rows = np.flatnonzero(values)
        return {**record, "num_clips": len(rows), "clips": [example_at(source, row) for row in rows[:_MOST_NAMED]]}
    if fact.kind == "number":
        quantiles = _numbers(fact, values[good])
        return {**record, "quantiles": quantiles, "histogram": _histogram(values[good], quantiles, fact.is_size)}
    names = list(table.names[fact.key])
    counts = np.bincount(values[good], minlength=len(names))
    order = np.argsort(-counts, kind="stable").tolist()
    telling = {source.labels[label]: names[number] for label, number in _telling(labels.of_each(good), values, counts)}
    return {**record, "counts": {names[number]: int(counts[number]) for number in order}, "telling": telling}


def _telling(rows_of: Sequence[np.ndarray], values: np.ndarray, counts: np.ndarray) -> list[tuple[int, int]]:
    """Labels all of whose examples are of one category, which others are not, and which.

    That is: as many draws of all examples would give no other category by a chance below one in a hundred, and that
    category is at most half of all. A label that never comes without another such one tells nothing more. rows_of: of
    each label; values: (N,) int; counts: (C,) of each category.
    """
    found: dict[int, int] = {}
    for label, rows in enumerate(rows_of):
        kinds = np.unique(values[rows])
        share = counts[kinds[0]] / counts.sum() if len(kinds) == 1 else 1.0
        if share <= 0.5 and share ** len(rows) < 0.01:
            found[label] = int(kinds[0])
    held = {label: set(rows_of[label].tolist()) for label in found}
    largest = sorted(found, key=lambda label: -len(held[label]))
    most: list[int] = []
    for label in largest:
        if not any(held[label] <= held[other] for other in most if found[other] == found[label]):
            most.append(label)
    return [(label, found[label]) for label in sorted(most)]


def _copies(
    source: Source, keys: np.ndarray, good: np.ndarray, labels: Labelled, files: np.ndarray | None = None
) -> dict[str, Any]:
    """Usable examples whose key, (N,) bytes, others have too; where files are given, only those of unequal files."""
    rows = np.flatnonzero(good)
    _, key = np.unique(keys[rows], return_inverse=True)
    order = np.argsort(key, kind="stable")
    sets = [rows[each] for each in np.split(order, np.flatnonzero(np.diff(key[order])) + 1) if len(each) > 1]
    if files is not None:
        sets = [each for each in sets if len(np.unique(files[each])) > 1]
    kinds = labels.kinds
    sets.sort(key=lambda each: (len(np.unique(kinds[each][labels.known[each]])) < 2, each[0]))  # contradictions first
    return {
        "num_clips": sum(map(len, sets)),
        "num_sets": len(sets),
        "sets": [
            {
                "num_clips": len(rows),
                "clips": [example_at(source, row) for row in rows[:5]],
                "labels": [source.labels[label] for label in labels.under(rows)],
                **({"label_sets": _label_sets(labels, rows)} if source.several else {}),
            }
            for rows in sets[:_MOST_SETS]
        ],
    }


def _label_sets(labels: Labelled, rows: np.ndarray) -> list[list[str]]:
    """The different sets of labels that examples have, each once."""
    known = rows[labels.known[rows]]
    _, first = np.unique(labels.kinds[known], return_index=True)
    return [labels.named(row) for row in known[np.sort(first)]]


def _num_under_two_labels(table: FactTable, identities: Sequence[np.ndarray], kinds: np.ndarray) -> int:
    """How many usable examples are there under another label, or other labels, too."""
    used = np.where(table.good, kinds, np.nan)
    return int(np.logical_or.reduce([under_two_labels(used, keys) for keys in (table.digests, *identities)]).sum())


def _groups(
    config: DescribeConfig, source: Source, table: FactTable, labels: Labelled, column: str | None
) -> dict[str, Any] | None:
    """Who the usable examples are of: how many each, how many groups a label has; None without a column of groups."""
    if column is None:
        return None
    good = table.good
    groups = source.examples["group"]
    names = pc.unique(groups).drop_null()
    numbers = pc.index_in(groups, names).fill_null(-1).to_numpy().astype(np.int64)
    counts = np.bincount(numbers[good & (numbers >= 0)], minlength=len(names))
    order = np.argsort(-counts, kind="stable")
    rows_of = labels.of_each(good)
    per_label = [np.unique(numbers[rows]) for rows in rows_of]
    alone = [(n, each) for n, each in enumerate(per_label) if len(each) == 1 and each[0] >= 0 and len(rows_of[n]) > 1]
    crossed = None
    if len(names) <= MOST_CROSSED and 0 < len(source.labels) <= MOST_CROSSED:
        crossed = np.zeros((len(source.labels), len(names)), dtype=np.int64)
        both = (good & (numbers >= 0))[labels.rows]
        np.add.at(crossed, (labels.labels[both], numbers[labels.rows[both]]), 1)
        crossed = crossed[:, order].tolist()
    return {
        "column": column,
        "is_guess": config.evaluation.group_column is None,
        "num_groups": int((counts > 0).sum()),
        "num_without": int((good & (numbers < 0)).sum()),
        "largest": {names[int(n)].as_py(): int(counts[n]) for n in order[:_MOST_NAMED]},
        "per_label": [int((each >= 0).sum()) for each in per_label],
        "one_group": {source.labels[n]: names[int(each[0])].as_py() for n, each in alone},
        "crossed": crossed,
    }
