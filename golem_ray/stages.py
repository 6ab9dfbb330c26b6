"""What runs on the workers: read, hash, decode and embed a batch of clips.

Each function and class here is a stage for `map_batches` and knows nothing of Ray. They import PyTorch and
transformers where they use them, so that a process loads only what its stage needs: on small jobs those imports
are most of the time.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from golem_ray.config import HeadConfig, TrainingConfig
from golem_ray.data import read_audio
from golem_ray.encoder_info import Recipe
from golem_ray.errors import ClipError, ConfigError, UserError
from golem_ray.training import Round, TrainingSet

LOG_MEL_SIZE = 80
"""Width of the baseline's vectors."""

BATCHES_PER_GROUP = 8
"""What a GPU is given at a time, in batches: enough to sort by length, and bounded."""


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
    batch_seconds: float = 120.0
    """Audio that a GPU is given at once, padding included."""
    stall_timeout: float = 300.0
    """Seconds without progress after which the work is given up."""


SMALLEST_BATCH_S = 4.0
"""Padded seconds below which clips that do not fit into the GPU's memory go one by one."""


class Clip(NamedTuple):
    """A clip as it was read, or the reason why it cannot be used."""

    id: int
    digest: bytes
    """sha256 of its file, zeros where it could not be read."""
    waveform: np.ndarray
    """(T,) float32 at the encoder's rate, empty where there is a reason."""
    reason: str
    log_mel: np.ndarray
    """(80,) float32, zeros where there is a reason; (0,) where no baseline was asked for."""


_NO_SAMPLES = np.zeros(0, dtype=np.float32)


def _rows(batch: pa.Table) -> list[pa.Table]:
    return [batch.slice(number, 1) for number in range(batch.num_rows)]


def _read_file(row: pa.Table) -> tuple[dict[str, Any], bytes, bytes, str]:
    """A row's fields, its audio file, that file's digest, and the reason why there is none ('' if there is one)."""
    (fields,) = row.to_pylist()
    try:
        content = read_audio(fields["bytes"], fields["path"])
    except ClipError as error:
        return fields, b"", bytes(32), str(error)
    return fields, content, hashlib.sha256(content).digest(), ""


def hash_batch(batch: pa.Table) -> dict[str, Any]:
    """The digests alone: a table of clips -> {id, digest}."""
    return {"id": batch["id"].to_numpy(), "digest": [_read_file(row)[2] for row in _rows(batch)]}


def read_clip(row: pa.Table, rate: int, baseline: bool) -> Clip:
    """The clip in a table's only row, decoded and resampled to `rate` Hz; with baseline, log-mel statistics too."""
    from golem_ray.audio import load_clip, log_mel_statistics

    fields, content, digest, reason = _read_file(row)
    waveform = _NO_SAMPLES
    log_mel = np.zeros(LOG_MEL_SIZE if baseline else 0, dtype=np.float32)
    if not reason and fields["label"] is None:
        reason = "no label, or one that the source does not name"
    if not reason:
        try:
            waveform = load_clip(content, rate)
            log_mel = log_mel_statistics(waveform, rate) if baseline else log_mel
        except ClipError as error:
            reason = str(error)
    return Clip(fields["id"], digest, waveform, reason, log_mel)


def group_clips(batch: pa.Table, rate: int, baseline: bool, seconds: float) -> Iterator[pa.Table]:
    """Clips for a GPU actor, in groups of at most so many seconds of audio (a longer clip alone), one group a row.

    Bounds what is in memory at a time, whatever the clips' lengths. `ungroup` takes them apart again.
    """
    group: list[Clip] = []
    for clip in (read_clip(row, rate, baseline) for row in _rows(batch)):
        if group and sum(len(one.waveform) for one in group) + len(clip.waveform) > seconds * rate:
            yield _group(group)
            group = []
        group.append(clip)
    if group:
        yield _group(group)


