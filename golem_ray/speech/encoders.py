"""Frozen speech encoders: waveforms -> one vector a clip, in float32 or less, one by one or in batches.

Which checkpoint that is inspect.py has found out; what is special to its family stands in families.py, what is computed
in exact_forward.py. Knows nothing of Ray, labels or heads.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from transformers import AutoFeatureExtractor, AutoModel

from golem_ray.devices import tf32
from golem_ray.embedding.loading import DTYPES, compiled, load, pack, try_compiled
from golem_ray.embedding.pooling import BlockInputs, Stop, vectors
from golem_ray.embedding.recipe import Recipe
from golem_ray.errors import ConfigError
from golem_ray.speech.families import FAMILIES, WHOLE_S, WINDOW_S
from golem_ray.speech.inspect import traits_of
from golem_ray.speech.windows import Window, split

log = logging.getLogger(__name__)

_PREPARED_AHEAD = 2
"""Batches made ready while the device works on one."""

T = TypeVar("T")
R = TypeVar("R")


class SpeechEncoder:
    """A frozen encoder on one device. A clip's vector depends on that clip alone, whatever runs beside it.

    With batch_seconds, clips of like lengths go in batches of at most so many padded seconds (a longer one by
    itself), and their vectors are those of one by one up to rounding. Without, one by one through the model's own
    forward pass: the reference. A compiled pass takes a minute or so to compile first.

    Raises ConfigError if the weights cannot be loaded, if the encoder is not exact in batches, or if compiling fails.
    """

    def __init__(self, recipe: Recipe, device: str, *, batch_seconds: float | None = None) -> None:
        info, traits = recipe.encoder, traits_of(recipe)
        if batch_seconds is not None and not info.exact_in_batches:
            raise ConfigError(f"cluster.batch_seconds: expected an encoder that is exact in batches, not {info.name}.")
        self.family = FAMILIES[info.model_type]
        self.preprocessor, model = load(
            info,
            (AutoFeatureExtractor, AutoModel),
            lambda key: key != "masked_spec_embed" and key.startswith(self.family.weights_prefix),
        )
        self.recipe = recipe
        self.device = device
        self.batch_cost = batch_seconds
        self.batch_fill: float | None = None  # of the last call's batches, the share of batch_cost that was audio
        self._copies = torch.cuda.Stream() if device == "cuda" else None
        self._dtype = DTYPES[recipe.precision]
        self._rate = traits.sampling_rate
        self._window = _shorter(recipe.window, traits.window_s)
        self._padded_s = traits.window_s
        self._said = False
        self._stop = Stop()
        self.model = self.family.encoder(model).to(device, self._dtype)
        frames = self.family.frames(batch_seconds is not None or (recipe.compiled and info.exact_in_batches))
        seen = BlockInputs()
        if recipe.layer != "last":
            seen.watch(self.family.blocks(self.model), recipe.layer)

        def forward(model: Any, inputs: Tensor, lengths: Tensor) -> Tensor:
            return vectors(frames, model, inputs, lengths, recipe.layer, recipe.pooling, seen)

        self._forward: Callable[[Any, Tensor, Tensor], Tensor] = forward
        if recipe.compiled:
            self._forward = compiled(forward)
            noise = np.random.default_rng(0).standard_normal(8 * self._rate).astype(np.float32)
            num_clips = 1 if batch_seconds is None else max(2, int(batch_seconds / 8))
            try_compiled(lambda: self.embed([noise] * num_clips))
            return
        for module in self.model.modules():
            module.register_forward_pre_hook(self._stop.check)

    def stop(self) -> None:
        """End calls of other threads within a layer, by a KeyboardInterrupt: a pass may take minutes."""
        self._stop.set()

    def embed(self, waveforms: Sequence[np.ndarray]) -> np.ndarray:
        """A clip's vector, by the recipe: N arrays (T,) float32 at the encoder's rate -> (N, encoded_size) float32.

        Where clips are split into windows, it is over the frames of all of a clip's windows.
        """
        windows = [window for row, wave in enumerate(waveforms) for window in self._windows(row, len(wave))]
        embeddings = np.zeros((len(waveforms), self.recipe.encoded_size), dtype=np.float32)
        if not windows:
            return embeddings
        order = self._batches(windows)
        if self.batch_cost is not None:
            seconds = sum(window.stop - window.start for window in windows) / self._rate
            self.batch_fill = seconds / (len(order) * self.batch_cost)
        scales: dict[int, tuple[np.float32, np.float32]] = {}

        def prepare(batch: list[int]) -> tuple[Tensor, Tensor]:
            return self._collate([self._samples(waveforms, windows[index], scales) for index in batch])

        results = []
        with torch.inference_mode():
            for inputs, lengths in self._prepared(prepare, order):
                self._stop.check()
                if self._copies is not None:
                    torch.cuda.current_stream().wait_stream(self._copies)
                    inputs.record_stream(torch.cuda.current_stream())
                    lengths.record_stream(torch.cuda.current_stream())
                with tf32(self.recipe.precision == "tf32") if self.device == "cuda" else nullcontext():
                    results.append(self._forward(self.model, inputs, lengths))
            found = torch.cat(results).cpu().numpy()
        parts: dict[int, list[tuple[np.ndarray, int]]] = {}
        for index, vector in zip((index for batch in order for index in batch), found, strict=True):
            window = windows[index]
            parts.setdefault(window.row, []).append(
                (vector, self.family.num_frames(self.model, self.preprocessor, window.stop - window.start))
            )
        for row, pieces in parts.items():
            embeddings[row] = pieces[0][0] if len(pieces) == 1 else self._joined(*zip(*pieces, strict=True))
        return embeddings

    def _joined(self, pieces: Sequence[np.ndarray], num_frames: Sequence[int]) -> np.ndarray:
        """The vector (D,) over the frames of all windows, from each window's."""
        weights = np.array(num_frames, dtype=np.float64)
        if self.recipe.pooling == "mean":
            return weights @ np.stack(pieces) / weights.sum()
        moments = np.stack(pieces).astype(np.float64).reshape(len(pieces), *self.recipe.parts)
        share, mean, std = weights / weights.sum(), moments[:, :, 0], moments[:, :, 1]
        whole = np.tensordot(share, mean, 1)
        variance = np.tensordot(share, std**2 + (mean - whole) ** 2, 1)
        return np.stack([whole, np.sqrt(variance)], axis=1).reshape(-1)

    def _windows(self, row: int, length: int) -> list[Window]:
        """A clip's windows, in order."""
        seconds = length / self._rate
        if self._window is None and seconds <= WHOLE_S:
            return [Window(row, 0, length)]
        if self._window is None and not self._said:
            self._said = True
            log.info("a clip of %.0f s goes in windows of %.0f s: see processing.max_seconds", seconds, WINDOW_S)
        size = round((self._window or WINDOW_S) * self._rate)
        return split(row, length, size, self.family.shortest_s * self._rate)

    def _batches(self, windows: list[Window]) -> list[list[int]]:
        """Indices of windows in batches."""
        if self.batch_cost is None:
            return [[index] for index in range(len(windows))]
        seconds = [self._padded_s or (window.stop - window.start) / self._rate for window in windows]
        return pack(seconds, self.batch_cost)

    def _samples(
        self, waveforms: Sequence[np.ndarray], window: Window, scales: dict[int, tuple[np.float32, np.float32]]
    ) -> np.ndarray:
        """A window's samples, with the whole clip at zero mean and unit variance where the encoder wants that.

        Clip by clip and by the very arithmetic of the Wav2Vec2 feature extractor: of a constant clip only the
        rounding error is left, which a norm behind it can blow up.
        """
        waveform = waveforms[window.row]
        samples = waveform[window.start : window.stop]
        if not self.family.normalizes(self.preprocessor):
            return samples
        if window.row not in scales:
            scales[window.row] = waveform.mean(), np.sqrt(waveform.var() + 1e-7)
        mean, scale = scales[window.row]
        return (samples - mean) / scale

    def _collate(self, samples: list[np.ndarray]) -> tuple[Tensor, Tensor]:
        """The model's inputs and each row's own length, on the device."""
        inputs, lengths = self.family.collate(self.preprocessor, samples, pinned=self._copies is not None)
        if self._copies is None:
            return inputs.to(self._dtype), lengths
        with torch.cuda.stream(self._copies):  # beside the stream that computes; pinned, so that nobody waits
            inputs = inputs.pin_memory().to(self.device, non_blocking=True).to(self._dtype)
            return inputs, lengths.pin_memory().to(self.device, non_blocking=True)

    def _prepared(self, prepare: Callable[[T], R], batches: Iterable[T]) -> Iterator[R]:
        """Each batch made ready; for a GPU on other threads, while it works on those before."""
        if self._copies is None:
            yield from map(prepare, batches)
            return
        pending: deque[Future[R]] = deque()
        with ThreadPoolExecutor(_PREPARED_AHEAD) as threads:
            for batch in batches:
                pending.append(threads.submit(prepare, batch))
                if len(pending) > _PREPARED_AHEAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()


def _shorter(first: float | None, second: float | None) -> float | None:
    return min(first, second) if first and second else first or second
