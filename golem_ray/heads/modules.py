"""Heads: what turns embeddings into logits. Linear, or with hidden layers; from weights and a description of them.

Knows no encoder or Ray, and not how a head is trained (fit.py does).
"""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from golem_ray.config import HeadConfig

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh}


class _BatchNorm(nn.BatchNorm1d):
    """Normalises a step's only example, of which there is no variance, by what was learned of others."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, D) -> (N, D)."""
        if self.training and len(input) == 1:
            learned = self.running_mean, self.running_var, self.weight, self.bias
            return functional.batch_norm(input, *learned, eps=self.eps)
        return super().forward(input)


NORMS: dict[str, Callable[[int], nn.Module]] = {"layer": nn.LayerNorm, "batch": _BatchNorm}


def new_head(in_features: int, num_classes: int, seed: int, config: HeadConfig | None = None) -> nn.Module:
    """A head: (N, D) -> (N, K). Weights are drawn on the CPU right after seeding: the same on every device.

    A linear head is an `nn.Linear`; one with hidden layers an `nn.Sequential` of hidden0, norm0, activation0,
    dropout0, ..., output.
    """
    config = config or HeadConfig()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if not config.hidden:
            return nn.Linear(in_features, num_classes)
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for number, (width, dropout) in enumerate(zip(config.hidden, config.dropouts, strict=True)):
            layers[f"hidden{number}"] = nn.Linear(in_features, width)
            if config.norm != "none":
                layers[f"norm{number}"] = NORMS[config.norm](width)
            layers[f"activation{number}"] = ACTIVATIONS[config.activation]()
            if dropout:
                layers[f"dropout{number}"] = nn.Dropout(dropout)
            in_features = width
        layers["output"] = nn.Linear(in_features, num_classes)
        return nn.Sequential(layers)


def load_head(description: dict[str, Any], state: dict[str, Tensor]) -> nn.Module:
    """The head with this description and state_dict, ready to be used.

    Raises ValueError, in a few words, if they do not fit each other, or if this version does not know such a head.
    """
    kind = description.get("kind")
    shape: list[Any] = [description.get("in_features"), description.get("out_features")]
    hidden = description.get("hidden", []) if kind == "mlp" else []
    activation = description.get("activation", "relu")
    if kind not in ("linear", "mlp") or (kind == "mlp") != bool(hidden):
        raise ValueError(f"a head of kind {kind!r} with hidden layers {hidden!r}")
    widths = [*shape, *hidden] if isinstance(hidden, list) else [None]
    if not all(isinstance(width, int) and 0 < width < 2**31 for width in widths) or activation not in ACTIVATIONS:
        raise ValueError(f"widths {widths!r} and activation {activation!r}")
    norm: Any = "layer" if description.get("layer_norm") else description.get("normalization", "none")
    if norm not in ("none", *NORMS):
        raise ValueError(f"normalization {norm!r}")
    config = HeadConfig(hidden=tuple(hidden), activation=activation, normalization=norm if hidden else "none")
    with torch.device("meta"):  # nothing is drawn, and a description of giants takes no memory
        head = new_head(shape[0], shape[1], 0, config)
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    wanted = {name: tuple(tensor.shape) for name, tensor in head.state_dict().items()}
    if found != wanted:
        named = ", ".join(f"{name} {shape}" for name, shape in sorted(set(found.items()) ^ set(wanted.items()))[:4])
        raise ValueError(f"other weights than a {kind} head's of widths {widths} ({named})")
    head.load_state_dict(state, assign=True)
    return head.eval().requires_grad_(False)


def weights_file(head: nn.Module) -> bytes:
    """What torch.save writes of the head's state_dict, on the CPU; the same bytes for the same weights."""
    buffer = io.BytesIO()
    torch.save({name: tensor.cpu() for name, tensor in head.state_dict().items()}, buffer)
    return buffer.getvalue()
