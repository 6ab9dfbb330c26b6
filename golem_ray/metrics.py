"""How good a classifier is, with what is needed to believe it: folds, intervals, chance.

Knows nothing of heads or encoders: it is given labels and probabilities and gives indices and figures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

FIGURES = (
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "weighted_f1",
    "top_5_accuracy",
    "log_loss",
    "expected_calibration_error",
)
"""What `figures` measures. Log-loss is in nats."""

NUM_BINS = 10
"""Bins of confidence, of equal width, of the calibration error and the reliability curve."""

_RESAMPLES = 1000


def wilson_interval(accuracy: float, num_clips: int, z: float = 1.959964) -> tuple[float, float]:
    """The 95 % interval of an accuracy measured on num_clips independent clips.

    Wilson's score interval (E. B. Wilson, JASA 1927), which keeps its promise for few clips and near 0 and 1.
    """
    shrink = 1 + z * z / num_clips
    centre = accuracy + z * z / (2 * num_clips)
    spread = z * math.sqrt(accuracy * (1 - accuracy) / num_clips + (z / (2 * num_clips)) ** 2)
    return max(0.0, (centre - spread) / shrink), min(1.0, (centre + spread) / shrink)


@dataclass(frozen=True)
class _Scores:
    """What the figures need to know of each clip."""

    true: np.ndarray
    """(N,) int64: its label, K and more for classes that the classifier does not know."""
    said: np.ndarray
    """(N,) int64: the likeliest class."""
    confidence: np.ndarray
    """(N,): that class's probability."""
    in_top_5: np.ndarray
    """(N,) bool."""
    loss: np.ndarray
    """(N,): minus the logarithm of the label's probability, NaN for a class that the classifier does not know."""

    def take(self, rows: np.ndarray) -> _Scores:
        return _Scores(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def figures(probabilities: np.ndarray, labels: np.ndarray, *, seed: int = 0) -> dict[str, Any]:
    """How probabilities (N, K) do on labels (N,) int, N at least 1: {figure: {"value", "interval_95"}}.

    A label of K or more is a class that the classifier does not know: missed by every figure, and left out of
    log-loss. Definitions are scikit-learn's; the calibration error is that of Guo et al. (2017) in ten bins.
    Figures that cannot be had are missing: top-5 of five classes or fewer, log-loss without a known class.

    Intervals are of 95 % over clips: Wilson's for the accuracies that are plain shares, since a bootstrap gives
    all right or all wrong no width at all; else percentiles of 1,000 bootstrap resamples, those of the calibration
    error moved by its bias: resamples look worse calibrated than the clips that they are of.
    """
    num_classes = probabilities.shape[1]
    scores = _score(probabilities.astype(np.float64), labels)
    measured = _measure(scores, num_classes)
    rng = np.random.default_rng(seed)
    resampled = [
        _measure(scores.take(rng.integers(0, len(labels), len(labels))), num_classes) for _ in range(_RESAMPLES)
    ]
    found = {}
    for name, value in measured.items():
        if not math.isfinite(value):
            continue
        if name in ("accuracy", "top_5_accuracy"):
            interval = wilson_interval(value, len(labels))
        else:
            low, middle, high = np.nanpercentile([values[name] for values in resampled], [2.5, 50, 97.5])
            bias = middle - value if name == "expected_calibration_error" else 0.0
            interval = max(0.0, float(low - bias)), float(high - bias)
        found[name] = {"value": value, "interval_95": list(interval)}
    return found


def _score(probabilities: np.ndarray, labels: np.ndarray) -> _Scores:
    rows, num_classes = np.arange(len(labels)), probabilities.shape[1]
    known = labels < num_classes
    of_label = np.where(known, probabilities[rows, np.where(known, labels, 0)], np.nan)
    said = probabilities.argmax(axis=1)
    tiny = np.finfo(np.float64).eps  # as scikit-learn's log_loss has it
    return _Scores(
        true=labels.astype(np.int64),
        said=said,
        confidence=probabilities[rows, said],
        in_top_5=known & ((probabilities > of_label[:, None]).sum(axis=1) < 5),
        loss=-np.log(np.clip(of_label, tiny, 1 - tiny)),
    )


def _measure(scores: _Scores, num_classes: int) -> dict[str, float]:
    """The figures, in arithmetic that a thousand resamples can afford."""
    num_clips, right = len(scores.true), scores.true == scores.said
    width = max(num_classes, int(scores.true.max()) + 1)
    hits = np.bincount(scores.true[right], minlength=width)
    true = np.bincount(scores.true, minlength=width)
    said = np.bincount(scores.said, minlength=width)
    f1 = 2 * hits / np.maximum(true + said, 1)
    known = ~np.isnan(scores.loss)
    bins, gaps = confidence_bins(scores.confidence), scores.confidence - right
    return {
        "accuracy": right.mean().item(),
        "balanced_accuracy": (hits[true > 0] / true[true > 0]).mean().item(),
        "macro_f1": f1[true + said > 0].mean().item(),
        "weighted_f1": (f1 @ true / num_clips).item(),
        "top_5_accuracy": scores.in_top_5.mean().item() if num_classes > 5 else math.nan,
        "log_loss": scores.loss[known].mean().item() if known.any() else math.nan,
        "expected_calibration_error": np.abs(np.bincount(bins, gaps, NUM_BINS)).sum().item() / num_clips,
    }


def mean_and_error(values: np.ndarray, groups: np.ndarray | None = None) -> tuple[float, float, int]:
    """Mean of (N,) values, NaN ones left out, its standard error, and over how many clips, or groups (N,) int, that is.

    Of groups of unlike sizes by the linearised ratio of sums (W. G. Cochran, Sampling Techniques, 1977, chapter 6);
    of a single one the error is infinite.
    """
    told = np.isfinite(values)
    _, units = np.unique(np.flatnonzero(told) if groups is None else groups[told], return_inverse=True)
    sums, sizes = np.bincount(units, values[told]), np.bincount(units)
    mean = float(values[told].mean())
    if len(sizes) < 2:
        return mean, math.inf, len(sizes)
    variance = len(sizes) / (len(sizes) - 1) * ((sums - mean * sizes) ** 2).sum() / sizes.sum() ** 2
    return mean, math.sqrt(variance), len(sizes)


def confidence_bins(confidence: np.ndarray) -> np.ndarray:
    """The bin, 0 to 9, of each confidence (N,) in (0, 1]: the upper bound belongs to it."""
    return np.clip(np.ceil(confidence * NUM_BINS).astype(np.int64) - 1, 0, NUM_BINS - 1)


def baselines(labels: np.ndarray, num_classes: int, largest: int) -> dict[str, dict[str, float]]:
    """What `figures` would be, on the same labels (N,), of who guesses evenly, and of who always says `largest`.

    That is the class that most clips were trained on. Of an even guess, the expected values; F1 is that of the
    expected precision and recall.
    """
    rates = np.bincount(labels, minlength=num_classes) / len(labels)
    present = rates > 0
    guessed = np.where(np.arange(len(rates)) < num_classes, 1 / num_classes, 0)
    known = float(rates[:num_classes].sum())
    guess_f1 = np.divide(2 * rates * guessed, rates + guessed, out=np.zeros_like(rates), where=present)
    share = float(rates[largest])
    chance = {
        "accuracy": known / num_classes,
        "balanced_accuracy": float(guessed[present].mean()),
        "macro_f1": float(guess_f1[present | (guessed > 0)].mean()),
        "weighted_f1": float(guess_f1 @ rates),
        "expected_calibration_error": abs(1 - known) / num_classes,
    }
    if num_classes > 5:
        chance["top_5_accuracy"] = 5 * known / num_classes
    if known:
        chance["log_loss"] = math.log(num_classes)
    f1 = 2 * share / (1 + share)
    majority = {
        "accuracy": share,
        "balanced_accuracy": float(share > 0) / int(present.sum()),
        "macro_f1": f1 / (int(present.sum()) + int(share == 0)),
        "weighted_f1": f1 * share,
    }
    return {"chance": chance, "majority": majority}


def confusion(said: np.ndarray, labels: np.ndarray, num_names: int) -> np.ndarray:
    """(num_names, num_names) int64: how many clips of each label (row) are taken for each class (column)."""
    return np.bincount(labels * num_names + said, minlength=num_names**2).reshape(num_names, num_names)


def per_class(said: np.ndarray, labels: np.ndarray, names: list[str]) -> list[dict[str, Any]]:
    """For each class: {"label", "num_clips", "precision", "recall", "f1"}, None where nothing can be said."""
    table = confusion(said, labels, len(names))
    records = []
    for number, name in enumerate(names):
        hits, true, told = (int(n) for n in (table[number, number], table[number].sum(), table[:, number].sum()))
        records.append(
            {
                "label": name,
                "num_clips": true,
                "precision": hits / told if told else None,
                "recall": hits / true if true else None,
                "f1": 2 * hits / (true + told) if true + told else None,
            }
        )
    return records


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Probabilities (N, K) float64 of logits (N, K) divided by the temperature."""
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def fit_temperature(logits: np.ndarray, labels: np.ndarray, num_clips: int) -> float:
    """The temperature under which logits (M, K), of clips that were not trained on, are the likeliest for (M,) labels.

    After Guo et al. (2017), with the targets of Platt (1999): (n + 1) / (n + 2) for the label, n the number of
    distinct clips, what is left spread over the other classes, so that a few clips that are all right do not
    make it certain.
    """
    from scipy.optimize import minimize_scalar

    num_classes = logits.shape[1]
    targets = np.full(logits.shape, 1 / (num_clips + 2) / (num_classes - 1))
    targets[np.arange(len(labels)), labels] = (num_clips + 1) / (num_clips + 2)

    def loss(log_temperature: float) -> float:
        scaled = logits.astype(np.float64) / math.exp(log_temperature)
        top = scaled.max(axis=1, keepdims=True)
        log_sum = top[:, 0] + np.log(np.exp(scaled - top).sum(axis=1))
        return float((log_sum - (targets * scaled).sum(axis=1)).mean())

    return math.exp(minimize_scalar(loss, bounds=(math.log(0.01), math.log(100)), method="bounded").x)


def stratified_folds(
    labels: np.ndarray, repeats: int, seed: int, groups: np.ndarray | None = None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """(train, test) indices of repeated stratified k-fold cross-validation over labels: (N,) int.

    k is the smallest count among the classes with two clips or more, at most 5. Classes with a single clip are
    in every training part and in no test part. Every other clip is tested once a repeat. Empty without a class
    of two clips, or without repeats.

    With groups (N,) int, such as speakers, none is on both sides; k is then 5, or as few as there are groups or clips
    of the largest class, and a clip may be tested whose class nobody else has.
    """
    counts = np.bincount(labels)
    scored = np.flatnonzero(counts[labels] >= 2)
    if scored.size == 0:
        return []
    if groups is not None:
        return _grouped_folds(labels, repeats, seed, groups)
    single = np.setdiff1d(np.arange(len(labels)), scored)
    k = min(5, int(counts[counts >= 2].min()))
    folds = []
    for repeat in range(repeats):
        fold = _deal(labels, scored, k, np.random.default_rng([seed, repeat]))
        for number in range(k):
            train = np.sort(np.concatenate([scored[fold != number], single]))
            folds.append((train, scored[fold == number]))
    return folds


def round_folds(
    labels: np.ndarray, repeats: int, number: int, seed: int, groups: np.ndarray | None = None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The folds of round `number` of `stratified_folds`."""
    folds = stratified_folds(labels, repeats, seed, groups)
    size = len(folds) // repeats
    return folds[number * size : (number + 1) * size]


def _grouped_folds(
    labels: np.ndarray, repeats: int, seed: int, groups: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    import warnings

    from sklearn.model_selection import StratifiedGroupKFold

    k = min(5, len(np.unique(groups)), int(np.bincount(labels).max()))
    if k < 2:
        return []
    folds = []
    for repeat in range(repeats):
        splitter = StratifiedGroupKFold(k, shuffle=True, random_state=(seed * 1009 + repeat) % 2**32)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # classes of fewer clips than folds
            folds += list(splitter.split(labels, labels, groups))
    return folds


def held_out(labels: np.ndarray, wanted: int, seed: int, groups: np.ndarray | None = None) -> np.ndarray:
    """Which of N clips to keep from training, (N,) bool: about `wanted`, of each label in proportion.

    labels: (N,) int. One clip of each class at least is left to train on. With groups (N,) int no group is on both
    sides: of many draws of groups, that which is nearest in number and in the classes' shares, and which leaves
    most classes to train on.
    """
    rng = np.random.default_rng([seed, 1])
    if groups is not None:
        return _held_groups(labels, wanted, groups, rng)
    turn = np.full(len(labels), np.inf)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))[:-1]
        turn[members] = (np.arange(len(members)) + rng.uniform()) / (len(members) + 1)
    chosen = np.argsort(turn, kind="stable")[:wanted]
    held = np.zeros(len(labels), dtype=bool)
    held[chosen[np.isfinite(turn[chosen])]] = True
    return held


