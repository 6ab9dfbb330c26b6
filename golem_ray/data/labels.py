"""What must hold of labels before a head is trained on them."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Sequence
from decimal import Decimal

import numpy as np

from golem_ray.config import TrainConfig
from golem_ray.data.several import counts_of
from golem_ray.data.split import Division
from golem_ray.data.table import Source
from golem_ray.data.unusable import MAX_NAMED
from golem_ray.errors import ConfigError, DataError

log = logging.getLogger(__name__)


def check_classes(config: TrainConfig, source: Source) -> None:
    """Raise UserError unless there are classes to tell apart, and as many as configured."""
    wanted, found = config.model.classifier_output_classes, len(source.labels)
    if found < 2:
        raise DataError(
            f"dataset.label_column: expected at least two classes in {config.dataset.name}, found {found} "
            f"({', '.join(source.labels)})."
        )
    if wanted not in ("auto", found):
        raise ConfigError(
            f"model.classifier_output_classes: expected {found}, the classes of {config.dataset.name}, got {wanted}; "
            "leave it at auto or choose another dataset."
        )
    if config.evaluation.reject is not None and source.several:
        raise ConfigError(
            f"evaluation.reject: expected none where an example may have several labels, got "
            f"{config.evaluation.reject!r}; each label has a threshold there (head.threshold)."
        )
    if isinstance(config.head.class_weights, tuple) and len(config.head.class_weights) != found:
        raise ConfigError(
            f"head.class_weights: expected {found} numbers, one for each of {', '.join(source.labels[:20])}, got "
            f"{len(config.head.class_weights)}."
        )
    if config.evaluation.reject == "unlike" and found < 3:
        raise ConfigError(
            "evaluation.reject: expected three classes or more for 'unlike', of which one is left out to see what is "
            f"unlike the others, found {found}; ask for a precision, such as 0.9."
        )
    alike = written_alike(source.labels)
    if alike:
        named = "; ".join(" / ".join(map(repr, names)) for names in alike[:MAX_NAMED])
        more = f"; and {len(alike) - MAX_NAMED} more" if len(alike) > MAX_NAMED else ""
        log.warning(
            "labels that differ by upper case or the form of a number alone are classes of their own: %s%s; write them "
            "alike if they mean the same",
            named,
            more,
        )


def written_alike(labels: Sequence[str]) -> list[list[str]]:
    """The labels that differ from others only by case (`anger`, `Anger`) or by the form of a number (`1`, `1.0`, `01`).

    Those that are alike are together, in the order of `labels`.
    """
    found: dict[str | Decimal, list[str]] = {}
    for name in labels:
        is_number = re.fullmatch(r"[+-]?\d+(\.\d*)?", name)
        found.setdefault(Decimal(name) if is_number else name.casefold(), []).append(name)
    return [names for names in found.values() if len(names) > 1]


def check_streamed(config: TrainConfig) -> None:
    """Raise ConfigError for what needs all embeddings in memory, where they are more than fit there."""
    many, join = config.dataset.noun.many, config.model.join_baseline
    joined = ("false", not join) if config.dataset.modality == "text" else ("true or false", join != "auto")
    for key, found, wanted, fits in (
        ("head.kind", config.head.kind, "'gradient'", config.head.kind == "gradient"),
        ("head.patience", config.head.patience, "none", config.head.patience is None),
        ("model.layer", config.model.layer, "one layer", config.model.layer != "auto"),
        ("model.pooling", config.model.pooling, "one pooling", config.model.pooling != "auto"),
        ("model.join_baseline", config.model.join_baseline, *joined),
    ):
        if not fits:
            raise ConfigError(
                f"{key}: expected {wanted} for more than cluster.gather_limit {many}, whose embeddings are never in "
                f"memory all at once, got {found!r}; change that, take fewer {many}, or raise the limit."
            )


def check_labels(source: Source, labels: np.ndarray) -> None:
    """Say which classes have too few examples; DataError if there is nothing to tell apart."""
    counts = counts_of(labels, len(source.labels)).tolist()
    present = [name for name, count in zip(source.labels, counts, strict=True) if count]
    one, many = source.noun
    if len(present) < 2:
        raise DataError(
            f"processing.max_samples: expected usable {many} of at least two classes, found {len(present)} among "
            f"{source.examples.num_rows} {many} ({', '.join(present) or 'none'}); take more, or mix their order."
        )
    if len(present) < len(counts):
        absent = [name for name, count in zip(source.labels, counts, strict=True) if not count]
        log.warning("%d of %d classes have no %s: %s", len(absent), len(counts), one, ", ".join(absent[:20]))


def under_two_labels(labels: np.ndarray, digests: np.ndarray) -> np.ndarray:
    """(N,) bool: whose file is there under another label too. labels: (N,) float64, NaN if none; digests: (N,) S32."""
    known = np.isfinite(labels) & (digests != b"")
    _, files = np.unique(digests, return_inverse=True)
    least, most = np.full((2, len(labels)), np.inf)
    most = -most
    np.minimum.at(least, files[known], labels[known])
    np.maximum.at(most, files[known], labels[known])
    return known & (least < most)[files]


def name_equal_files(division: Division, digests: np.ndarray, bad: Collection[int] = ()) -> None:
    """Name the equal files that have different labels. digests: (N,) S32; those of the rows `bad` do not count."""
    kinds = division.kinds
    kinds[list(bad)] = np.nan
    rows = np.flatnonzero(under_two_labels(kinds, digests))
    if not len(rows):
        return
    _, first = np.unique(digests[rows], return_index=True)
    named = []
    for row in rows[np.sort(first)[:MAX_NAMED]]:
        other = rows[(digests[rows] == digests[row]) & (kinds[rows] != kinds[row])][0]
        pair = [f"{division.name(each)} as {division.labelled(each)}" for each in (row, other)]
        named.append(" and ".join(pair))
    more = f"; and {len(first) - MAX_NAMED} more files" if len(first) > MAX_NAMED else ""
    how_many = f"{len(rows)} of {len(kinds)} {division.noun.many}"
    log.warning("%s are equal files under different labels: %s%s", how_many, "; ".join(named), more)
