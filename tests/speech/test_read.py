"""One clip: from the bytes of an audio file to a waveform at the encoder's rate."""

import numpy as np
import pytest
import soundfile
import torch
import torchaudio

from golem_ray.errors import ExampleError
from golem_ray.speech import MODALITY, read
from golem_ray.speech.families import FAMILIES
from tests.conftest import audio_bytes, speech_recipe, tone


@pytest.mark.parametrize(
    ("format", "subtype", "tolerance"),
    [
        ("WAV", "PCM_U8", 1e-2),
        ("WAV", "PCM_16", 4e-5),
        ("WAV", "PCM_24", 2e-7),
        ("WAV", "FLOAT", 0),
        ("WAV", "DOUBLE", 0),
        ("WAV", "ULAW", 2e-2),
        ("FLAC", "PCM_16", 4e-5),
        ("AIFF", "PCM_16", 4e-5),
    ],
)
def test_decode_scales_every_sample_format_to_one(format, subtype, tolerance):
    samples = tone(0)
    decoded, rate = read.decode(audio_bytes(samples, 8000, format, subtype))
    assert (decoded.dtype, decoded.shape, rate) == (np.float32, samples.shape, 8000)
    assert np.abs(decoded - samples).max() <= tolerance


@pytest.mark.parametrize(("format", "subtype"), [("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")])
def test_decode_reads_lossy_formats(format, subtype):
    samples = tone(1, 1.0, 16000)
    decoded, rate = read.decode(audio_bytes(samples, 16000, format, subtype))
    assert rate == 16000
    assert abs(len(decoded) - len(samples)) < 2500  # encoders pad
    assert 0.5 < decoded.std() / samples.std() < 1.5


def test_channels_are_averaged():
    stereo = np.stack([np.full(800, 0.5), np.full(800, -0.25)], axis=1).astype(np.float32)
    decoded, _ = read.decode(audio_bytes(stereo, subtype="FLOAT"))
    assert np.array_equal(decoded, np.full(800, 0.125, dtype=np.float32))


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
def test_resample_is_torchaudios(rate):
    waveform = tone(2, 0.5, rate)
    expected = torchaudio.transforms.Resample(rate, 16000)(torch.from_numpy(waveform)).numpy()
    assert np.array_equal(read.resample(waveform, rate, 16000), expected)


@pytest.mark.parametrize(("rate", "target"), [(8000, 16000), (48000, 16000), (44100, 16000), (16000, 8000), (3, 2)])
def test_resampling_without_a_table_equals_torchaudio(rate, target):
    waveform = np.random.default_rng(rate).standard_normal(5001).astype(np.float32)
    common = np.gcd(rate, target)
    expected = torchaudio.transforms.Resample(rate, target)(torch.from_numpy(waveform)).numpy()
    direct = read._resample_directly(waveform, rate // common, target // common)
    assert direct.shape == expected.shape
    assert np.abs(direct - expected).max() < 2e-4  # torchaudio's table is float32


def test_a_rate_without_a_common_divisor_needs_no_huge_table():
    time = np.arange(11127) / 11127
    resampled = read.resample(np.sin(2 * np.pi * 440 * time).astype(np.float32), 11127, 16000)
    expected = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    assert resampled.shape == (16000,)
    assert np.abs(resampled - expected)[200:-200].max() < 5e-3


def test_a_clip_comes_at_the_encoders_rate():
    waveform = read.load_clip(audio_bytes(tone(3, 0.5)), 16000)
    assert (waveform.dtype, waveform.shape) == (np.float32, (8000,))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"not audio at all", "not audio"),
        (audio_bytes(tone(0))[:20], "not audio"),
        (audio_bytes(np.zeros(0, dtype=np.float32)), "no samples"),
        (audio_bytes(np.zeros(199, dtype=np.float32)), "24.9 ms long, shorter than 25 ms"),
        (audio_bytes(np.array([0.1] * 400 + [np.nan], dtype=np.float32), subtype="FLOAT"), "not finite"),
        (audio_bytes(np.array([0.1] * 400 + [np.inf], dtype=np.float32), subtype="FLOAT"), "not finite"),
    ],
)
def test_an_unusable_clip_has_a_reason(data, reason):
    with pytest.raises(ExampleError, match=reason):
        read.load_clip(data, 16000)


def test_a_header_that_promises_too_much_is_a_reason():
    data = bytearray(audio_bytes(tone(0), format="FLAC"))
    data[21] |= 0x0F  # the low 36 bits of these eight bytes are the number of samples
    data[22:26] = b"\xff" * 4
    with pytest.raises(ExampleError, match="256.0 GiB of samples, more than 4 GiB"):
        read.load_clip(bytes(data), 16000)


