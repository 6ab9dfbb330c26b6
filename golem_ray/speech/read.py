"""One clip: from the bytes of an audio file to a mono waveform at the encoder's rate.

Knows nothing of datasets, encoders or Ray. Normalising to zero mean and unit variance is the encoder's own
affair (its preprocessor says whether), so it happens there. Loads PyTorch only to resample: to decode takes none.
"""

from __future__ import annotations

import io
import math
import os
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import soundfile

from golem_ray.data.table import read_content
from golem_ray.errors import ConfigError, ExampleError
from golem_ray.speech.containers import Container, blocks, container_of
from golem_ray.speech.families import MARGIN_S, MIN_DURATION_S, QUIET_DB, SILENT_DB, TRIM_WINDOW_S

if TYPE_CHECKING:
    import torchaudio

_MAX_KERNEL_SIZE = 2**22
"""Most taps of a cached resampling kernel (16 MiB); rates with hardly a common divisor would need gigabytes."""

_RATES_HZ = (1_000, 768_000)
"""Rates that recordings have; a header may say anything, and a clip at 1 Hz would grow to 16,000 times its length."""

_MOST_CHANNELS = 64

_MOST_BYTES = 2**32
"""Most memory for a clip's samples, each channel, or at the encoder's rate: 18 hours at 16 kHz, three in stereo at
44.1 kHz, as much as a WAV file holds. What is needed of it at once fits into a machine of 16 GB.
"""


class Recording(NamedTuple):
    """An audio file, decoded."""

    samples: np.ndarray
    """(T, C) float32, integers scaled to [-1, 1]."""
    rate: int
    """In Hz."""
    format: str
    """Of the file and of its samples, as libsndfile calls them: `WAV PCM_16`."""


def decode(data: bytes) -> tuple[np.ndarray, int]:
    """The clip's samples, channels averaged, and its sampling rate: (T,) float32, integers scaled to [-1, 1].

    Raises ExampleError as `decode_channels` does.
    """
    recording = decode_channels(data)
    return recording.samples.mean(axis=1), recording.rate


def decode_channels(data: bytes) -> Recording:
    """What is in an audio file, each channel for itself.

    libsndfile reads what it can (WAV, FLAC, MP3, Ogg Vorbis, Opus, AIFF, ...), PyAV other kinds of files that it knows
    (containers.py). Raises ExampleError for what neither reads, and for what is out of bounds: by its header, before it
    is decoded, or as soon as that is seen.
    """
    if not data:
        raise ExampleError("empty file")
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            _check_rate(file.samplerate)
            _check_channels(file.channels)
            _check_size(file.frames * file.channels)
            samples = file.read(dtype="float32", always_2d=True)
            return Recording(samples, file.samplerate, f"{file.format} {file.subtype}")
    except (soundfile.LibsndfileError, RuntimeError, ValueError) as error:
        reason = getattr(error, "error_string", str(error)).strip().rstrip(".")
    container = container_of(data)
    if container is None:
        raise ExampleError(f"not audio that libsndfile can read ({reason})")
    return _decode_blocks(data, container)


def _decode_blocks(data: bytes, container: Container) -> Recording:
    """As `decode_channels`, of a file that PyAV reads."""
    parts: list[np.ndarray] = []
    kinds, num_samples = set(), 0
    for block, rate in blocks(data, container):
        kinds.add((rate, len(block)))
        _check_rate(rate)
        _check_channels(len(block))
        num_samples += block.size
        _check_size(num_samples)
        parts.append(block)
    if not parts:
        raise ExampleError("no samples")
    if len(kinds) > 1:
        named = ", ".join(f"{rate} Hz in {channels}" for rate, channels in sorted(kinds))
        raise ExampleError(f"rates or channels that change ({named})")
    return Recording(np.concatenate(parts, axis=1).T, rate, container.name.partition(" ")[2])


def _check_channels(number: int) -> None:
    if number > _MOST_CHANNELS:
        raise ExampleError(f"{number} channels, more than {_MOST_CHANNELS}")


