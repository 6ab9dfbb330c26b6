"""What the encoder is asked for: phonemes and words in order, and vectors that say which words.

The last of these act on the mean of the last layer over time, the very vector that a linear head
gets later, standardised; words in order are read one layer below, phonemes two.
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


def bag_codes(parts: Tensor, num_parts: int, width: int) -> Tensor:
    """A fixed vector of length 1 for each word: (words, most numbers), 0 as filling -> (words, width).

    The sum of its phonemes' and pairs' own random vectors, whitened over the vocabulary, so that the
    words of a phrase can be recovered from the sum of their codes: vectors that are learnt along with the
    encoder fall into a few dimensions.
    """
    parts = parts.cpu()
    counts = torch.zeros(len(parts), num_parts + 1).scatter_add_(1, parts, (parts > 0).float())
    sums = counts @ torch.randn(num_parts + 1, width, generator=torch.Generator().manual_seed(0))
    sums = sums - sums.mean(dim=0)
    variances, axes = torch.linalg.eigh(sums.T @ sums / len(sums))
    return functional.normalize(sums @ axes / (variances + 1e-3 * variances.max()).sqrt(), dim=1)


class Objectives(nn.Module):
    """The parts that are needed for training alone: word directions and codes, phoneme and word layers.

    A word's direction is the sum of its phonemes' and pairs' own learnt vectors (multi-view acoustic
    word embeddings, He et al. 2017), so that what is learnt of one word holds for words never heard.
    """

    parts: Tensor
    codes: Tensor

    def __init__(self, width: int, spelling: Tensor) -> None:
        """For vectors of `width` and words spelt (words, most phonemes); 0 is CTC's blank."""
        super().__init__()
        parts, num_parts = phoneme_pairs(spelling)
        self.register_buffer("parts", parts)
        self.register_buffer("codes", bag_codes(parts, num_parts, width))
        self.directions = nn.EmbeddingBag(num_parts + 1, width, mode="sum", padding_idx=0)
        nn.init.normal_(self.directions.weight, std=0.1)
        self.norm = nn.BatchNorm1d(width, affine=False)
        self.log_scale = nn.Parameter(torch.tensor(2.3))
        self.log_bag_scale = nn.Parameter(torch.tensor(1.6))
        self.phonemes = nn.Linear(width, int(spelling.max()) + 1)
        self.frame_words = nn.Linear(width, width)
        self.frame_blank = nn.Linear(width, 1)
        self.bag = nn.Linear(width, width)

    def word_directions(self) -> Tensor:
        """(words, D), of length 1."""
        return functional.normalize(self.directions(self.parts), dim=1)

    def word_loss(
        self, pooled: Tensor, words: Tensor, directions: Tensor, log_prior: Tensor, margin: float = 0.15
    ) -> Tensor:
        """Cross-entropy of cosines to one direction a word, of clips of a single word.

        pooled: (N, D); words: (N,); directions: (words, D); log_prior: (words,). The right word has
        to win by a margin (additive margin softmax, Wang et al. 2018).
        """
        cosines = functional.normalize(pooled, dim=1) @ directions.T
        cosines = cosines - margin * functional.one_hot(words, cosines.shape[1])
        return functional.cross_entropy(cosines * self.log_scale.exp() + log_prior, words)

    def bag_loss(self, pooled: Tensor, words: Tensor, log_prior: Tensor) -> Tensor:
        """Cross-entropy of which words a phrase has, averaged over its words.

        pooled: (N, D); words: (N, W), -1 where a phrase has fewer; log_prior: (words,), so that common
        words need no common code. A linear map of the phrase's vector is thereby drawn to the sum of
        its W words' codes, with cosines of about 1 / sqrt(W): the scale makes up for it.
        """
        spoken = (words >= 0).float()
        count = spoken.sum(dim=1, keepdim=True)
        cosines = functional.normalize(self.bag(pooled), dim=1) @ self.codes.T
        log_probs = functional.log_softmax(cosines * self.log_bag_scale.exp() * count.sqrt() + log_prior, dim=1)
        picked = log_probs.gather(1, words.clamp(min=0)) * spoken
        return -(picked.sum(dim=1) / count[:, 0]).mean()

    def order_loss(self, frames: Tensor, words: Tensor, directions: Tensor, log_prior: Tensor) -> Tensor:
        """CTC of a phrase's words in order: frames (N, T, D), the rest as for the other losses."""
        vectors = functional.normalize(self.frame_words(frames), dim=2)
        with torch.autocast(frames.device.type, torch.bfloat16):
            cosines = vectors @ directions.T
        logits = cosines.float() * self.log_scale.exp() * 2.0 + log_prior
        log_probs = functional.log_softmax(torch.cat([self.frame_blank(frames), logits], dim=2), dim=2)
        targets = [row[row >= 0] + 1 for row in words]
        return _ctc(log_probs, targets)

    def phoneme_loss(self, frames: Tensor, words: Tensor, spelling: Tensor) -> Tensor:
        """CTC of the clips' phonemes: (N, T, D), (N, W), (words, most phonemes), 0 as filling."""
        log_probs = functional.log_softmax(self.phonemes(frames), dim=2)
        return _ctc(log_probs, [row[row > 0] for row in _spelled(words, spelling)])


def contrastive_loss(pooled: Tensor, words: Tensor, temperature: float = 0.1) -> Tensor:
    """Supervised contrastive loss (Khosla et al. 2020): (N, D), (N,) -> scalar."""
    vectors = functional.normalize(pooled, dim=1)
    itself = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    similarities = (vectors @ vectors.T / temperature).masked_fill(itself, -1e4)
    same = (words[:, None] == words[None, :]) & ~itself
    log_probs = functional.log_softmax(similarities, dim=1)
    return -((log_probs * same).sum(dim=1) / same.sum(dim=1).clamp(min=1)).mean()


def _ctc(log_probs: Tensor, targets: list[Tensor]) -> Tensor:
    """CTC, 0 being the blank: (N, T, symbols) and N targets without it."""
    target_lengths = torch.tensor([len(target) for target in targets])
    input_lengths = torch.full((len(targets),), log_probs.shape[1])
    return functional.ctc_loss(
        log_probs.transpose(0, 1), torch.cat(targets), input_lengths, target_lengths, zero_infinity=True
    )


def _spelled(words: Tensor, spelling: Tensor) -> Tensor:
    """Phonemes of each clip in order: (N, W) -> (N, W * most phonemes), zeros between."""
    spelled = spelling[words.clamp(min=0)] * (words >= 0)[:, :, None]
    return spelled.flatten(1)
