"""What a classifier that names only what it is sure of is worth."""

import numpy as np
import pytest

from golem_ray.metrics.coverage import coverage_curve, covered, fewest, threshold_for
from golem_ray.metrics.intervals import wilson_interval


def sure_and_right(number, rounds=1, seed=0):
    """(R, N): confidences, and whether each example is right, with just that probability."""
    rng = np.random.default_rng(seed)
    confidence = np.tile(rng.uniform(0.3, 1.0, number), (rounds, 1))
    return confidence, np.tile(rng.uniform(size=number) < confidence[0], (rounds, 1)).astype(float)


def test_coverage_and_precision_are_counted_over_what_was_tested():
    right = np.array([[1.0, 0.0, 1.0, np.nan], [1.0, 1.0, np.nan, np.nan]])
    named = np.array([[True, True, False, True], [True, False, True, True]])
    found = covered(right, named)
    assert found["coverage"]["value"] == 3 / 5
    assert found["precision"]["value"] == pytest.approx(2 / 3)
    assert found["precision"]["interval_95"] == pytest.approx(list(wilson_interval(2 / 3, 1.5)))
    assert covered(right, np.zeros_like(named))["precision"] is None


def test_more_rounds_of_the_same_make_no_interval_narrower():
    (_, once), (_, often) = sure_and_right(60), sure_and_right(60, rounds=5)
    assert covered(often, often >= 0) == covered(once, once >= 0)


def bound(right, confidence, cut):
    """The lower bound of the precision from a confidence on."""
    named = right[confidence >= cut]
    return wilson_interval(named.mean(), len(named), z=1.644854)[0]


def test_the_least_threshold_is_taken_that_is_known_to_keep_the_precision():
    confidence, right = sure_and_right(2000)
    threshold = threshold_for(0.9, confidence, right)
    assert bound(right, confidence, threshold) >= 0.9
    assert 0.2 < (confidence >= threshold).mean() < 0.35  # of a uniform confidence from .3 on, .8 and more means .9
    lower = np.unique(confidence[confidence < threshold])
    assert all(bound(right, confidence, cut) < 0.9 for cut in lower[::40])


def test_few_examples_show_no_precision_even_if_all_are_right():
    confidence = np.linspace(0.5, 1, 25)[None]
    assert threshold_for(0.9, confidence[:, :24], np.ones((1, 24))) is None
    assert threshold_for(0.9, confidence, np.ones((1, 25))) == 0.5
    assert threshold_for(0.9, confidence, np.full((1, 25), np.nan)) is None
    assert (fewest(0.9), fewest(0.95), fewest(0.5)) == (25, 52, 3)


def test_a_speaker_who_is_always_wrong_is_not_outvoted():
    confidence, right = np.full((1, 400), 0.9), np.ones((1, 400))
    right[0, :20] = 0
    groups = np.arange(400) // 20
    assert threshold_for(0.9, confidence, right) == 0.9
    assert threshold_for(0.9, confidence, right, groups) is None
    assert threshold_for(0.88, confidence, right, np.arange(400) % 20) == 0.9  # one mistake each
    assert threshold_for(0.88, confidence, right, groups) is None


def test_speakers_who_differ_leave_one_more_in_doubt():
    groups, right = np.repeat(np.arange(8), 200), np.ones((1, 1600))
    for speaker in (0, 1):
        right[0, np.flatnonzero(groups == speaker)[:44]] = 0  # .78 of theirs, .945 of all
    confidence = np.full((1, 1600), 0.9)
    assert threshold_for(0.85, confidence, right, groups) is None  # the mean of speakers is at least .88
    assert threshold_for(0.78, confidence, right, groups) == 0.9
    right[0] = np.random.default_rng(0).permutation(right[0])  # now they differ by chance alone
    assert threshold_for(0.9, confidence, right, groups) == 0.9
    many = np.arange(1600) // 4  # of four examples each chance is not held against them, but of 25
    assert threshold_for(0.87, confidence, right, many) == 0.9
    assert threshold_for(0.9, confidence, right, many) is None


def test_in_other_examples_the_precision_holds():
    confidence, right = sure_and_right(20000, seed=1)
    held = 0
    for draw in range(40):
        rows = np.random.default_rng(draw).permutation(20000)[:600]
        threshold = threshold_for(0.8, confidence[:, rows], right[:, rows])
        assert threshold is not None
        held += right[confidence >= threshold].mean() >= 0.8
    assert held >= 36  # a threshold is chosen among many: 95 % become some 92 %


def test_the_curve_goes_from_all_to_the_surest():
    confidence, right = sure_and_right(1000)
    points = coverage_curve(confidence[0], right[0])
    assert len(points) == 200
    assert (points[0]["coverage"], points[0]["precision"]) == (1.0, right.mean())
    assert points[-1]["coverage"] == 1 / 1000
    assert np.all(np.diff([point["threshold"] for point in points]) > 0)
    assert coverage_curve(np.array([0.5, 0.5]), np.array([1.0, 0.0])) == [
        {"threshold": 0.5, "coverage": 1.0, "precision": 0.5}
    ]
