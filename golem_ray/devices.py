"""How work is spread, and what a process computes on."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from golem_ray.errors import ConfigError

_ARITHMETIC = threading.Lock()
"""Whoever has it decides on the arithmetic of GPUs, which PyTorch keeps for the whole process."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """How the work is spread: `workers` embedding workers of `threads` CPU threads each, on GPUs or on CPU."""

    workers: int
    threads: int
    cpus: int
    """CPUs that are set aside for each worker, and for the head's task."""
    gpu: bool
    backend: str
    """device.backend as configured: `cuda` makes a GPU that PyTorch cannot use an error."""
    batch_cost: float = 120.0
    """What a GPU is given at once, padding included, in the modality's unit."""
    stall_timeout: float = 300.0
    """Seconds without progress after which the work is given up."""
    wait_s: float = 0.0
    """Seconds to wait for machines that the cluster lacks."""
    growth: int = 0
    """How many more workers there may be, as the cluster grows."""

    @property
    def most_workers(self) -> int:
        """Workers that there may come to be."""
        return self.workers + self.growth


def pick_device(resources: Resources) -> str:
    """`cuda` or `cpu`; ConfigError if a GPU was demanded that PyTorch cannot use."""
    import torch

    if not resources.gpu or torch.cuda.is_available():
        return "cuda" if resources.gpu else "cpu"
    if resources.backend == "cuda":
        raise ConfigError(
            "device.backend: expected PyTorch to use the GPU that Ray gave for 'cuda', found that it cannot (no "
            "driver, or a build without CUDA); use 'auto' or 'cpu'."
        )
    return "cpu"


@contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """Set variables for what starts meanwhile."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def describe_worker(resources: Resources, device: str, note: str = "") -> str:
    """What this process works on: `device|GPUs that it was given|process id|what there is to say`."""
    import torch

    name = torch.cuda.get_device_name() if device == "cuda" else device
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "") if resources.gpu else ""
    return f"{name}|{gpus}|{os.getpid()}|{note}"


def worker_record(worker: str) -> dict[str, Any]:
    """What `describe_worker` says, as Embeddings.workers has it."""
    device, gpus, _, _ = worker.split("|")
    return {"device": device, "gpus": gpus.split(",") if gpus else []}


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Whether GPUs may take TF32 for what is launched in the block; afterwards that is as it was.

    Blocks of other threads wait: two precisions in one process do not mix. What a thread launches outside such a block
    may see either.
    """
    import torch

    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    with _ARITHMETIC:
        # Read by the newer names: reading the older ones fails where somebody has set the newer ones.
        before = matmul.fp32_precision, cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision
        matmul.allow_tf32 = cudnn.allow_tf32 = allowed
        try:
            yield
        finally:
            matmul.allow_tf32, cudnn.allow_tf32 = before[0] == "tf32", before[1] == "tf32"
            matmul.fp32_precision, cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision = before
