"""Which labels an example is given: calibration and thresholds, those of a fold by the other folds."""

import numpy as np
import pytest
import torch

from golem_ray.config import HeadConfig
from golem_ray.heads import multi_label
from golem_ray.heads.multi_label import MULTI_LABEL
from golem_ray.heads.target import MIN_CALIBRATION

LOG_3 = float(np.log(3.0))


def test_probabilities_are_sigmoids_and_calibrated_by_slope_and_intercept():
    logits = np.array([[0.0, LOG_3, -LOG_3]], dtype=np.float32)
    assert MULTI_LABEL.probabilities(logits) == pytest.approx(np.array([[0.5, 0.75, 0.25]]))
    record = {"slopes": [1.0, 2.0, 0.5], "intercepts": [LOG_3, -LOG_3, LOG_3 / 2]}
    assert MULTI_LABEL.probabilities(logits, record) == pytest.approx(np.array([[0.75, 0.75, 0.5]]))
    assert MULTI_LABEL.probabilities(np.array([[1e4, -1e4]])).tolist() == [[1.0, 0.0]]


PROBABILITIES = np.array([[0.9, 0.2, 0.5], [0.1, 0.2, 0.3], [0.5, 0.5, 0.5]])


def test_labels_are_given_at_one_half_and_above_or_at_thresholds_of_their_own():
    assert MULTI_LABEL.answers(PROBABILITIES).decisions.tolist() == [[True, False, True], [False] * 3, [True] * 3]
    record = {"thresholds": [0.6, 0.2, 0.9], "at_least_one": False}
    found = MULTI_LABEL.answers(PROBABILITIES, record)
    assert found.decisions.tolist() == [[True, True, False], [False, True, False], [False, True, False]]
    assert found.num_classes == 3


def test_the_confidence_is_the_probability_of_the_whole_decision():
    found = MULTI_LABEL.answers(PROBABILITIES)
    assert found.confidence == pytest.approx([0.9 * 0.8 * 0.5, 0.9 * 0.8 * 0.7, 0.5**3])


def test_at_least_one_is_the_label_nearest_to_its_threshold():
    record = {"thresholds": [0.95, 0.6, 0.55], "at_least_one": True}
    found = MULTI_LABEL.answers(PROBABILITIES, record)
    assert found.decisions.tolist() == [[True, False, False], [False, False, True], [False, False, True]]
    assert found.confidence == pytest.approx([0.9 * 0.8 * 0.5, 0.9 * 0.8 * 0.3, 0.5**3])


def test_labels_are_ranked_and_given_the_likeliest_first():
    assert MULTI_LABEL.ranking(PROBABILITIES).tolist() == [[0, 2, 1], [2, 1, 0], [0, 1, 2]]
    assert MULTI_LABEL.ranking(PROBABILITIES, 1).tolist() == [[0], [2], [0]]
    decisions = np.array([[True, True, True], [False, False, False], [False, True, True]])
    assert MULTI_LABEL.given(decisions, PROBABILITIES) == [[0, 2, 1], [], [1, 2]]


