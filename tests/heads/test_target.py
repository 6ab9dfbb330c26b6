"""One label an example, against figures computed by hand."""

import numpy as np
import pytest
import torch

from golem_ray.config import HeadConfig
from golem_ray.data.folds import held_out, round_folds, stratified_folds
from golem_ray.heads import single_label
from golem_ray.heads.single_label import SINGLE_LABEL, fit_temperature
from golem_ray.heads.target import MIN_CALIBRATION
from golem_ray.heads.targets import TARGETS, target_of
from golem_ray.metrics.figures import evaluate

LOG_3 = float(np.log(3.0))


def test_the_target_is_found_by_its_name():
    assert TARGETS["single-label"] is SINGLE_LABEL
    assert target_of(False) is SINGLE_LABEL
    assert target_of(True) is TARGETS["multi-label"]


def test_probabilities_are_the_softmax_of_logits_over_the_temperature():
    logits = np.array([[0.0, LOG_3], [LOG_3, LOG_3]], dtype=np.float32)
    found = SINGLE_LABEL.probabilities(logits)
    assert found.dtype == np.float64
    assert found == pytest.approx(np.array([[0.25, 0.75], [0.5, 0.5]]))
    calibrated = SINGLE_LABEL.probabilities(2 * logits, {"temperature": 2.0, "num_clips": 40})
    assert calibrated == pytest.approx(np.array([[0.25, 0.75], [0.5, 0.5]]))
    assert SINGLE_LABEL.probabilities(np.array([[1000.0, 0.0]])).tolist() == [[1.0, 0.0]]  # nothing overflows


def test_the_likeliest_class_is_the_decision_and_the_first_of_equal_ones():
    answers = SINGLE_LABEL.answers(np.array([[0.2, 0.5, 0.3], [0.4, 0.2, 0.4]]))
    assert answers.decisions.tolist() == [1, 0]
    assert answers.confidence.tolist() == [0.5, 0.4]
    assert (len(answers), answers.num_classes) == (2, 3)


def test_classes_are_ranked_by_probability_and_equal_ones_by_number():
    probabilities = np.array([[0.2, 0.5, 0.3], [0.4, 0.2, 0.4]])
    assert SINGLE_LABEL.ranking(probabilities).tolist() == [[1, 2, 0], [0, 2, 1]]
    assert SINGLE_LABEL.ranking(probabilities, 2).tolist() == [[1, 2], [0, 2]]


def test_right_compares_decisions_with_labels_in_arrays_and_tensors_of_any_rounds():
    logits = np.array([[[0.0, 1.0], [2.0, 1.0]], [[3.0, 1.0], [0.0, np.nan]]], dtype=np.float32)
    assert SINGLE_LABEL.right(logits, np.array([1, 1])).tolist() == [[True, False], [False, True]]
    assert SINGLE_LABEL.right(torch.tensor(logits[0]), torch.tensor([1, 1])).tolist() == [True, False]


def test_losses_are_minus_the_logarithm_of_the_labels_probability():
    logits, labels = torch.tensor([[0.0, LOG_3], [0.0, LOG_3]]), torch.tensor([1, 0])
    losses = [-np.log(0.75), -np.log(0.25)]
    assert SINGLE_LABEL.losses(logits, labels).tolist() == pytest.approx(losses)
    assert SINGLE_LABEL.losses(logits, labels, "mean").item() == pytest.approx(np.mean(losses))
    assert SINGLE_LABEL.losses(logits, labels, "sum").item() == pytest.approx(np.sum(losses))


def test_the_criterion_is_the_mean_of_losses_each_example_counting_one():
    logits, labels = torch.tensor([[0.0, LOG_3], [0.0, LOG_3]]), torch.tensor([1, 0])
    criterion = SINGLE_LABEL.criterion(labels, 2, HeadConfig())
    assert criterion.loss(logits, labels).item() == pytest.approx(-(np.log(0.75) + np.log(0.25)) / 2)
    assert criterion.weight(labels) == 2


def test_class_weights_make_classes_count_alike_and_one_without_examples_nothing():
    labels = torch.tensor([0, 0, 0, 1])  # of three classes: weights 4 / (3 * 2), 4 / (1 * 2), 0
    criterion = SINGLE_LABEL.criterion(labels, 3, HeadConfig(class_weights=True))
    assert criterion.weight(torch.tensor([0, 1])).item() == pytest.approx(2 / 3 + 2)
    assert criterion.weight(torch.tensor([0, 0, 0])).item() == criterion.weight(torch.tensor([1])).item() == 2
    assert criterion.weight(torch.tensor([2])).item() == 0
    logits = torch.tensor([[0.0, LOG_3, -1e4]] * 4)
    assert criterion.loss(logits, labels).item() == pytest.approx(-(np.log(0.25) + np.log(0.75)) / 2)


