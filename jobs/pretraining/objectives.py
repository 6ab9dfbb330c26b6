"""What the encoder is asked for: phonemes in order, and vectors that say which words were spoken.

The word objectives act on the mean of the last layer over time, the very vector that a linear head
gets later, standardised; the phonemes are read one layer below.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional


def phoneme_pairs(spelling: Tensor) -> tuple[Tensor, int]:
    """Each word's phonemes and pairs of neighbours as numbers from 1 up, and how many there are.

    spelling: (words, most phonemes), 0 as filling -> (words, most numbers), 0 as filling. The ends
    of a word pair with 0.
    """
    numbers: dict[tuple[int, ...], int] = {}
    rows = []
    for row in spelling.tolist():
        spoken = [phoneme for phoneme in row if phoneme]
        parts: list[tuple[int, ...]] = [(phoneme,) for phoneme in spoken]
        parts.extend(itertools.pairwise([0, *spoken, 0]))
        rows.append([numbers.setdefault(part, len(numbers) + 1) for part in parts])
    longest = max(len(row) for row in rows)
    return torch.tensor([row + [0] * (longest - len(row)) for row in rows]), len(numbers)


class Objectives(nn.Module):
    """The parts that are needed for training alone: word directions and the phoneme layer.

    A word's direction is the sum of its phonemes' and pairs' own vectors (multi-view acoustic word
    embeddings, He et al. 2017), so that what is learnt of one word holds for words never heard.
    """

    def __init__(self, width: int, spelling: Tensor) -> None:
        """For vectors of `width` and words spelt (words, most phonemes); 0 is CTC's blank."""
        super().__init__()
        parts, num_parts = phoneme_pairs(spelling)
        self.register_buffer("parts", parts)
        self.directions = nn.EmbeddingBag(num_parts + 1, width, mode="sum", padding_idx=0)
        nn.init.normal_(self.directions.weight, std=0.1)
        self.norm = nn.BatchNorm1d(width, affine=False)
        self.log_scale = nn.Parameter(torch.tensor(2.3))
        self.phonemes = nn.Linear(width, int(spelling.max()) + 1)

    def word_loss(self, pooled: Tensor, words: Tensor, log_prior: Tensor) -> Tensor:
        """Cross-entropy of cosines to one direction a word, averaged over a clip's words.

        pooled: (N, D); words: (N, W), -1 where a clip has fewer; log_prior: (words,), so that
        common words need no common direction. A phrase's vector is thereby drawn to the sum of its
        words' directions.
        """
        directions = functional.normalize(self.directions(self.parts), dim=1)
        cosines = functional.normalize(pooled, dim=1) @ directions.T
        log_probs = functional.log_softmax(cosines * self.log_scale.exp() + log_prior, dim=1)
        spoken = (words >= 0).float()
        picked = log_probs.gather(1, words.clamp(min=0)) * spoken
        return -(picked.sum(dim=1) / spoken.sum(dim=1)).mean()

    def phoneme_loss(self, frames: Tensor, words: Tensor, spelling: Tensor) -> Tensor:
        """CTC of the clips' phonemes: (N, T, D), (N, W), (words, most phonemes), 0 as filling."""
        log_probs = functional.log_softmax(self.phonemes(frames).float(), dim=2).transpose(0, 1)
        targets = [row[row > 0] for row in _spelled(words, spelling)]
        target_lengths = torch.tensor([len(target) for target in targets])
        input_lengths = torch.full((len(targets),), log_probs.shape[0])
        return functional.ctc_loss(log_probs, torch.cat(targets), input_lengths, target_lengths, zero_infinity=True)


def contrastive_loss(pooled: Tensor, words: Tensor, temperature: float = 0.1) -> Tensor:
    """Supervised contrastive loss (Khosla et al. 2020): (N, D), (N,) -> scalar."""
    vectors = functional.normalize(pooled, dim=1)
    itself = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    similarities = (vectors @ vectors.T / temperature).masked_fill(itself, -1e4)
    same = (words[:, None] == words[None, :]) & ~itself
    log_probs = functional.log_softmax(similarities, dim=1)
    return -((log_probs * same).sum(dim=1) / same.sum(dim=1).clamp(min=1)).mean()


def _spelled(words: Tensor, spelling: Tensor) -> Tensor:
    """Phonemes of each clip in order: (N, W) -> (N, W * most phonemes), zeros between."""
    spelled = spelling[words.clamp(min=0)] * (words >= 0)[:, :, None]
    return spelled.flatten(1)
