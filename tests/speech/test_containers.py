"""Files that PyAV reads: which they are, what comes out of them, and what is said where they cannot be used."""

import io
import struct
import sys

import numpy as np
import pytest

from golem_ray.errors import ExampleError
from golem_ray.speech import MODALITY, read
from golem_ray.speech.containers import container_of
from golem_ray.speech.player import player
from tests.conftest import audio_bytes, tone

MPEG_TS = b"".join(b"G" + bytes(187) for _ in range(4))


@pytest.mark.parametrize(
    ("beginning", "name"),
    [
        (b"\0\0\0\x1cftypM4A \0\0\2\0", "an MP4 or QuickTime file"),
        (b"\0\0\0\x08wide\0\0\1\0mdat", "an MP4 or QuickTime file"),
        (b"\xff\xf1\x60\x40", "an AAC file"),
        (b"\xff\xf9\x60\x40", "an AAC file"),
        (b"ID3\4\0\0\0\0\1\0" + bytes(128) + b"\xff\xf1\x60", "an AAC file"),
        (b"\x1a\x45\xdf\xa3\x9f", "a WebM or Matroska file"),
        (b"RIFF\0\1\0\0AVI LIST", "an AVI file"),
        (MPEG_TS, "an MPEG transport stream"),
        (b"".join(bytes(4) + b"G" + bytes(187) for _ in range(4)), "an MPEG transport stream"),
        (b"\0\0\1\xba!", "an MPEG program stream"),
        (bytes.fromhex("3026b2758e66cf11a6d9"), "a Windows Media file"),
        (b"OggS" + bytes(24) + b"Speex   ", "an Ogg file"),
    ],
)
def test_a_kind_follows_from_the_first_bytes_and_names_the_extra_where_pyav_is_missing(beginning, name, monkeypatch):
    container = container_of(beginning)
    assert container is not None
    assert container.name == name
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ExampleError) as error:
        read.decode(beginning)
    assert str(error.value) == f"{name}, which PyAV reads: pip install golem_ray[av]"


@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG", "MP3", "AIFF"])
def test_what_libsndfile_reads_is_not_given_to_pyav(format, monkeypatch):
    monkeypatch.setattr(read, "blocks", None)
    data = audio_bytes(tone(0), format=format)
    assert container_of(data) is None
    assert read.decode(data)[1] == 8000
    assert container_of(audio_bytes(tone(0, rate=48000), 48000, "OGG", "OPUS")) is None
    with pytest.raises(ExampleError, match="not audio that libsndfile can read"):
        read.decode(data[:20])


@pytest.mark.parametrize("data", [b"", b"G", b"ID3", b"ID3\4\0\0\0\0\x7f\x7f", b"\xff\xfb\x90", b"#EXTM3U\n", b"RIFF"])
def test_other_beginnings_are_no_kind_that_pyav_is_asked_for(data):
    assert container_of(data) is None


def test_the_files_of_these_kinds_are_found_in_folders():
    assert {".m4a", ".aac", ".webm", ".opus", ".mp4", ".mov", ".mkv", ".avi"} <= set(MODALITY.content.suffixes)


def test_a_player_says_what_it_plays_and_there_is_none_for_what_browsers_do_not_play():
    assert player(b"\0\0\0\x1cftypM4A ").startswith(
        '<audio class="player" controls preload="none" src="data:audio/mp4;'
    )
    assert "data:audio/webm;base64," in player(b"\x1a\x45\xdf\xa3\x9f")
    assert "data:audio/wav;base64," in player(audio_bytes(tone(0)))
    assert "data:audio/mpeg;base64," in player(audio_bytes(tone(0), format="MP3"))
    assert player(MPEG_TS) == player(None) == ""


# --- with PyAV ------------------------------------------------------------------------------------------------

needs_av = pytest.mark.skipif(
    not __import__("importlib.util").util.find_spec("av"), reason="PyAV is not installed (the extra av)"
)