def _check_rate(rate: int) -> None:
    lowest, highest = _RATES_HZ
    if not lowest <= rate <= highest:
        raise ExampleError(f"a rate of {rate} Hz, not of {lowest} to {highest} Hz")


def _check_size(num_samples: float) -> None:
    if 4 * num_samples > _MOST_BYTES:
        raise ExampleError(f"{num_samples / 2**28:.1f} GiB of samples, more than {_MOST_BYTES / 2**30:.0f} GiB")


def load_clip(data: bytes, target_rate: int, shortest_s: float = MIN_DURATION_S) -> np.ndarray:
    """The clip as the encoder hears it: (T,) float32 at target_rate Hz.

    Raises ExampleError for clips that are not audio, empty, shorter than shortest_s, out of bounds, or not finite.
    """
    waveform, rate = decode(data)
    check_waveform(waveform, rate, shortest_s)
    return resample(waveform, rate, target_rate)


def as_waveform(
    clip: object, target_rate: int, rate: int | None = None, shortest_s: float = MIN_DURATION_S
) -> np.ndarray:
    """A clip that a caller gives, as the encoder hears it: (T,) float32 at target_rate Hz.

    It is a path or URI, an audio file's bytes, or a waveform (T,) in [-1, 1] at `rate` Hz (by default target_rate).
    Raises ExampleError for one that cannot be used, ConfigError for a rate that is none.
    """
    if rate is not None:
        _check_given_rate(rate)
    if isinstance(clip, bytes | bytearray | memoryview):
        return load_clip(bytes(clip), target_rate, shortest_s)
    if isinstance(clip, str | os.PathLike):
        path = os.fspath(clip)
        content = read_content(None, path if "://" in path else os.path.expanduser(path), "audio")
        return load_clip(content, target_rate, shortest_s)
    samples = _samples(clip)
    rate = rate or target_rate
    _check_rate(rate)
    check_waveform(samples, rate, shortest_s)
    return resample(np.ascontiguousarray(samples), rate, target_rate)


def _samples(clip: object) -> np.ndarray:
    """A waveform as float32. Raises ExampleError for what is none."""
    import torch

    if isinstance(clip, torch.Tensor):
        clip = clip.detach().cpu()
        clip = (clip.float() if clip.is_floating_point() else clip).numpy()
    if not isinstance(clip, np.ndarray) or clip.dtype.kind not in "fiu":
        raise ExampleError(f"a {type(clip).__name__}, which is no path, bytes, array or tensor of samples")
    if clip.dtype.kind != "f":
        raise ExampleError(f"samples of {clip.dtype}: scale them to [-1, 1] first")
    if clip.ndim != 1:
        raise ExampleError(f"samples of shape {clip.shape}, not (T,): average the channels first")
    return clip.astype(np.float32)


def as_file(clip: object, rate: int) -> bytes:
    """Samples (T,) that a caller gives, in an audio file that holds them as they are: the same ones in the same bytes.

    Raises ExampleError for what is no waveform, ConfigError for a rate that is none.
    """
    _check_given_rate(rate)
    file = io.BytesIO()
    soundfile.write(file, _samples(clip), rate, format="AU", subtype="FLOAT")  # WAV would hold the time too
    return file.getvalue()


def _check_given_rate(rate: object) -> None:
    if not (isinstance(rate, int) and rate > 0):
        raise ConfigError(f"sampling_rate: expected a positive number of Hz, got {rate!r}.")


def check_waveform(waveform: np.ndarray, rate: int, shortest_s: float) -> None:
    """Raise ExampleError for a waveform (T,) at `rate` Hz that is empty, shorter than shortest_s, or not finite."""
    if waveform.size == 0:
        raise ExampleError("no samples")
    if not np.isfinite(waveform).all():
        raise ExampleError("samples that are not finite")
    if waveform.size < shortest_s * rate:
        raise ExampleError(f"{1000 * waveform.size / rate:.1f} ms long, shorter than {1000 * shortest_s:.0f} ms")


