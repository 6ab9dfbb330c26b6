"""How a candidate is judged on examples that it was not fitted on, and how one of several is chosen.

Knows no modality, encoder or Ray.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from golem_ray.data.folds import Folds, rows_by_label
from golem_ray.heads.examples import Examples
from golem_ray.heads.many import inner_folds, unseen_logits
from golem_ray.heads.training_set import HeadCandidate, HeadSpec
from golem_ray.metrics.comparison import Round, Score, best_candidate, difference, ranked
from golem_ray.progress import Progress

ROUNDS = 5
"""Rounds of cross-validation that the plain candidate and the best few are judged by, after one of all."""

FINALISTS = 3
"""How many of the best those are."""

FEW = 100
"""On fewer examples heads with hidden layers are not tried beside others: in draws of 50 none was chosen."""

MOST_ROWS = 2000
"""Examples that candidates and distances are judged on: more would tell little more, and take longer."""

_DIVERGED = 1e6
"""Log-loss of a head whose training did not converge."""


class Choice(NamedTuple):
    """A candidate that was chosen."""

    number: int
    finals: dict[int, Score | None]
    """Of the candidates that were judged by ROUNDS rounds."""
    others: dict[int, Score | None]
    """Of the others that were tried."""

    def records(self) -> list[dict[str, Any]]:
        """The scores as plain JSON values, each with its candidate's number: those of many rounds first, best first."""
        found = []
        for rounds, scores in ((ROUNDS, self.finals), (1, self.others)):
            numbers = list(scores)
            for number in (numbers[place] for place in ranked(list(scores.values()))):
                score = scores[number]
                assert score is not None
                figures = {"accuracy": score.accuracy, "log_loss": score.log_loss, "rounds": rounds}
                found.append({"number": number, **figures})
        return found


def choose(
    examples: Examples,
    candidates: Sequence[HeadCandidate],
    spec: HeadSpec,
    sets: Sequence[np.ndarray],
    report: Callable[[Progress], None],
) -> list[Choice]:
    """For each set of rows to train on, (M,) int, the candidate to take, by cross-validation of these rows alone.

    All are judged by one round, and the best few by more. Heads with hidden layers, which take ten times as long, are
    tried beside others on the columns that the best of these takes, and not on fewer than FEW examples.
    """
    labels, groups = examples.label_array(), examples.groups
    sets = [some_of(rows, spec) for rows in sets]
    deep = [number for number, each in enumerate(candidates) if each.head.hidden and not candidates[0].head.hidden]
    scores: list[list[Score | None]] = [[None] * len(candidates) for _ in sets]

    def judge(number: int, wanted: Sequence[int], rounds: int) -> dict[int, Score | None]:
        candidate = candidates[number]
        own = examples.of_columns(candidate.columns)
        parts = [(sets[row], sets[row][:0]) for row in wanted]
        found = unseen_logits(own, parts, spec.of(candidate), rounds=rounds)
        return {row: score_of(unseen.inner, labels[sets[row]], spec) for row, unseen in zip(wanted, found, strict=True)}

    def judge_for(wanted: Sequence[Collection[int]], rounds: int, stage: str) -> list[dict[int, Score | None]]:
        """Those candidates of each set."""
        found: list[dict[int, Score | None]] = [{} for _ in sets]
        every = sorted(set().union(*wanted))
        for done, number in enumerate(every, 1):
            rows = [row for row, numbers in enumerate(wanted) if number in numbers]
            for row, score in judge(number, rows, rounds).items():
                found[row][number] = score
                scores[row][number] = score
            report(Progress(stage=stage, done=done, total=len(every), unit="candidates"))
        return found

    judge_for([[number for number in range(len(candidates)) if number not in deep]] * len(sets), 1, "choosing")
    if len(examples) >= FEW:
        best = [candidates[best_candidate(each) or 0] for each in scores]
        wanted = [[number for number in deep if candidates[number].takes_as(each)] for each in best]
        judge_for(wanted, 1, "choosing, hidden layers")
    finals = judge_for([{0, *ranked(each)[:FINALISTS]} for each in scores], ROUNDS, "choosing among the best")
    choices = []
    for final, every, rows in zip(finals, scores, sets, strict=True):
        num_folds = len(inner_folds(examples, rows, spec, 1))
        number = pick(final, num_folds, None if groups is None else groups[rows])
        others: dict[int, Score | None] = {
            place: score for place, score in enumerate(every) if score is not None and place not in final
        }
        choices.append(Choice(number, final, others))
    return choices