def told(number=100, seed=0):
    """Logits (N, 3) that are too sure, and their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.uniform(size=(number, 3)) < [0.5, 0.2, 0.1]
    return (4 * (rng.standard_normal((number, 3)) + 2 * labels) - 3).astype(np.float32), labels


def test_calibration_moves_each_label_and_finds_its_threshold():
    logits, labels = told()
    record = MULTI_LABEL.calibrate(logits, labels, 100, HeadConfig())
    assert set(record) == {"slopes", "intercepts", "thresholds", "least", "at_least_one", "num_clips"}
    assert (record["num_clips"], record["at_least_one"]) == (100, False)
    probabilities = MULTI_LABEL.probabilities(logits, record)
    assert probabilities.mean(axis=0) == pytest.approx(labels.mean(axis=0), abs=0.02)
    assert len(set(record["thresholds"])) == 3
    decisions = MULTI_LABEL.answers(probabilities, record).decisions
    assert np.array_equal(decisions, logits.astype(np.float64) >= record["least"])  # the same said of plain logits


def test_a_configured_threshold_is_that_of_calibrated_probabilities():
    logits, labels = told()
    record = MULTI_LABEL.calibrate(logits, labels, 100, HeadConfig(threshold=0.3, at_least_one=True))
    assert record["thresholds"] == [0.3] * 3
    assert record["at_least_one"]
    assert np.array(record["slopes"]).max() < 0.9
    probabilities = MULTI_LABEL.probabilities(logits, record)
    assert np.array_equal(probabilities >= 0.3, logits.astype(np.float64) >= record["least"])


@pytest.mark.parametrize("threshold", ["tuned", 0.3])
def test_of_too_few_examples_or_logits_that_are_not_finite_nothing_is_calibrated(threshold):
    config, low = HeadConfig(threshold=threshold), 0.5 if threshold == "tuned" else 0.3
    plain = {
        "slopes": [1.0] * 3,
        "intercepts": [0.0] * 3,
        "thresholds": [low] * 3,
        "least": pytest.approx([np.log(low / (1 - low))] * 3),
        "at_least_one": False,
        "num_clips": 0,
    }
    logits, labels = told(MIN_CALIBRATION)
    assert MULTI_LABEL.calibrate(logits, labels, MIN_CALIBRATION, config)["num_clips"] == MIN_CALIBRATION
    assert MULTI_LABEL.calibrate(logits, labels, MIN_CALIBRATION - 1, config) == plain
    assert MULTI_LABEL.calibrate(logits[:0], labels[:0], 0, config) == plain
    logits[3, 1] = np.inf
    assert MULTI_LABEL.calibrate(logits, labels, 40, config) == plain


def test_of_very_many_logits_some_are_calibrated_on(monkeypatch):
    logits, labels = told(400)
    every = MULTI_LABEL.calibrate(logits, labels, 400, HeadConfig())
    monkeypatch.setattr(multi_label, "MOST_CALIBRATION", 200 * 3)
    some = MULTI_LABEL.calibrate(logits, labels, 400, HeadConfig())
    assert some["num_clips"] == 200
    assert some["slopes"] == pytest.approx(every["slopes"], rel=0.4)


def test_how_to_decide_on_a_fold_follows_from_the_other_folds_alone():
    logits, labels = told(100)
    folds = MULTI_LABEL.folds(labels, 1, 0)
    found = MULTI_LABEL.unseen(logits, labels, folds, HeadConfig())
    for number, (_, test) in enumerate(folds):
        changed = labels.copy()
        changed[test] = ~labels[test]
        again = MULTI_LABEL.unseen(logits, changed, folds, HeadConfig())
        assert np.array_equal(again.decisions[test], found.decisions[test])
        assert np.array_equal(again.probabilities[test], found.probabilities[test])
        others = np.setdiff1d(np.arange(100), test)
        assert not np.array_equal(again.probabilities[others], found.probabilities[others])
        record = MULTI_LABEL.calibrate(logits[others], labels[others], 80, HeadConfig())
        assert np.array_equal(found.probabilities[test], MULTI_LABEL.probabilities(logits[test], record)), number
    assert found.confidence == pytest.approx(
        np.where(found.decisions, found.probabilities, 1 - found.probabilities).prod(axis=1)
    )


def test_what_no_fold_tests_tells_nothing_of_how_to_decide():
    logits, labels = told(100)
    folds = MULTI_LABEL.folds(labels[:80], 1, 0)
    logits[80:] = np.nan
    found = MULTI_LABEL.unseen(logits, labels, folds, HeadConfig())
    assert np.array_equal(
        found.probabilities[:80], MULTI_LABEL.unseen(logits[:80], labels[:80], folds, HeadConfig()).probabilities
    )
    assert not found.decisions[80:].any()


def test_its_line_of_pytorch_names_the_labels():
    scope = {
        "labels": ["a", "b", "c"],
        "embedding": 0.5,
        "least": [0.4, 0.6, 0.5],
        "head": lambda x: torch.full((3,), x),
    }
    assert eval(MULTI_LABEL.in_pytorch, scope) == ["a", "c"]
