"""Which examples a training uses, and for what: what cannot be used, and what must not be, is left out and named."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from golem_ray.config import TrainConfig
from golem_ray.data.groups import joined_groups, kept_together
from golem_ray.data.labels import check_labels, under_two_labels
from golem_ray.data.several import counts_of
from golem_ray.data.split import Division, drawn
from golem_ray.data.unusable import MAX_NAMED, check_unusable, name_remarked
from golem_ray.embedding.embeddings import Embeddings
from golem_ray.errors import DataError

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class UsedExamples:
    """Which rows of a division could be used, and for what."""

    used: np.ndarray
    """Rows that the head was trained on."""
    unseen: np.ndarray
    """Rows that it was tested on."""
    num_also_trained_on: int
    """Examples to test on that were left out, since they were trained on."""
    groups: np.ndarray | None
    """(N,) int64: those of one group are never on both sides of a fold; None where each is alone."""
    bad: list[dict[str, Any]]
    """The others: [{"split", "id", "example", "reason"}]."""
    num_under_two_labels: int = 0
    """Examples trained on whose file is also there under another label."""
    remarks: dict[str, int] = field(default_factory=dict)
    """What there is to say of how many that the head was trained on."""
    extra: np.ndarray | None = None
    """(N,) bool: those trained on that no fold tests; None where there are none."""
    left_out: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """Rows beside the main dataset's that were not trained on, for what is tested."""

    @property
    def rows(self) -> np.ndarray:
        """(N,): those that were trained on, then those that were tested on."""
        return np.concatenate([self.used, self.unseen])

    @property
    def drawn(self) -> np.ndarray:
        """(P,): where in `rows` those stand that the report's map shows."""
        return drawn(np.arange(len(self.used) + len(self.unseen)))


def used_examples(config: TrainConfig, division: Division, embedded: Embeddings) -> UsedExamples:
    """Which examples to train on and which to test on, of those that could be embedded.

    Raises DataError if too many could not, of either.
    """
    bad, digests = _unusable(config, division, embedded.bad), embedded.digests
    good = np.array([row not in embedded.bad for row in range(len(division.tested))])
    used, tested = np.flatnonzero(good & ~division.tested), np.flatnonzero(good & division.tested)
    extra = division.extra[used]
    unseen = tested[~np.isin(digests[tested], digests[used[~extra]])]
    left_out = _left_out(config, division, digests, unseen, used[extra])
    used = np.setdiff1d(used, left_out)
    if bad or len(left_out):
        check_labels(division.source, division.labels_of(used))
    if division.beside:
        extra = division.extra[used]
        _check_main(config, division, used, extra)
    contradicted = under_two_labels(np.where(good, division.kinds, np.nan), digests)
    name_remarked(embedded.remarks, division.name, len(good), division.noun)
    return UsedExamples(
        used=used,
        unseen=unseen,
        num_also_trained_on=len(tested) - len(unseen),
        groups=kept_together(division.groups, digests, used, division.noun),
        bad=bad,
        num_under_two_labels=int(contradicted[used].sum()),
        remarks=dict(Counter(embedded.remarks[row] for row in used.tolist() if row in embedded.remarks)),
        extra=extra if division.beside else None,
        left_out=left_out,
    )


def _unusable(config: TrainConfig, division: Division, bad: dict[int, str]) -> list[dict[str, Any]]:
    """The examples that cannot be used: [{"split", "id", "example", "reason"}].

    Raises DataError if they are too many, of those to train on or of those to test on.
    """
    parts: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
    for row in sorted(bad):
        split, number = division.split(row) or config.dataset.split, division.place(row)[1]
        entry = {"split": split, "id": number, "clip": division.name(row)}
        parts[bool(division.tested[row])].append({**entry, "reason": bad[row]})
    most = config.processing.max_bad_fraction
    for tested, records in parts.items():
        check_unusable(records, int((division.tested == tested).sum()), most, division.noun)
    return parts[False] + parts[True]


def _left_out(
    config: TrainConfig, division: Division, digests: np.ndarray, unseen: np.ndarray, extra: np.ndarray
) -> np.ndarray:
    """Which of the rows `extra`, (E,), are linked with a row to test on, `unseen`, (M,): by their files or groups.

    Two links may follow one another: the file of a tested example may be there again as one of a known speaker. The
    tested example stays, since the main dataset is what the figures are about.
    """
    rows = np.concatenate([unseen, extra])
    if not len(unseen) or not len(extra):
        return extra[:0]
    _, links = np.unique(digests[rows], return_inverse=True)
    if division.groups is not None:
        links = joined_groups(links, division.groups[rows])
    left_out = extra[np.isin(links[len(unseen) :], links[: len(unseen)])]
    if len(left_out):
        column, more = config.evaluation.group_column, f"; and {len(left_out) - MAX_NAMED} more"
        many = division.noun.many
        log.warning(
            "%d of %d %s of dataset.extra are not trained on: they are equal files of %s to test on%s: %s%s",
            len(left_out),
            len(extra),
            many,
            many,
            f" or of the same {column}" if column else "",
            "; ".join(division.name(row) for row in left_out[:MAX_NAMED]),
            more if len(left_out) > MAX_NAMED else "",
        )
    return left_out


def _check_main(config: TrainConfig, division: Division, used: np.ndarray, extra: np.ndarray) -> None:
    """Raise DataError if no example of the main dataset is trained on; say which classes have none of it."""
    labels, names = division.labels_of(used), division.source.labels
    if extra.all():
        raise DataError(
            f"dataset.name: expected {division.noun.many} of {config.dataset.name} that can be used, found none, and "
            "those of dataset.extra are never tested; mend them."
        )
    counts, of_main = (counts_of(labels[each], len(names)) for each in (extra, ~extra))
    alone = np.flatnonzero((counts > 0) & (of_main == 0)).tolist()
    if alone:
        log.warning(
            "%d of %d classes have %s of dataset.extra alone to train on, so that cross-validation does not test "
            "them: %s",
            len(alone),
            len(names),
            division.noun.many,
            ", ".join(names[label] for label in alone[:MAX_NAMED]),
        )
