"""Families of text encoders: what sets one apart from another.

A new family is a class here and its line in FAMILIES. Importing this loads no PyTorch: the driver asks what an encoder
is, and workers have it compute.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from golem_ray.embedding.checkpoint import positive
from golem_ray.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

USUAL_LONGEST = 512
"""Tokens that are read of a text at most, where the configuration says nothing else."""


class Family(Protocol):
    """How the encoders of a family are described by their files, and run. `model` is what transformers loads."""

    width_key: str
    """config.json's key of the width of a layer."""
    blocks_key: str
    """config.json's key of the number of blocks."""
    has_cls: bool
    """Whether its first token stands for the whole text."""

    def longest(self, config: dict[str, Any]) -> int | None:
        """Tokens that it takes at most; None if any number."""

    def model_class(self) -> Any:
        """The class of transformers that loads it."""

    def blocks(self, model: Any) -> nn.ModuleList:
        """Its blocks, in order."""


class Bert:
    """BERT and its like: learned positions, blocks in `encoder.layer`, [CLS] first."""

    width_key, blocks_key, has_cls = "hidden_size", "num_hidden_layers", True

    def longest(self, config: dict[str, Any]) -> int | None:
        """As many as it has positions."""
        return positive(config.get("max_position_embeddings")) or None

    def model_class(self) -> Any:
        """The bare model."""
        from transformers import AutoModel

        return AutoModel

    def blocks(self, model: Any) -> nn.ModuleList:
        """Its blocks, in order."""
        layers: nn.ModuleList = model.encoder.layer
        return layers


class Roberta(Bert):
    """RoBERTa and its like, whose positions begin behind that of padding."""

    def longest(self, config: dict[str, Any]) -> int | None:
        """Two fewer than it has positions, with padding's number 1."""
        positions = super().longest(config)
        return None if positions is None else positions - config.get("pad_token_id", 1) - 1


class DebertaV2(Bert):
    """DeBERTa of versions 2 and 3: relative positions, most often without others."""

    def longest(self, config: dict[str, Any]) -> int | None:
        """Any number, unless it has positions of its own."""
        return super().longest(config) if config.get("position_biased_input", True) else None


class DistilBert(Bert):
    """DistilBERT, whose keys have names of their own."""

    width_key, blocks_key = "dim", "n_layers"

    def blocks(self, model: Any) -> nn.ModuleList:
        """Its blocks, in order."""
        layers: nn.ModuleList = model.transformer.layer
        return layers


class ModernBert(Bert):
    """ModernBERT: rotary positions, and a norm behind the last block."""

    def blocks(self, model: Any) -> nn.ModuleList:
        """Its blocks, in order."""
        layers: nn.ModuleList = model.layers
        return layers


class T5:
    """T5's encoder: relative positions, no token that stands for the text."""

    width_key, blocks_key, has_cls = "d_model", "num_layers", False

    def longest(self, config: dict[str, Any]) -> int | None:
        """None: any number."""
        return None

    def model_class(self) -> Any:
        """The encoder without the decoder."""
        from transformers import T5EncoderModel

        return T5EncoderModel

    def blocks(self, model: Any) -> nn.ModuleList:
        """Its blocks, in order."""
        layers: nn.ModuleList = model.encoder.block
        return layers


FAMILIES: dict[str, Family] = {
    "bert": Bert(),
    "roberta": Roberta(),
    "xlm-roberta": Roberta(),
    "electra": Bert(),
    "deberta-v2": DebertaV2(),
    "mpnet": Roberta(),
    "modernbert": ModernBert(),
    "distilbert": DistilBert(),
    "t5": T5(),
}
"""config.json's model_type -> its family."""


def family_of(model_type: str, name: str) -> Family:
    """The family of an encoder of that name. Raises ConfigError if it is of none."""
    if model_type not in FAMILIES:
        raise ConfigError(
            f"model.feature_extractor_model: expected a text encoder ({', '.join(FAMILIES)}), or 'ngrams', found "
            f"{name} to be {model_type!r}."
        )
    return FAMILIES[model_type]
