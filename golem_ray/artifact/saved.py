"""An artifact in memory: its weights, its sidecar, and what it says of embeddings. Does not know where it lies."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from golem_ray.heads.reject import unsure
from golem_ray.heads.single_label import SINGLE_LABEL
from golem_ray.heads.target import Target
from golem_ray.heads.targets import TARGETS
from golem_ray.metrics.answers import Answers

if TYPE_CHECKING:
    from torch import nn

    from golem_ray.heads.terms import JoinedScores


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A saved classifier, checked."""

    place: str
    """Where its weights were found: a path, a URI, or a file of a Hub repository."""
    weights: bytes
    """The .pth file."""
    sidecar: bytes
    """The .json file."""
    joined: JoinedScores | None = None
    """What gives the logits that are appended to its encoder's vectors, where the baseline on terms is joined."""
    head: nn.Module
    document: dict[str, Any]
    """What the sidecar says."""
    from_hub: str | None = None
    """The Hub repository that it was fetched from."""

    @property
    def labels(self) -> list[str]:
        """The classes, in the order of the logits."""
        return list(self.document["labels"])

    @property
    def modality(self) -> str:
        """Name of the modality of its examples."""
        return str(self.document.get("modality", "speech"))

    @property
    def target(self) -> Target:
        """What a label is to it."""
        return TARGETS[self.document.get("target", SINGLE_LABEL.name)]

    @cached_property
    def _exact_head(self) -> nn.Module:
        """The head in float64: what it says of a vector then does not depend on which vectors are beside it."""
        return copy.deepcopy(self.head).double()

    def logits(self, embeddings: np.ndarray) -> np.ndarray:
        """(N, D) float32 -> (N, K) float32."""
        import torch

        with torch.inference_mode():
            return self._exact_head(torch.tensor(embeddings, dtype=torch.float64)).float().numpy()

    def probabilities(self, embeddings: np.ndarray) -> np.ndarray:
        """(N, D) float32 -> (N, K) float64, calibrated where the artifact is."""
        return self.target.probabilities(self.logits(embeddings), self.document["metrics"].get("calibration"))

    def unsure(self, embeddings: np.ndarray, probabilities: np.ndarray) -> np.ndarray | None:
        """What it rejects of embeddings (N, D) with probabilities (N, K): (N,) bool; None if it rejects nothing."""
        record = self.document["metrics"].get("reject")
        return record and unsure(record, self.answers(probabilities), embeddings)

    def answers(self, probabilities: np.ndarray) -> Answers:
        """Probabilities (N, K) with the decisions that they lead to."""
        return self.target.answers(probabilities, self.document["metrics"].get("calibration"))
