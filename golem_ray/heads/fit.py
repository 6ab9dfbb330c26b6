"""How one head is fitted to examples. Knows no modality, encoder or Ray, nor how heads are judged."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from golem_ray.data.folds import groups_among, with_extra
from golem_ray.heads.examples import Examples
from golem_ray.heads.logistic import LogisticHead, Part, regressions
from golem_ray.heads.modules import new_head
from golem_ray.heads.rows import Rows, Streamed, batches, chunks, moments
from golem_ray.heads.target import Criterion
from golem_ray.heads.training_set import HeadSpec

REPORT_EVERY = 10
"""Epochs between two reports of the loss."""

JOINED_SPREAD = 4.0
"""Standard deviation of joined columns in a logistic regression, where others have 1. They are few, and each says much:
with 1 the penalty that suits a thousand other columns leaves little of them. Chosen on izard's texts, with 50 to 2,713
to train on and 2,240 to test on, where more was no better (benchmarks/RESULTS.md)."""

OnEpoch = Callable[[int, float], None]
"""Takes an epoch's number, from 1, and its loss in nats."""


def fit(examples: Examples, spec: HeadSpec, on_epoch: OnEpoch | None = None) -> nn.Module:
    """A head trained on the examples; it takes embeddings as they are, not standardised. Reports every ten epochs.

    A logistic head has no epochs. No group is both trained on and used to decide when to stop. Embeddings that are not
    in memory give the same head to 1e-5, except with dropout, which is then drawn chunk by chunk, and with batches'
    means, which are then the chunks'.
    """
    config = spec.head
    standard = standard_of(examples.embeddings) if config.standardize or config.kind == "logistic" else None
    if standard is not None and config.kind == "logistic":
        standard = penalized_less(standard, examples.num_joined)
    if standard is not None:
        examples = dataclasses.replace(examples, embeddings=standardized(examples.embeddings, *standard))
    if config.kind == "logistic":
        head: nn.Module = _logistic_regression(examples, spec)
    else:
        width, device = examples.embeddings.shape[1], examples.embeddings.device
        head = new_head(width, spec.num_classes, spec.training.seed, config).to(device)
        fit_epochs(head, examples, spec, on_epoch)
    if standard is not None:
        _fold_in(head, *standard)
    return head.eval()


def _logistic_regression(examples: Examples, spec: HeadSpec) -> LogisticHead:
    """L2-regularised logistic regression on standardised embeddings (N, D), its strength by the log-loss over folds."""
    x, target = examples.embeddings, spec.target
    assert isinstance(x, Tensor)
    folds = target.folds(examples.label_array(), 1, spec.training.seed, examples.groups, examples.extra)
    (found,) = regressions([Part(x.double(), examples.labels, folds)], spec.num_classes, target)
    head = LogisticHead(x.shape[1], spec.num_classes, device=x.device)
    head.C = found.C
    with torch.no_grad():
        head.weight.copy_(found.weight)
        head.bias.copy_(found.bias)
    return head


def fit_epochs(head: nn.Module, examples: Examples, spec: HeadSpec, on_epoch: OnEpoch | None = None) -> None:
    """Fit the head in place by Adam; reports every ten epochs and the last one.

    An epoch is one step on all examples, or one for each batch of training.batch_size. The reported loss is the mean
    over the epoch, each step's taken before the step. With patience, the weights are those of the epoch with the least
    loss on the validation part.
    """
    config, training, validation = spec.head, spec.training, None
    parts = _validation_parts(examples, spec) if config.patience else None
    if parts is not None:
        examples, validation = (examples.take(rows) for rows in parts)
    optimizer = optimizer_of(head.parameters(), spec)
    criterion = spec.target.criterion(examples.labels, spec.num_classes, config)
    order = torch.Generator().manual_seed(training.seed)
    best: tuple[float, int, Any] = (float("inf"), 0, None)  # loss, epoch, weights
    with seeded(training.seed, examples.embeddings.device, any(config.dropouts)):
        for epoch in range(1, training.epochs + 1):
            steps = batches(len(examples), training.batch_size, order)
            loss = _epoch(head, examples, steps, optimizer, criterion)
            stop = False
            if validation is not None:
                validated = log_loss(head, validation, spec)
                if validated < best[0]:
                    best = validated, epoch, copy.deepcopy(head.state_dict())
                stop = epoch - best[1] >= (config.patience or 0)
            if on_epoch and (epoch % REPORT_EVERY == 0 or epoch == training.epochs or stop):
                on_epoch(epoch, loss.item())
            if stop:
                break
    if best[2] is not None:
        head.load_state_dict(best[2])


def optimizer_of(
    parameters: Iterable[nn.Parameter], spec: HeadSpec, *, fused: bool | None = None
) -> torch.optim.Optimizer:
    """The configured one, by default Adam, or AdamW where weights decay; `fused`, which is faster, rounds otherwise."""
    rate, decay, kind = spec.training.learning_rate, spec.head.weight_decay, spec.training.optimizer
    if kind == "sgd":
        return torch.optim.SGD(parameters, lr=rate, momentum=0.9, weight_decay=decay, fused=fused)
    if kind == "adam" or (kind is None and not decay):
        return torch.optim.Adam(parameters, lr=rate, weight_decay=decay, fused=fused)
    return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, fused=fused)


