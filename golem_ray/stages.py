"""What runs on the workers: read, hash, decode and embed a batch of clips.

Each function and class here is a stage for `map_batches` and knows nothing of Ray. They import PyTorch and
transformers where they use them, so that a process loads only what its stage needs: on small jobs those imports
are most of the time.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from golem_ray.data import read_audio
from golem_ray.encoders import EncoderInfo
from golem_ray.errors import ClipError, ConfigError, UserError

LOG_MEL_SIZE = 80
"""Width of the baseline's vectors."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """How the work is spread: `workers` embedding actors of `threads` CPU threads each, on GPUs or on CPU."""

    workers: int
    threads: int
    cpus: int
    """CPUs that Ray sets aside for each actor, and for the head's task."""
    gpu: bool
    backend: str
    """device.backend as configured: `cuda` makes a GPU that PyTorch cannot use an error."""


def _read_clips(batch: pa.Table) -> list[tuple[bytes, str]]:
    """Each clip's audio file and the reason why there is none ('' if there is one)."""
    clips = []
    for row in batch.to_pylist():
        try:
            clips.append((read_audio(row["bytes"], row["path"]), ""))
        except ClipError as error:
            clips.append((b"", str(error)))
    return clips


def _digest(content: bytes, reason: str) -> bytes:
    return bytes(32) if reason else hashlib.sha256(content).digest()


def hash_batch(batch: pa.Table) -> dict[str, Any]:
    """The digests alone: a table of clips -> {id, digest}."""
    clips = _read_clips(batch)
    return {"id": batch["id"].to_numpy(), "digest": [_digest(*clip) for clip in clips]}


def decode_batch(batch: pa.Table, target_rate: int, baseline: bool = False) -> dict[str, Any]:
    """A table of clips -> {id, waveform (T,) float32 at target_rate Hz, reason, digest}; no waveform, a reason.

    With baseline, `log_mel` (80,) float32 as well, zeros where there is no waveform.
    """
    from golem_ray.audio import load_clip, log_mel_statistics

    rows: dict[str, list[Any]] = {"waveform": [], "reason": [], "digest": []}
    for (content, reason), label in zip(_read_clips(batch), batch["label"].to_pylist(), strict=True):
        rows["digest"].append(_digest(content, reason))
        waveform = np.zeros(0, dtype=np.float32)
        if not reason and label is None:
            reason = "no label, or one that the source does not name"
        if not reason:
            try:
                waveform = load_clip(content, target_rate)
            except ClipError as error:
                reason = str(error)
        rows["waveform"].append(waveform)
        rows["reason"].append(reason)
    decoded = {"id": batch["id"].to_numpy(), **rows, "waveform": _ragged(rows["waveform"])}
    if baseline:
        silence = np.zeros(LOG_MEL_SIZE, dtype=np.float32)
        found = [log_mel_statistics(wave, target_rate) if wave.size else silence for wave in rows["waveform"]]
        decoded["log_mel"] = np.stack(found)
    return decoded


def _ragged(waveforms: list[np.ndarray]) -> np.ndarray:
    """One object per clip, whatever their lengths: equal ones would become a matrix."""
    column = np.empty(len(waveforms), dtype=object)
    column[:] = waveforms
    return column


class EmbedBatch:
    """An actor's work: {id, waveform, reason, digest} -> {id, vector (D,) float32, reason, digest, worker, failure}.

    With decode_rate, the waveforms are decoded here as well (from a table of clips). A column `log_mel` goes
    through as it is. An encoder that cannot be loaded is told in the `failure` of every row: an exception would
    reach the user in pages of Ray's own words.
    """

    def __init__(
        self, encoder: EncoderInfo, resources: Resources, decode_rate: int | None = None, baseline: bool = False
    ) -> None:
        import torch

        from golem_ray.encoders import ENCODERS

        torch.set_num_threads(resources.threads)
        self.decode_rate = decode_rate
        self.baseline = baseline
        self.width = encoder.embedding_size
        self.worker = self.failure = ""
        try:
            device = pick_device(resources)
            self.encoder = ENCODERS[encoder.model_type](encoder, device)
        except UserError as error:
            self.failure = str(error)
            return
        self.worker = describe_worker(resources, device)

    def __call__(self, batch: Any) -> dict[str, Any]:
        """One batch; clips with a reason get a vector of zeros."""
        if self.decode_rate is not None:
            batch = decode_batch(batch, self.decode_rate, self.baseline)
        vectors = np.zeros((len(batch["id"]), self.width), dtype=np.float32)
        good = [row for row, reason in enumerate(batch["reason"]) if not reason]
        reasons = list(batch["reason"])
        if good and not self.failure:
            vectors[good] = self.encoder.embed([batch["waveform"][row] for row in good])
            for row in np.flatnonzero(~np.isfinite(vectors).all(axis=1)):
                vectors[row], reasons[row] = 0, "the encoder's vector is not finite"
        return {
            "id": batch["id"],
            "vector": vectors,
            "reason": reasons,
            "digest": batch["digest"],
            "worker": [self.worker] * len(vectors),
            "failure": [self.failure] * len(vectors),
            **({"log_mel": batch["log_mel"]} if "log_mel" in batch else {}),
        }


def warm_up() -> None:
    """Import what the head's task needs: Ray then finds a process that is ready for it when the embeddings are.

    Saves three seconds, which embedding's own imports hide.
    """
    import torch._dynamo  # noqa: F401  what torch's optimizers import with their first step

    import golem_ray.heads  # noqa: F401


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


def describe_worker(resources: Resources, device: str) -> str:
    """What this process works on: `device|GPUs that Ray gave|process id`."""
    import torch

    name = torch.cuda.get_device_name() if device == "cuda" else device
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "") if resources.gpu else ""
    return f"{name}|{gpus}|{os.getpid()}"
