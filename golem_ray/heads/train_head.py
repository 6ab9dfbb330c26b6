"""Train a head, cross-validate and calibrate it, and apply it to the examples held out.

Knows no modality, encoder or Ray: embeddings and labels come in, weights, logits and metrics go out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from golem_ray.data.several import counts_of
from golem_ray.errors import ConfigError
from golem_ray.heads.baselines import baseline_of
from golem_ray.heads.cross_validate import (
    Report,
    Rounds,
    calibrated,
    growth,
    halved,
    is_in_doubt,
    rounds_of,
    unseen_by,
    validation_metrics,
)
from golem_ray.heads.examples import Examples
from golem_ray.heads.fit import accuracy, fit, log_loss, logits_of
from golem_ray.heads.joined import Counted, folds_of, joined, joined_scores
from golem_ray.heads.logistic import LogisticHead
from golem_ray.heads.many import inner_folds
from golem_ray.heads.modules import weights_file
from golem_ray.heads.reject import by_distance, by_precision, unsure
from golem_ray.heads.rows import Rows, Streamed
from golem_ray.heads.select import choose, some_of
from golem_ray.heads.terms import JoinedScores
from golem_ray.heads.training_set import Columns, HeadCandidate, HeadSpec, TrainedHead, TrainingSet
from golem_ray.progress import Progress


def _ignore(progress: Progress) -> None:
    """Report to nobody."""


def train_head(
    data: TrainingSet, spec: HeadSpec, *, repeats: int, device: str = "cpu", report: Report = _ignore
) -> TrainedHead:
    """Train a head, cross-validate as many times as `repeats` says, calibrate, and apply the head to what is held out.

    `report` is called with the Progress now and then. Embeddings that do not fit in memory are taken chunk by chunk,
    and cross-validated on a sample (`data.labels.check_streamed` says what cannot be done with them). Raises
    ConfigError if the baseline is to be joined and there are no two folds to fit it in.
    """
    labels, terms = torch.tensor(data.labels, device=device), None if data.terms is None else Counted(data.terms)
    every = Examples(_rows(data, data.embeddings, device), labels, data.groups, data.extra, terms)
    whole = HeadCandidate(columns=((0, data.embeddings.shape[1]),), head=spec.head, joined=spec.joined)
    candidates = data.candidates or (whole,)
    rounds = rounds_of(every, spec, repeats, candidates)
    chosen = [0] * (1 + len(rounds.folds))
    metrics: dict[str, Any] = {}
    if data.candidates:
        sets = [np.arange(len(every)), *(train for train, _ in rounds.folds)]
        choices = choose(every, candidates, spec, sets, report)
        chosen = [choice.number for choice in choices]
        metrics["candidates"] = choices[0].records()
    final, spec = candidates[chosen[0]], spec.of(candidates[chosen[0]])
    beside = _joined_scores(data, every, spec) if final.joined else None
    examples = _as_taken(every, final, np.arange(len(every)), spec)
    head, history = _trained(examples, spec, report)
    metrics |= _training_metrics(head, examples, spec, history)
    unseen = unseen_by(rounds, candidates, chosen[1:], spec, report)
    baseline = baseline_of(data, rounds, spec, device)
    plain = None if baseline is None else baseline.unseen
    validation, said = validation_metrics(rounds, unseen, spec, nested=bool(data.candidates), baseline=plain)
    metrics |= validation
    if spec.reject is not None:
        metrics["reject"] = _rejection(rounds, unseen, [candidates[each] for each in chosen], spec, metrics)
    if is_in_doubt(metrics):
        half = halved(rounds, spec)
        few = unseen_by(half, candidates, chosen[1 : 1 + len(half.folds)], spec, _ignore)
        metrics["cross_validation"]["growth"] = {
            "encoder": growth(rounds, unseen, few, spec),
            "baseline": growth(rounds, plain, baseline.fewer(half), spec) if baseline and plain is not None else None,
        }
    tested, logits, rejected = _held_out(data, final, beside), None, None
    if tested is not None:
        logits = logits_of(head, torch.tensor(tested, device=device))
        if spec.reject is not None:
            answers = spec.target.answers(spec.target.probabilities(logits, metrics["calibration"]))
            rejected = unsure(metrics["reject"], answers, tested)
    return TrainedHead(
        weights=weights_file(head),
        joined=None if beside is None else beside.content,
        metrics=metrics,
        chosen=chosen[0] if data.candidates else None,
        unseen_logits=unseen[0],
        unseen_answers=said if data.labels.ndim == 2 else None,
        unseen_rows=rounds.rows,
        held_out_logits=logits,
        held_out_unsure=rejected,
        baseline_logits=baseline.held_out() if baseline and tested is not None else None,
        baseline_calibration=None if plain is None else calibrated(plain, rounds.examples.label_array(), spec),
        drawn=_of_columns(_drawn(data), final.columns),
    )


def _joined_scores(data: TrainingSet, examples: Examples, spec: HeadSpec) -> JoinedScores:
    """What gives the logits that are appended. Raises ConfigError where there are no folds to give the training's."""
    if not folds_of(examples, np.arange(len(examples)), spec):
        raise ConfigError(
            "model.join_baseline: expected a label with two examples, of two groups where there are groups, so that "
            "the baseline can score each by a fit to others, found none; take more examples, or set it to false."
        )
    return joined_scores(data.terms, data.labels, spec)


def _as_taken(examples: Examples, candidate: HeadCandidate, rows: np.ndarray, spec: HeadSpec) -> Examples:
    """The examples as the candidate's head takes them that trains on the rows, (M,) int."""
    taken = examples.of_columns(candidate.columns)
    return joined(taken, rows, spec) if candidate.joined else taken


def _held_out(data: TrainingSet, candidate: HeadCandidate, beside: JoinedScores | None) -> np.ndarray | None:
    """What the candidate's head takes of the examples held out, (M, D) float32; None without any."""
    if data.held_out is None:
        return None
    taken = _of_columns(data.held_out, candidate.columns)
    return taken if beside is None else np.concatenate([taken, beside.scores(data.held_out_terms)], axis=1)


def _rejection(
    rounds: Rounds, unseen: np.ndarray, candidates: Sequence[HeadCandidate], spec: HeadSpec, metrics: dict[str, Any]
) -> dict[str, Any]:
    """The record of what is not named: see reject.py. `candidates` are the final one and that of each fold.

    Distances are of what the final head takes alone.
    """
    examples, labels = rounds.examples, rounds.examples.label_array()

    def embeddings(fold: int | None) -> np.ndarray:
        rows = np.arange(len(examples)) if fold is None else rounds.folds[fold][0]
        taken = _as_taken(examples, candidates[0 if fold is None else 1 + fold], rows, spec).embeddings
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