def _epoch(
    head: nn.Module,
    examples: Examples,
    steps: Iterator[Tensor | None],
    optimizer: torch.optim.Optimizer,
    criterion: Criterion,
) -> Tensor:
    """Train on the rows of each step; the mean loss, (), each step's taken before the step."""
    head.train()
    mean, seen = torch.zeros((), device=examples.labels.device), 0.0
    for rows in steps:
        optimizer.zero_grad()
        loss, weight = _backward(head, examples, rows, criterion)
        optimizer.step()
        seen += weight
        mean += (loss - mean) * (weight / seen)
    return mean


def _backward(head: nn.Module, examples: Examples, rows: Tensor | None, criterion: Criterion) -> tuple[Tensor, Any]:
    """Add up the gradients of the mean loss over the rows, chunk by chunk; that loss, (), and the rows' weight.

    A weighted mean of chunks' means is the mean over all only if each chunk counts by the weights of its examples. A
    single chunk counts as exactly one.
    """
    embeddings, labels = examples.embeddings, examples.labels
    pieces = chunks(embeddings, rows)
    weights = [criterion.weight(labels[piece]) for piece in pieces]
    mean, weight = torch.zeros((), device=labels.device), sum(weights)
    for piece, its_weight in zip(pieces, weights, strict=True):
        loss = criterion.loss(head(embeddings[piece]), labels[piece]) * (its_weight / weight)
        loss.backward()
        mean += loss.detach()
    return mean, weight


def _validation_parts(examples: Examples, spec: HeadSpec) -> tuple[np.ndarray, np.ndarray] | None:
    """Rows to train on and rows to decide by when to stop: a fifth, stratified; None for too few examples or groups.

    Extra examples are not among that fifth: what stops the training is like what will be tested.
    """
    labels, groups, extra = examples.label_array(), examples.groups, examples.extra
    rows = np.arange(len(labels)) if extra is None else np.flatnonzero(~extra)
    own = groups if extra is None else groups_among(rows, groups)
    if own is not None and len(np.unique(own)) < 2:
        return None
    kept = spec.target.held_out(labels[rows], max(1, len(rows) // 5), spec.training.seed, own)
    if not kept.any():
        return None
    train, held = rows[~kept], rows[kept]
    return (train if extra is None else with_extra(train, held, groups, extra)), held


@contextmanager
def seeded(seed: int, device: torch.device, active: bool) -> Iterator[None]:
    """If active, dropout draws from the seed, and afterwards the generators are as they were before."""
    if not active:
        yield
        return
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def standard_of(embeddings: Rows) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each coordinate, (D,) each; 1 for one that is constant."""
    if isinstance(embeddings, Tensor):
        mean, scale = embeddings.mean(dim=0), embeddings.std(dim=0, correction=0)
    else:
        mean, scale = (moment.float() for moment in moments(embeddings))
    return mean, torch.where(scale > 1e-6 * (1 + mean.abs()), scale, 1.0)


def penalized_less(standard: tuple[Tensor, Tensor], num_joined: int) -> tuple[Tensor, Tensor]:
    """The same with smaller scales of the last columns, which a regression's penalty then holds down less."""
    mean, scale = standard
    return mean, torch.cat([scale[: len(scale) - num_joined], scale[len(scale) - num_joined :] / JOINED_SPREAD])


def standardized(embeddings: Rows, mean: Tensor, scale: Tensor) -> Rows:
    """The embeddings less the mean, (D,), divided by the scale, (D,); streamed ones when they are read."""
    if isinstance(embeddings, Streamed):
        return dataclasses.replace(embeddings, standards=(*embeddings.standards, (mean, scale)))
    return (embeddings - mean) / scale


def _fold_in(head: nn.Module, mean: Tensor, scale: Tensor) -> None:
    """Change the head's first layer so that it takes embeddings as they are, not standardised."""
    first = next(module for module in head.modules() if isinstance(module, nn.Linear))
    with torch.no_grad():
        weight = first.weight.double() / scale.double()
        first.bias.copy_((first.bias.double() - weight @ mean.double()).float())
        first.weight.copy_(weight.float())


def accuracy(head: nn.Module, examples: Examples, spec: HeadSpec) -> float:
    """Share of the examples on which the head decides as their labels say."""
    return _mean(head, examples, lambda logits, labels: spec.target.right(logits, labels).float().mean())


def log_loss(head: nn.Module, examples: Examples, spec: HeadSpec) -> float:
    """Mean log-loss, in nats."""
    return _mean(head, examples, lambda logits, labels: spec.target.losses(logits, labels, "mean"))


def _mean(head: nn.Module, examples: Examples, figure: Callable[[Tensor, Tensor], Tensor]) -> float:
    """The mean over all examples of a figure that is a mean over logits (M, K) and labels (M,)."""
    head.eval()
    mean = 0.0
    with torch.inference_mode():
        for piece in chunks(examples.embeddings):
            labels = examples.labels[piece]
            mean += figure(head(examples.embeddings[piece]), labels).item() * (len(labels) / len(examples))
    return mean


def logits_of(head: nn.Module, embeddings: Rows) -> np.ndarray:
    """(N, D) -> (N, K) float32, on the CPU."""
    head.eval()
    with torch.inference_mode():
        return np.concatenate([head(embeddings[piece]).cpu().numpy() for piece in chunks(embeddings)])
