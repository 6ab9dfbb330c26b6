"""The baseline joined to the encoder's vectors: logits of logistic regressions on TF-IDF are appended to each.

A head is trained on the logits of regressions that were not fitted to the example, since a regression is too sure of
its own examples (Wolpert, Stacked generalization, 1992). These logits are few, and lose less than TF-IDF reduced to a
few hundred coordinates: benchmarks/RESULTS.md has both. Knows no modality, encoder or Ray.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from golem_ray.data.folds import Folds
from golem_ray.heads.terms import BOUND, JoinedScores, TermScores, fitted
from golem_ray.heads.training_set import HeadSpec

if TYPE_CHECKING:
    from golem_ray.heads.examples import Examples

STRENGTH = 1.0
"""scikit-learn's C. It is not chosen: the head weighs the logits anew."""

MOST_BYTES = 16 << 20
"""Largest size of the file of a regression; the rarest terms are left out where all would take more."""

MOST_ROWS = 20_000
"""Examples that regressions in folds are fitted to at most."""


@dataclass(frozen=True, eq=False)
class Counted:
    """What is counted in N examples, and the logits that regressions on it gave before."""

    counts: Any
    """(N, T) in SciPy's CSR form."""
    said: dict[bytes, np.ndarray] = field(default_factory=dict)
    """Logits (N, K) float32, by the rows that were fitted to: several candidates need the same."""

    def take(self, rows: np.ndarray) -> Counted:
        """The counts of these rows, (M,) int or (N,) bool."""
        return Counted(self.counts[rows])


def joined(examples: Examples, rows: np.ndarray, spec: HeadSpec) -> Examples:
    """The examples with K more columns: the logits of regressions that are fitted to rows (M,) int.

    Logits of these rows are by regressions that were fitted to the other folds of them, and zeros where there are no
    two folds. Logits of all other examples are by one regression, which was fitted to all of the rows.
    """
    counted, embeddings = examples.terms, examples.embeddings
    assert counted is not None
    assert isinstance(embeddings, torch.Tensor)
    key = rows.tobytes()
    if key not in counted.said:
        counted.said[key] = _said(examples, rows, spec)
    behind = torch.from_numpy(counted.said[key]).to(embeddings.device)
    taken = torch.cat([embeddings, behind], dim=1)
    return dataclasses.replace(examples, embeddings=taken, terms=None, num_joined=behind.shape[1])


def _said(examples: Examples, rows: np.ndarray, spec: HeadSpec) -> np.ndarray:
    assert examples.terms is not None
    counts, labels = examples.terms.counts, examples.label_array()
    said = np.zeros((len(labels), spec.num_classes), dtype=np.float32)
    for train, test in folds_of(examples, rows, spec):
        train = some_rows(train, spec)
        said[test] = _fitted(counts[train], labels[train], spec).scores(counts[test])
    others = np.setdiff1d(np.arange(len(labels)), rows)
    if len(others):
        own = some_rows(rows, spec)
        said[others] = _fitted(counts[own], labels[own], spec).scores(counts[others])
    return said.clip(-BOUND, BOUND)


def folds_of(examples: Examples, rows: np.ndarray, spec: HeadSpec) -> Folds:
    """(train, test) of folds of the rows, (M,) int, each of which is tested once, with none of its group to train on.

    None where they are too few for two folds.
    """
    labels, groups = examples.label_array()[rows], None if examples.groups is None else examples.groups[rows]
    found = spec.target.folds(labels, 1, spec.training.seed, groups)
    tested = np.zeros(len(rows), dtype=bool)
    for _, test in found:
        tested[test] = True
    left = np.flatnonzero(~tested)  # such as those that are alone in their class
    if found and len(left):
        others = tested if groups is None else tested & ~np.isin(groups, groups[left])
        found = [*found, (np.flatnonzero(others), left)] if others.any() else []
    return [(rows[train], rows[test]) for train, test in found]


def some_rows(rows: np.ndarray, spec: HeadSpec) -> np.ndarray:
    """At most MOST_ROWS of the rows, ascending."""
    if len(rows) <= MOST_ROWS:
        return rows
    return np.sort(np.random.default_rng([spec.training.seed, 7]).choice(rows, MOST_ROWS, replace=False))


def joined_scores(counts: Any, labels: np.ndarray, spec: HeadSpec) -> JoinedScores:
    """What gives the logits once the head is trained: a regression on all examples that the head is trained on."""
    return JoinedScores(_fitted(counts, labels, spec).file())


def _fitted(counts: Any, labels: np.ndarray, spec: HeadSpec) -> TermScores:
    """A regression on as many terms as the file has room for."""
    return fitted(counts, labels, STRENGTH, spec, most=MOST_BYTES // (8 + 2 * spec.num_classes))
