"""The head's task: train it on embeddings, cross-validate and calibrate it, ask it of the clips held out.

Knows nothing of audio, encoders or Ray: embeddings and labels come in, weights, logits and metrics go out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from golem_ray.config import HeadConfig, TrainingConfig
from golem_ray.data.folds import stratified_folds
from golem_ray.heads.fit import accuracy, fit, fitted, log_loss, logits_of, standardized
from golem_ray.heads.modules import weights_file
from golem_ray.heads.rows import Rows, Streamed, moments
from golem_ray.heads.select import best_layer, score
from golem_ray.heads.target import fit_temperature
from golem_ray.heads.training_set import TrainedHead, TrainingSet
from golem_ray.metrics.comparison import Score
from golem_ray.metrics.intervals import wilson_interval
from golem_ray.progress import Progress

MIN_CALIBRATION_CLIPS = 20
"""Fewest cross-validated clips that a temperature is fitted on."""


SAMPLED_ROWS = 100_000
"""Most clips that are cross-validated on where embeddings do not fit in memory."""


def train_head(
    data: TrainingSet,
    training: TrainingConfig,
    *,
    config: HeadConfig | None = None,
    repeats: int,
    device: str = "cpu",
) -> Generator[Progress, None, TrainedHead]:
    """Train, cross-validate the same recipe, calibrate, and ask the head of the clips held out. Yields Progress.

    Embeddings that do not fit in memory (`labelled.check_streamed` says what cannot be done with them) are taken chunk
    by chunk, and cross-validated on a sample.
    """
    config = config or HeadConfig()
    every, y = _rows(data, data.embeddings, device), torch.tensor(data.labels, device=device)
    x, chosen = every, None
    layers: dict[str, Any] = {}
    if data.layers:
        assert isinstance(every, Tensor)
        curve = yield from _layer_scores(every, y, data, config, training, max(repeats, 1))
        chosen = best_layer(curve, data.groups)
        x = every[:, chosen].contiguous()
        layers["layers"] = _layer_records(data, curve)
    head, history = yield from _trained(x, y, data, config, training)
    metrics = _training_metrics(head, x, y, data.labels, history)
    judged, unseen, rows = yield from _judged(every, y, data, config, training, repeats)

    held_out_logits = baseline = None
    if data.held_out is not None:
        held_out = _of_layer(data.held_out, chosen)
        held_out_logits = logits_of(head, torch.tensor(held_out, device=device))
        baseline = _baseline_logits(data, config, training, device)
    return TrainedHead(
        weights=weights_file(head),
        metrics=metrics | layers | judged,
        layer=None if chosen is None else data.layers[chosen],
        unseen_logits=unseen,
        unseen_rows=rows,
        held_out_logits=held_out_logits,
        baseline_logits=baseline,
        drawn=_of_layer(_drawn(data), chosen),
    )


def _rows(data: TrainingSet, values: np.ndarray, device: str) -> Rows:
    """Embeddings or log-mel statistics of the clips to train on: on the device, unless embeddings are not in memory."""
    if isinstance(data.embeddings, np.memmap):
        return Streamed(values, torch.device(device))
    return torch.tensor(values, device=device)


def _drawn(data: TrainingSet) -> np.ndarray:
    """The vectors of `data.drawn`, (P, D) or (P, C, D)."""
    num_trained = len(data.labels)
    trained = data.embeddings[data.drawn[data.drawn < num_trained]]
    if data.held_out is None:
        return trained
    return np.concatenate([trained, data.held_out[data.drawn[data.drawn >= num_trained] - num_trained]])


def _of_layer(embeddings: np.ndarray, chosen: int | None) -> np.ndarray:
    """(M, D), of embeddings (M, D), or of the chosen layer of (M, C, D)."""
    return embeddings if chosen is None else embeddings[:, chosen]


def _sample(data: TrainingSet, seed: int) -> tuple[TrainingSet, np.ndarray | None]:
    """What to cross-validate on, in memory, and which rows of the training set that is, sorted: None for all of them.

    Of embeddings in memory it is all; of others at most SAMPLED_ROWS, drawn evenly, so that classes come as they fall.
    """
    if not isinstance(data.embeddings, np.memmap):
        return data, None
    num_examples = len(data.labels)
    if num_examples <= SAMPLED_ROWS:
        return dataclasses.replace(data, embeddings=np.array(data.embeddings)), None
    rows = np.sort(np.random.default_rng([seed, 3]).choice(num_examples, SAMPLED_ROWS, replace=False))
    groups = None if data.groups is None else data.groups[rows]
    return dataclasses.replace(
        data, embeddings=np.array(data.embeddings[rows]), labels=data.labels[rows], groups=groups
    ), rows


def _judged(
    every: Rows, y: Tensor, data: TrainingSet, config: HeadConfig, training: TrainingConfig, repeats: int
) -> Generator[Progress, None, tuple[dict[str, Any], np.ndarray, np.ndarray | None]]:
    """Metrics of cross-validation, its first round's logits (N, K), and which rows those are of. Yields Progress."""
    sample, rows = _sample(data, training.seed)
    if isinstance(every, Streamed):
        every, y = (torch.tensor(each, device=every.device) for each in (sample.embeddings, sample.labels))
    unseen, tested, num_folds = yield from _unseen_logits(every, y, sample, config, training, repeats)
    scores = _cross_validation(sample.labels, unseen, tested, num_folds)
    if scores:
        flags = {"nested": bool(data.layers), "sampled": rows is not None}
        scores |= {flag: True for flag, holds in flags.items() if holds}
    metrics = {"cross_validation": scores, "calibration": _calibrate(sample.labels, unseen, tested)}
    return metrics, unseen[0], rows


