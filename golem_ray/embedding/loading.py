"""What encoders of any modality share on a device: weights, precision, and batches of examples of like costs."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import parametrize
from transformers.utils import logging as transformers_logging

from golem_ray.embedding.checkpoint import KEY
from golem_ray.embedding.recipe import EncoderInfo
from golem_ray.errors import ConfigError, one_line

DTYPES = {
    "float32": torch.float32,
    "tf32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
"""model.precision -> what weights and activations are kept in."""


def pack(costs: Sequence[float], budget: float) -> list[list[int]]:
    """Indices in batches, largest first: each batch at most `budget` padded cost, or a single example."""
    batches: list[list[int]] = []
    most = 0.0
    for index in sorted(range(len(costs)), key=lambda index: (-costs[index], index)):
        if not batches or (len(batches[-1]) + 1) * most > budget:
            batches.append([])
            most = costs[index]
        batches[-1].append(index)
    return batches


def precision_note(precision: str, device: str) -> str:
    """What there is to say about a precision on this processor; '' for nothing."""
    if device != "cpu" or precision == "float32":
        return ""
    if precision == "tf32":
        return "model.precision: tf32 is float32 on a CPU"
    if not hasattr(torch.cpu, "get_capabilities"):  # older releases
        return ""
    found = torch.cpu.get_capabilities()
    names = ("amx_fp16", "avx512_fp16", "fp16") if precision == "float16" else ("amx_bf16", "avx512_bf16", "bf16")
    if any(found.get(name) for name in names):
        return ""
    return f"model.precision: this CPU has no arithmetic of its own for {precision}, so that float32 may be faster"


def load(info: EncoderInfo, kinds: Sequence[Any], needed: Callable[[str], bool]) -> list[Any]:
    """What these classes of transformers load, the last of them the model: in float32 on the CPU, and frozen.

    Raises ConfigError if that fails, or if a weight is missing whose name is `needed`.
    """
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    # For a checkpoint that is no .safetensors, transformers would have a service on the Hub convert it meanwhile.
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
    options: dict[str, Any] = {"revision": info.revision, "local_files_only": info.cached}
    try:
        others = [kind.from_pretrained(info.path, **options) for kind in kinds[:-1]]
        model, found = kinds[-1].from_pretrained(info.path, dtype=torch.float32, output_loading_info=True, **options)
    except Exception as error:
        raise ConfigError(
            f"{KEY}: expected weights that load from {info.name}, but {type(error).__name__}: {one_line(error)}"
        ) from None
    missing = sorted(filter(needed, found["missing_keys"]))
    if missing:
        raise ConfigError(
            f"{KEY}: expected all weights of a {info.model_type} encoder in {info.name}, found {len(missing)} missing "
            f"({missing[0]}, ...): they would be random."
        )
    for module in list(model.modules()):
        if parametrize.is_parametrized(module, "weight"):  # a norm of the weights, else taken with each forward pass
            parametrize.remove_parametrizations(module, "weight")
    return [*others, model.eval().requires_grad_(False)]


def compiled(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """What compiles a forward pass as it is called first."""
    torch._dynamo.config.recompile_limit = 64  # one long example, very short ones, ... are graphs of their own
    return torch.compile(forward, fullgraph=True, dynamic=True)


def try_compiled(embed: Callable[[], object]) -> None:
    """Embed something of a usual length, which compiles, so that the first real batch need not wait.

    Raises ConfigError if that fails.
    """
    try:
        embed()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # the compiler's own, Triton's, the C++ compiler's
        raise ConfigError(
            f"model.compile: expected PyTorch to compile the encoder, but {type(error).__name__}: {one_line(error)}; "
            "leave it off."
        ) from None
