"""The trained encoder in the Hub's folder format, small enough to ship."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2Model

UNUSED = "masked_spec_embed"
"""Needed where training masks frames; a model without masking has no such weight."""


def fold(encoder: Wav2Vec2Model, norm: nn.BatchNorm1d) -> None:
    """Standardise the encoder's pooled vectors by the statistics seen in training.

    What the norm does to the mean over time it does to every frame of the last layer, whose own
    norm takes it up exactly: a head on raw vectors then starts from unit scale.
    """
    assert norm.running_var is not None
    scale = torch.rsqrt(norm.running_var + norm.eps)
    last = encoder.encoder.layers[-1].final_layer_norm
    with torch.no_grad():
        last.bias.copy_((last.bias - norm.running_mean) * scale)
        last.weight.mul_(scale)


def export(encoder: Wav2Vec2Model, norm: nn.BatchNorm1d, folder: Path) -> None:
    """Write config.json, preprocessor_config.json and model.safetensors in float16.

    config.json says float32, so that a plain `from_pretrained` computes in float32.
    """
    fold(encoder, norm)
    encoder.config.mask_time_prob = 0.0
    encoder.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=False).save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    halved = {name: tensor.half() for name, tensor in weights.items() if name != UNUSED}
    save_file(halved, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    config_path = folder / "config.json"
    config = json.loads(config_path.read_text())
    config["dtype"] = "float32"
    config_path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