@pytest.mark.parametrize(("rate", "channels", "reason"), [
    (1, 1, "a rate of 1 Hz, not of 1000 to 768000 Hz"),
    (999, 1, "a rate of 999 Hz"),
    (768_001, 1, "a rate of 768001 Hz"),
    (8000, 65, "65 channels, more than 64"),
])  # fmt: skip
def test_what_no_recording_has_is_refused_before_it_is_decoded(rate, channels, reason, monkeypatch):
    clip = audio_bytes(np.zeros((30_000, channels), np.float32), rate)
    with monkeypatch.context() as patch:
        patch.setattr(soundfile.SoundFile, "read", None)
        with pytest.raises(ExampleError, match=reason):
            read.load_clip(clip, 16000)
    if channels == 1:
        with pytest.raises(ExampleError, match=reason):
            read.as_waveform(np.zeros(30_000, np.float32), 16000, rate)


@pytest.mark.parametrize("rate", [1000, 768_000])
def test_the_lowest_and_the_highest_rate_are_read(rate):
    assert read.load_clip(audio_bytes(tone(0, 0.5, rate), rate), 16000).shape == (8000,)


def test_samples_are_bounded_as_recorded_and_at_the_encoders_rate(monkeypatch):
    stereo, slow = audio_bytes(tone(0, 0.1, channels=2)), audio_bytes(tone(0, 0.4, 1000), 1000)
    monkeypatch.setattr(read, "_MOST_BYTES", 6400)  # of 800 x 2 samples; 400 at 1000 Hz are 6400 at 16,000 Hz
    assert read.load_clip(stereo, 8000).shape == (800,)
    with pytest.raises(ExampleError, match="GiB of samples, more than"):
        read.load_clip(slow, 16000)
    monkeypatch.setattr(read, "_MOST_BYTES", 6399)
    with pytest.raises(ExampleError, match="GiB of samples, more than"):
        read.load_clip(stereo, 8000)


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100])
def test_a_silent_clip_gets_a_remark(rate, encoder_folder):
    recipe, loud = speech_recipe(encoder_folder), tone(0, 0.1, rate)
    still = np.full(len(loud), 0.5, np.float32)
    clips = [loud, still, 0 * still, np.stack([loud, -loud], axis=1), 0.5 + 0.01 * loud, loud[: rate // 40 + 1]]
    read_all = [MODALITY.read(audio_bytes(clip, rate, subtype="FLOAT"), recipe) for clip in clips]
    assert [MODALITY.remark(each, recipe) for each in read_all] == ["", "silent", "silent", "silent", "", ""]
    cancelling = MODALITY.read(audio_bytes(clips[3], rate, subtype="PCM_16"), recipe)
    assert MODALITY.remark(cancelling, recipe) == "silent"


def test_25_ms_are_enough():
    assert read.load_clip(audio_bytes(np.zeros(200, dtype=np.float32)), 16000).shape == (400,)


def test_libsndfile_reads_what_the_readme_says():
    assert {"WAV", "FLAC", "MP3", "OGG"} <= set(soundfile.available_formats())


def test_a_family_may_need_longer_clips_than_others(encoder_folder, monkeypatch):
    clip = audio_bytes(tone(0, 0.1))
    assert MODALITY.read(clip, speech_recipe(encoder_folder)).shape == (1600,)
    monkeypatch.setattr(FAMILIES["wav2vec2"], "shortest_s", 0.2)
    recipe = speech_recipe(encoder_folder)
    with pytest.raises(ExampleError, match=r"100\.0 ms long, shorter than 200 ms"):
        MODALITY.read(clip, recipe)
    for given in (clip, tone(0, 0.1, 16000)):
        with pytest.raises(ExampleError, match="shorter than 200 ms"):
            MODALITY.given(given, recipe)


def test_silence_that_is_added_to_a_clip_is_trimmed_and_its_own_soft_ends_are_not():
    rng = np.random.default_rng(0)
    loud, soft = (level * rng.standard_normal(size).astype(np.float32) for level, size in ((0.3, 8000), (0.004, 800)))
    clip = np.concatenate([soft, loud, soft])  # 50 ms that are 37 dB below the rest
    trimmed = read.trim_silence(clip, 16000)
    assert len(clip) - 20 < len(trimmed) <= len(clip)
    faint = 1e-5 * rng.standard_normal(16000).astype(np.float32)
    for silence in (np.zeros(16000, dtype=np.float32), faint):
        assert np.array_equal(read.trim_silence(np.concatenate([silence, clip, silence]), 16000), trimmed)
    hiss = 0.004 * rng.standard_normal(16000).astype(np.float32)
    kept = read.trim_silence(np.concatenate([hiss, clip, hiss]), 16000)
    assert len(loud) + 2 * 1600 <= len(kept) <= len(loud) + 2 * (1600 + 400)  # a tenth of a second, and a window


def test_what_is_trimmed_stays_long_enough_and_silence_alone_stays():
    click = np.zeros(4000, dtype=np.float32)
    for place in (0, 10, 2000, 3999):
        click[:] = 0
        click[place] = 0.5
        trimmed = read.trim_silence(click, 16000)
        assert len(trimmed) == 400
        assert trimmed.max() == 0.5
    click[:] = 0
    assert len(read.trim_silence(click, 16000)) == 4000
