"""The cross-validated figures of a head's training, and the calibration that follows from them.

Knows no modality, encoder or Ray.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from golem_ray.data.folds import Folds, rows_by_label
from golem_ray.data.several import counts_of
from golem_ray.heads.examples import Examples
from golem_ray.heads.many import unseen_logits
from golem_ray.heads.rows import Streamed
from golem_ray.heads.training_set import HeadCandidate, HeadSpec
from golem_ray.metrics import several
from golem_ray.metrics.answers import Answers
from golem_ray.metrics.comparison import accuracy_of, paired
from golem_ray.progress import Progress

Report = Callable[[Progress], None]

SAMPLED_ROWS = 100_000
"""Most examples that are cross-validated on where embeddings do not fit in memory."""

MOST_LOGITS = 1 << 28
"""Most logits of all rounds together, a gigabyte; there are fewer rounds where examples times classes are more."""

MOST_JOINED = 20_000
"""Most examples of all rounds together where the baseline is joined, which takes six fits of it in each fold."""

MOST_CHOSEN = 1 << 20
"""Most examples times columns of the widest candidate with which candidates are chosen in the folds of several rounds.
300 texts of 1,536 columns, not half as much, took 98 s with five rounds and 29 s with one."""


@dataclass(frozen=True)
class Rounds:
    """N examples in R rounds of cross-validation."""

    examples: Examples
    rows: np.ndarray | None
    """(N,) int64: which rows of the training set these are; None for all of them."""
    folds: Folds
    """Of all rounds, those of the first one first."""
    number: int
    """R."""


def rounds_of(every: Examples, spec: HeadSpec, repeats: int, candidates: Sequence[HeadCandidate] = ()) -> Rounds:
    """The rounds of a training set: as many as `repeats` says, or fewer where logits would fill the memory.

    If the embeddings are not in memory, they are rounds of a sample of the set. Where candidates are chosen, or the
    baseline is joined, fewer rounds of many examples are played, since each takes long.
    """
    rows, examples = None, every
    if isinstance(every.embeddings, Streamed):
        rows = _sampled_rows(len(every), spec.training.seed)
        examples = every.in_memory(rows)
    repeats = min(repeats, max(1, MOST_LOGITS // (len(examples) * spec.num_classes)))
    if any(each.joined for each in candidates):
        repeats = min(repeats, max(1, MOST_JOINED // len(examples)))
    if len(candidates) > 1:
        widest = max(sum(stop - start for start, stop in each.columns) for each in candidates)
        repeats = repeats if len(examples) * widest <= MOST_CHOSEN else min(repeats, 1)
    labels, seed = examples.label_array(), spec.training.seed
    return Rounds(examples, rows, spec.target.folds(labels, repeats, seed, examples.groups, examples.extra), repeats)


def _sampled_rows(num_examples: int, seed: int) -> np.ndarray | None:
    """At most SAMPLED_ROWS rows, ascending, drawn evenly, whatever their classes; None if that is all of them.

    Extra examples are drawn like others, so that the heads are trained on the same mixture as the one that is saved.
    """
    if num_examples <= SAMPLED_ROWS:
        return None
    return np.sort(np.random.default_rng([seed, 3]).choice(num_examples, SAMPLED_ROWS, replace=False))


def unseen_by(
    rounds: Rounds, candidates: Sequence[HeadCandidate], chosen: Sequence[int], spec: HeadSpec, report: Report
) -> np.ndarray:
    """Logits (R, N, K) float32 on each example by a head trained on the other folds; NaN for one that was not tested.

    `chosen` says for each fold the number of the candidate that is trained there.
    """
    labels, folds = rounds.examples.label_array(), rounds.folds
    logits = np.full((max(rounds.number, 1), len(labels), spec.num_classes), np.nan, dtype=np.float32)
    num_done = 0

    def done(more: int) -> None:
        nonlocal num_done
        num_done += more
        report(Progress(stage="cross-validating", done=num_done, total=len(folds), unit="folds"))

    for number in sorted(set(chosen)):
        own = [fold for fold, which in enumerate(chosen) if which == number]
        candidate = candidates[number]
        found = unseen_logits(
            rounds.examples.of_columns(candidate.columns),
            [folds[fold] for fold in own],
            spec.of(candidate),
            done=done,
        )
        for fold, unseen in zip(own, found, strict=True):
            logits[fold * rounds.number // len(folds), folds[fold][1]] = unseen.tested
    return logits


def halved(rounds: Rounds, spec: HeadSpec) -> Rounds:
    """The first round alone, whose heads train on half of each class's examples, rounded up, and on all extra ones."""
    examples, halves = rounds.examples, []
    labels, extra = spec.target.strata(examples.label_array()), examples.extra
    for fold, (train, test) in enumerate(rounds.folds[: len(rounds.folds) // rounds.number]):
        rng = np.random.default_rng([spec.training.seed, fold, 5])
        own = train if extra is None else train[~extra[train]]
        kept = [rng.permutation(own[rows])[: (len(rows) + 1) // 2] for rows in rows_by_label(labels[own])]
        rest = [] if extra is None else [train[extra[train]]]
        halves.append((np.sort(np.concatenate([*kept, *rest])), test))
    return dataclasses.replace(rounds, folds=halves, number=1)


def validation_metrics(
    rounds: Rounds, logits: np.ndarray, spec: HeadSpec, *, nested: bool, baseline: np.ndarray | None = None
) -> tuple[dict[str, Any], Answers | None]:
    """What the logits (R, N, K) show, {"cross_validation": None without folds, "calibration"}; and what the first round
    says of the N examples.

    The interval is that of a single round, since more rounds are the same examples again. `baseline` has the logits of
    its heads, (R, N, K) or of fewer rounds.
    """
    examples = rounds.examples
    labels, tested = examples.label_array(), ~np.isnan(logits).all(axis=2)
    scores: dict[str, Any] | None = None
    said: Answers | None = None
    if rounds.folds:
        right, said = judged(rounds, logits, tested, spec)
        accuracy, num_folds = accuracy_of(right, examples.groups), len(rounds.folds) // rounds.number
        own = labels if examples.extra is None else labels[~examples.extra]
        counts = counts_of(own, spec.num_classes)
        scores = {
            "accuracy": accuracy["value"],
            "interval_95": accuracy["interval_95"],
            "folds": num_folds,
            "repeats": rounds.number,
            "num_clips": int(tested[0].sum()),
            "num_single_clip_classes": int((counts == 1).sum()),
            "num_small_classes": int(((counts > 1) & (counts < num_folds)).sum()),
        }
        flags = {"nested": nested, "sampled": rounds.rows is not None}
        scores |= {flag: True for flag, holds in flags.items() if holds}
        if baseline is not None:
            played = len(baseline)
            plain, plain_said = judged(rounds, baseline, tested[:played], spec)
            found = accuracy_of(plain, examples.groups)
            difference = paired(right[:played], plain, num_folds, examples.groups) if num_folds > 1 else None
            scores["baseline"] = {
                "accuracy": found["value"],
                "interval_95": found["interval_95"],
                "against_it": difference,
            }
        if labels.ndim == 2:
            rows, groups = np.flatnonzero(tested[0]), examples.groups
            taken = labels[rows], None if groups is None else groups[rows]
            scores["figures"] = several.figures(said.take(rows), *taken)
            if baseline is not None:
                scores["baseline"]["figures"] = several.figures(plain_said.take(rows), *taken)
    return {"cross_validation": scores, "calibration": calibrated(logits, labels, spec)}, said


def calibrated(logits: np.ndarray, labels: np.ndarray, spec: HeadSpec) -> dict[str, Any] | None:
    """How to calibrate by logits (R, N, K), NaN where untested, of heads that had not seen the examples."""
    tested = ~np.isnan(logits).all(axis=2)
    every_label = np.broadcast_to(labels, (len(logits), *labels.shape))
    return spec.target.calibrate(logits[tested], every_label[tested], int(tested[0].sum()), spec.head)


def judged(rounds: Rounds, logits: np.ndarray, tested: np.ndarray, spec: HeadSpec) -> tuple[np.ndarray, Answers]:
    """Whether each example is right in each round, (R, N), NaN where untested; and what the first round says."""
    labels, size = rounds.examples.label_array(), len(rounds.folds) // rounds.number
    right, answers = np.full(tested.shape, np.nan), []
    for number, of_round in enumerate(logits):
        folds = rounds.folds[number * size : (number + 1) * size]
        answers.append(spec.target.unseen(of_round, labels, folds, spec.head))
        right[number] = np.where(tested[number], spec.target.equal(answers[-1].decisions, labels), np.nan)
    return right, answers[0]


def is_in_doubt(metrics: dict[str, Any]) -> bool:
    """Whether the interval of the cross-validated accuracy holds chance, or the baseline does as well."""
    scores = metrics["cross_validation"]
    if scores is None or "figures" in scores:
        return False
    rival = scores.get("baseline", {}).get("accuracy", -1.0)
    return bool(scores["interval_95"][0] <= metrics["chance"] or rival >= scores["accuracy"])


def growth(rounds: Rounds, every: np.ndarray, half: np.ndarray, spec: HeadSpec) -> float:
    """By how much accuracy grows from heads of `halved`, logits (1, N, K), to those of the same round, in (R, N, K)."""
    labels, tested = rounds.examples.label_array(), ~np.isnan(every[0]).all(axis=1)
    more, fewer = (spec.target.right(np.nan_to_num(logits[0]), labels)[tested] for logits in (every, half))
    return float(more.mean() - fewer.mean())
