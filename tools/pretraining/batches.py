"""Batches from the corpus: single words in several voices, and phrases, with their targets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch

from pretraining.augment import augment, place
from pretraining.corpus import Clips

SAMPLE_RATE = 16_000
NEIGHBOURS = 400
"""Words or phrases next to each other in length, of which a batch is drawn."""


@dataclass(frozen=True)
class Batch:
    """Clips of one length, so that nothing is padded."""

    waveforms: np.ndarray
    """(N, T) float32, normalised."""
    words: np.ndarray
    """(N, W) word numbers, -1 where a clip has fewer."""


def clean_share(step: int) -> float:
    """Most clips are clean in the beginning, so that the encoder finds a footing; few are later."""
    return max(0.15, 0.85 - 0.7 * step / 1500)


def word_batches(
    clips: Clips, num_words: int, seconds: float, voices: int, seed: int, step: int = 0
) -> Iterator[Batch]:
    """Endless batches of different words of about one length, each in `voices` clips, `seconds` in all."""
    rng = np.random.default_rng((seed, step))
    generator = torch.Generator().manual_seed(seed + step)
    lengths = np.diff(clips.ends, prepend=0)
    by_word = [np.flatnonzero(clips.words[:, 0] == word) for word in range(num_words)]
    typical = np.array([np.median(lengths[rows]) if len(rows) >= voices else np.inf for rows in by_word])
    order = np.argsort(typical)[: int(np.isfinite(typical).sum())]
    for now in count(step):
        first = int(rng.integers(-NEIGHBOURS, len(order) - 1))
        near = order[max(first, 0) : max(first, 0) + NEIGHBOURS]
        window = _window(np.quantile(typical[near], 0.9) * rng.uniform(1.0, 1.25))
        words = max(2, int(seconds * SAMPLE_RATE / (voices * window)))
        chosen = rng.choice(near, min(words, len(near)), replace=False)
        rows = np.concatenate([rng.choice(by_word[word], voices, replace=False) for word in chosen])
        waveforms = place([clips.clip(row) for row in rows], window, rng)
        heard = augment(torch.from_numpy(waveforms), clean_share(now), generator)
        yield Batch(heard.numpy(), clips.words[rows])


def phrase_batches(clips: Clips, seconds: float, seed: int, step: int = 0) -> Iterator[Batch]:
    """Endless batches of phrases of about one length, `seconds` in all."""
    rng = np.random.default_rng((seed, step))
    generator = torch.Generator().manual_seed(seed + step)
    lengths = np.diff(clips.ends, prepend=0)
    order = np.argsort(lengths)
    for now in count(step):
        first = int(rng.integers(len(order) - NEIGHBOURS))
        near = order[first : first + NEIGHBOURS]
        window = _window(min(lengths[near[-1]] * rng.uniform(0.95, 1.1), 6 * SAMPLE_RATE))
        rows = rng.choice(near, max(2, int(seconds * SAMPLE_RATE / window)), replace=False)
        waveforms = place([clips.clip(row) for row in rows], window, rng)
        heard = augment(torch.from_numpy(waveforms), clean_share(now), generator)
        yield Batch(heard.numpy(), clips.words[rows])


def _window(num_samples: float) -> int:
    """The nearest number of tenths of a second: Fourier transforms are slow for lengths with large factors."""
    return max(round(num_samples / 1600), 1) * 1600
