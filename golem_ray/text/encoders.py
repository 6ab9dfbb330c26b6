"""Frozen text encoders: numbers of tokens -> one vector a text, one by one or in batches; and one without training.

Which checkpoint that is inspect.py has found out; what is special to its family stands in families.py. Knows nothing of
Ray, labels or heads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from golem_ray.devices import tf32
from golem_ray.embedding.loading import DTYPES, compiled, load, pack, try_compiled
from golem_ray.embedding.pooling import BlockInputs, Stop, vectors
from golem_ray.embedding.recipe import Recipe
from golem_ray.text.exact_forward import token_frames, tokens_alone
from golem_ray.text.families import FAMILIES
from golem_ray.text.ngrams import hashed
from golem_ray.text.read import pad_number, truncated


class TextEncoder:
    """A frozen encoder on one device. A text's vector depends on that text alone, whatever runs beside it.

    With batch_tokens, texts of like lengths go in batches of at most so many padded tokens (a longer one by itself),
    and their vectors are those of one by one up to rounding. Without, one by one through the model's own forward pass:
    the reference. Raises ConfigError if the weights cannot be loaded, or if compiling fails.
    """

    def __init__(self, recipe: Recipe, device: str, *, batch_tokens: float | None = None) -> None:
        info = recipe.encoder
        family = FAMILIES[info.model_type]
        self.recipe = recipe
        self.device = device
        self.batch_cost = batch_tokens
        self.batch_fill: float | None = None
        self._stop = Stop()
        (model,) = load(info, (family.model_class(),), lambda key: not key.startswith("pooler."))
        self.model = model.to(device, DTYPES[recipe.precision])
        self._pad = pad_number(info)
        frames = tokens_alone if batch_tokens is None and not recipe.compiled else token_frames
        seen = BlockInputs()
        if recipe.layer != "last":
            seen.watch(family.blocks(self.model), recipe.layer)

        def forward(model: Any, numbers: Tensor, lengths: Tensor) -> Tensor:
            return vectors(frames, model, numbers, lengths, recipe.layer, recipe.pooling, seen)

        self._forward: Callable[[Any, Tensor, Tensor], Tensor] = forward
        if recipe.compiled:
            self._forward = compiled(forward)
            usual = np.full(24, self._pad + 1, dtype=np.int32)
            number = 1 if batch_tokens is None else max(2, int(batch_tokens / 24))
            try_compiled(lambda: self.embed([usual] * number))
            return
        for module in self.model.modules():
            module.register_forward_pre_hook(self._stop.check)

    def stop(self) -> None:
        """End calls of other threads within a layer, by a KeyboardInterrupt."""
        self._stop.set()

    def embed(self, texts: Sequence[np.ndarray]) -> np.ndarray:
        """A text's vector, by the recipe: N arrays (T,) as `read.tokens_of` gives them -> (N, encoded_size) float32."""
        embeddings = np.zeros((len(texts), self.recipe.encoded_size), dtype=np.float32)
        if not len(texts):
            return embeddings
        kept = [truncated(text, self.recipe) for text in texts]
        lengths = [len(text) for text in kept]
        batches = [[row] for row in range(len(kept))]
        if self.batch_cost is not None:
            batches = pack(lengths, self.batch_cost)
            self.batch_fill = sum(lengths) / (len(batches) * self.batch_cost)
        with torch.inference_mode():
            found = [self._embed([kept[row] for row in batch]) for batch in batches]
            for batch, vectors_of_batch in zip(batches, found, strict=True):
                embeddings[batch] = vectors_of_batch.cpu().numpy()
        return embeddings

    def _embed(self, texts: list[np.ndarray]) -> Tensor:
        """One batch: (N, D) on the device, so that nothing waits before all are under way."""
        self._stop.check()
        lengths = torch.tensor([len(text) for text in texts])
        padded = np.full((len(texts), int(lengths.max())), self._pad, dtype=np.int64)
        for row, text in zip(padded, texts, strict=True):
            row[: len(text)] = text
        numbers = torch.from_numpy(padded)
        if self.device == "cuda":
            numbers, lengths = (each.pin_memory().to("cuda", non_blocking=True) for each in (numbers, lengths))
        with tf32(self.recipe.precision == "tf32") if self.device == "cuda" else nullcontext():
            return self._forward(self.model, numbers, lengths)


class NgramEncoder:
    """The encoder without training: hashed n-grams of characters and words. Its vectors need no device."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.batch_cost: float | None = None
        self.batch_fill: float | None = None
        self._stop = Stop()

    def stop(self) -> None:
        """End calls of other threads between two texts."""
        self._stop.set()

    def embed(self, texts: Sequence[np.ndarray]) -> np.ndarray:
        """N arrays (T,) of code points -> (N, encoded_size) float32."""
        self._stop.check()
        if not len(texts):
            return np.zeros((0, self.recipe.encoded_size), dtype=np.float32)
        return hashed([text.tobytes().decode("utf-32-le") for text in texts])
