"""How well an encoder tells new words apart: the pretraining job's own yardstick, synthetic too.

Words that no objective has seen, a few clips of each, voices apart, a mild telephone line between.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from pretraining.corpus import NATURAL_VOICES, Clips
from pretraining.voices import to_rate


def validation_clips(clips: Clips, first_word: int, num_words: int = 40) -> list[tuple[Tensor, int, int]]:
    """(waveform (T,) normalised, word, voice) of held-out words in 8 kHz with a little noise."""
    rng = np.random.default_rng(1)
    first = clips.words[:, 0]
    rows = np.flatnonzero((first >= first_word) & (first < first_word + num_words))
    chosen = []
    for row in rows:
        wave = to_rate(to_rate(clips.clip(int(row)), 16_000, 8_000), 8_000, 16_000)
        wave = wave + rng.standard_normal(len(wave)) * wave.std() * 10 ** (-rng.uniform(8, 30) / 20)
        wave = (wave - wave.mean()) / (wave.std() + 1e-5)
        waveform = torch.from_numpy(wave.astype(np.float32))
        chosen.append((waveform, int(first[row]), int(clips.voices[row])))
    return chosen


@torch.inference_mode()
def pooled_by_layer(encoder: nn.Module, waveforms: list[Tensor]) -> np.ndarray:
    """Means over time after every layer, the input of the first one left out: -> (L, N, D)."""
    encoder.eval()
    device = next(encoder.parameters()).device
    rows = []
    for waveform in waveforms:
        states = encoder(waveform[None].to(device), output_hidden_states=True).hidden_states
        rows.append(torch.stack([state[0].mean(dim=0) for state in states[1:]]).float().cpu())
    return torch.stack(rows, dim=1).numpy()


def few_shot_accuracy(
    encoder: nn.Module, clips: list[tuple[Tensor, int, int]], shots: int = 5, draws: int = 2
) -> list[float]:
    """Accuracy by layer with one natural voice left out in turn and five clips of each word."""
    words = np.array([word for _, word, _ in clips])
    voices = np.array([voice for _, _, voice in clips])
    accuracies = []
    for layer in pooled_by_layer(encoder, [waveform for waveform, _, _ in clips]):
        scores = []
        for left_out in range(len(NATURAL_VOICES)):
            tested = voices == left_out
            for seed in range(draws):
                rng = np.random.default_rng(seed)
                trained = np.concatenate(
                    [
                        rng.choice(np.flatnonzero((words == word) & ~tested), shots, replace=False)
                        for word in np.unique(words)
                    ]
                )
                head = make_pipeline(StandardScaler(), NearestCentroid())
                head.fit(layer[trained], words[trained])
                scores.append(head.score(layer[tested], words[tested]))
        accuracies.append(float(np.mean(scores)))
    return accuracies
