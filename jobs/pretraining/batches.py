"""Batches from the corpus: single words in several voices, and phrases, with their targets."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import torch

from pretraining.augment import augment, place
from pretraining.corpus import Clips

SAMPLE_RATE = 16_000


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


def word_batches(clips: Clips, num_words: int, words: int, voices: int, seed: int, step: int = 0) -> Iterator[Batch]:
    """Endless batches of `words` different words of about one length, each in `voices` clips."""
    rng = np.random.default_rng((seed, step))
    generator = torch.Generator().manual_seed(seed + step)
    lengths = np.diff(clips.ends, prepend=0)
    by_word = [np.flatnonzero(clips.words[:, 0] == word) for word in range(num_words)]
    typical = np.array([np.median(lengths[rows]) if len(rows) else np.inf for rows in by_word])
    order = np.argsort(typical)[: int(np.isfinite(typical).sum())]
    neighbourhood = 24 * words
    for now in count(step):
        first = int(rng.integers(-neighbourhood, len(order)))
        near = order[max(first, 0) : max(first, 0) + neighbourhood]
        chosen = rng.choice(near, min(words, len(near)), replace=False)
        rows = np.concatenate([rng.choice(by_word[word], voices) for word in chosen])
        longest = np.quantile(lengths[rows], 0.9) * rng.uniform(1.0, 1.25)
        waveforms = place([clips.clip(row) for row in rows], int(longest), rng)
        heard = augment(torch.from_numpy(waveforms), clean_share(now), generator)
        yield Batch(heard.numpy(), clips.words[rows])


def phrase_batches(clips: Clips, size: int, seed: int, step: int = 0) -> Iterator[Batch]:
    """Endless batches of phrases of about one length; a third are two phrases one after another."""
    rng = np.random.default_rng((seed, step))
    generator = torch.Generator().manual_seed(seed + step)
    lengths = np.diff(clips.ends, prepend=0)
    order = np.argsort(lengths)
    for now in count(step):
        first = int(rng.integers(len(order) - 40 * size))
        rows = rng.choice(order[first : first + 40 * size], size, replace=False)
        joined = [clips.clip(row) for row in rows]
        words = clips.words[rows]
        if rng.random() < 0.35:
            others = rng.choice(order[first : first + 40 * size], size, replace=False)
            gaps = [np.zeros(int(rng.integers(1600)), np.float32) for _ in others]
            parts = zip(joined, gaps, others, strict=True)
            joined = [np.concatenate([clip, gap, clips.clip(row)]) for clip, gap, row in parts]
            words = np.concatenate([words, clips.words[others]], axis=1)
        longest = max(len(clip) for clip in joined) * rng.uniform(0.95, 1.1)
        waveforms = place(joined, int(min(longest, 6 * SAMPLE_RATE)), rng)
        heard = augment(torch.from_numpy(waveforms), clean_share(now), generator)
        yield Batch(heard.numpy(), words)


def prefetched(items: Iterator[Any], ahead: int = 8) -> Iterator[Any]:
    """The same items, made in a process of their own while the ones before are used."""
    context = multiprocessing.get_context("fork")
    queue = context.Queue(ahead)
    context.Process(target=_fill, args=(items, queue), daemon=True).start()
    while True:
        yield queue.get()


def _fill(items: Iterator[Any], queue: Any) -> None:
    torch.set_num_threads(1)
    for item in items:
        queue.put(item)
