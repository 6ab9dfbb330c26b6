"""What a classifier says of examples. Knows not how it decides: a target (`heads/target.py`) does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What a classifier says of N examples, one class each, or any number of labels."""

    probabilities: np.ndarray
    """(N, K) float64."""
    decisions: np.ndarray
    """(N,) int64: the class that it takes each example for; (N, K) bool, the labels that it gives, where there may be
    several."""
    confidence: np.ndarray
    """(N,): that class's probability; where there may be several, that of the whole decision."""
    unsure: np.ndarray | None = None
    """(N,) bool: those that it had better not name; None if it was not trained to reject any."""

    def __len__(self) -> int:
        return len(self.decisions)

    def take(self, rows: np.ndarray) -> Answers:
        """Those of the rows, (M,)."""
        unsure = None if self.unsure is None else self.unsure[rows]
        return Answers(
            probabilities=self.probabilities[rows],
            decisions=self.decisions[rows],
            confidence=self.confidence[rows],
            unsure=unsure,
        )

    @property
    def num_classes(self) -> int:
        """How many classes the classifier knows."""
        return int(self.probabilities.shape[1])
