"""The plain baseline that the encoder has to beat, on the same folds: of vectors, or of counted terms.

Knows no modality, encoder or Ray.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import numpy as np
import torch

from golem_ray.data.folds import Folds
from golem_ray.heads.cross_validate import Rounds, unseen_by
from golem_ray.heads.examples import Examples
from golem_ray.heads.fit import fit, logits_of, standardized
from golem_ray.heads.joined import some_rows
from golem_ray.heads.rows import Rows, Streamed, moments
from golem_ray.heads.terms import TermScores, fitted, regressed, values_of, vocabulary
from golem_ray.heads.training_set import HeadCandidate, HeadSpec, TrainingSet

STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Values of scikit-learn's C that a regression on terms chooses from: vectors are of length one, which takes weaker
regularisation."""

_MOST_TESTED = 5_000
"""Examples of all rounds together beyond which regressions on terms play the first round only: more would change
little, and each takes as long as the one before."""


class Baseline(Protocol):
    """What an encoder's head is held against."""

    unseen: np.ndarray | None
    """Logits (R, N, K) float32, on each example by a fit to other folds, of as many rounds as were played; NaN where
    none. None without folds."""

    def fewer(self, half: Rounds) -> np.ndarray:
        """Logits (1, N, K) in the folds of `cross_validate.halved`."""

    def held_out(self) -> np.ndarray:
        """Logits (M, K) on the examples held out, by a fit to all that are trained on."""


def baseline_of(data: TrainingSet, rounds: Rounds, spec: HeadSpec, device: str) -> Baseline | None:
    """The baseline of a training set in rounds of it; None where the set has none."""
    if data.terms is not None:
        return OnTerms(data, rounds, spec)
    return None if data.baseline is None else OnVectors(data, rounds, spec, device)


class OnVectors:
    """The same head on other vectors, standardised by those that it trains on: Adam's plain rate suits unit scale."""

    def __init__(self, data: TrainingSet, rounds: Rounds, spec: HeadSpec, device: str) -> None:
        self.data, self.spec, self.device = data, dataclasses.replace(spec, joined=False), device
        self.unseen = self.fewer(rounds) if rounds.folds else None

    def fewer(self, half: Rounds) -> np.ndarray:
        """Logits (R, N, K) in the folds of any rounds."""
        vectors, spec = self.data.baseline, self.spec
        assert vectors is not None
        taken = torch.tensor(np.array(vectors if half.rows is None else vectors[half.rows]))
        examples = dataclasses.replace(half.examples, embeddings=taken.to(half.examples.labels.device))
        head = spec.head if spec.head.kind == "logistic" else dataclasses.replace(spec.head, standardize=True)
        whole = (HeadCandidate(columns=((0, taken.shape[1]),), head=head),)
        own = dataclasses.replace(half, examples=examples)
        return unseen_by(own, whole, [0] * len(half.folds), spec, lambda progress: None)

    def held_out(self) -> np.ndarray:
        """Logits (M, K) on the examples held out."""
        data = self.data
        vectors, tested = self._standardized()
        examples = Examples(vectors, torch.tensor(data.labels, device=self.device), data.groups, data.extra)
        return logits_of(fit(examples, self.spec), tested)

    def _standardized(self) -> tuple[Rows, Rows]:
        """The vectors to train on, (N, F), and of the examples held out, (M, F), standardised by the first."""
        baseline, held_out = self.data.baseline, self.data.held_out_baseline
        assert baseline is not None
        assert held_out is not None
        if isinstance(self.data.embeddings, np.memmap):
            every, tested = Streamed(baseline, torch.device(self.device)), torch.tensor(held_out, device=self.device)
            mean, scale = (moment.float() for moment in moments(every))
            return standardized(every, mean, scale + 1e-6), standardized(tested, mean, scale + 1e-6)
        mean, scale = baseline.mean(axis=0), baseline.std(axis=0) + 1e-6
        vectors, tested = (torch.tensor((each - mean) / scale, device=self.device) for each in (baseline, held_out))
        return vectors, tested


class OnTerms:
    """Logistic regressions on TF-IDF, of the strength with the least log-loss in the first round of cross-validation.

    Where nobody wants cross-validation, a round of its own is played for that.
    """

    def __init__(self, data: TrainingSet, rounds: Rounds, spec: HeadSpec) -> None:
        self.data, self.spec = data, spec
        examples, labels = rounds.examples, rounds.examples.label_array()
        played = rounds
        if not rounds.folds:
            folds = spec.target.folds(labels, 1, spec.training.seed, examples.groups, examples.extra)
            played = dataclasses.replace(rounds, folds=folds, number=1)
        found, self.strength = self._validated(played, labels) if played.folds else (None, 1.0)
        self.unseen = found if rounds.folds else None

    def _validated(self, rounds: Rounds, labels: np.ndarray) -> tuple[np.ndarray, float]:
        """Logits (R, N, K) in the first rounds, and the strength of the regressions that gave them."""
        spec, terms, size = self.spec, self._terms(rounds), len(rounds.folds) // rounds.number
        number = 1 if len(labels) * rounds.number > _MOST_TESTED else rounds.number
        folds = [(some_rows(train, spec), test) for train, test in rounds.folds[: number * size]]
        logits = np.full((number, len(labels), spec.num_classes), np.nan, dtype=np.float32)
        known = [vocabulary(terms[train]) for train, _ in folds]
        vectors = [values_of(terms[train], *each) for (train, _), each in zip(folds, known, strict=True)]

        def said(place: int, strength: float) -> np.ndarray:
            train, test = folds[place]
            regression = regressed(vectors[place], labels[train], strength, spec)
            return TermScores(*known[place], *regression).scores(terms[test])

        least, chosen = np.inf, STRENGTHS[0]
        for strength in STRENGTHS:
            found = [said(place, strength) for place in range(size)]
            loss = self._log_loss(found, labels, folds[:size])
            if loss >= least:
                break
            least, chosen = loss, strength
            for (_, test), of_test in zip(folds, found, strict=False):
                logits[0, test] = of_test
        for place in range(size, len(folds)):
            logits[place // size, folds[place][1]] = said(place, chosen)
        return logits, chosen

    def _log_loss(self, found: list[np.ndarray], labels: np.ndarray, folds: Folds) -> float:
        tested = np.concatenate([test for _, test in folds])
        logits = torch.from_numpy(np.concatenate(found))
        return float(self.spec.target.losses(logits, torch.from_numpy(labels[tested]), "mean"))

    def _terms(self, rounds: Rounds) -> Any:
        return self.data.terms if rounds.rows is None else self.data.terms[rounds.rows]

    def fewer(self, half: Rounds) -> np.ndarray:
        """Logits (1, N, K) in the folds of one round."""
        labels, terms = half.examples.label_array(), self._terms(half)
        logits = np.full((1, len(labels), self.spec.num_classes), np.nan, dtype=np.float32)
        for train, test in half.folds:
            logits[0, test] = fitted(terms[train], labels[train], self.strength, self.spec).scores(terms[test])
        return logits

    def held_out(self) -> np.ndarray:
        """Logits (M, K) on the examples held out."""
        data = self.data
        return fitted(data.terms, data.labels, self.strength, self.spec).scores(data.held_out_terms)
