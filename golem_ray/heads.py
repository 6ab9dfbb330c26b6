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
from golem_ray.metrics import stratified_folds, wilson_interval
from golem_ray.progress import Progress

REPORT_EVERY = 10
"""Epochs between two reports of the loss."""


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
    embeddings: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    training: TrainingConfig,
    *,
    repeats: int,
    device: str = "cpu",
) -> Generator[Progress, None, tuple[bytes, dict[str, Any]]]:
    """Train on (N, D) float32 and (N,) int64, and cross-validate the same recipe.

    Yields Progress; returns the bytes of the .pth file and the metrics as plain JSON values.
    """
    x = torch.tensor(embeddings, device=device)
    y = torch.tensor(labels, device=device)
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

    folds = stratified_folds(labels, repeats, training.seed)
    correct = 0.0
    for number, (train, test) in enumerate(folds, start=1):
        fold_head = _fitted_head(x[train], y[train], num_classes, training)
        correct += accuracy(fold_head, x[test], y[test]) * len(test)
        yield Progress(stage="cross-validating", done=number, total=len(folds), unit="folds")
    metrics["cross_validation"] = _cross_validation(labels, folds, repeats, correct)
    return weights_file(head), metrics


def evaluate(weights: bytes, embeddings: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """How a saved head does on clips it was not trained on: (M, D) float32 and (M,) int64, M at least 1.

    A label beyond the head's classes counts as missed. The interval is Wilson's, of 95 %.
    """
    state = torch.load(io.BytesIO(weights), weights_only=True)
    head = nn.Linear(*reversed(state["weight"].shape))
    head.load_state_dict(state)
    score = accuracy(head, torch.from_numpy(embeddings), torch.from_numpy(labels))
    return {"accuracy": score, "interval_95": list(wilson_interval(score, len(labels))), "num_clips": len(labels)}


def evaluate_baseline(
    features: np.ndarray,
    labels: np.ndarray,
    tested_features: np.ndarray,
    tested_labels: np.ndarray,
    *,
    num_classes: int,
    training: TrainingConfig,
    device: str = "cpu",
) -> dict[str, Any]:
    """What the same head reaches on other features: (N, F), (N,), (M, F), (M,); as `evaluate` says it.

    The features are standardised by the clips to train on, since Adam's plain learning rate suits unit scale.
    """
    mean, scale = features.mean(axis=0), features.std(axis=0) + 1e-6
    head = _fitted_head(
        torch.tensor((features - mean) / scale, device=device),
        torch.tensor(labels, device=device),
        num_classes,
        training,
    )
    return evaluate(weights_file(head), (tested_features - mean) / scale, tested_labels)


def _fitted_head(embeddings: Tensor, labels: Tensor, num_classes: int, training: TrainingConfig) -> nn.Linear:
    head = new_head(embeddings.shape[1], num_classes, training.seed).to(embeddings.device)
    for _ in fit_epochs(head, embeddings, labels, training):
        pass
    return head


def _cross_validation(
    labels: np.ndarray, folds: list[tuple[np.ndarray, np.ndarray]], repeats: int, correct: float
) -> dict[str, Any] | None:
    """The record of a cross-validation; None where there was none. The interval is that of a single repeat."""
    if not folds:
        return None
    counts = np.bincount(labels)
    num_scored = int(counts[counts >= 2].sum())
    score = correct / (num_scored * repeats)
    return {
        "accuracy": score,
        "interval_95": list(wilson_interval(score, num_scored)),
        "folds": len(folds) // repeats,
        "repeats": repeats,
        "num_clips": num_scored,
        "num_single_clip_classes": int((counts == 1).sum()),
    }
