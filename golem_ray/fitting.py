"""How one head is fitted to embeddings and labels.

Knows nothing of audio, encoders or Ray, nor of how heads are judged.
"""

from __future__ import annotations

import copy
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from golem_ray.config import HeadConfig, TrainingConfig
from golem_ray.heads import new_head
from golem_ray.logistic import logistic_regression
from golem_ray.metrics import held_out

REPORT_EVERY = 10
"""Epochs between two reports of the loss."""


def fit(
    embeddings: Tensor,
    labels: Tensor,
    num_classes: int,
    config: HeadConfig,
    training: TrainingConfig,
    groups: np.ndarray | None = None,
) -> Generator[tuple[int, float], None, nn.Module]:
    """A head trained on (N, D) float32 and (N,) int64; yields (epoch, loss in nats) now and then, if it has epochs.

    What is fitted to standardise the embeddings is folded into the head, which takes them as they are. With groups,
    (N,) int, such as speakers, none is both trained on and used to decide on how to train.
    """
    standard = _standard(embeddings) if config.standardize or config.kind == "logistic" else None
    if standard is not None:
        embeddings = (embeddings - standard[0]) / standard[1]
    if config.kind == "logistic":
        head: nn.Module = logistic_regression(embeddings, labels, num_classes, training.seed, groups)
    else:
        head = new_head(embeddings.shape[1], num_classes, training.seed, config).to(embeddings.device)
        yield from fit_epochs(head, embeddings, labels, training, config, groups)
    if standard is not None:
        _fold_in(head, *standard)
    return head.eval()


def fitted(
    embeddings: Tensor,
    labels: Tensor,
    num_classes: int,
    config: HeadConfig,
    training: TrainingConfig,
    groups: np.ndarray | None = None,
) -> nn.Module:
    """What `fit` gives, without its reports."""
    steps = fit(embeddings, labels, num_classes, config, training, groups)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            head: nn.Module = end.value
            return head


def fit_epochs(
    head: nn.Module,
    embeddings: Tensor,
    labels: Tensor,
    training: TrainingConfig,
    config: HeadConfig | None = None,
    groups: np.ndarray | None = None,
) -> Iterator[tuple[int, float]]:
    """Fit the head in place by full-batch Adam on (N, D) float32 and (N,) int64; yields (epoch, loss) now and then.

    The loss is cross-entropy in nats, before the epoch's step; reported every 10 epochs and at the last. With
    patience, the weights are those of the epoch with the least loss on the validation part.
    """
    config = config or HeadConfig()
    kept = _validation_part(labels, training.seed, groups) if config.patience else None
    trained = embeddings, labels
    if kept is not None:
        trained = embeddings[~kept], labels[~kept]
    optimizer: torch.optim.Optimizer = torch.optim.Adam(head.parameters(), lr=training.learning_rate)
    if config.weight_decay:
        rate, decay = training.learning_rate, config.weight_decay
        optimizer = torch.optim.AdamW(head.parameters(), lr=rate, weight_decay=decay)
    weights = _class_weights(trained[1], head, config)
    criterion = nn.CrossEntropyLoss(weight=weights, label_smoothing=config.label_smoothing)
    best: tuple[float, int, Any] = (float("inf"), 0, None)  # loss, epoch, weights
    with _seeded(training.seed, embeddings, bool(config.dropout)):
        for epoch in range(1, training.epochs + 1):
            head.train()
            optimizer.zero_grad()
            loss = criterion(head(trained[0]), trained[1])
            loss.backward()
            optimizer.step()
            stop = False
            if kept is not None:
                validated = log_loss(head, embeddings[kept], labels[kept])
                if validated < best[0]:
                    best = validated, epoch, copy.deepcopy(head.state_dict())
                stop = epoch - best[1] >= (config.patience or 0)
            if epoch % REPORT_EVERY == 0 or epoch == training.epochs or stop:
                yield epoch, loss.item()
            if stop:
                break
    if best[2] is not None:
        head.load_state_dict(best[2])


def _validation_part(labels: Tensor, seed: int, groups: np.ndarray | None) -> Tensor | None:
    """(N,) bool: a fifth of the clips, stratified; None where there are too few to keep any."""
    told = labels.cpu().numpy()
    if groups is not None and len(np.unique(groups)) < 2:
        return None
    kept = held_out(told, max(1, len(told) // 5), seed, groups)
    return torch.from_numpy(kept).to(labels.device) if kept.any() else None


def _class_weights(labels: Tensor, head: nn.Module, config: HeadConfig) -> Tensor | None:
    """(K,): the mean class counts one, a class without clips nothing."""
    if not config.class_weights:
        return None
    outputs = [module for module in head.modules() if isinstance(module, nn.Linear)][-1].out_features
    counts = torch.bincount(labels, minlength=outputs).float()
    return torch.where(counts > 0, len(labels) / (counts.clamp(min=1) * (counts > 0).sum()), 0.0)


@contextmanager
def _seeded(seed: int, embeddings: Tensor, active: bool) -> Iterator[None]:
    """Dropout's randomness from the seed, and the generators as they were afterwards."""
    if not active:
        yield
        return
    with torch.random.fork_rng(devices=[embeddings.device] if embeddings.is_cuda else []):
        torch.manual_seed(seed)
        yield


def _standard(embeddings: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each coordinate, (D,) each; 1 for one that is constant."""
    mean, scale = embeddings.mean(dim=0), embeddings.std(dim=0, correction=0)
    return mean, torch.where(scale > 1e-6 * (1 + mean.abs()), scale, 1.0)


def _fold_in(head: nn.Module, mean: Tensor, scale: Tensor) -> None:
    """Have the head's first layer take embeddings as they are, not standardised."""
    first = next(module for module in head.modules() if isinstance(module, nn.Linear))
    with torch.no_grad():
        weight = first.weight.double() / scale.double()
        first.bias.copy_((first.bias.double() - weight @ mean.double()).float())
        first.weight.copy_(weight.float())


def accuracy(head: nn.Module, embeddings: Tensor, labels: Tensor) -> float:
    """Share of the clips whose highest logit is their label's."""
    head.eval()
    with torch.inference_mode():
        return (head(embeddings).argmax(dim=1) == labels).float().mean().item()


def logits_of(head: nn.Module, embeddings: Tensor) -> np.ndarray:
    """(N, D) -> (N, K) float32, on the CPU."""
    head.eval()
    with torch.inference_mode():
        return head(embeddings).cpu().numpy()


def log_loss(head: nn.Module, embeddings: Tensor, labels: Tensor) -> float:
    """Mean cross-entropy, in nats."""
    head.eval()
    with torch.inference_mode():
        return nn.functional.cross_entropy(head(embeddings), labels).item()
