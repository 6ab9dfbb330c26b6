"""Many heads fitted in one program, each on its own part of the same examples: what judging a head takes.

The results are those of `fit.fit` part by part, up to rounding. Two things differ: an example's outputs are dropped in
all parts alike, and logistic regressions stop before the minimum, well before where they are only ranked. Knows no
modality, encoder or Ray.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from golem_ray.data.folds import Folds
from golem_ray.heads.examples import Examples
from golem_ray.heads.fit import fit, logits_of, optimizer_of, penalized_less, seeded, standard_of
from golem_ray.heads.joined import joined
from golem_ray.heads.logistic import Part, regressions, unseen_of
from golem_ray.heads.modules import new_head
from golem_ray.heads.training_set import HeadSpec

_TOLERANCE = 1e-10
"""Of logistic regressions that are judged and not kept: their log-losses are exact to ten digits."""

_AT_ONCE = 1 << 24
"""Most numbers in one of the arrays that a batch of heads makes."""


class Unseen(NamedTuple):
    """What a head says of examples that it was not fitted on."""

    tested: np.ndarray
    """(M, K) float32: logits on a fold's test rows of the head fitted on its other rows; infinite, never NaN, where its
    training did not converge."""
    inner: np.ndarray
    """(R, N, K) float32: in each of R rounds of cross-validation of its N training rows, the logits on each of a head
    fitted on the other folds; NaN where untested."""


Done = Callable[[int], None]
"""Takes how many more folds are done."""


def unseen_logits(
    examples: Examples, folds: Folds, spec: HeadSpec, *, rounds: int = 0, done: Done = lambda number: None
) -> list[Unseen]:
    """What heads fitted as the spec says give on the test rows of each fold (train, test), and within its training rows
    in so many rounds of cross-validation. Where a fold has no test rows, only the latter is done.

    A logistic regression chooses its strength by those very rounds (by one, if there are none): the same fits serve
    for both. Where the baseline is joined, each fold has columns of its own.
    """
    if spec.joined:
        plain = dataclasses.replace(spec, joined=False)
        parts = ((joined(examples, train, spec), (train, test)) for train, test in folds)
        return [unseen_logits(own, [fold], plain, rounds=rounds, done=done)[0] for own, fold in parts]
    if spec.head.kind == "logistic":
        return list(_logistic(examples, folds, spec, rounds, done))
    nested = [inner_folds(examples, train, spec, rounds) for train, _ in folds]
    outer = [(train, test) for train, test in folds if len(test)]
    inner_parts = [
        (train[kept], train[test]) for (train, _), each in zip(folds, nested, strict=True) for kept, test in each
    ]
    found: list[np.ndarray] = []
    for batch in _batches([*outer, *inner_parts], examples, spec):
        found += _gradient(examples, batch, spec)
        done(len(batch))
    of_outer, of_inner, unseen = iter(found[: len(outer)]), iter(found[len(outer) :]), []
    nothing = np.zeros((0, spec.num_classes), dtype=np.float32)
    for (train, test), each in zip(folds, nested, strict=True):
        tested = next(of_outer) if len(test) else nothing
        inner = np.full((rounds, len(train), spec.num_classes), np.nan, dtype=np.float32)
        for number, (_, left) in enumerate(each):
            inner[number * rounds // len(each), left] = next(of_inner)
        unseen.append(Unseen(tested, inner))
    return unseen


def inner_folds(examples: Examples, rows: np.ndarray, spec: HeadSpec, rounds: int) -> Folds:
    """Folds of so many rounds of cross-validation of these rows, which they number from 0."""
    groups, extra = (None if each is None else each[rows] for each in (examples.groups, examples.extra))
    return spec.target.folds(examples.label_array()[rows], rounds, spec.training.seed, groups, extra)


def _logistic(examples: Examples, folds: Folds, spec: HeadSpec, rounds: int, done: Done) -> Iterator[Unseen]:
    embeddings = examples.embeddings
    assert isinstance(embeddings, Tensor)
    most = max(1, _AT_ONCE // (len(examples) * max(6 * spec.num_classes, *embeddings.shape)))
    for start in range(0, len(folds), most):
        batch = folds[start : start + most]
        standards = [penalized_less(standard_of(embeddings[train]), examples.num_joined) for train, _ in batch]
        parts = [
            Part(
                ((embeddings[train] - mean) / scale).double(),
                examples.labels[train],
                inner_folds(examples, train, spec, max(rounds, 1)),
                max(rounds, 1),
            )
            for (train, _), (mean, scale) in zip(batch, standards, strict=True)
        ]
        if not any(len(test) for _, test in batch):
            nothing = np.zeros((0, spec.num_classes), dtype=np.float32)
            for unseen in unseen_of(parts, spec.num_classes, spec.target):
                yield Unseen(nothing, unseen[:rounds])
            done(len(batch))
            continue
        fitted = regressions(parts, spec.num_classes, spec.target, _TOLERANCE)
        for (_, test), (mean, scale), found in zip(batch, standards, fitted, strict=True):
            tested = ((embeddings[test] - mean) / scale).double() @ found.weight.T + found.bias
            yield Unseen(tested.float().cpu().numpy(), found.unseen[:rounds])
        done(len(batch))


def _batches(parts: Folds, examples: Examples, spec: HeadSpec) -> Iterator[Folds]:
    """The parts in batches whose arrays fit into memory."""
    config, (num_rows, width) = spec.head, examples.embeddings.shape
    widths = (*config.hidden, spec.num_classes)
    most = max(1, _AT_ONCE // max(num_rows * max(widths), width * widths[0]))
    if spec.training.batch_size is not None or config.patience is not None or config.norm == "batch":
        most = 1  # each has an order, an end, or a mean over a step's examples of its own
    for start in range(0, len(parts), most):
        yield parts[start : start + most]


def _gradient(examples: Examples, parts: Folds, spec: HeadSpec) -> list[np.ndarray]:
    """The logits (M, K) of each part's test rows."""
    embeddings = examples.embeddings
    assert isinstance(embeddings, Tensor)
    if len(parts) == 1:
        ((train, test),) = parts
        return [_known(logits_of(fit(examples.take(train), spec), embeddings[test]))]
    trained = torch.zeros(len(parts), len(examples), dtype=torch.bool, device=embeddings.device)
    for number, (train, _) in enumerate(parts):
        trained[number, torch.from_numpy(train).to(embeddings.device)] = True
    heads = _Heads(embeddings, trained, spec)
    loss_of = spec.target.criteria(examples.labels, trained, spec.num_classes, spec.head)
    optimizer = optimizer_of(heads.parameters(), spec, fused=True)
    with seeded(spec.training.seed, embeddings.device, any(spec.head.dropouts)):
        for _ in range(spec.training.epochs):
            optimizer.zero_grad()
            loss_of(heads(embeddings)).sum().backward()
            optimizer.step()
    heads.eval()
    with torch.inference_mode():
        logits = _known(heads(embeddings).cpu().numpy())
    return [logits[number][:, test].T for number, (_, test) in enumerate(parts)]