def _group(clips: list[Clip]) -> pa.Table:
    columns = {
        "id": pa.array([clip.id for clip in clips], pa.int64()),
        "digest": pa.array([clip.digest for clip in clips], pa.binary()),
        "reason": pa.array([clip.reason for clip in clips], pa.string()),
        "length": pa.array([len(clip.waveform) for clip in clips], pa.int64()),
        "samples": pa.array(np.concatenate([clip.waveform for clip in clips])),
        "log_mel": pa.array(np.concatenate([clip.log_mel for clip in clips])),
    }
    one_row = {
        name: pa.LargeListArray.from_arrays(pa.array([0, len(values)], pa.int64()), values)
        for name, values in columns.items()
    }
    return pa.table(one_row)


def ungroup(groups: pa.Table) -> list[Clip]:
    """The clips in rows that `group_clips` made; waveforms are views."""
    clips = []
    for number in range(groups.num_rows):
        parts = {name: groups[name].slice(number, 1).combine_chunks().flatten() for name in groups.column_names}
        ends = np.cumsum(parts["length"].to_numpy())
        waveforms = np.split(parts["samples"].to_numpy(), ends[:-1])
        log_mel = np.split(parts["log_mel"].to_numpy(), len(ends))
        rows = parts["id"].to_pylist(), parts["digest"].to_pylist(), waveforms, parts["reason"].to_pylist(), log_mel
        clips += [Clip(*row) for row in zip(*rows, strict=True)]
    return clips


class EmbedBatch:
    """An actor's work: clips -> {id, vector (D,) float32, reason, digest, worker, failure[, log_mel (80,)]}.

    On CPUs, from a table of clips, each read, decoded and embedded by one thread, as many at a time as the actor has
    threads: padding only costs there, and threads that share a clip wait for each other. On a GPU, from groups of
    clips, in batches of like lengths, smaller ones from then on when the GPU's memory is full; a clip that does not fit
    alone cannot be used. An encoder that cannot be loaded is told in the `failure` of every row: an exception would
    reach the user in pages of Ray's own words.
    """

    def __init__(self, recipe: Recipe, resources: Resources, baseline: bool = False) -> None:
        import torch

        from golem_ray.encoders import SpeechEncoder, precision_note

        self.recipe = recipe
        self.grouped = resources.gpu
        self.baseline = baseline
        self.worker = self.failure = ""
        clips_at_once = 1 if resources.gpu or recipe.compiled else resources.threads
        threads_per_clip = resources.threads // clips_at_once
        torch.set_num_threads(threads_per_clip)  # of this thread; new ones have a number of their own
        self.threads = ThreadPoolExecutor(
            clips_at_once, initializer=torch.set_num_threads, initargs=(threads_per_clip,)
        )
        try:
            device = pick_device(resources)
            batched = device == "cuda" and recipe.encoder.exact_in_batches
            if device == "cpu":
                _keep_memory()
            self.encoder = SpeechEncoder(recipe, device, batch_seconds=resources.batch_seconds if batched else None)
        except UserError as error:
            self.failure = str(error)
            return
        self.worker = describe_worker(resources, device, precision_note(recipe.precision, device))

    def __call__(self, batch: pa.Table) -> dict[str, Any]:
        """One batch; clips with a reason get a vector of zeros."""
        clips, vectors = self._embed_group(batch) if self.grouped else self._embed_rows(batch)
        reasons = [clip.reason for clip in clips]
        for row in np.flatnonzero(~np.isfinite(vectors).all(axis=1)):
            vectors[row], reasons[row] = 0, f"the encoder's vector is not finite in {self.recipe.precision}"
        return {
            "id": np.array([clip.id for clip in clips], dtype=np.int64),
            "vector": vectors,
            "reason": reasons,
            "digest": [clip.digest for clip in clips],
            "worker": [self.worker] * len(clips),
            "failure": [self.failure] * len(clips),
            **({"log_mel": np.stack([clip.log_mel for clip in clips])} if self.baseline else {}),
        }

    def _embed_group(self, batch: pa.Table) -> tuple[list[Clip], np.ndarray]:
        clips = ungroup(batch)
        vectors, reasons = self._embed([clip.waveform for clip in clips])
        return [clip._replace(reason=clip.reason or why) for clip, why in zip(clips, reasons, strict=True)], vectors

    def _embed_rows(self, batch: pa.Table) -> tuple[list[Clip], np.ndarray]:
        """Row by row, so that no more waveforms are held than clips are worked on."""

        def embed(row: pa.Table) -> tuple[Clip, np.ndarray]:
            clip = read_clip(row, self.recipe.encoder.sampling_rate, self.baseline)
            vectors, (why,) = self._embed([clip.waveform])
            return clip._replace(waveform=_NO_SAMPLES, reason=clip.reason or why), vectors

        done = list(self.threads.map(embed, _rows(batch)))
        return [clip for clip, _ in done], np.concatenate([vectors for _, vectors in done])

    def _embed(self, waveforms: list[np.ndarray]) -> tuple[np.ndarray, list[str]]:
        """(N, D): the vectors, zeros without a waveform or for one that does not fit into memory, and then why not."""
        vectors = np.zeros((len(waveforms), self.recipe.vector_size), dtype=np.float32)
        reasons = [""] * len(waveforms)
        good = [row for row, waveform in enumerate(waveforms) if waveform.size]
        if not good or self.failure:
            return vectors, reasons
        found = self._fitting([waveforms[row] for row in good])
        for row, vector in zip(good, found, strict=True):
            if vector is None:
                seconds = len(waveforms[row]) / self.recipe.encoder.sampling_rate
                reasons[row] = f"its {seconds:.0f} s do not fit into the GPU's memory: see processing.max_seconds"
            else:
                vectors[row] = vector
        return vectors, reasons

    def _fitting(self, waveforms: list[np.ndarray]) -> list[np.ndarray | None]:
        """Each waveform's vector (D,), or None if it does not fit into memory alone.

        A batch that does not fit is tried again in halves, and so are all that come after it.
        """
        import torch

        try:
            return list(self.encoder.embed(waveforms))
        except torch.OutOfMemoryError:
            pass  # what follows is done outside, where nothing holds on to the failed pass's tensors
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        seconds = self.encoder.batch_seconds
        if len(waveforms) == 1:
            return [None]
        if seconds is None or seconds <= SMALLEST_BATCH_S:
            return [self._fitting([waveform])[0] for waveform in waveforms]
        self.encoder.batch_seconds = seconds / 2
        return self._fitting(waveforms)


