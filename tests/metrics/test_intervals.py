import numpy as np
import pytest

from golem_ray.metrics.intervals import share_interval, wilson_interval


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


def test_intervals_over_groups_are_students_and_nowhere_narrower_than_over_clips():
    groups, shares = np.repeat(np.arange(10), 2), np.repeat([1.0, 0.0], 10)
    # ten groups, five all right: a standard error of 1/6, and 2.2622 is Student's quantile of nine degrees of freedom
    assert share_interval(0.5, shares, groups) == pytest.approx((0.5 - 2.2622 / 6, 0.5 + 2.2622 / 6), abs=1e-4)
    assert share_interval(0.5, shares) == wilson_interval(0.5, 20)
    assert share_interval(1.0, np.ones(20), groups) == wilson_interval(1.0, 20)
    assert share_interval(0.5, shares, np.zeros(20)) == (0.0, 1.0)