def trim_silence(waveform: np.ndarray, rate: int, shortest_s: float = MIN_DURATION_S) -> np.ndarray:
    """The waveform (T,) without the silence before and after: a view, at least shortest_s long if (T,) is.

    Silence is what stays more than QUIET_DB below the loudest TRIM_WINDOW_S, over windows of that length. Of it,
    MARGIN_S beside the sound is kept, where soft consonants are, as far as it is not SILENT_DB below the loudest: that
    is no sound of the clip's own. So nothing that is silent makes a difference where it is added to a clip.
    """
    size = min(round(TRIM_WINDOW_S * rate), len(waveform))
    powers = np.concatenate([[0.0], np.cumsum(waveform.astype(np.float64) ** 2)])
    windows = (powers[size:] - powers[:-size]) / size
    loudest = windows.max()
    least = loudest / 10 ** (QUIET_DB / 10)
    loud = np.flatnonzero(windows >= least)
    if least <= 0:
        return waveform
    first, last = int(loud[0]), int(loud[-1]) + size
    own = waveform.astype(np.float64) ** 2
    samples = first + np.flatnonzero(own[first:last] >= least)
    margin = round(MARGIN_S * rate)
    first, last = max(0, int(samples[0]) - margin), int(samples[-1]) + 1 + margin
    samples = first + np.flatnonzero(own[first:last] >= loudest / 10 ** (SILENT_DB / 10))
    start, stop = int(samples[0]), int(samples[-1]) + 1
    missing = math.ceil(shortest_s * rate) - (stop - start)
    if missing > 0:
        start = max(0, min(start - missing // 2, len(waveform) - (stop - start) - missing))
        stop = min(len(waveform), start + math.ceil(shortest_s * rate))
    return waveform[start:stop]


def resample(waveform: np.ndarray, rate: int, target_rate: int) -> np.ndarray:
    """The waveform at another rate, as torchaudio.transforms.Resample gives it: (T,) -> (ceil(T * ratio),).

    Raises ExampleError if that would be out of bounds.
    """
    if rate == target_rate:
        return waveform
    _check_size(waveform.size * target_rate / rate)
    common = math.gcd(rate, target_rate)
    if (rate // common + 1) * (target_rate // common) > _MAX_KERNEL_SIZE:
        return _resample_directly(waveform, rate // common, target_rate // common)
    import torch

    with torch.inference_mode():
        return _resampler(rate, target_rate)(torch.from_numpy(waveform)).numpy()


@lru_cache(maxsize=32)
def _resampler(rate: int, target_rate: int) -> torchaudio.transforms.Resample:
    import torchaudio

    return torchaudio.transforms.Resample(rate, target_rate)


def _resample_directly(waveform: np.ndarray, rate: int, target_rate: int) -> np.ndarray:
    """torchaudio's default resampling, its window evaluated at each output sample instead of tabulated.

    For rates whose table would be huge (11127 Hz needs 11127 x 16000 taps). The filter is a sinc cut off at
    0.99 of the lower rate's half, under a Hann window six zero crossings wide on either side.
    """
    zeros, rolloff = 6, 0.99
    cutoff = min(rate, target_rate) * rolloff
    width = math.ceil(zeros * rate / cutoff)
    num_out = math.ceil(waveform.size * target_rate / rate)
    padded = np.pad(waveform.astype(np.float64), (width, width + 1))
    out = np.empty(num_out, dtype=np.float32)
    for start in range(0, num_out, 65536):
        position = np.arange(start, min(start + 65536, num_out)) * (rate / target_rate)
        first = np.floor(position).astype(np.int64)
        taps = first[:, None] + np.arange(-width, width + 2)
        phase = np.clip((taps - position[:, None]) * (cutoff / rate), -zeros, zeros)
        kernel = np.sinc(phase) * np.cos(phase * np.pi / zeros / 2) ** 2 * (cutoff / rate)
        out[start : start + len(position)] = (kernel * padded[np.minimum(taps + width, padded.size - 1)]).sum(axis=1)
    return out