def _training_metrics(
    head: nn.Module, x: Rows, y: Tensor, labels: np.ndarray, history: list[dict[str, Any]]
) -> dict[str, Any]:
    """What training itself says."""
    num_classes = len(np.unique(labels))
    return {
        "final_loss": history[-1]["loss"] if history else log_loss(head, x, y),
        "training_accuracy": accuracy(head, x, y),
        "num_classes_with_clips": num_classes,
        "chance": 1 / num_classes,  # of who knows at least which classes there are
        "largest_class": float(np.bincount(labels).max() / len(labels)),
        "loss_history": history,
    }


def _layer_records(data: TrainingSet, curve: list[Score | None]) -> list[dict[str, Any]]:
    """How each layer did that has a score."""
    return [
        {"layer": layer, "accuracy": score.accuracy, "log_loss": score.log_loss}
        for layer, score in zip(data.layers, curve, strict=True)
        if score is not None
    ]


def _trained(
    x: Rows, y: Tensor, data: TrainingSet, config: HeadConfig, training: TrainingConfig
) -> Generator[Progress, None, tuple[nn.Module, list[dict[str, Any]]]]:
    """The head, and its loss by epoch. Yields Progress."""
    history: list[dict[str, Any]] = []
    steps = fit(x, y, data.num_classes, config, training, data.groups)
    while True:
        try:
            epoch, loss = next(steps)
        except StopIteration as end:
            return end.value, history
        history.append({"epoch": epoch, "loss": loss})
        yield Progress(stage="training", done=epoch, total=training.epochs, unit="epochs", note=f"loss {loss:.4f}")


