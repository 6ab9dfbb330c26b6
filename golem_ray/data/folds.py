"""Folds of cross-validation and holdouts, stratified by label. Knows no head.

Some examples may be `extra`, (N,) bool: they are only ever trained on. Folds and holdouts are made of the others as if
there were none; then an extra one is trained on wherever no example of its group, (N,) int, is tested. Thus a copy of a
tested example, or the same speaker's, is not trained on although it comes from elsewhere.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

Folds = list[tuple[np.ndarray, np.ndarray]]
"""(train, test) indices of each fold."""


def stratified_folds(
    labels: np.ndarray,
    repeats: int,
    seed: int,
    groups: np.ndarray | None = None,
    extra: np.ndarray | None = None,
) -> Folds:
    """(train, test) indices of repeated stratified k-fold cross-validation over labels: (N,) int.

    An example that is alone in its class is in every training part and in no test part. Every other example is tested
    once a repeat. k is the largest number up to 5 with at most a tenth of these in classes of fewer than k; such a
    class is not in every test part. Without repeats, or without a class of two examples, the list is empty.

    With groups (N,) int, such as speakers, no group is on both sides. k is then 5, or the number of groups or of the
    largest class's examples if that is smaller; an example may be tested whose class is in no other group. If that
    holds of every class (`in_one_group`), the list is empty.

    Extra examples are in no test part, and do not count for any of this.
    """
    if extra is not None and extra.any():
        main = np.flatnonzero(~extra)
        folds = stratified_folds(labels[main], repeats, seed, groups_among(main, groups))
        return [(with_extra(main[train], main[test], groups, extra), main[test]) for train, test in folds]
    counts = np.bincount(labels)
    scored = np.flatnonzero(counts[labels] >= 2)
    if scored.size == 0:
        return []
    if groups is not None:
        return [] if in_one_group(labels, groups) else _grouped_folds(labels, repeats, seed, groups)
    single = np.setdiff1d(np.arange(len(labels)), scored)
    k = next(k for k in (5, 4, 3, 2) if 10 * (counts[labels[scored]] >= k).sum() >= 9 * len(scored))
    folds = []
    for repeat in range(repeats):
        fold = _deal(labels, scored, k, np.random.default_rng([seed, repeat]))
        for number in range(k):
            train = np.sort(np.concatenate([scored[fold != number], single]))
            folds.append((train, scored[fold == number]))
    return folds


def with_extra(train: np.ndarray, test: np.ndarray, groups: np.ndarray | None, extra: np.ndarray) -> np.ndarray:
    """The rows to train on beside the rows `test`, ascending: `train`, and the extra ones of other groups."""
    beside = np.flatnonzero(extra)
    if groups is not None:
        beside = beside[~np.isin(groups[beside], groups[test])]
    return np.sort(np.concatenate([train, beside]))


def groups_among(rows: np.ndarray, groups: np.ndarray | None) -> np.ndarray | None:
    """The groups of the rows, (M,); None where each of these is alone in its group, so that nothing is kept together.

    Copies among extra examples alone would else change how the others are dealt out.
    """
    if groups is None or len(np.unique(groups[rows])) == len(rows):
        return None
    return groups[rows]


def in_one_group(labels: np.ndarray, groups: np.ndarray) -> bool:
    """Whether every class is in one group alone, (N,) int both: no head can be tested on a class it was trained on."""
    return len(np.unique(labels * (int(groups.max()) + 1) + groups)) == len(np.unique(labels))


def round_folds(
    labels: np.ndarray,
    repeats: int,
    number: int,
    seed: int,
    groups: np.ndarray | None = None,
    extra: np.ndarray | None = None,
) -> Folds:
    """The folds of round `number` of `stratified_folds`."""
    folds = stratified_folds(labels, repeats, seed, groups, extra)
    size = len(folds) // repeats
    return folds[number * size : (number + 1) * size]


def _grouped_folds(labels: np.ndarray, repeats: int, seed: int, groups: np.ndarray) -> Folds:
    import warnings

    from sklearn.model_selection import StratifiedGroupKFold

    k = min(5, len(np.unique(groups)), int(np.bincount(labels).max()))
    if k < 2:
        return []
    folds = []
    for repeat in range(repeats):
        splitter = StratifiedGroupKFold(k, shuffle=True, random_state=(seed * 1009 + repeat) % 2**32)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # classes with fewer examples than folds
            folds += list(splitter.split(labels, labels, groups))
    return folds


def held_out(labels: np.ndarray, wanted: int, seed: int, groups: np.ndarray | None = None) -> np.ndarray:
    """Which of N examples to keep from training, (N,) bool: about `wanted`, of each label in proportion.

    labels: (N,) int. At least one example of each class is left to train on. With groups (N,) int no group is on both
    sides: of many draws of groups, the best one is taken. It is near to the wanted number and to the classes' shares,
    and leaves many classes to train on.
    """
    rng = np.random.default_rng([seed, 1])
    if groups is not None:
        return _held_groups(labels, wanted, groups, rng)
    turn = np.full(len(labels), np.inf)
    for rows in rows_by_label(labels):
        members = rng.permutation(rows)[:-1]
        turn[members] = (np.arange(len(members)) + rng.uniform()) / (len(members) + 1)
    chosen = np.argsort(turn, kind="stable")[:wanted]
    held = np.zeros(len(labels), dtype=bool)
    held[chosen[np.isfinite(turn[chosen])]] = True
    return held


def rows_by_label(labels: np.ndarray) -> list[np.ndarray]:
    """The rows of each label that occurs in labels (N,) int, ascending, the smallest label first."""
    order = np.argsort(labels, kind="stable")  # one pass, where comparing with each label takes one for each
    return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)


def _held_groups(labels: np.ndarray, wanted: int, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    _, numbers = np.unique(groups, return_inverse=True)
    counts = np.zeros((int(numbers.max()) + 1, int(labels.max()) + 1), dtype=np.int64)
    np.add.at(counts, (numbers, labels), 1)
    return np.isin(numbers, drawn_groups(counts, counts.sum(axis=1), wanted, rng))


def drawn_groups(
    counts: np.ndarray, sizes: np.ndarray, wanted: int, rng: np.random.Generator, *first: np.ndarray
) -> np.ndarray:
    """The best groups to hold out, (M,) int64, of many draws: about `wanted` examples, each label in proportion.

    counts: (G, K) how many examples of each label a group has; sizes: (G,) how many in all. A draw takes groups in a
    random order, each if it brings the number nearer to the wanted one; `first` are orders (G,) to try before these.
    """
    total = counts.sum(axis=0)
    of_each = max(int(total.sum()), 1) / sizes.sum()  # labels an example
    best: tuple[float, np.ndarray] = (math.inf, np.zeros(0, dtype=np.int64))
    draws = max(10, min(500, 200_000 // len(sizes)))
    for order in itertools.chain(first, (rng.permutation(len(sizes)) for _ in range(draws))):
        chosen: list[int] = []
        size = 0
        for group in order[: len(sizes) - 1].tolist():  # one at least is left to train on
            if not chosen or abs(size + sizes[group] - wanted) < abs(size - wanted):
                chosen.append(group)
                size += int(sizes[group])
        held = counts[chosen].sum(axis=0)
        lost = ((held == total) & (total > 0)).sum()
        shares = np.abs(held / max(size, 1) - total / sizes.sum()).sum() / of_each
        score = float(abs(size - wanted) / wanted + shares / 2 + lost)
        if score < best[0]:
            best = score, np.array(chosen)
    return best[1]


def _deal(labels: np.ndarray, scored: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """A fold for each scored example. Each class is shuffled and dealt out in turn, so that folds are of equal size."""
    fold = np.empty(len(scored), dtype=np.int64)
    dealt = 0
    for rows in rows_by_label(labels[scored]):
        members = rng.permutation(rows)
        fold[members] = (np.arange(dealt, dealt + len(members))) % k
        dealt += len(members)
    return fold
