"""What one label's probabilities are worth: curves, and the error of calibration."""

import numpy as np
import pytest
import sklearn.calibration
import sklearn.metrics

from golem_ray.metrics.several import figures
from golem_ray.metrics.several_curves import precision_recall, rank, reliability
from tests.metrics.test_several import answers_of, drawn


def test_each_resample_is_measured_as_if_it_were_written_out():
    """The figures of examples that are there many times or never, by weights and by copies of them."""
    probabilities, labels = drawn(5)
    times = np.random.default_rng(0).integers(0, 4, (3, 300))
    for label in range(3):
        by_weight = np.array(rank(probabilities[:, label], labels[:, label]).measure(times.astype(np.float64)))
        for row in range(3):
            rows = np.repeat(np.arange(300), times[row])
            copied = rank(probabilities[rows, label], labels[rows, label]).measure(np.ones((1, len(rows))))
            assert by_weight[:, row] == pytest.approx(np.concatenate(copied))


def test_the_calibration_error_has_ten_bins_of_equally_many():
    probabilities = np.arange(20)[:, None] / 20
    labels = np.zeros((20, 1), bool)
    labels[[3, 17, 18, 19]] = True
    # pairs: .025, .125 - .5, then .225 to .725 by tenths, .825 - .5, .925 - 1
    expected = (0.025 + 0.375 + (0.225 + 0.325 + 0.425 + 0.525 + 0.625 + 0.725) + 0.325 + 0.075) / 10
    assert figures(answers_of(probabilities), labels)["calibration_error"]["value"] == pytest.approx(expected)
    mixed = np.random.default_rng(0).permutation(20)
    again = figures(answers_of(probabilities[mixed]), labels[mixed])["calibration_error"]["value"]
    assert again == pytest.approx(expected)
    equal = figures(answers_of(np.full((20, 1), 0.3)), labels)["calibration_error"]["value"]
    assert equal == pytest.approx(0.1)  # equal probabilities are in one bin


def test_the_bins_are_scikit_learns():
    rng = np.random.default_rng(3)
    probabilities = rng.random(101) ** 3
    labels = rng.random(101) < probabilities
    share, mean = sklearn.calibration.calibration_curve(labels, probabilities, n_bins=10, strategy="quantile")
    _, _, error = rank(probabilities, labels).measure(np.ones((1, 101)))
    assert error[0] == pytest.approx((np.abs(share - mean) * np.array([11] + [10] * 9)).sum() / 101)


def test_reliability_is_of_scikit_learns_bins():
    rng = np.random.default_rng(3)
    probabilities = rng.random(101) ** 3
    labels = rng.random(101) < probabilities
    share, mean = sklearn.calibration.calibration_curve(labels, probabilities, n_bins=10, strategy="quantile")
    said, found, counts = reliability(probabilities, labels)
    assert said == pytest.approx(mean)
    assert found == pytest.approx(share)
    assert counts.tolist() == [11] + [10] * 9
    said, found, counts = reliability(np.full(20, 0.3), np.arange(20) < 5)  # equal probabilities are in one bin
    assert (said.tolist(), found.tolist(), counts.tolist()) == ([pytest.approx(0.3)], [pytest.approx(0.25)], [20])


def test_the_floor_is_what_perfect_probabilities_have():
    probabilities, labels = drawn(7, num_clips=2000, rates=np.array([0.4, 0.2, 0.1, 0.3, 0.25, 0.15]))
    labels = np.random.default_rng(0).random(probabilities.shape) < probabilities
    perfect = figures(answers_of(probabilities), labels)["calibration_error"]
    assert perfect["floor"] == pytest.approx(perfect["value"], rel=0.25)
    shifted = figures(answers_of(np.minimum(probabilities * 1.3, 1)), labels)["calibration_error"]
    assert shifted["value"] > 2 * shifted["floor"]
    assert shifted["interval_95"][0] > 2 * shifted["floor"]


def test_the_curve_is_scikit_learns_with_few_points():
    probabilities, labels = drawn(1)
    precision, recall, thresholds = precision_recall(probabilities[:, 1], labels[:, 1])
    whole = sklearn.metrics.precision_recall_curve(labels[:, 1], probabilities[:, 1], drop_intermediate=True)
    assert np.array_equal(thresholds, whole[2])
    assert np.array_equal(precision, whole[0][:-1])
    assert np.array_equal(recall, whole[1][:-1])
    rng = np.random.default_rng(0)
    rare = rng.random(20_000) ** 4
    found = precision_recall(rare, rng.random(20_000) < 0.05 * rare)
    assert [len(each) for each in found] == [200] * 3
    assert np.diff(found[1]).max() <= 0
    assert np.diff(found[1]).min() > -0.02  # no gap, although most examples are below all that have the label
    assert all(len(each) == 0 for each in precision_recall(rare, np.zeros(20_000, bool)))
