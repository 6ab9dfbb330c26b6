import numpy as np
import pytest

from golem_ray.metrics.intervals import wilson_interval


@pytest.mark.parametrize(
    ("accuracy", "num_clips", "expected"),
    [(0.5, 10, (0.2366, 0.7634)), (0.0, 10, (0.0, 0.2775)), (1.0, 10, (0.7225, 1.0)), (0.9, 100, (0.8256, 0.9448))],
)
def test_wilson_interval_matches_published_values(accuracy, num_clips, expected):
    assert wilson_interval(accuracy, num_clips) == pytest.approx(expected, abs=2e-4)


def test_wilson_interval_holds_its_promise():
    rng = np.random.default_rng(0)
    for rate in (0.07, 0.5, 0.95):
        hits = [wilson_interval(rng.binomial(50, rate) / 50, 50) for _ in range(2000)]
        assert 0.92 < np.mean([low <= rate <= high for low, high in hits]) < 0.99