def _held_groups(labels: np.ndarray, wanted: int, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    _, numbers = np.unique(groups, return_inverse=True)
    counts = np.zeros((int(numbers.max()) + 1, int(labels.max()) + 1), dtype=np.int64)
    np.add.at(counts, (numbers, labels), 1)
    sizes, total = counts.sum(axis=1), counts.sum(axis=0)
    best: tuple[float, np.ndarray] = (math.inf, np.zeros(0, dtype=np.int64))
    for _ in range(max(10, min(500, 200_000 // len(sizes)))):
        chosen: list[int] = []
        size = 0
        for group in rng.permutation(len(sizes))[: len(sizes) - 1].tolist():  # one at least is left to train on
            if not chosen or abs(size + sizes[group] - wanted) < abs(size - wanted):
                chosen.append(group)
                size += int(sizes[group])
        held = counts[chosen].sum(axis=0)
        lost = ((held == total) & (total > 0)).sum()
        shares = np.abs(held / max(size, 1) - total / total.sum()).sum()
        score = float(abs(size - wanted) / wanted + shares / 2 + lost)
        if score < best[0]:
            best = score, np.array(chosen)
    return np.isin(numbers, best[1])


def _deal(labels: np.ndarray, scored: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """A fold for each scored clip: each class shuffled and dealt out in turn, so that folds are of one size too."""
    fold = np.empty(len(scored), dtype=np.int64)
    dealt = 0
    for label in np.unique(labels[scored]):
        members = rng.permutation(np.flatnonzero(labels[scored] == label))
        fold[members] = (np.arange(dealt, dealt + len(members))) % k
        dealt += len(members)
    return fold