def made(format, codec, samples, rate=16000, *, video=False, tags=None) -> bytes:
    """A file of that format with the samples (T,) or (C, T), none if they are None, and with moving pictures."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format=format) as file:
        file.metadata.update(tags or {})
        streams = []
        if video:
            pictures = file.add_stream("mpeg4", rate=10)
            pictures.width = pictures.height = 16
            pictures.pix_fmt = "yuv420p"
            frames = [av.VideoFrame.from_ndarray(np.full((16, 16, 3), 9 * row, np.uint8)) for row in range(5)]
            streams.append((pictures, frames))
        if samples is not None:
            samples = np.atleast_2d(samples)
            layout = ["mono", "stereo"][len(samples) - 1]
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=layout)
            frame.sample_rate = rate
            streams.append((file.add_stream(codec, rate=rate, layout=layout), [frame]))
        for stream, frames in streams:
            for each in [*frames, None]:
                file.mux(stream.encode(each))
    return buffer.getvalue()


@needs_av
@pytest.mark.parametrize(
    ("codec", "tolerance"),
    [
        ("pcm_u8", 1e-2),
        ("pcm_s16le", 4e-5),
        ("pcm_s24le", 2e-7),
        ("pcm_s32le", 6e-8),
        ("pcm_f32le", 0),
        ("pcm_f64le", 0),
    ],
)
def test_every_sample_format_is_scaled_to_one(codec, tolerance):
    left, right = tone(0, rate=16000), tone(1, rate=16000)
    decoded, rate = read.decode(made("matroska", codec, left))
    assert (decoded.dtype, decoded.shape, rate) == (np.float32, left.shape, 16000)
    assert np.abs(decoded - left).max() <= tolerance
    decoded, _ = read.decode(made("matroska", codec, np.stack([left, right])))
    assert np.abs(decoded - (left + right) / 2).max() <= tolerance + 6e-8


@needs_av
@pytest.mark.parametrize(
    ("format", "codec", "rate"),
    [
        ("ipod", "aac", 16000),
        ("adts", "aac", 44100),
        ("webm", "libopus", 48000),
        ("mov", "alac", 16000),
        ("avi", "mp2", 16000),
        ("mpegts", "aac", 16000),
        ("mpeg", "mp2", 16000),
        ("flv", "aac", 22050),
    ],
)
def test_a_tone_comes_out_of_files_that_people_have(format, codec, rate):
    time = np.arange(rate) / rate
    decoded, found = read.decode(made(format, codec, (0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32), rate))
    assert found == rate
    assert rate <= len(decoded) + 64 <= rate + 4096  # encoders pad
    spectrum = np.abs(np.fft.rfft(decoded[:rate]))
    assert spectrum.argmax() == 440
    assert decoded.std() == pytest.approx(0.5 / 2**0.5, rel=0.1)
    assert len(read.load_clip(made(format, codec, tone(0, rate=rate), rate), 16000)) >= 6400


@needs_av
def test_the_sound_of_a_video_is_read_and_one_without_is_refused():
    samples = tone(0, rate=16000)
    with_sound, alone = made("mp4", "aac", samples, video=True), made("mp4", "aac", samples)
    assert np.array_equal(read.decode(with_sound)[0], read.decode(alone)[0])
    with pytest.raises(ExampleError, match=r"^an MP4 or QuickTime file without sound$"):
        read.decode(made("mp4", "aac", None, video=True))


@needs_av
def test_a_broken_file_is_refused_in_words():
    data = made("ipod", "aac", tone(0, 1.0, 16000))
    for cut in (40, len(data) // 2):
        with pytest.raises(ExampleError, match=r"^an MP4 or QuickTime file that PyAV cannot decode \(Invalid data"):
            read.decode(data[:cut])
    table = data.index(b"stsz")  # then flags, a size for all samples, and how many there are
    lying = data[: table + 8] + struct.pack(">II", 1, 2**32 - 1) + data[table + 16 :]
    with pytest.raises(ExampleError):
        read.decode(lying)
    noisy = bytearray(data)
    noisy[60:900] = np.random.default_rng(0).bytes(840)
    with pytest.raises(ExampleError, match="cannot decode"):
        read.decode(bytes(noisy))


@needs_av
def test_tags_that_are_no_utf_8_do_no_harm():
    data = made("matroska", "pcm_s16le", tone(0, rate=16000), tags={"title": "caff"})
    assert b"caff" in data
    assert len(read.decode(data.replace(b"caff", b"caf\xe9"))[0]) == 6400


@needs_av
def test_bounds_hold_while_it_is_decoded(monkeypatch):
    slow = made("matroska", "pcm_s16le", tone(0, 30.0, 500), 500)
    with pytest.raises(ExampleError, match="a rate of 500 Hz, not of 1000 to 768000 Hz"):
        read.decode(slow)
    silence = made("webm", "libopus", np.zeros((2, 48000 * 20), np.float32), 48000)
    assert len(silence) < 20_000  # 7 MB of samples
    monkeypatch.setattr(read, "_MOST_BYTES", 4 * 48000 * 2)
    seen = []
    blocks = read.blocks
    monkeypatch.setattr(read, "blocks", lambda *arguments: (seen.append(1) or each for each in blocks(*arguments)))
    with pytest.raises(ExampleError, match="GiB of samples, more than"):
        read.decode(silence)
    assert len(seen) * 960 < 2 * 48000  # it stopped after a second of twenty
    monkeypatch.setattr(read, "_MOST_CHANNELS", 1)
    with pytest.raises(ExampleError, match="2 channels, more than 1"):
        read.decode(silence)
