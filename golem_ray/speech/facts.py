"""What there is to say of a clip before anything is trained: its length, rate, level, silence, clipping.

Knows no encoder and no other clip. Importing this loads neither PyTorch nor a decoder.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np

from golem_ray.embedding.modality import Fact
from golem_ray.speech.families import MIN_DURATION_S, WHOLE_S, WINDOW_S

LONG = f"longer than {WHOLE_S / 60:.0f} minutes (embedded in windows of {WINDOW_S:.0f} s)"

_FRAME_S, _SILENT_DB = 0.02, 40.0
"""A frame is silent that is so many decibels below the clip's loudest one. Where there is noise, less is found."""

_MOSTLY = 0.5
"""Share of silent frames above which a clip is mostly silence."""

_FULL_SCALE, _RUN = 0.99, 3
"""So many equal samples in a row at that height are clipped. The height is below 1, where 8 bits end (127/128)."""

_CLIPPED = 1e-3
"""Share of such samples above which a clip is called clipped: one short run is not heard."""

_QUIET_DB, _LOWEST_DB = -50.0, -120.0
"""Level below which a clip is very quiet, and the one that stands for no level at all."""

FACTS = (
    Fact(key="duration", title="duration", kind="number", unit="s", is_size=True),
    Fact(
        key="level",
        title="level",
        kind="number",
        unit="dBFS",
        how="Root mean square of the clip, channels averaged, in decibels below the largest sample that there can be.",
    ),
    Fact(
        key="silence",
        title="silence",
        kind="number",
        unit="%",
        how=f"Share of the clip's frames of {1000 * _FRAME_S:.0f} ms that are more than {_SILENT_DB:.0f} dB below its "
        "loudest one. Of clips with noise in their pauses it says less than there is.",
    ),
    Fact(key="rate", title="sampling rate", kind="category", unit="Hz"),
    Fact(key="channels", title="channels", kind="category"),
    Fact(key="format", title="format", kind="category"),
    Fact(
        key="silent",
        title="silent",
        kind="flag",
        how="One value throughout.",
        advice="remove them, or record them again; silence sounds alike under any label",
    ),
    Fact(
        key="mostly_silence",
        title="mostly silence",
        kind="flag",
        how=f"More than {_MOSTLY:.0%} of their frames are silent.",
        advice="leave out the silence at their ends by --processing.trim-silence true: a vector is a mean over all",
    ),
    Fact(
        key="clipped",
        title="clipped",
        kind="flag",
        how=f"{_CLIPPED:.1%} of a channel's samples, or more, are in runs of {_RUN} or more equal ones at full scale "
        f"({_FULL_SCALE} and above). What was clipped before an MP3 or the like was made of it is not found.",
        advice="record them at a lower level, if that can be done",
    ),
    Fact(
        key="quiet",
        title="very quiet",
        kind="flag",
        how=f"Their level is below {_QUIET_DB:.0f} dBFS.",
        advice="listen to some of them",
    ),
    Fact(
        key="long",
        title=LONG,
        kind="flag",
        advice="cut them, or choose other windows by --processing.max-seconds",
    ),
    Fact(key="samples", title="equal samples", kind="identity"),
)


def describe(data: bytes) -> dict[str, Any]:
    """The facts of a clip, from its file. Raises ExampleError for one that no encoder takes."""
    from golem_ray.speech.read import check_waveform, decode_channels

    samples, rate, format = decode_channels(data)
    waveform = samples.mean(axis=1)
    check_waveform(waveform, rate, MIN_DURATION_S)
    silent, level = is_silent(waveform, rate), level_dbfs(waveform)
    silence = 1.0 if silent else silent_share(waveform, rate)
    return {
        "duration": len(waveform) / rate,
        "level": level,
        "silence": 100 * silence,
        "rate": str(rate),
        "channels": str(samples.shape[1]),
        "format": format,
        "silent": silent,
        "mostly_silence": not silent and silence > _MOSTLY,
        "clipped": clipped_share(samples) >= _CLIPPED,
        "quiet": not silent and level < _QUIET_DB,
        "long": len(waveform) > WHOLE_S * rate,
        "samples": hashlib.blake2b(waveform.tobytes(), digest_size=16, salt=rate.to_bytes(16, "little")).digest(),
    }


def is_silent(waveform: np.ndarray, rate: int) -> bool:
    """Whether a clip, (T,) at `rate` Hz, is silent: one value throughout.

    But for the ripple that resampling leaves, most at a clip's ends, and for what rounding to 16 bits leaves of
    channels that cancel.
    """
    inner = waveform[(end := rate // 100) : -end]
    return bool(np.ptp(inner) <= max(2e-3 * abs(float(inner.mean())), 1e-4))


def level_dbfs(waveform: np.ndarray) -> float:
    """Root mean square of a waveform (T,) in decibels to 1.0, which a square wave at full scale has; -120 at least."""
    power = float(np.dot(waveform, waveform)) / len(waveform)
    return max(10 * math.log10(power), _LOWEST_DB) if power > 0 else _LOWEST_DB


def silent_share(waveform: np.ndarray, rate: int) -> float:
    """Share of the frames of 20 ms whose standard deviation is more than 40 dB below the largest: (T,) at `rate` Hz.

    What is left at the end for less than a frame does not count. A constant offset is no sound.
    """
    size = max(1, round(_FRAME_S * rate))
    frames = waveform[: len(waveform) // size * size].reshape(-1, size)
    deviation = frames.std(axis=1)
    return float((deviation < deviation.max() * 10 ** (-_SILENT_DB / 20)).mean())


def clipped_share(samples: np.ndarray) -> float:
    """Share of a channel's samples, the largest of all channels, in runs of equal ones at full scale: (T, C)."""
    if max(samples.max(), -samples.min()) < _FULL_SCALE:
        return 0.0
    return max(float(_in_runs(channel).mean()) for channel in samples.T)


def _in_runs(channel: np.ndarray) -> np.ndarray:
    """(T,) bool: which samples of a channel (T,) are in a run of equal ones at full scale."""
    same = (channel[1:] == channel[:-1]) & (np.abs(channel[1:]) >= _FULL_SCALE)  # each with the one before it
    firsts = np.logical_and.reduce([same[at : len(same) - _RUN + 2 + at] for at in range(_RUN - 1)])
    inside = np.zeros(len(channel), dtype=bool)
    for at in range(_RUN):
        inside[at : len(channel) - _RUN + 1 + at] |= firsts
    return inside