def some_of(rows: np.ndarray, spec: HeadSpec) -> np.ndarray:
    """At most MOST_ROWS of the rows, (M,) int, ascending, drawn evenly."""
    if len(rows) <= MOST_ROWS:
        return rows
    return np.sort(np.random.default_rng([spec.training.seed, 4]).choice(rows, MOST_ROWS, replace=False))


def score_of(logits: np.ndarray, labels: np.ndarray, spec: HeadSpec) -> Score | None:
    """The score of logits (R, N, K) in R rounds, NaN where untested, on labels (N,); None if nothing was tested."""
    tested = ~np.isnan(logits).all(axis=2)
    if not tested.any():
        return None
    right = np.where(tested, spec.target.scores(np.nan_to_num(logits), labels), np.nan)
    every_label = np.broadcast_to(labels, (len(logits), *labels.shape))
    losses = losses_of(logits[tested], every_label[tested], spec)
    known = np.isfinite(right)
    if not known.any():
        return None
    return Score(float(np.nansum(right) / known.sum()), float(losses.mean()), right.astype(np.float32))


def losses_of(logits: np.ndarray, labels: np.ndarray, spec: HeadSpec) -> np.ndarray:
    """(M,) float32: the log-loss on each example in nats, of logits (M, K)."""
    lost = spec.target.losses(torch.from_numpy(logits), torch.from_numpy(np.array(labels)))
    return torch.nan_to_num(lost, nan=_DIVERGED, posinf=_DIVERGED).numpy()


def pick(scores: Mapping[int, Score | None], num_folds: int, groups: np.ndarray | None) -> int:
    """The number of the best candidate, if it beats the plain one, 0, by more than a standard error; else 0.

    The error is that of the paired difference, over examples or over groups, (N,) int. This is the rule of one standard
    error (Breiman et al., Classification and Regression Trees, 1984): among many candidates some look better by chance,
    and few examples leave much to chance.
    """
    numbers = list(scores)
    best = best_candidate(list(scores.values()))
    if best is None or numbers[best] == 0:
        return 0
    first, second = scores[numbers[best]], scores[0]
    assert first is not None
    assert second is not None
    gain, error, _ = difference(first.right, second.right, num_folds, groups)
    return numbers[best] if gain > error else 0


def round_on(examples: Examples, spec: HeadSpec, repeats: int, number: int) -> Round:
    """What heads fitted as the spec says do in round `number` of `repeats` of cross-validation."""
    labels, target = examples.label_array(), spec.target
    right, losses = np.full((2, len(labels)), np.nan, dtype=np.float32)
    numbers, inner = np.full(len(labels), -1, dtype=np.int8), []
    folds = _folds(examples, spec, repeats, number)
    for fold, ((train, test), found) in enumerate(
        zip(folds, unseen_logits(examples, folds, spec, rounds=1), strict=True)
    ):
        score = score_of(found.inner, labels[train], spec)
        inner.append(None if score is None else Score(score.accuracy, score.log_loss))
        losses[test] = losses_of(found.tested, labels[test], spec)
        right[test] = target.scores(found.tested, labels[test])
        numbers[test] = fold
    return Round(right, losses, numbers, tuple(inner))


def fewer_on(examples: Examples, spec: HeadSpec, repeats: int, number: int, sizes: Sequence[int]) -> np.ndarray:
    """Which examples are recognised in that round with at most so many examples of each class to train on.

    (S, N) float32, like `Round.right`. A smaller size takes some of the examples of a larger one; every candidate gets
    the same ones. Extra examples are not counted: all that the fold may train on are in each size, as in a training.
    """
    labels = examples.label_array()
    strata = spec.target.strata(labels)
    right = np.full((len(sizes), len(labels)), np.nan, dtype=np.float32)
    parts: Folds = []
    for fold, (train, test) in enumerate(_folds(examples, spec, repeats, number)):
        rng = np.random.default_rng([spec.training.seed, number, fold, 2])
        turn = np.full(len(train), -1)
        own = np.arange(len(train)) if examples.extra is None else np.flatnonzero(~examples.extra[train])
        for rows in rows_by_label(strata[train[own]]):
            members = own[rng.permutation(rows)]
            turn[members] = np.arange(len(members))
        parts += [(train[turn < size], test) for size in sizes]
    for place, ((_, test), found) in enumerate(zip(parts, unseen_logits(examples, parts, spec), strict=True)):
        right[place % len(sizes), test] = spec.target.scores(found.tested, labels[test])
    return right


def _folds(examples: Examples, spec: HeadSpec, repeats: int, number: int) -> Folds:
    labels, seed = examples.label_array(), spec.training.seed
    return spec.target.round_folds(labels, repeats, number, seed, examples.groups, examples.extra)
