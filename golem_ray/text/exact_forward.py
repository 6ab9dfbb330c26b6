"""One forward pass over texts of unlike lengths that gives each the vector that it has alone.

The models' own mask keeps the attention to a text's own tokens, and relative and learned positions count from its
beginning; what is left is that the mean must not look at the others. A function of (model, inputs, lengths), as
embedding/pooling.py wants it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def token_frames(model: Any, numbers: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor | None]:
    """The last layer (N, T, D) and each text's own tokens (N, T) bool, of (N, T) numbers, (N,) of each text's own."""
    own = torch.arange(numbers.shape[1], device=lengths.device) < lengths[:, None]
    return model(input_ids=numbers, attention_mask=own.long()).last_hidden_state, own


def tokens_alone(model: Any, numbers: Tensor, lengths: Tensor) -> tuple[Tensor, None]:
    """The same of one text, by the model's own forward pass without a mask: the reference."""
    assert len(numbers) == 1, "without a mask a text has to be alone"
    return model(input_ids=numbers).last_hidden_state, None