def _unseen_logits(
    x: Tensor, y: Tensor, data: TrainingSet, config: HeadConfig, training: TrainingConfig, repeats: int
) -> Generator[Progress, None, tuple[np.ndarray, np.ndarray, int]]:
    """What heads that did not see them say of clips: (R, N, K) float32, which were tested, (R, N) bool, and the number
    of folds. Yields Progress.

    Of embeddings (N, C, D) a layer is chosen anew in each fold, by that fold's training clips alone: else the figures
    would profit from the choice.
    """
    labels = data.labels
    folds = stratified_folds(labels, repeats, training.seed, data.groups)
    unseen = np.full((max(repeats, 1), len(labels), data.num_classes), np.nan, dtype=np.float32)
    tested = np.zeros(unseen.shape[:2], dtype=bool)
    for number, (train, test) in enumerate(folds):
        groups = None if data.groups is None else data.groups[train]
        features = x
        if data.layers:
            parts = x[train].unbind(dim=1)
            scores = [score(part, y[train], data.num_classes, config, training, groups, 1) for part in parts]
            features = x[:, best_layer(scores, groups)]
        head = fitted(features[train], y[train], data.num_classes, config, training, groups)
        repeat = number * repeats // len(folds)
        unseen[repeat, test], tested[repeat, test] = logits_of(head, features[test]), True
        yield Progress(stage="cross-validating", done=number + 1, total=len(folds), unit="folds")
    return unseen, tested, len(folds)


def _layer_scores(
    every: Tensor, y: Tensor, data: TrainingSet, config: HeadConfig, training: TrainingConfig, repeats: int
) -> Generator[Progress, None, list[Score | None]]:
    """How the recipe does on each layer of (N, C, D). Yields Progress."""
    scores: list[Score | None] = []
    for part in every.unbind(dim=1):
        scores.append(score(part, y, data.num_classes, config, training, data.groups, repeats))
        yield Progress(stage="choosing a layer", done=len(scores), total=len(data.layers), unit="layers")
    return scores


def _baseline_logits(data: TrainingSet, config: HeadConfig, training: TrainingConfig, device: str) -> np.ndarray:
    """What the same head says on log-mel statistics, (M, K).

    They are standardised by the clips to train on, since Adam's plain learning rate suits unit scale.
    """
    features, tested = _log_mel(data, device)
    labels = torch.tensor(data.labels, device=device)
    return logits_of(fitted(features, labels, data.num_classes, config, training, data.groups), tested)


def _log_mel(data: TrainingSet, device: str) -> tuple[Rows, Rows]:
    """Log-mel statistics to train on, (N, F), and of the clips held out, (M, F), standardised by those to train on."""
    assert data.log_mel is not None
    assert data.held_out_log_mel is not None
    if isinstance(data.embeddings, np.memmap):
        every, tested = _rows(data, data.log_mel, device), torch.tensor(data.held_out_log_mel, device=device)
        assert isinstance(every, Streamed)
        mean, scale = (moment.float() for moment in moments(every))
        return standardized(every, mean, scale + 1e-6), standardized(tested, mean, scale + 1e-6)
    mean, scale = data.log_mel.mean(axis=0), data.log_mel.std(axis=0) + 1e-6
    features, tested = (
        torch.tensor((each - mean) / scale, device=device) for each in (data.log_mel, data.held_out_log_mel)
    )
    return features, tested


def _cross_validation(
    labels: np.ndarray, unseen: np.ndarray, tested: np.ndarray, num_folds: int
) -> dict[str, Any] | None:
    """The record of a cross-validation: logits (R, N, K) of the clips that were tested (R, N); None without any.

    The interval is that of a single repeat: more repeats are the same clips again.
    """
    if not num_folds:
        return None
    right = (unseen.argmax(axis=2) == labels) & tested
    num_scored = int(tested[0].sum())
    score = right.sum().item() / tested.sum().item()
    return {
        "accuracy": score,
        "interval_95": list(wilson_interval(score, num_scored)),
        "folds": num_folds // len(unseen),
        "repeats": len(unseen),
        "num_clips": num_scored,
        "num_single_clip_classes": int((np.bincount(labels) == 1).sum()),
    }


def _calibrate(labels: np.ndarray, unseen: np.ndarray, tested: np.ndarray) -> dict[str, Any] | None:
    """The temperature of the head's logits, fitted on those of cross-validation; None where it tested too few clips."""
    num_examples = int(tested[0].sum())
    if num_examples < MIN_CALIBRATION_CLIPS or not np.isfinite(unseen[tested]).all():
        return None
    told = np.broadcast_to(labels, tested.shape)[tested]
    return {"temperature": fit_temperature(unseen[tested], told, num_examples), "num_clips": num_examples}
