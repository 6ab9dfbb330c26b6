"""From an encoder's frames to one vector an example: which layer, and what is kept of it over an example's own frames.

Frames are what an encoder's blocks pass on: moments of a clip, tokens of a text. All are functions of (model, inputs,
lengths); where other layers than the last are asked for, hooks note down what goes into each block, for the pass that
asks. Knows no modality, files or devices.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def masked_mean(frames: Tensor, own: Tensor) -> Tensor:
    """Mean over each example's own frames: (N, T, D), (N, T) bool -> (N, D) float32, whatever the others hold."""
    total = frames.masked_fill(~own[..., None], 0).sum(dim=1, dtype=torch.float32)
    return total / own.sum(dim=1)[:, None]


def pool(frames: Tensor, own: Tensor | None, pooling: str) -> Tensor:
    """Frames (N, T, D) pooled over each example's own, (N, T) bool (None: all are): (N, S D) float32.

    The S statistics that `pooling` names follow one another: `mean+std` are means, then standard deviations; `cls` is
    the first frame.
    """
    mean = frames.float().mean(dim=1) if own is None else masked_mean(frames, own)
    if pooling == "mean":
        return mean
    found = []
    for statistic in pooling.split("+"):
        if statistic == "mean":
            found.append(mean)
        elif statistic == "cls":
            found.append(frames[:, 0].float())
        else:
            squares = (frames.float() - mean[:, None]).square()
            variance = squares.mean(dim=1) if own is None else masked_mean(squares, own)
            found.append(variance.sqrt())
    return torch.cat(found, dim=1)


class BlockInputs(threading.local):
    """What goes into each of an encoder's blocks, (N, T, D) each, of the pass that this thread has under way."""

    kept: list[Tensor] | None = None

    def watch(self, blocks: nn.ModuleList, layer: int | str) -> None:
        """Have the blocks note what goes into them; those behind what the layer needs are dropped."""
        if isinstance(layer, int):
            del blocks[layer + 1 :]  # the input of the one behind it is all that is needed
        for block in blocks:
            block.register_forward_pre_hook(self._keep, with_kwargs=True)

    def _keep(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.kept is not None:
            self.kept.append(args[0] if args else kwargs["hidden_states"])


class Stop(threading.Event):
    """Ends the passes of a model that has `check` as a hook; knows no encoder, which would else stay in memory."""

    def check(self, *_: object) -> None:
        """Raise KeyboardInterrupt once this is set."""
        if self.is_set():
            raise KeyboardInterrupt


Frames = Callable[[Any, Tensor, Tensor], tuple[Tensor, Tensor | None]]
"""(model, inputs, lengths) -> the last layer (N, T, D), and each example's own frames, (N, T) bool or None for all."""


def vectors(
    frames: Frames, model: Any, inputs: Tensor, lengths: Tensor, layer: int | str, pooling: str, seen: BlockInputs
) -> Tensor:
    """Layers pooled over an example's frames: (N, S D) float32; for layer `all` those of one after another.

    Layer 0 is what goes into the first block, layer k what comes out of the k-th, `last` what the encoder gives, its
    final norm included. `mean` is the mean over all of these; `all` are all in that order, then `mean`.
    """
    if layer == "last":
        return pool(*frames(model, inputs, lengths), pooling)
    seen.kept = []
    try:
        last, own = frames(model, inputs, lengths)
        found = [*seen.kept, last]
    finally:
        seen.kept = None
    if isinstance(layer, int):
        return pool(found[layer], own, pooling)
    average = torch.stack([each.float() for each in found]).mean(dim=0)
    wanted = [average] if layer == "mean" else [*found, average]
    return torch.cat([pool(each, own, pooling) for each in wanted], dim=1)