def _keep_memory() -> None:
    """Have the C library keep what it was given: clips of unlike lengths else cost a tenth of the time in page faults.

    For glibc's malloc; elsewhere nothing happens.
    """
    import ctypes

    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return
    trim_threshold, mmap_threshold, arena_max = -1, -3, -8  # as malloc.h numbers them
    libc.mallopt(mmap_threshold, 1 << 30)
    libc.mallopt(trim_threshold, (1 << 31) - 1)
    libc.mallopt(arena_max, 1)  # the arenas of other threads would give it back all the same


def play_round(data: TrainingSet, config: HeadConfig, training: TrainingConfig, repeats: int, number: int) -> Round:
    """A recipe in one round of cross-validation: see golem_ray.selection."""
    import torch

    from golem_ray import selection

    torch.set_num_threads(1)
    x, y = torch.tensor(data.embeddings), torch.tensor(data.labels)
    return selection.play_round(x, y, data.num_classes, config, training, data.groups, repeats, number)


def play_fewer(
    data: TrainingSet, config: HeadConfig, training: TrainingConfig, repeats: int, number: int, sizes: Sequence[int]
) -> np.ndarray:
    """A recipe in one round with fewer clips to train on: see golem_ray.selection."""
    import torch

    from golem_ray import selection

    torch.set_num_threads(1)
    x, y = torch.tensor(data.embeddings), torch.tensor(data.labels)
    return selection.play_fewer(x, y, data.num_classes, config, training, data.groups, repeats, number, sizes)


def warm_up() -> None:
    """Import what the head's task needs: Ray then finds a process that is ready for it when the embeddings are.

    Saves three seconds, which embedding's own imports hide.
    """
    import torch._dynamo  # noqa: F401  what torch's optimizers import with their first step

    import golem_ray.head_training  # noqa: F401


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


def describe_worker(resources: Resources, device: str, note: str = "") -> str:
    """What this process works on: `device|GPUs that Ray gave|process id|what there is to say`."""
    import torch

    name = torch.cuda.get_device_name() if device == "cuda" else device
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "") if resources.gpu else ""
    return f"{name}|{gpus}|{os.getpid()}|{note}"
