"""Folds of cross-validation and holdouts for examples with several labels each, or none. Knows no head.

They are dealt out by iterative stratification (Sechidis, Tsoumakas and Vlahavas, On the Stratification of Multi-Label
Data, ECML PKDD 2011), with two additions. Groups, such as speakers, are dealt out whole: a unit is a group, or one
example where there are no groups. And no part takes more examples than its share while another one has room, so that
parts are of equal size; without that, examples that all have labels fill parts unevenly, and balance labels worse.

Whether pairs of labels are in proportion is not looked at. `data.folds` does the same for one label an example.
"""

from __future__ import annotations

import math

import numpy as np

from golem_ray.data.folds import Folds, drawn_groups, groups_among, with_extra


def several_folds(
    labels: np.ndarray,
    repeats: int,
    seed: int,
    groups: np.ndarray | None = None,
    extra: np.ndarray | None = None,
) -> Folds:
    """(train, test) indices of repeated k-fold cross-validation over labels: (N, K) bool, round by round.

    Every example is tested once a repeat, also one without any label. k is 5, or the number of examples if that is
    smaller. A label with a single example is tested where no head was trained on it, and does not count for how the
    others are dealt out. Without repeats, or without a label of two examples, the list is empty.

    With groups (N,) int, such as speakers, no group is on both sides, and the same holds of groups for examples: k is
    at most their number, and a label in one group alone does not count. Sizes then differ by a group or so.

    Extra examples, (N,) bool, are in no test part, and do not count for any of this. One is trained on wherever no
    example of its group is tested.
    """
    numbers = range(repeats)
    return [fold for number in numbers for fold in several_round_folds(labels, repeats, number, seed, groups, extra)]


def several_round_folds(
    labels: np.ndarray,
    repeats: int,
    number: int,
    seed: int,
    groups: np.ndarray | None = None,
    extra: np.ndarray | None = None,
) -> Folds:
    """The folds of round `number` of `several_folds`; the other rounds are not made."""
    if number >= repeats:
        return []
    if extra is not None and extra.any():
        main = np.flatnonzero(~extra)
        folds = several_round_folds(labels[main], repeats, number, seed, groups_among(main, groups))
        return [(with_extra(main[train], main[test], groups, extra), main[test]) for train, test in folds]
    table, unit = _units(labels, groups)
    counted = np.append((table[:, :-1] > 0).sum(axis=0) >= 2, True)
    if not counted[:-1].any():
        return []
    k = min(5, len(table))
    part = _deal(table[:, counted], np.full(k, len(labels) / k), np.random.default_rng([seed, number]))[unit]
    return [(np.flatnonzero(part != fold), np.flatnonzero(part == fold)) for fold in range(k)]


def several_held_out(labels: np.ndarray, wanted: int, seed: int, groups: np.ndarray | None = None) -> np.ndarray:
    """Which of N examples to keep from training, (N,) bool: `wanted` of them, of each label in proportion.

    labels: (N, K) bool. At least one example of each label is left to train on, so that fewer than `wanted` are held
    out where the others are too few for that. With groups (N,) int no group is on both sides: of these examples dealt
    out and of many draws of groups, the best is taken. It is near to the wanted number and to the labels' shares, and
    leaves many labels to train on.
    """
    rng = np.random.default_rng([seed, 1])
    table, unit = _units(labels, groups)
    part = _deal(table, np.array([wanted, len(labels) - wanted]), rng, _one_of_each(table, rng))
    if groups is None:
        return part == 0
    order = rng.permutation(len(table))
    dealt = order[np.argsort(part[order], kind="stable")]  # what is held out first
    return np.isin(unit, drawn_groups(table[:, :-1], table[:, -1], wanted, rng, dealt))


def _units(labels: np.ndarray, groups: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """What is dealt out whole: how many examples each of U units has of each label, and in all; each example's unit.

    (N, K) bool -> (U, K + 1) int64, the last column the number of examples; (N,) int64.
    """
    examples = np.column_stack([labels, np.ones(len(labels), dtype=bool)]).astype(np.int64)
    if groups is None:
        return examples, np.arange(len(labels))
    names, unit = np.unique(groups, return_inverse=True)
    table = np.zeros((len(names), examples.shape[1]), dtype=np.int64)
    np.add.at(table, unit, examples)
    return table, unit


def _one_of_each(table: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Units (M,) that have at least one example of each label that occurs, drawn for the rarest label first."""
    counts = table[:, :-1]
    kept: list[int] = []
    for label in np.argsort(counts.sum(axis=0), kind="stable").tolist():
        having = np.flatnonzero(counts[:, label])
        if having.size and not counts[kept, label].any():
            kept.append(int(rng.choice(having)))
    return np.array(kept, dtype=np.int64)


def _deal(
    table: np.ndarray, wanted: np.ndarray, rng: np.random.Generator, kept: np.ndarray | None = None
) -> np.ndarray:
    """A part for each of U units, (U,) int64: parts of about `wanted` (P,) examples, with each label in proportion.

    table: (U, K + 1), as `_units` makes it. The units `kept` are put into the last part before the others are dealt.
    """
    left = table.sum(axis=0)
    lack = np.outer(wanted / wanted.sum(), left)  # (P, K + 1): examples of each label, and in all, that parts want yet
    lack[:, -1] = wanted  # exactly
    part = np.full(len(table), -1)
    labels = np.append(rng.permutation(len(left) - 1), len(left) - 1)  # ties: a label at random, before size alone

    def settle(rows: np.ndarray, parts: np.ndarray) -> None:
        part[rows] = parts
        for each in range(len(wanted)):
            lack[each] -= table[rows[parts == each]].sum(axis=0)
        left[:] -= table[rows].sum(axis=0)

    if kept is not None:
        settle(kept, np.full(len(kept), len(wanted) - 1))
    while left[-1]:
        present = labels[left[labels] > 0]
        rarest = present[left[present].argmin()]
        rows = rng.permutation(np.flatnonzero((part < 0) & (table[:, rarest] > 0)))
        rows = rows[
            np.argsort(-table[rows, rarest], kind="stable")
        ]  # large ones first; small ones can make up for them
        ties = rng.random((len(rows), len(wanted)))
        settle(rows, _deal_label(table[rows, rarest], table[rows, -1], lack[:, rarest], lack[:, -1], ties))
    return part


def _deal_label(
    counts: np.ndarray, sizes: np.ndarray, lack: np.ndarray, room: np.ndarray, ties: np.ndarray
) -> np.ndarray:
    """A part for each of M units, in turn: one that wants the label most, of these the one that wants most examples.

    A part without room for one example more comes after those with room, and the fullest comes last.

    counts and sizes: (M,) examples of the label, and in all. lack and room: (P,) how many of them parts want. ties:
    (M, P) random numbers, which decide the rest.
    """
    wants, rooms = lack.tolist(), room.tolist()  # plain numbers: one unit at a time is slow in NumPy
    parts = []
    for count, size, tie in zip(counts.tolist(), sizes.tolist(), ties.tolist(), strict=True):
        ranks = [
            (min(math.floor(free), 1), want, free, last) for want, free, last in zip(wants, rooms, tie, strict=True)
        ]
        best = ranks.index(max(ranks))
        wants[best] -= count
        rooms[best] -= size
        parts.append(best)
    return np.array(parts, dtype=np.int64)
