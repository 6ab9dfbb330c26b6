"""What an encoder is, and what else decides an example's vector. Any modality."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from golem_ray.config import NOUNS, Noun


@dataclass(frozen=True, kw_only=True)
class EncoderInfo:
    """Which encoder, exactly: enough to load the same one elsewhere, and to notice that it is another."""

    name: str
    """Hub id or local folder, as configured."""
    path: str
    """What `from_pretrained` takes: the Hub id, or the folder's absolute path."""
    revision: str | None
    """Commit on the Hub."""
    sha256: str | None
    """Digest of a local folder's files; None for the Hub's, whose commit says it."""
    model_type: str
    embedding_size: int
    """Width of each layer."""
    num_layers: int
    """Blocks, each of which gives a layer."""
    exact_in_batches: bool
    """Whether an example's vector can be had in a batch as it is alone."""
    cached: bool
    """Whether only the local cache can be used, the Hub being out of reach."""
    traits: Any = None
    """What its modality alone knows of it."""


class Fitted(Protocol):
    """What gives the baseline's vector of an example, where that depends on the training examples."""

    sha256: str
    """Of the file that it is kept in; equal ones have the same."""

    @property
    def size(self) -> int:
        """Width of that vector."""

    def scores(self, counts: Any) -> np.ndarray:
        """What `Modality.terms` counts in N examples -> (N, size) float32; an example's do not depend on the others."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides an example's vector, besides the example, the libraries and the processor."""

    modality: str
    """Its name: one of `modality.MODALITIES`."""
    encoder: EncoderInfo
    precision: str = "float32"
    """float32, tf32, float16 or bfloat16: see model.precision."""
    window: float | None = None
    """Length of the windows that a longer example is split into, in its modality's unit of cost; None for none."""
    compiled: bool = False
    """Whether PyTorch compiles the encoder, which changes rounding."""
    layer: int | str = "last"
    """A number (0: what goes into the first block), last, mean, or all: every number, then last and mean."""
    pooling: str = "mean"
    """What is kept of a layer's frames: mean, mean+std or cls; mean+cls to choose from."""
    trimmed: bool = False
    """Whether what says nothing is left out at an example's ends."""
    reading: Any = None
    """What its modality alone knows of how an example is read."""
    joined: int = 0
    """Width of the baseline's vector behind the encoder's; 0 where it is not there."""
    fitted: Fitted | None = None
    """What gives the baseline's vector, where that depends on the training examples; known once these are fitted to."""

    @property
    def noun(self) -> Noun:
        """What messages call an example."""
        return NOUNS[self.modality]

    @property
    def layers(self) -> tuple[int | str, ...]:
        """Those whose vectors follow upon each other in an example's."""
        return (*range(self.encoder.num_layers), "last", "mean") if self.layer == "all" else (self.layer,)

    @property
    def parts(self) -> tuple[int, int, int]:
        """An example's vector as an array: layers, statistics over its frames, and the width of each."""
        return len(self.layers), len(self.pooling.split("+")), self.encoder.embedding_size

    @property
    def encoded_size(self) -> int:
        """Width of what the encoder gives."""
        return math.prod(self.parts)

    @property
    def vector_size(self) -> int:
        """Width of an example's vector: what the encoder gives, and the baseline's vector if it is joined."""
        return self.encoded_size + self.joined


def columns_of(recipe: Recipe, layer: int | str, pooling: str, joined: bool = False) -> tuple[tuple[int, int], ...]:
    """Where in the recipe's vectors those of one of its layers and of that pooling are: each start and stop.

    With `joined`, and the baseline's vector behind them.
    """
    _, _, width = recipe.parts
    kept, wanted = recipe.pooling.split("+"), pooling.split("+")
    start = (recipe.layers.index(layer) * len(kept) + kept.index(wanted[0])) * width
    assert kept[kept.index(wanted[0]) :][: len(wanted)] == wanted, f"{pooling} is not in one piece in {recipe.pooling}"
    columns = ((start, start + len(wanted) * width),)
    return (*columns, (recipe.encoded_size, recipe.vector_size)) if joined else columns


def part_of(vectors: np.ndarray, recipe: Recipe, layer: int | str, pooling: str, joined: bool = False) -> np.ndarray:
    """What embeddings (N, vector_size) would be of one of the recipe's layers, and of that pooling: (N, D) float32."""
    parts = [vectors[:, start:stop] for start, stop in columns_of(recipe, layer, pooling, joined)]
    return np.concatenate(parts, axis=1)
