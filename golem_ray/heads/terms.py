"""The baseline of examples that are known by what they are made of: TF-IDF under a logistic regression.

The weights of terms and the strength of the regression follow from the examples that are trained on, as scikit-learn's
TfidfTransformer and LogisticRegression have them. Knows no modality: terms come in as counts.
"""

from __future__ import annotations

import dataclasses
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from golem_ray.data.folds import Folds
from golem_ray.heads.cross_validate import Rounds
from golem_ray.heads.training_set import HeadSpec

STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Values of scikit-learn's C that are chosen from: vectors are of length one, which takes weaker regularisation."""

MOST_ROWS = 20_000
"""Examples that the baseline is cross-validated on at most: another fit of each fold and strength takes as long."""

_MOST_TESTED = 5_000
"""Examples of all rounds together beyond which only the first round is played: more would change little."""

_NEVER = -100.0
"""Logit of a class without examples."""


@dataclass(frozen=True)
class Validated:
    """What cross-validation says of the baseline."""

    logits: np.ndarray
    """(R, N, K) float32: on each example by a fit to other folds, of as many rounds as were played; NaN where none."""
    strength: float
    """The one of STRENGTHS with the least log-loss in the first round."""


def validated(terms: Any, rounds: Rounds, spec: HeadSpec) -> Validated:
    """The baseline in the folds of the first rounds, or of one of its own; terms: (T, V) CSR, of the training set."""
    examples, labels = rounds.examples, rounds.examples.label_array()
    if not rounds.folds:  # which nobody wanted, but the strength takes some
        folds = spec.target.folds(labels, 1, spec.training.seed, examples.groups, examples.extra)
        rounds = dataclasses.replace(rounds, folds=folds, number=1)
    if not rounds.folds:
        return Validated(np.full((1, len(labels), spec.num_classes), np.nan, dtype=np.float32), 1.0)
    own = terms if rounds.rows is None else terms[rounds.rows]
    number = 1 if len(labels) * rounds.number > _MOST_TESTED else rounds.number
    size = len(rounds.folds) // rounds.number
    folds = [(_some(train, spec), test) for train, test in rounds.folds[: number * size]]
    logits = np.full((number, len(labels), spec.num_classes), np.nan, dtype=np.float32)
    parts = [weighted(own[train], own[test]) for train, test in folds]
    least, strength = np.inf, STRENGTHS[0]
    for C in STRENGTHS:
        found = [
            regressed(x, labels[train], tested, C, spec)
            for (x, tested), (train, _) in zip(parts[:size], folds, strict=False)
        ]
        loss = _log_loss(found, labels, folds[:size], spec)
        if loss >= least:
            break
        least, strength = loss, C
        for (_, test), of_test in zip(folds, found, strict=False):
            logits[0, test] = of_test
    for place in range(size, len(folds)):
        train, test = folds[place]
        x, tested = parts[place]
        logits[place // size, test] = regressed(x, labels[train], tested, strength, spec)
    return Validated(logits, strength)


def _log_loss(found: list[np.ndarray], labels: np.ndarray, folds: Folds, spec: HeadSpec) -> float:
    tested = np.concatenate([test for _, test in folds])
    logits = torch.from_numpy(np.concatenate(found))
    return float(spec.target.losses(logits, torch.from_numpy(labels[tested]), "mean"))


def _some(rows: np.ndarray, spec: HeadSpec) -> np.ndarray:
    """At most MOST_ROWS of the rows, ascending."""
    if len(rows) <= MOST_ROWS:
        return rows
    return np.sort(np.random.default_rng([spec.training.seed, 7]).choice(rows, MOST_ROWS, replace=False))


def fitted(terms: Any, labels: np.ndarray, tested: Any, strength: float, spec: HeadSpec) -> np.ndarray:
    """Logits (M, K) on other examples' terms (M, V) of a baseline fitted to all of the terms (N, V) and labels."""
    x, other = weighted(terms, tested)
    return regressed(x, labels, other, strength, spec)


def weighted(terms: Any, tested: Any) -> tuple[Any, Any]:
    """Counts (N, V) and (M, V) as vectors of length one, (N, W) and (M, W): the terms of the first, rare ones more."""
    from sklearn.feature_extraction.text import TfidfTransformer

    known = np.unique(terms.indices)
    transformer = TfidfTransformer(sublinear_tf=True)
    return transformer.fit_transform(terms[:, known]), transformer.transform(tested[:, known])


def regressed(x: Any, labels: np.ndarray, tested: Any, strength: float, spec: HeadSpec) -> np.ndarray:
    """Logits (M, K) float32 of a logistic regression on vectors (N, W); of several labels, of one for each."""
    logits = np.full((tested.shape[0], spec.num_classes), _NEVER, dtype=np.float32)
    if labels.ndim == 1:
        classes = np.unique(labels)
        if len(classes) == 1:
            logits[:, classes] = 0
        else:
            scores = _scores(x, labels, tested, strength)
            logits[:, classes] = np.stack([-scores, scores], axis=1) / 2 if len(classes) == 2 else scores
        return logits
    for number in range(spec.num_classes):
        present = labels[:, number].mean()
        if 0 < present < 1:
            logits[:, number] = _scores(x, labels[:, number], tested, strength)
        elif present == 1:
            logits[:, number] = -_NEVER
    return logits


def _scores(x: Any, labels: np.ndarray, tested: Any, strength: float) -> np.ndarray:
    """Scores (M,) of two classes, or (M, K).

    Of two, LIBLINEAR is the fastest; it regularises the intercept too, a hundredth as much with that scaling: without
    it, rare labels would be taken for too likely.
    """
    from sklearn.linear_model import LogisticRegression

    two = len(np.unique(labels)) == 2
    settings = {"solver": "liblinear", "intercept_scaling": 10.0} if two else {"solver": "lbfgs"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a regression may have stopped a little early
        head = LogisticRegression(C=strength, max_iter=200, random_state=0, **settings).fit(x, labels)
    scores: np.ndarray = head.decision_function(tested)
    return scores


def halved_terms(rounds: Rounds, terms: Any, spec: HeadSpec, strength: float) -> np.ndarray:
    """Logits (1, N, K) of the baseline in the folds of `cross_validate.halved`, of that strength."""
    labels = rounds.examples.label_array()
    own = terms if rounds.rows is None else terms[rounds.rows]
    logits = np.full((1, len(labels), spec.num_classes), np.nan, dtype=np.float32)
    for train, test in rounds.folds:
        logits[0, test] = fitted(own[train], labels[train], own[test], strength, spec)
    return logits
