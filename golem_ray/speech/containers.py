"""Audio in files that libsndfile does not read: AAC and its kin, WebM, and the sound of videos. Decoded by PyAV.

PyAV is an extra of the package and is imported where such a file is decoded. A file's kind follows from its first
bytes, never from its name, and PyAV is held to that kind: other formats that FFmpeg knows may open files and addresses.
Does not know which rates and sizes are in bounds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from golem_ray.errors import ExampleError


@dataclass(frozen=True, kw_only=True)
class Container:
    """A kind of file that PyAV reads."""

    name: str
    """For messages: `an AAC file`."""
    demuxer: str
    """FFmpeg's name of what takes it apart."""
    mime: str | None
    """What browsers know it as; None if they play no such file."""


_MP4 = Container(name="an MP4 or QuickTime file", demuxer="mov", mime="audio/mp4")
_AAC = Container(name="an AAC file", demuxer="aac", mime="audio/aac")
_OGG = Container(name="an Ogg file", demuxer="ogg", mime="audio/ogg")
_TS = Container(name="an MPEG transport stream", demuxer="mpegts", mime=None)
_AVI = Container(name="an AVI file", demuxer="avi", mime=None)

_BEGINNINGS = {
    b"\x1a\x45\xdf\xa3": Container(name="a WebM or Matroska file", demuxer="matroska", mime="audio/webm"),
    b"\x00\x00\x01\xba": Container(name="an MPEG program stream", demuxer="mpeg", mime=None),
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": Container(name="a Windows Media file", demuxer="asf", mime=None),
    b"FLV\x01": Container(name="a Flash video", demuxer="flv", mime=None),
    b"#!AMR": Container(name="an AMR file", demuxer="amr", mime=None),
    b"caff": Container(name="a Core Audio file", demuxer="caf", mime=None),
}

_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
"""What an MP4 or QuickTime file may begin with, after four bytes of its length."""

_OTHER_OGG = (b"Speex   ", b"\x80theora", b"fishead\0")
"""What the first page holds of an Ogg file that is not libsndfile's."""


def container_of(data: bytes) -> Container | None:
    """The kind of a file with this content, by its first bytes; None for any that PyAV is not asked to read."""
    for beginning, container in _BEGINNINGS.items():
        if data.startswith(beginning):
            return container
    if data[4:8] in _BOXES:
        return _MP4
    if data[:4] == b"RIFF" and data[8:12] == b"AVI ":
        return _AVI
    if data[:4] == b"OggS" and data[28:36].startswith(_OTHER_OGG):
        return _OGG
    if b"GGG" in (data[0:377:188], data[4:389:192]):  # three packets; cameras put four bytes before each
        return _TS
    sound = data[_tag_size(data) :][:2]
    if len(sound) == 2 and sound[0] == 0xFF and sound[1] & 0xF6 == 0xF0:  # in MP3 the layer's two bits are not 0
        return _AAC
    return None


def _tag_size(data: bytes) -> int:
    """Bytes of an ID3 tag before the sound."""
    if data[:3] != b"ID3" or len(data) < 10:
        return 0
    size = 0
    for byte in data[6:10]:
        size = size << 7 | byte & 0x7F
    return 10 + size


def blocks(data: bytes, container: Container) -> Iterator[tuple[np.ndarray, int]]:
    """The samples of the first audio stream, block by block as they are decoded, and their sampling rate in Hz.

    Each block is (C, T) float32, integers scaled to [-1, 1]. What the encoder added before and after the sound is left
    out as far as the file says so and PyAV sees to it: an AAC file of its own begins some 20 to 60 ms late. Raises
    ExampleError if PyAV is missing, if there is no sound, and for what PyAV cannot decode.
    """
    try:
        import av
    except ModuleNotFoundError:
        raise ExampleError(f"{container.name}, which PyAV reads: pip install golem_ray[av]") from None
    try:
        yield from _decoded(av, data, container)
    except ExampleError:
        raise
    except Exception as error:  # FFmpeg's errors, and whatever PyAV stumbles over in a broken file
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ExampleError(f"{container.name} that PyAV cannot decode ({reason})") from None


def _decoded(av: Any, data: bytes, container: Container) -> Iterator[tuple[np.ndarray, int]]:
    import io

    with av.open(io.BytesIO(data), format=container.demuxer, metadata_errors="ignore") as opened:
        if not opened.streams.audio:
            raise ExampleError(f"{container.name} without sound")
        stream = opened.streams.audio[0]
        if stream.codec_context is None:
            raise ExampleError(f"{container.name} with sound of a kind that PyAV does not know")
        stream.codec_context.thread_count = 1
        for frame in opened.decode(stream):
            samples = frame.to_ndarray()
            if not frame.format.is_planar:
                samples = samples.reshape(-1, frame.layout.nb_channels).T
            yield _scaled(samples), frame.sample_rate


def _scaled(samples: np.ndarray) -> np.ndarray:
    """Samples of any type as float32, integers in [-1, 1]."""
    if samples.dtype.kind == "f":
        return samples.astype(np.float32)
    half = 2.0 ** (8 * samples.dtype.itemsize - 1)
    middle = half if samples.dtype.kind == "u" else 0.0
    return ((samples - middle) / half).astype(np.float32)
