"""Train a head, cross-validate and calibrate it, and apply it to the examples held out.

Knows no modality, encoder or Ray: embeddings and labels come in, weights, logits and metrics go out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from golem_ray.data.several import counts_of
from golem_ray.heads.cross_validate import (
    Report,
    Rounds,
    calibrated,
    growth,
    halved,
    is_in_doubt,
    rounds_of,
    unseen_by,
    unseen_on_baseline,
    validation_metrics,
)
from golem_ray.heads.examples import Examples
from golem_ray.heads.fit import accuracy, fit, log_loss, logits_of, standardized
from golem_ray.heads.logistic import LogisticHead
from golem_ray.heads.many import inner_folds
from golem_ray.heads.modules import weights_file
from golem_ray.heads.reject import by_distance, by_precision, unsure
from golem_ray.heads.rows import Rows, Streamed, moments
from golem_ray.heads.select import choose, some_of
from golem_ray.heads.terms import fitted, halved_terms, validated
from golem_ray.heads.training_set import Columns, HeadCandidate, HeadSpec, TrainedHead, TrainingSet
from golem_ray.progress import Progress


def _ignore(progress: Progress) -> None:
    """Report to nobody."""


def train_head(
    data: TrainingSet, spec: HeadSpec, *, repeats: int, device: str = "cpu", report: Report = _ignore
) -> TrainedHead:
    """Train a head, cross-validate as many times as `repeats` says, calibrate, and apply the head to what is held out.

    `report` is called with the Progress now and then. Embeddings that do not fit in memory are taken chunk by chunk,
    and cross-validated on a sample (`data.labels.check_streamed` says what cannot be done with them).
    """
    labels = torch.tensor(data.labels, device=device)
    every = Examples(_rows(data, data.embeddings, device), labels, data.groups, data.extra)
    rounds = rounds_of(every, spec, repeats)
    whole = (HeadCandidate(columns=((0, data.embeddings.shape[1]),), head=spec.head),)
    candidates, chosen = data.candidates or whole, [0] * (1 + len(rounds.folds))
    metrics: dict[str, Any] = {}
    if data.candidates:
        sets = [np.arange(len(every)), *(train for train, _ in rounds.folds)]
        choices = choose(every, candidates, spec, sets, report)
        chosen = [choice.number for choice in choices]
        metrics["candidates"] = choices[0].records()
    columns = candidates[chosen[0]].columns
    examples, spec = every.of_columns(columns), dataclasses.replace(spec, head=candidates[chosen[0]].head)
    head, history = _trained(examples, spec, report)
    metrics |= _training_metrics(head, examples, spec, history)
    unseen = unseen_by(rounds, candidates, chosen[1:], spec, report)
    plain = strength = None
    if data.terms is not None:
        found = validated(data.terms, rounds, spec)
        plain, strength = found.logits if rounds.folds else None, found.strength
    elif data.baseline is not None and rounds.folds:
        plain = unseen_on_baseline(rounds, data.baseline, spec)
    validation, said = validation_metrics(rounds, unseen, spec, nested=bool(data.candidates), baseline=plain)
    metrics |= validation
    if spec.reject is not None:
        metrics["reject"] = _rejection(rounds, unseen, [candidates[each].columns for each in chosen], spec, metrics)
    if is_in_doubt(metrics):
        half = halved(rounds, spec)
        few = unseen_by(half, candidates, chosen[1 : 1 + len(half.folds)], spec, _ignore)
        few_plain = None
        if data.terms is not None and strength is not None:
            few_plain = halved_terms(half, data.terms, spec, strength)
        elif data.baseline is not None:
            few_plain = unseen_on_baseline(half, data.baseline, spec)
        metrics["cross_validation"]["growth"] = {
            "encoder": growth(rounds, unseen, few, spec),
            "baseline": None if plain is None or few_plain is None else growth(rounds, plain, few_plain, spec),
        }

    plain_calibration = None if plain is None else calibrated(plain, rounds.examples.label_array(), spec)
    held_out_logits = baseline = rejected = None
    if data.held_out is not None:
        held_out = _of_columns(data.held_out, columns)
        held_out_logits = logits_of(head, torch.tensor(held_out, device=device))
        if spec.reject is not None:
            answers = spec.target.answers(spec.target.probabilities(held_out_logits, metrics["calibration"]))
            rejected = unsure(metrics["reject"], answers, held_out)
        if strength is not None:
            baseline = fitted(data.terms, data.labels, data.held_out_terms, strength, spec)
        elif data.baseline is not None:
            baseline = _baseline_logits(data, spec, device)
    return TrainedHead(
        weights=weights_file(head),
        metrics=metrics,
        chosen=chosen[0] if data.candidates else None,
        unseen_logits=unseen[0],
        unseen_answers=said if data.labels.ndim == 2 else None,
        unseen_rows=rounds.rows,
        held_out_logits=held_out_logits,
        held_out_unsure=rejected,
        baseline_logits=baseline,
        baseline_calibration=plain_calibration,
        drawn=_of_columns(_drawn(data), columns),
    )


def _rejection(
    rounds: Rounds, unseen: np.ndarray, columns: Sequence[Columns], spec: HeadSpec, metrics: dict[str, Any]
) -> dict[str, Any]:
    """The record of what is not named: see reject.py. `columns` are those of the final head and of each fold's.

    Distances are of those of the final head alone.
    """
    examples, labels = rounds.examples, rounds.examples.label_array()

    def embeddings(fold: int | None) -> np.ndarray:
        taken = examples.of_columns(columns[0 if fold is None else 1 + fold]).embeddings
        assert isinstance(taken, torch.Tensor)
        return taken.cpu().numpy()

    if spec.reject != "unlike":
        assert isinstance(spec.reject, float)
        return by_precision(
            spec.reject, unseen, labels, examples.groups, rounds.folds, embeddings, spec.target, metrics["calibration"]
        )
    rows = some_of(np.arange(len(examples)), spec)
    folds = [(rows[train], rows[test]) for train, test in inner_folds(examples, rows, spec, 1)]
    return by_distance(embeddings(None), labels, examples.groups, folds, spec.training.seed)


def _rows(data: TrainingSet, values: np.ndarray, device: str) -> Rows:
    """Vectors of the examples to train on: on the device, unless the embeddings are not in memory."""
    if isinstance(data.embeddings, np.memmap):
        return Streamed(values, torch.device(device))
    return torch.tensor(values, device=device)


def _drawn(data: TrainingSet) -> np.ndarray:
    """The embeddings of `data.drawn`, (P, D)."""
    num_trained = len(data.labels)
    trained = data.embeddings[data.drawn[data.drawn < num_trained]]
    if data.held_out is None:
        return trained
    return np.concatenate([trained, data.held_out[data.drawn[data.drawn >= num_trained] - num_trained]])


def _of_columns(embeddings: np.ndarray, columns: Columns) -> np.ndarray:
    """(M, D), the chosen columns of embeddings."""
    return np.concatenate([np.asarray(embeddings)[:, start:stop] for start, stop in columns], axis=1)


def _training_metrics(
    head: nn.Module, examples: Examples, spec: HeadSpec, history: list[dict[str, Any]]
) -> dict[str, Any]:
    """The figures of training itself, with what guessing would give.

    Guessing is of the examples that are tested somewhere, or would be: what it gives stands beside their accuracy.
    """
    labels = examples.label_array()
    own = labels if examples.extra is None else labels[~examples.extra]
    strength = {"logistic": {"C": head.C}} if isinstance(head, LogisticHead) else {}  # scikit-learn's name of it
    return strength | {
        "final_loss": history[-1]["loss"] if history else log_loss(head, examples, spec),
        "training_accuracy": accuracy(head, examples, spec),
        "num_classes_with_clips": int((counts_of(labels, spec.num_classes) > 0).sum()),
        **spec.target.guesses(own),
        "loss_history": history,
    }


def _trained(examples: Examples, spec: HeadSpec, report: Report) -> tuple[nn.Module, list[dict[str, Any]]]:
    """The head, and its loss by epoch."""
    history: list[dict[str, Any]] = []
    epochs = spec.training.epochs

    def on_epoch(epoch: int, loss: float) -> None:
        history.append({"epoch": epoch, "loss": loss})
        report(Progress(stage="training", done=epoch, total=epochs, unit="epochs", note=f"loss {loss:.4f}"))

    return fit(examples, spec, on_epoch), history


def _baseline_logits(data: TrainingSet, spec: HeadSpec, device: str) -> np.ndarray:
    """Logits (M, K) of the same head, trained on the baseline's vectors.

    The vectors are standardised by the examples to train on, since Adam's plain learning rate suits unit scale.
    """
    vectors, tested = _baseline_vectors(data, device)
    examples = Examples(vectors, torch.tensor(data.labels, device=device), data.groups, data.extra)
    return logits_of(fit(examples, spec), tested)


def _baseline_vectors(data: TrainingSet, device: str) -> tuple[Rows, Rows]:
    """The baseline's vectors to train on, (N, F), and of the examples held out, (M, F), standardised by the first."""
    assert data.baseline is not None
    assert data.held_out_baseline is not None
    if isinstance(data.embeddings, np.memmap):
        every, tested = _rows(data, data.baseline, device), torch.tensor(data.held_out_baseline, device=device)
        assert isinstance(every, Streamed)
        mean, scale = (moment.float() for moment in moments(every))
        return standardized(every, mean, scale + 1e-6), standardized(tested, mean, scale + 1e-6)
    mean, scale = data.baseline.mean(axis=0), data.baseline.std(axis=0) + 1e-6
    vectors, tested = (
        torch.tensor((each - mean) / scale, device=device) for each in (data.baseline, data.held_out_baseline)
    )
    return vectors, tested
