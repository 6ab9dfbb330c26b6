"""How one head is fitted to embeddings and labels.

Knows nothing of audio, encoders or Ray, nor of how heads are judged.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from golem_ray.config import HeadConfig, TrainingConfig
from golem_ray.data.folds import held_out
from golem_ray.heads.logistic import logistic_regression
from golem_ray.heads.modules import new_head
from golem_ray.heads.rows import Rows, Streamed, batches, chunks, moments

REPORT_EVERY = 10
"""Epochs between two reports of the loss."""


def fit(
    embeddings: Rows,
    labels: Tensor,
    num_classes: int,
    config: HeadConfig,
    training: TrainingConfig,
    groups: np.ndarray | None = None,
) -> Generator[tuple[int, float], None, nn.Module]:
    """A head trained on (N, D) float32 and (N,) int64; yields (epoch, loss in nats) now and then, if it has epochs.

    What is fitted to standardise the embeddings is folded into the head, which takes them as they are. With groups,
    (N,) int, such as speakers, none is both trained on and used to decide on how to train. Embeddings that are not in
    memory give what they would in memory, to 1e-5, but for dropout, whose draws are made chunk by chunk.
    """
    standard = _standard(embeddings) if config.standardize or config.kind == "logistic" else None
    if standard is not None:
        embeddings = standardized(embeddings, *standard)
    if config.kind == "logistic":
        assert isinstance(embeddings, Tensor)
        head: nn.Module = logistic_regression(embeddings, labels, num_classes, training.seed, groups)
    else:
        head = new_head(embeddings.shape[1], num_classes, training.seed, config).to(embeddings.device)
        yield from fit_epochs(head, embeddings, labels, training, config, groups)
    if standard is not None:
        _fold_in(head, *standard)
    return head.eval()


def fitted(
    embeddings: Rows,
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
    embeddings: Rows,
    labels: Tensor,
    training: TrainingConfig,
    config: HeadConfig | None = None,
    groups: np.ndarray | None = None,
) -> Iterator[tuple[int, float]]:
    """Fit the head in place by Adam on (N, D) float32 and (N,) int64; yields (epoch, loss) now and then.

    An epoch is one step on all rows, or one for each batch of training.batch_size. The loss is cross-entropy in nats,
    before each step, their mean over the epoch; reported every 10 epochs and at the last. With patience, the weights
    are those of the epoch with the least loss on the validation part.
    """
    config = config or HeadConfig()
    kept = _validation_part(labels, training.seed, groups) if config.patience else None
    trained = embeddings, labels
    if kept is not None:
        assert isinstance(embeddings, Tensor)
        trained = embeddings[~kept], labels[~kept]
    optimizer = _optimizer(head, training, config)
    weights = _class_weights(trained[1], head, config)
    criterion = nn.CrossEntropyLoss(weight=weights, label_smoothing=config.label_smoothing)
    order = torch.Generator().manual_seed(training.seed)
    best: tuple[float, int, Any] = (float("inf"), 0, None)  # loss, epoch, weights
    with _seeded(training.seed, embeddings, bool(config.dropout)):
        for epoch in range(1, training.epochs + 1):
            loss = _epoch(head, *trained, optimizer, criterion, training.batch_size, order)
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


def _optimizer(head: nn.Module, training: TrainingConfig, config: HeadConfig) -> torch.optim.Optimizer:
    """Adam, or AdamW where weights decay."""
    if not config.weight_decay:
        return torch.optim.Adam(head.parameters(), lr=training.learning_rate)
    return torch.optim.AdamW(head.parameters(), lr=training.learning_rate, weight_decay=config.weight_decay)


def _epoch(
    head: nn.Module,
    embeddings: Rows,
    labels: Tensor,
    optimizer: torch.optim.Optimizer,
    criterion: nn.CrossEntropyLoss,
    batch_size: int | None,
    order: torch.Generator,
) -> Tensor:
    """Step by step over all rows; the mean loss before the steps, ()."""
    head.train()
    mean, seen = torch.zeros((), device=labels.device), 0.0
    for rows in batches(len(labels), batch_size, order):
        optimizer.zero_grad()
        loss, weight = _backward(head, embeddings, labels, rows, criterion)
        optimizer.step()
        seen += weight
        mean += (loss - mean) * (weight / seen)
    return mean


def _backward(
    head: nn.Module, embeddings: Rows, labels: Tensor, rows: Tensor | None, criterion: nn.CrossEntropyLoss
) -> tuple[Tensor, Any]:
    """Add up the gradients of the mean loss over the rows, chunk by chunk; that loss, (), and the rows' weight.

    A weighted mean of chunks' means is the mean over all only if chunks count by the weights of their clips. A single
    chunk counts as exactly one.
    """
    pieces = chunks(embeddings, rows)
    weights = [
        len(labels[piece]) if criterion.weight is None else criterion.weight[labels[piece]].sum() for piece in pieces
    ]
    mean, weight = torch.zeros((), device=labels.device), sum(weights)
    for piece, its_weight in zip(pieces, weights, strict=True):
        loss = criterion(head(embeddings[piece]), labels[piece]) * (its_weight / weight)
        loss.backward()
        mean += loss.detach()
    return mean, weight


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
def _seeded(seed: int, embeddings: Rows, active: bool) -> Iterator[None]:
    """Dropout's randomness from the seed, and the generators as they were afterwards."""
    if not active:
        yield
        return
    with torch.random.fork_rng(devices=[embeddings.device] if embeddings.device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _standard(embeddings: Rows) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each coordinate, (D,) each; 1 for one that is constant."""
    if isinstance(embeddings, Tensor):
        mean, scale = embeddings.mean(dim=0), embeddings.std(dim=0, correction=0)
    else:
        mean, scale = (moment.float() for moment in moments(embeddings))
    return mean, torch.where(scale > 1e-6 * (1 + mean.abs()), scale, 1.0)


def standardized(embeddings: Rows, mean: Tensor, scale: Tensor) -> Rows:
    """The embeddings less the mean, (D,), by the scale, (D,); those that are not in memory when they are taken."""
    if isinstance(embeddings, Streamed):
        return dataclasses.replace(embeddings, standards=(*embeddings.standards, (mean, scale)))
    return (embeddings - mean) / scale


def _fold_in(head: nn.Module, mean: Tensor, scale: Tensor) -> None:
    """Have the head's first layer take embeddings as they are, not standardised."""
    first = next(module for module in head.modules() if isinstance(module, nn.Linear))
    with torch.no_grad():
        weight = first.weight.double() / scale.double()
        first.bias.copy_((first.bias.double() - weight @ mean.double()).float())
        first.weight.copy_(weight.float())


def accuracy(head: nn.Module, embeddings: Rows, labels: Tensor) -> float:
    """Share of the clips whose highest logit is their label's."""
    return _mean(head, embeddings, labels, lambda logits, told: (logits.argmax(dim=1) == told).float().mean())


def log_loss(head: nn.Module, embeddings: Rows, labels: Tensor) -> float:
    """Mean cross-entropy, in nats."""
    return _mean(head, embeddings, labels, nn.functional.cross_entropy)


def _mean(head: nn.Module, embeddings: Rows, labels: Tensor, figure: Callable[[Tensor, Tensor], Tensor]) -> float:
    """The mean over all clips of a figure that is a mean over logits (M, K) and labels (M,)."""
    head.eval()
    mean = 0.0
    with torch.inference_mode():
        for piece in chunks(embeddings):
            told = labels[piece]
            mean += figure(head(embeddings[piece]), told).item() * (len(told) / len(labels))
    return mean


def logits_of(head: nn.Module, embeddings: Rows) -> np.ndarray:
    """(N, D) -> (N, K) float32, on the CPU."""
    head.eval()
    with torch.inference_mode():
        return np.concatenate([head(embeddings[piece]).cpu().numpy() for piece in chunks(embeddings)])
