"""Reading examples on the workers: one by one, or in groups for a GPU."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from golem_ray.data.shards import with_contents
from golem_ray.data.table import read_content
from golem_ray.embedding.crash_notes import GUILTY, Journal
from golem_ray.errors import ExampleError

LOG_MEL_SIZE = 80
"""Width of the baseline's vectors."""


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
    seconds: float = 0.0
    """How long it is, 0 where there is a reason."""


NO_SAMPLES = np.zeros(0, dtype=np.float32)


def rows_of(batch: pa.Table) -> list[pa.Table]:
    """Each row as a table."""
    return [batch.slice(number, 1) for number in range(batch.num_rows)]


def _read_file(row: pa.Table) -> tuple[dict[str, Any], bytes, bytes, str]:
    """A row's fields, its audio file, that file's digest, and the reason why there is none ('' if there is one)."""
    (fields,) = row.to_pylist()
    if fields.get("problem"):
        return fields, b"", bytes(32), fields["problem"]
    try:
        content = read_content(fields["bytes"], fields["path"])
    except ExampleError as error:
        return fields, b"", bytes(32), str(error)
    return fields, content, hashlib.sha256(content).digest(), ""


def hash_batch(batch: pa.Table) -> dict[str, Any]:
    """The digests alone: a table of clips -> {id, digest}."""
    return {"id": batch["id"].to_numpy(), "digest": [_read_file(row)[2] for row in rows_of(with_contents(batch))]}


def read_clip(row: pa.Table, rate: int, baseline: bool) -> Clip:
    """The clip in a table's only row, decoded and resampled to `rate` Hz; with baseline, log-mel statistics too."""
    from golem_ray.speech.baseline import log_mel_statistics
    from golem_ray.speech.read import load_clip

    fields, content, digest, reason = _read_file(row)
    waveform = NO_SAMPLES
    log_mel = np.zeros(LOG_MEL_SIZE if baseline else 0, dtype=np.float32)
    if not reason and fields["label"] is None:
        reason = "no label, or one that the source does not name"
    if not reason:
        try:
            waveform = load_clip(content, rate)
            log_mel = log_mel_statistics(waveform, rate) if baseline else log_mel
        except ExampleError as error:
            reason = str(error)
    return Clip(fields["id"], digest, waveform, reason, log_mel, len(waveform) / rate)


def group_clips(
    batch: pa.Table, rate: int, baseline: bool, seconds: float, journal: Journal | None = None
) -> Iterator[pa.Table]:
    """Clips for a GPU actor, in groups of at most so many seconds of audio (a longer clip alone), one group a row.

    Bounds what is in memory at a time, whatever the clips' lengths. `ungroup` takes them apart again.
    """
    journal = journal or Journal()
    group: list[Clip] = []
    with journal.block(batch["id"].to_pylist()) as suspicious:
        for row in rows_of(batch if suspicious else with_contents(batch)):
            clip = _read_alone(row, rate, baseline, journal) if suspicious else read_clip(row, rate, baseline)
            if group and sum(len(one.waveform) for one in group) + len(clip.waveform) > seconds * rate:
                yield _group(group)
                group = []
            group.append(clip)
        if group:
            yield _group(group)


def _read_alone(row: pa.Table, rate: int, baseline: bool, journal: Journal) -> Clip:
    """What `read_clip` gives, of a clip that may have ended a process."""
    clip_id = row["id"][0].as_py()
    with journal.clip(clip_id) as guilty:
        return guilty_clip(clip_id, baseline) if guilty else read_clip(with_contents(row), rate, baseline)


def guilty_clip(clip_id: int, baseline: bool) -> Clip:
    """One that ended the processes that worked on it."""
    log_mel = np.zeros(LOG_MEL_SIZE if baseline else 0, dtype=np.float32)
    return Clip(clip_id, bytes(32), NO_SAMPLES, GUILTY, log_mel)


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


def ungroup(groups: pa.Table, rate: int) -> list[Clip]:
    """The clips in rows that `group_clips` made; waveforms are views."""
    clips = []
    for number in range(groups.num_rows):
        parts = {name: groups[name].slice(number, 1).combine_chunks().flatten() for name in groups.column_names}
        ends = np.cumsum(parts["length"].to_numpy())
        waveforms = np.split(parts["samples"].to_numpy(), ends[:-1])
        log_mel = np.split(parts["log_mel"].to_numpy(), len(ends))
        seconds = (parts["length"].to_numpy() / rate).tolist()
        plain = [parts[name].to_pylist() for name in ("id", "digest", "reason")]
        rows = zip(*plain, waveforms, log_mel, seconds, strict=True)
        clips += [Clip(i, digest, wave, reason, mel, length) for i, digest, reason, wave, mel, length in rows]
    return clips
