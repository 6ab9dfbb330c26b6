"""What a comparison compares, as its preset says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from golem_ray.config.learning import HeadConfig
from golem_ray.errors import ConfigError

HEADS = {
    "linear": HeadConfig(),
    "logistic": HeadConfig(kind="logistic"),
    "hidden": HeadConfig(hidden=(128,), layer_norm=True, dropout=0.3, standardize=True, weight_decay=0.01),
}
"""The usual heads by name, the plain one first."""


@dataclass(frozen=True, kw_only=True)
class GridConfig:
    """What is compared, each with each; the configured candidate is always among them."""

    encoders: tuple[str, ...] = ()
    """Hub ids or local folders; the configured one if none is given."""
    layers: tuple[int | Literal["last", "mean", "all"], ...] | None = None
    """Numbers, last, mean; all for every one of an encoder. If not given, last and mean where an encoder has layers."""
    poolings: tuple[Literal["mean", "mean+std", "cls"], ...] | None = None
    """What is kept of a layer's frames. If not given, of clips mean and mean+std, of texts what an encoder has of mean
    and cls."""
    join_baseline: tuple[bool, ...] | None = None
    """Whether the baseline is joined (`model.join_baseline`): false, true. If not given, as configured."""
    heads: Mapping[str, HeadConfig] = field(default_factory=lambda: dict(HEADS))
    """Groups of the keys of `head`, each under a name of its own."""

    def __post_init__(self) -> None:
        for key in ("layers", "poolings", "join_baseline", "heads"):
            if getattr(self, key) is not None and not getattr(self, key):
                raise ConfigError(f"grid.{key}: expected one or more, found none; leave it out for the usual ones.")
        if any(isinstance(layer, int) and layer < 0 for layer in self.layers or ()):
            raise ConfigError(
                f"grid.layers: expected 0 or more, 'last', 'mean' or 'all', got {list(self.layers or ())}."
            )
