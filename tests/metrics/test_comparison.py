import numpy as np
import pytest
from scipy import stats

from golem_ray.metrics import comparison
from golem_ray.metrics.comparison import Score, best_candidate
from tests.heads.training import played


def test_on_noise_choosing_is_worth_chance_although_the_best_looks_better():
    inside, worth, looks = 0, [], []
    for seed in range(1, 5):
        rng = np.random.default_rng(seed)
        labels = rng.permutation(np.arange(60) % 4)
        candidates = [rng.standard_normal((60, 6)).astype(np.float32) for _ in range(8)]
        rounds = [played(candidate, labels, 1) for candidate in candidates]
        found = comparison.compare(rounds, None)
        low, high = found["nested"]["accuracy"]["interval_95"]
        inside += low <= 0.25 <= high
        worth.append(found["nested"]["accuracy"]["value"])
        looks.append(found["candidates"][found["order"][0]]["accuracy"]["value"])
        assert sum(count for _, count in found["nested"]["chosen"]) == 5
    assert inside >= 3  # of four intervals of 95 %
    assert 0.2 < np.mean(worth) < 0.3 < np.mean(looks)


def test_the_better_candidate_is_found_and_its_gain_does_not_cover_zero():
    rng = np.random.default_rng(0)
    labels = np.arange(80) % 4
    noise = rng.standard_normal((80, 6)).astype(np.float32)
    good = (noise + 2 * rng.standard_normal((4, 6))[labels]).astype(np.float32)
    rounds = [played(each, labels, 2, epochs=40) for each in (noise, good, noise * 2)]
    found = comparison.compare(rounds, None)
    assert found["order"][0] == 1
    low, high = found["candidates"][1]["against_default"]["interval_95"]
    assert 0.2 < low < found["candidates"][1]["against_default"]["value"] < high
    assert found["candidates"][1]["against_best"] == {"value": 0.0, "interval_95": [0.0, 0.0]}
    assert found["candidates"][0]["against_best"]["value"] == -found["candidates"][1]["against_default"]["value"]
    assert found["nested"]["chosen"] == [[1, 10]]
    assert found["nested"]["accuracy"] == found["candidates"][1]["accuracy"]


def test_the_best_is_the_most_accurate_then_the_surest_then_the_first():
    assert best_candidate([Score(0.5, 1.0), None, Score(0.6, 3.0), Score(0.6, 2.0), Score(0.6, 2.0)]) == 3
    assert best_candidate([None, None]) is None


def test_a_paired_interval_is_nadeau_and_bengios():
    rng = np.random.default_rng(1)
    first, second = (rng.random((2, 3, 50)) < 0.6).astype(np.float32)
    found = comparison.paired(first, second, 5, None)
    differences = first - second
    variance = differences.var(axis=1, ddof=1).mean() / 50  # of one round's mean over 50 clips
    half = stats.t.ppf(0.975, 49) * np.sqrt(variance * (1 / 3 + 5 / 4))
    value = differences.mean()
    assert found["value"] == pytest.approx(value)
    assert found["interval_95"] == pytest.approx([value - half, value + half])


def test_intervals_of_equal_groups_are_students_over_their_means():
    rng = np.random.default_rng(2)
    right = (rng.random((1, 40)) < 0.5).astype(np.float32)
    groups = np.repeat([7, 3, 9, 1, 5], 8)
    means = right.reshape(5, 8).mean(axis=1)
    half = stats.t.ppf(0.975, 4) * stats.sem(means)
    low, high = comparison.accuracy_of(right, groups)["interval_95"]
    assert (low, high) == pytest.approx((means.mean() - half, means.mean() + half))
    low, high = comparison.paired(right, np.zeros((1, 40)), 5, groups)["interval_95"]
    half *= np.sqrt(1 + 5 / 4)
    assert (low, high) == pytest.approx((max(-1, means.mean() - half), min(1, means.mean() + half)))
    one = comparison.paired(right, 1 - right, 5, np.zeros(40))  # one person tells nothing
    assert one["interval_95"] == [-1.0, 1.0]


def test_intervals_between_equal_candidates_cover_zero_as_often_as_they_say():
    misses = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        labels, centres = np.arange(50) % 5, rng.standard_normal((5, 6))
        embeddings = [(rng.standard_normal((50, 6)) + centres[labels]).astype(np.float32) for _ in range(2)]
        first, second = (np.stack([each.right for each in played(x, labels, 2, epochs=5)]) for x in embeddings)
        low, high = comparison.paired(first, second, 5, None)["interval_95"]
        misses += not low <= 0 <= high
    assert misses <= 4


def test_clips_that_were_not_tested_are_left_out():
    right = np.array([[1, np.nan, 0, np.nan], [1, 1, np.nan, np.nan]])
    assert comparison.accuracy_of(right, None)["value"] == pytest.approx(3 / 4)