def _known(logits: np.ndarray) -> np.ndarray:
    """The logits, with infinity for NaN."""
    return np.where(np.isnan(logits), np.float32(np.inf), logits)


class _Heads(nn.Module):
    """F heads as `new_head` makes one, each from the same first weights: (N, D) -> (F, K, N)."""

    def __init__(self, embeddings: Tensor, trained: Tensor, spec: HeadSpec) -> None:
        super().__init__()
        config, number = spec.head, len(trained)
        head = new_head(embeddings.shape[1], spec.num_classes, spec.training.seed, config)
        self.kinds = [module for module in head.modules() if not isinstance(module, nn.Sequential)]
        self.stacked = nn.ParameterList(
            parameter.detach().expand(number, *parameter.shape).clone()
            for module in self.kinds
            for parameter in module.parameters()
        ).to(embeddings.device)
        self.standards = _standards(embeddings, trained) if config.standardize else None

    def forward(self, embeddings: Tensor) -> Tensor:
        """Logits of all heads on all examples, which stand last throughout: the fastest order."""
        parameters, hidden = iter(self.stacked), embeddings
        for module in self.kinds:
            if isinstance(module, nn.Linear):
                weight, bias = next(parameters), next(parameters)
                if hidden.dim() == 2:
                    hidden = self._first(hidden, weight, bias)
                else:
                    hidden = torch.baddbmm(bias[..., None], weight, hidden)
            elif isinstance(module, nn.LayerNorm):
                weight, bias = next(parameters)[..., None], next(parameters)[..., None]
                centred = hidden - hidden.mean(dim=1, keepdim=True)
                spread = (centred.square().mean(dim=1, keepdim=True) + module.eps).rsqrt()
                hidden = centred * spread * weight + bias
            elif isinstance(module, nn.Dropout):
                if self.training:
                    hidden = hidden * functional.dropout(torch.ones_like(hidden[:1]), module.p)
            else:
                hidden = module(hidden)
        return hidden

    def _first(self, embeddings: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """(N, D), (F, O, D), (F, O) -> (F, O, N), of embeddings that each head standardises by its own part."""
        if self.standards is not None:
            middle, spread, mean, scale = self.standards
            embeddings = (embeddings - middle) / spread
            weight = weight / scale[:, None]
            bias = bias - (weight @ mean[:, :, None])[..., 0]
        flat = torch.addmm(bias.flatten()[:, None], weight.flatten(0, 1), embeddings.T)
        return flat.view(*bias.shape, len(embeddings))


def _standards(embeddings: Tensor, trained: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean and scale (D,) of all examples, and those of each part's, (F, D), once all are standardised by the first.

    In two steps, since the first takes the offsets away that the second's products would lose digits to.
    """
    middle, spread = standard_of(embeddings)
    centred = ((embeddings - middle) / spread).double()
    shares = trained.double() / trained.sum(dim=1, keepdim=True)
    mean = shares @ centred
    deviation = (shares @ centred.square() - mean.square()).clamp(min=0).sqrt()
    own_mean, own_deviation = mean * spread + middle, deviation * spread
    scale = torch.where(own_deviation > 1e-6 * (1 + own_mean.abs()), deviation, 1 / spread)
    return middle, spread, mean.float(), scale.float()
