"""The head: a linear layer trained on embeddings, and the figures that say what it learned.

Knows nothing of audio, encoders or Ray: embeddings and labels come in, weights and metrics go out.
"""

from __future__ import annotations

import io
from collections.abc import Generator, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from golem_ray.config import TrainingConfig
from golem_ray.metrics import fit_temperature, stratified_folds, wilson_interval
from golem_ray.progress import Progress
from golem_ray.training import TrainedHead, TrainingSet

REPORT_EVERY = 10
"""Epochs between two reports of the loss."""

MIN_CALIBRATION_CLIPS = 20
"""Fewest cross-validated clips that a temperature is fitted on."""


def new_head(in_features: int, num_classes: int, seed: int) -> nn.Linear:
    """A linear head, weights drawn on the CPU right after seeding: the same on every device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(in_features, num_classes)


def fit_epochs(
    head: nn.Module, embeddings: Tensor, labels: Tensor, training: TrainingConfig
) -> Iterator[tuple[int, float]]:
    """Fit the head in place by full-batch Adam on (N, D) float32 and (N,) int64; yields (epoch, loss) now and then.

    The loss is cross-entropy in nats, before the epoch's step; reported every 10 epochs and at the last.
    """
    optimizer = torch.optim.Adam(head.parameters(), lr=training.learning_rate)
    criterion = nn.CrossEntropyLoss()
    head.train()
    for epoch in range(1, training.epochs + 1):
        optimizer.zero_grad()
        loss = criterion(head(embeddings), labels)
        loss.backward()
        optimizer.step()
        if epoch % REPORT_EVERY == 0 or epoch == training.epochs:
            yield epoch, loss.item()


def accuracy(head: nn.Module, embeddings: Tensor, labels: Tensor) -> float:
    """Share of the clips whose highest logit is their label's."""
    with torch.inference_mode():
        return (head(embeddings).argmax(dim=1) == labels).float().mean().item()


def weights_file(head: nn.Module) -> bytes:
    """What torch.save writes of the head's state_dict, on the CPU; the same bytes for the same weights."""
    buffer = io.BytesIO()
    torch.save({name: tensor.cpu() for name, tensor in head.state_dict().items()}, buffer)
    return buffer.getvalue()


def train_head(
    data: TrainingSet, training: TrainingConfig, *, repeats: int, device: str = "cpu"
) -> Generator[Progress, None, TrainedHead]:
    """Train, cross-validate the same recipe, calibrate, and ask the head of the clips held out. Yields Progress."""
    x = torch.tensor(data.embeddings, device=device)
    y = torch.tensor(data.labels, device=device)
    labels, num_classes = data.labels, data.num_classes
    head = new_head(x.shape[1], num_classes, training.seed).to(device)
    history = []
    for epoch, loss in fit_epochs(head, x, y, training):
        history.append({"epoch": epoch, "loss": loss})
        yield Progress(stage="training", done=epoch, total=training.epochs, unit="epochs", note=f"loss {loss:.4f}")
    metrics: dict[str, Any] = {
        "final_loss": history[-1]["loss"],
        "training_accuracy": accuracy(head, x, y),
        "num_classes_with_clips": len(np.unique(labels)),
        "chance": 1 / len(np.unique(labels)),  # of who knows at least which classes there are
        "largest_class": float(np.bincount(labels).max() / len(labels)),
        "loss_history": history,
    }

    folds = stratified_folds(labels, repeats, training.seed, data.groups)
    unseen = np.full((max(repeats, 1), len(labels), num_classes), np.nan, dtype=np.float32)
    tested = np.zeros(unseen.shape[:2], dtype=bool)
    for number, (train, test) in enumerate(folds):
        fold_head = _fitted_head(x[train], y[train], num_classes, training)
        repeat = number * repeats // len(folds)
        unseen[repeat, test], tested[repeat, test] = _logits(fold_head, x[test]), True
        yield Progress(stage="cross-validating", done=number + 1, total=len(folds), unit="folds")
    metrics["cross_validation"] = _cross_validation(labels, unseen, tested, len(folds))
    metrics["calibration"] = _calibrate(labels, unseen, tested)

    held_out = baseline = None
    if data.held_out is not None:
        held_out = _logits(head, torch.tensor(data.held_out, device=device))
        baseline = _baseline_logits(data, training, device)
    return TrainedHead(
        weights=weights_file(head),
        metrics=metrics,
        unseen_logits=unseen[0],
        held_out_logits=held_out,
        baseline_logits=baseline,
    )


def _logits(head: nn.Module, embeddings: Tensor) -> np.ndarray:
    with torch.inference_mode():
        return head(embeddings).cpu().numpy()


def _baseline_logits(data: TrainingSet, training: TrainingConfig, device: str) -> np.ndarray:
    """What the same head says on log-mel statistics, (M, K).

    They are standardised by the clips to train on, since Adam's plain learning rate suits unit scale.
    """
    assert data.log_mel is not None
    assert data.held_out_log_mel is not None
    mean, scale = data.log_mel.mean(axis=0), data.log_mel.std(axis=0) + 1e-6
    features, tested = (
        torch.tensor((each - mean) / scale, device=device) for each in (data.log_mel, data.held_out_log_mel)
    )
    labels = torch.tensor(data.labels, device=device)
    return _logits(_fitted_head(features, labels, data.num_classes, training), tested)


def _fitted_head(embeddings: Tensor, labels: Tensor, num_classes: int, training: TrainingConfig) -> nn.Linear:
    head = new_head(embeddings.shape[1], num_classes, training.seed).to(embeddings.device)
    for _ in fit_epochs(head, embeddings, labels, training):
        pass
    return head


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
    num_clips = int(tested[0].sum())
    if num_clips < MIN_CALIBRATION_CLIPS or not np.isfinite(unseen[tested]).all():
        return None
    told = np.broadcast_to(labels, tested.shape)[tested]
    return {"temperature": fit_temperature(unseen[tested], told, num_clips), "num_clips": num_clips}
