"""Log-mel statistics, the plain vector that an encoder has to beat."""

import numpy as np

from golem_ray.speech.baseline import log_mel_statistics
from tests.conftest import tone


def test_log_mel_statistics_do_not_depend_on_the_level_and_take_the_shortest_clip():
    clip = tone(0, 0.5, 16000)
    statistics = log_mel_statistics(clip, 16000)
    assert (statistics.shape, statistics.dtype) == ((80,), np.float32)
    assert np.allclose(log_mel_statistics(clip * 0.1, 16000), statistics, atol=1e-3)
    assert not np.allclose(log_mel_statistics(tone(1, 0.5, 16000), 16000), statistics, atol=0.1)
    for odd in (tone(0, 0.025, 16000), tone(0, 0.025, 8000), np.zeros(400, np.float32)):
        assert np.isfinite(log_mel_statistics(odd, 16000)).all()


def test_log_mel_statistics_say_where_the_energy_lies():
    """40 mel bands up to 4 kHz, their means first: a low tone is in a low band, a high one in a high band."""
    time = np.arange(16000) / 16000
    loudest = [
        log_mel_statistics(np.sin(2 * np.pi * hertz * time).astype(np.float32), 16000)[:40].argmax()
        for hertz in (200, 1000, 3800)
    ]
    assert loudest == sorted(loudest)
    assert loudest[0] < 8
    assert loudest[2] > 36
