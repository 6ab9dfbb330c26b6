"""One forward pass over clips of unlike lengths that gives each the vector that it has alone.

A padded batch goes wrong in three places: the norm of the first convolution takes its statistics over the padding
(facebook/wav2vec2-base and its like), the attention looks at it, and so does the mean over time. Here each of them
keeps to a clip's own frames; the convolutions themselves are unpadded, so that no own frame sees a padded sample.
All are functions of (model, inputs, lengths). Knows nothing of files or devices.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def masked_group_norm(norm: nn.GroupNorm, features: Tensor, own: Tensor) -> Tensor:
    """The norm of each channel over each clip's own frames: (N, C, T), (N, T) bool -> (N, C, T); zero elsewhere.

    For as many groups as channels, which is what the encoders here have.
    """
    padding, count = ~own[:, None], own.sum(dim=1)[:, None, None]
    mean = features.masked_fill(padding, 0).sum(dim=2, keepdim=True, dtype=torch.float32) / count
    centred = (features - mean).masked_fill(padding, 0)
    variance = centred.square().sum(dim=2, keepdim=True, dtype=torch.float32) / count
    scale = norm.weight[:, None] * torch.rsqrt(variance + norm.eps)
    return (centred * scale + norm.bias[:, None]).masked_fill(padding, 0).to(features.dtype)


def wav2vec2_frames(model: Any, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """The last layer (N, T', D) and each clip's own frames (N, T') bool, of (N, T), (N,) samples.

    For the encoders of the Wav2Vec2 family, both kinds of norm. Samples beyond a clip's length are not looked at.
    """
    features = waveforms[:, None]
    for layer in model.feature_extractor.conv_layers:
        features = layer.conv(features)
        lengths = (lengths - layer.conv.kernel_size[0]) // layer.conv.stride[0] + 1
        own = torch.arange(features.shape[2], device=lengths.device) < lengths[:, None]
        norm = getattr(layer, "layer_norm", None)
        if isinstance(norm, nn.GroupNorm):
            features = masked_group_norm(norm, features, own)
        elif norm is not None:
            features = norm(features.transpose(1, 2)).transpose(1, 2)
        features = layer.activation(features)
    hidden = model.feature_projection(features.transpose(1, 2))
    hidden = hidden[0] if isinstance(hidden, tuple) else hidden  # HuBERT's gives the tensor alone
    return model.encoder(hidden, attention_mask=own).last_hidden_state, own


def frames_alone(model: Any, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, None]:
    """The same of one clip, by the model's own forward pass: (1, T), (1,) -> (1, T', D); the reference."""
    assert len(waveforms) == 1, "the model's own forward pass is exact for one clip only"
    return model(waveforms).last_hidden_state, None


def whisper_frames(encoder: Any, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """The same of (N, bands, T) log-mel windows with (N,) own bands' frames.

    Whisper's encoder always sees a whole window and has no mask: what follows a clip is silence to it, in a batch as
    alone. Those frames are not its own.
    """
    hidden = encoder(features).last_hidden_state
    lengths = (lengths - 1) // encoder.conv2.stride[0] + 1
    return hidden, torch.arange(hidden.shape[1], device=hidden.device) < lengths[:, None]
