"""What there is to say of a clip before anything is trained."""

import subprocess
import sys

import numpy as np
import pytest

from golem_ray.errors import ExampleError
from golem_ray.speech import MODALITY
from golem_ray.speech.facts import clipped_share, level_dbfs, silent_share
from tests.conftest import ROOT, audio_bytes, tone


def described(samples, rate=8000, **how):
    return MODALITY.describe(audio_bytes(np.asarray(samples, dtype=np.float32), rate, **how))


def test_a_plain_clip_has_its_length_rate_channels_and_format():
    facts = described(tone(0, 0.5, 16000, channels=2), 16000, format="FLAC")
    assert (facts["duration"], facts["rate"], facts["channels"]) == (0.5, "16000", "2")
    assert facts["format"] == "FLAC PCM_16"
    assert not any(facts[fact.key] for fact in MODALITY.facts if fact.kind == "flag")
    assert set(facts) == {fact.key for fact in MODALITY.facts}


def test_the_level_is_the_root_mean_square_in_decibels_of_full_scale():
    assert level_dbfs(np.array([1, -1, 1, -1], np.float32)) == 0
    assert level_dbfs(np.array([0.1, -0.1], np.float32)) == pytest.approx(-20, abs=1e-5)
    assert level_dbfs(np.zeros(10, np.float32)) == -120  # no level, and yet a number


def test_silence_is_the_share_of_frames_40_db_below_the_loudest():
    loud = np.tile([0.5, -0.5], 80)  # 160 samples are a frame of 20 ms at 8000 Hz
    assert silent_share(np.concatenate([loud, 0 * loud, 0 * loud, loud]), 8000) == 0.5
    assert silent_share(np.concatenate([loud, 0.0099 * loud]), 8000) == 0.5
    assert silent_share(np.concatenate([loud, 0.0101 * loud]), 8000) == 0
    assert silent_share(0.3 + np.concatenate([loud, 0 * loud]), 8000) == 0.5  # an offset is no sound
    assert silent_share(np.concatenate([loud, np.zeros(159)]), 8000) == 0  # no whole frame


def test_clipped_are_three_equal_samples_or_more_at_full_scale():
    def share(*samples):
        return clipped_share(np.array([*samples], np.float32)[:, None])

    assert share(0, 1, 1, 0, -1, -1, 0, 0, 0, 0) == 0
    assert share(0, 1, 1, 1, 0, -1, -1, -1, -1, 0) == 0.7
    assert share(1, 1, -1, 1, 1, 0.5, 0.5, 0.5, 0, 0) == 0
    assert share(0.99, 0.99, 0.99, 0) == 0.75
    assert share(0.98, 0.98, 0.98, 0) == 0
    assert share(1, 1) == 0
    stereo = np.array([[1, 0], [1, 0.5], [1, 0], [0, 0]], np.float32)
    assert clipped_share(stereo) == 0.75  # though the average of its channels is below


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "FLOAT"])
def test_clips_are_flagged_in_every_sample_format(subtype):
    loud = np.clip(5 * tone(1), -1, 1)
    assert described(loud, subtype=subtype)["clipped"]
    assert not described(0.5 * loud, subtype=subtype)["clipped"]


def test_silent_quiet_and_long_clips_are_flagged():
    still, sound = np.zeros(8000), tone(2, 0.4)
    facts = described(still)
    assert (facts["silent"], facts["silence"], facts["mostly_silence"], facts["quiet"]) == (True, 100, False, False)
    facts = described(np.concatenate([sound, still]))
    assert (facts["silent"], facts["mostly_silence"]) == (False, True)
    assert facts["silence"] == pytest.approx(100 * 50 / 70)
    assert [described(scale * sound)["quiet"] for scale in (0.005, 0.05)] == [True, False]
    assert [described(np.resize(sound, 1000 * seconds), 1000)["long"] for seconds in (300, 301)] == [False, True]


def test_what_no_encoder_takes_has_no_facts_but_a_reason():
    for content, reason in (
        (b"RIFF of nothing", "not audio"),
        (b"", "empty file"),
        (audio_bytes(tone(0, 0.01)), "10.0 ms long"),
        (audio_bytes(np.full(800, np.nan, np.float32), subtype="FLOAT"), "not finite"),
    ):
        with pytest.raises(ExampleError, match=reason):
            MODALITY.describe(content)


def test_clips_are_alike_whatever_their_file_if_samples_and_rate_are():
    clip = np.round(32767 * tone(3)).astype(np.int16)
    files = [(clip, 8000), (clip, 8000, "FLAC"), (np.stack([clip, clip], 1), 8000), (clip, 8001), (clip[1:], 8000)]
    wav, flac, both, faster, shorter = (MODALITY.describe(audio_bytes(*file))["samples"] for file in files)
    assert wav == flac == both
    assert len({wav, faster, shorter}) == 3


def test_a_clip_is_described_without_pytorch():
    code = (
        "import sys; from golem_ray.speech import MODALITY; print(MODALITY.describe(sys.stdin.buffer.read())['rate'])"
    )
    code += "; print({'torch', 'torchaudio', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, input=audio_bytes(tone(0)), capture_output=True)
    assert done.stdout.decode().split("\n")[:2] == ["8000", "set()"], done.stderr
