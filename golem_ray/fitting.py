"""How a head is trained on embeddings, cross-validated and calibrated.

Knows nothing of audio, encoders or Ray: embeddings and labels come in, weights, logits and metrics go out.
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
from golem_ray.heads import new_head, weights_file
from golem_ray.metrics import fit_temperature, held_out, stratified_folds, wilson_interval
from golem_ray.progress import Progress
from golem_ray.training import TrainedHead, TrainingSet

REPORT_EVERY = 10
"""Epochs between two reports of the loss."""

MIN_CALIBRATION_CLIPS = 20
"""Fewest cross-validated clips that a temperature is fitted on."""

STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)
"""Values of scikit-learn's C that a logistic regression's is chosen from: the inverse of its regularisation."""

_NEVER = -100.0
"""Logit of a class that no clip was of, below those that were."""


def train_head(
    data: TrainingSet,
    training: TrainingConfig,
    *,
    config: HeadConfig | None = None,
    repeats: int,
    device: str = "cpu",
) -> Generator[Progress, None, TrainedHead]:
    """Train, cross-validate the same recipe, calibrate, and ask the head of the clips held out. Yields Progress."""
    config = config or HeadConfig()
    x = torch.tensor(data.embeddings, device=device)
    y = torch.tensor(data.labels, device=device)
    history = []
    steps = fit(x, y, data.num_classes, config, training, data.groups)
    while True:
        try:
            epoch, loss = next(steps)
        except StopIteration as end:
            head: nn.Module = end.value
            break
        history.append({"epoch": epoch, "loss": loss})
        yield Progress(stage="training", done=epoch, total=training.epochs, unit="epochs", note=f"loss {loss:.4f}")
    labels = data.labels
    metrics: dict[str, Any] = {
        "final_loss": history[-1]["loss"] if history else _loss(head, x, y),
        "training_accuracy": accuracy(head, x, y),
        "num_classes_with_clips": len(np.unique(labels)),
        "chance": 1 / len(np.unique(labels)),  # of who knows at least which classes there are
        "largest_class": float(np.bincount(labels).max() / len(labels)),
        "loss_history": history,
    }

    folds = stratified_folds(labels, repeats, training.seed, data.groups)
    unseen = np.full((max(repeats, 1), len(labels), data.num_classes), np.nan, dtype=np.float32)
    tested = np.zeros(unseen.shape[:2], dtype=bool)
    for number, (train, test) in enumerate(folds):
        groups = None if data.groups is None else data.groups[train]
        fold_head = fitted(x[train], y[train], data.num_classes, config, training, groups)
        repeat = number * repeats // len(folds)
        unseen[repeat, test], tested[repeat, test] = logits_of(fold_head, x[test]), True
        yield Progress(stage="cross-validating", done=number + 1, total=len(folds), unit="folds")
    metrics["cross_validation"] = _cross_validation(labels, unseen, tested, len(folds))
    metrics["calibration"] = _calibrate(labels, unseen, tested)

    held_out_logits = baseline = None
    if data.held_out is not None:
        held_out_logits = logits_of(head, torch.tensor(data.held_out, device=device))
        baseline = _baseline_logits(data, config, training, device)
    return TrainedHead(
        weights=weights_file(head),
        metrics=metrics,
        unseen_logits=unseen[0],
        held_out_logits=held_out_logits,
        baseline_logits=baseline,
    )


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
        head: nn.Module = _logistic(embeddings, labels, num_classes, training.seed, groups)
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
                validated = _loss(head, embeddings[kept], labels[kept])
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


def _logistic(x: Tensor, labels: Tensor, num_classes: int, seed: int, groups: np.ndarray | None) -> nn.Linear:
    """L2-regularised logistic regression on standardised embeddings, its strength by the log-loss over folds."""
    features, told = x.cpu().double().numpy(), labels.cpu().numpy()
    folds = stratified_folds(told, 1, seed, groups)
    losses = []
    for strength in STRENGTHS if folds else (1.0,):
        loss = 0.0
        for train, test in folds:
            weight, bias = _regression(features[train], told[train], num_classes, strength)
            logits = torch.from_numpy(features[test] @ weight.T + bias)
            loss += nn.functional.cross_entropy(logits, torch.from_numpy(told[test]), reduction="sum").item()
        losses.append(loss)
    weight, bias = _regression(features, told, num_classes, STRENGTHS[int(np.argmin(losses))] if folds else 1.0)
    head = nn.Linear(features.shape[1], num_classes)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
        head.bias.copy_(torch.from_numpy(bias))
    return head.to(x.device)


def _regression(
    features: np.ndarray, labels: np.ndarray, num_classes: int, strength: float
) -> tuple[np.ndarray, np.ndarray]:
    """Weights (K, D) and bias (K,) of scikit-learn's fit; a class that no clip is of is far below the others."""
    from sklearn.linear_model import LogisticRegression

    weight, bias = np.zeros((num_classes, features.shape[1])), np.full(num_classes, _NEVER)
    present = np.unique(labels)
    if len(present) == 1:
        bias[present] = 0.0
        return weight, bias
    model = LogisticRegression(C=strength, max_iter=1000).fit(features, labels)
    if len(present) == 2:  # one row, for the second class against the first
        weight[present], bias[present] = (
            np.stack([-model.coef_[0], model.coef_[0]]) / 2,
            np.array([-model.intercept_[0], model.intercept_[0]]) / 2,
        )
    else:
        weight[present], bias[present] = model.coef_, model.intercept_
    return weight, bias


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


def _loss(head: nn.Module, embeddings: Tensor, labels: Tensor) -> float:
    """Mean cross-entropy, in nats."""
    head.eval()
    with torch.inference_mode():
        return nn.functional.cross_entropy(head(embeddings), labels).item()


def _baseline_logits(data: TrainingSet, config: HeadConfig, training: TrainingConfig, device: str) -> np.ndarray:
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
    return logits_of(fitted(features, labels, data.num_classes, config, training, data.groups), tested)


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
