"""Small training sets, and heads trained on them."""

import dataclasses

import numpy as np
import torch

from golem_ray.config import HeadConfig, TrainingConfig
from golem_ray.heads.examples import Examples
from golem_ray.heads.rounds import play_round
from golem_ray.heads.train_head import train_head
from golem_ray.heads.training_set import HeadCandidate, HeadSpec, TrainingSet

LAYERS = 4
"""Layers of `layered`, the first one the plain candidate."""


def blobs(num_classes: int, per_class: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(num_classes * per_class) % num_classes
    centres = 2 * rng.standard_normal((num_classes, width))
    return (centres[labels] + rng.standard_normal((len(labels), width))).astype(np.float32), labels


def layered(informative, num_examples=60, seed=0):
    """(N, 4 * 8) embeddings that are noise but for one layer, if any; labels of four classes."""
    rng = np.random.default_rng(seed)
    labels = np.arange(num_examples) % 4
    embeddings = rng.standard_normal((num_examples, LAYERS, 8)).astype(np.float32)
    if informative is not None:
        embeddings[:, informative] += 3 * rng.standard_normal((4, 8))[labels]
    return embeddings.reshape(num_examples, -1), labels


def by_layer(number=LAYERS, width=8, head=None):
    """A candidate for each layer of embeddings (N, number * width)."""
    starts = range(0, number * width, width)
    return tuple(HeadCandidate(columns=((start, start + width),), head=head or HeadConfig()) for start in starts)


def examples(embeddings, labels, groups=None):
    return Examples(torch.as_tensor(embeddings), torch.as_tensor(labels), groups)


def spec(num_classes, head=None, training=None):
    return HeadSpec(num_classes=num_classes, head=head or HeadConfig(), training=training or TrainingConfig())


def trained(
    embeddings, labels, num_classes, training=None, *, repeats=0, device="cpu", config=None, reject=None, **more
):
    """The progress and the result of train_head."""
    data, seen = TrainingSet(embeddings=embeddings, labels=labels, **more), []
    wanted = dataclasses.replace(spec(num_classes, config, training), reject=reject)
    result = train_head(data, wanted, repeats=repeats, device=device, report=seen.append)
    return seen, result


def played(embeddings, labels, repeats, *, epochs=10, groups=None):
    """The rounds of a linear head on (N, D)."""
    data, linear = TrainingSet(embeddings=embeddings, labels=labels, groups=groups), of_epochs(labels, epochs)
    return [play_round(data, linear, repeats, number) for number in range(repeats)]


def of_epochs(labels, epochs):
    """A linear head for these labels, trained for so many epochs."""
    return spec(int(labels.max()) + 1, training=TrainingConfig(epochs=epochs))