def test_label_smoothing_spreads_a_part_of_the_target_over_all_classes():
    criterion = SINGLE_LABEL.criterion(torch.tensor([1]), 2, HeadConfig(label_smoothing=0.2))
    loss = criterion.loss(torch.tensor([[0.0, LOG_3]]), torch.tensor([1])).item()
    assert loss == pytest.approx(-(0.9 * np.log(0.75) + 0.1 * np.log(0.25)))


def test_calibration_needs_enough_examples_and_finite_logits(monkeypatch):
    logits, labels = 3 * np.eye(2)[[0, 1] * 10], np.array([0, 1] * 10)
    labels[:4] = [1, 0, 1, 0]
    record = SINGLE_LABEL.calibrate(logits, labels, MIN_CALIBRATION, HeadConfig())
    assert record == {"temperature": fit_temperature(logits, labels, 20), "num_clips": 20}
    # 16 of 20 right, the targets smoothed: the mean target is 0.8 * 21 / 22 + 0.2 / 22, which the softmax has to give
    share = 0.8 * 21 / 22 + 0.2 / 22
    assert record["temperature"] == pytest.approx(3 / np.log(share / (1 - share)), rel=1e-4)
    assert SINGLE_LABEL.calibrate(logits, labels, MIN_CALIBRATION - 1, HeadConfig()) is None
    monkeypatch.setattr(single_label, "MOST_CALIBRATION", 10 * logits.shape[1])  # then every so many of them will do
    assert SINGLE_LABEL.calibrate(logits, labels, 20, HeadConfig())["num_clips"] == 10
    logits[3, 1] = np.nan
    assert SINGLE_LABEL.calibrate(logits, labels, 40, HeadConfig()) is None


def test_folds_and_holdouts_are_stratified_by_class():
    labels, groups = np.arange(40) % 4, np.arange(40) // 2
    for some in (None, groups):
        for found, expected in (
            (SINGLE_LABEL.folds(labels, 2, 7, some), stratified_folds(labels, 2, 7, some)),
            (SINGLE_LABEL.round_folds(labels, 2, 1, 7, some), round_folds(labels, 2, 1, 7, some)),
        ):
            assert [(a.tolist(), b.tolist()) for a, b in found] == [(a.tolist(), b.tolist()) for a, b in expected]
        assert np.array_equal(SINGLE_LABEL.held_out(labels, 8, 7, some), held_out(labels, 8, 7, some))


def test_the_figures_are_those_of_one_label():
    answers, labels = SINGLE_LABEL.answers(np.array([[0.9, 0.1], [0.2, 0.8]])), np.array([0, 0])
    found = SINGLE_LABEL.evaluate(answers, labels, ["a", "b"], np.array([2, 1]), 3, {"plain": answers})
    assert found == evaluate(answers, labels, ["a", "b"], 0, {"plain": answers})
    assert found["figures"]["accuracy"]["value"] == 0.5
    assert found["baselines"]["plain"] == found["figures"]


def test_its_line_of_pytorch_names_the_decision():
    scope = {"labels": ["a", "b", "c"], "embedding": 5, "head": lambda embedding: torch.tensor([0.0, embedding, 1.0])}
    assert eval(SINGLE_LABEL.in_pytorch, scope) == "b"


def test_the_temperature_that_made_the_logits_is_found_again():
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((20_000, 5))
    labels = (SINGLE_LABEL.probabilities(logits).cumsum(axis=1) > rng.uniform(size=(20_000, 1))).argmax(axis=1)
    assert fit_temperature(7 * logits, labels, 20_000) == pytest.approx(7, rel=0.05)
    assert fit_temperature(logits / 3, labels, 20_000) == pytest.approx(1 / 3, rel=0.05)


def test_a_few_clips_that_are_all_right_do_not_make_it_certain():
    logits = 10 * np.eye(2)[[0, 1] * 10]
    probabilities = SINGLE_LABEL.probabilities(
        logits, SINGLE_LABEL.calibrate(logits, np.array([0, 1] * 10), 20, HeadConfig())
    )
    assert probabilities.max() == pytest.approx(21 / 22, abs=1e-3)
