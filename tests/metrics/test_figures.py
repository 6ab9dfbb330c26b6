import dataclasses
import tracemalloc

import numpy as np
import pytest
import sklearn.metrics

from golem_ray.heads.single_label import SINGLE_LABEL
from golem_ray.metrics.figures import confidence_bins, confusion, evaluate, figures, guesses, per_class
from golem_ray.metrics.intervals import wilson_interval


def scores_of(seed, num_clips=200, num_classes=8):
    """Probabilities that know something, and labels, of which some classes have none."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(num_classes - 1, num_clips, p=np.arange(1, num_classes) / np.arange(1, num_classes).sum())
    return SINGLE_LABEL.probabilities(
        rng.standard_normal((num_clips, num_classes)) + 1.5 * np.eye(num_classes)[labels]
    ), labels


@pytest.mark.parametrize("seed", range(4))
def test_figures_equal_scikit_learns(seed):
    probabilities, labels = scores_of(seed)
    said, classes = probabilities.argmax(axis=1), np.arange(8)
    found = {name: figure["value"] for name, figure in figures(SINGLE_LABEL.answers(probabilities), labels).items()}
    expected = {
        "accuracy": sklearn.metrics.accuracy_score(labels, said),
        "balanced_accuracy": sklearn.metrics.recall_score(
            labels, said, labels=np.unique(labels), average="macro", zero_division=0
        ),
        "macro_f1": sklearn.metrics.f1_score(labels, said, average="macro", zero_division=0),
        "weighted_f1": sklearn.metrics.f1_score(labels, said, average="weighted", zero_division=0),
        "top_5_accuracy": sklearn.metrics.top_k_accuracy_score(labels, probabilities, k=5, labels=classes),
        "log_loss": sklearn.metrics.log_loss(labels, probabilities, labels=classes),
    }
    error = found.pop("expected_calibration_error")
    assert found == pytest.approx(expected, rel=1e-12)
    confidence, right = probabilities.max(axis=1), said == labels
    bins = [(confidence > low / 10) & (confidence <= (low + 1) / 10) for low in range(10)]
    gaps = [inside.mean() * abs(confidence[inside].mean() - right[inside].mean()) for inside in bins if inside.any()]
    assert error == pytest.approx(sum(gaps))
    assert np.array_equal(confusion(said, labels, 8), sklearn.metrics.confusion_matrix(labels, said, labels=classes))
    table = sklearn.metrics.precision_recall_fscore_support(labels, said, labels=classes, zero_division=np.nan)
    for number, record in enumerate(per_class(said, labels, [str(number) for number in classes])):
        for key, values in zip(("precision", "recall", "f1"), table[:3], strict=True):
            assert record[key] == (None if np.isnan(values[number]) else pytest.approx(values[number]))


def test_figures_count_labels_that_the_classifier_does_not_know_as_missed():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.5, 0.5]])
    found = figures(SINGLE_LABEL.answers(probabilities), np.array([0, 1, 2, 2]))
    assert found["accuracy"]["value"] == 0.5
    assert found["balanced_accuracy"]["value"] == pytest.approx(2 / 3)
    assert found["macro_f1"]["value"] == pytest.approx((0.5 + 1 + 0) / 3)
    assert found["log_loss"]["value"] == pytest.approx(-(np.log(0.9) + np.log(0.8)) / 2)
    assert "top_5_accuracy" not in found
    nobody = figures(SINGLE_LABEL.answers(probabilities), np.array([2, 2, 2, 2]))
    assert nobody["accuracy"]["value"] == 0
    assert "log_loss" not in nobody


def test_no_table_of_all_pairs_of_classes_is_needed_for_the_figures_of_each():
    labels = np.tile(np.arange(4000), 2)
    tracemalloc.start()
    try:
        records = per_class(np.where(labels == 1, 0, labels), labels, [str(number) for number in range(4000)])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8e6  # a table takes 128 MB
    assert [records[number]["precision"] for number in (0, 1, 3999)] == [0.5, None, 1.0]


def test_intervals_cover_what_more_clips_would_show():
    """Of a hundred draws of 60 clips, about 95 intervals hold the figure of very many."""
    probabilities, labels = scores_of(0, num_clips=100_000, num_classes=4)
    whole = figures(SINGLE_LABEL.answers(probabilities[:20_000]), labels[:20_000])
    rng = np.random.default_rng(1)
    names = ["accuracy", "balanced_accuracy", "macro_f1", "log_loss"]
    covered = dict.fromkeys(names, 0)
    for _ in range(40):
        rows = rng.choice(100_000, 60, replace=False)
        found = figures(SINGLE_LABEL.answers(probabilities[rows]), labels[rows])
        for name in names:
            low, high = found[name]["interval_95"]
            covered[name] += low <= whole[name]["value"] <= high
    assert min(covered.values()) >= 33, covered
    assert np.isclose(found["accuracy"]["interval_95"], wilson_interval(found["accuracy"]["value"], 60)).all()


def test_all_right_is_not_certain():
    found = figures(SINGLE_LABEL.answers(np.eye(3)[[0, 1, 2]]), np.arange(3))
    assert found["accuracy"]["interval_95"][0] < 0.5


def test_bins_hold_their_upper_bound():
    assert confidence_bins(np.array([1e-9, 0.1, 0.1000001, 0.95, 1.0])).tolist() == [0, 0, 1, 9, 9]


def test_baselines_equal_guesses_that_were_drawn():
    labels = np.repeat(np.arange(7), [1, 2, 3, 4, 5, 6, 79])
    found = guesses(labels, 7, largest=2)
    rng = np.random.default_rng(0)
    drawn = [rng.integers(7, size=100) for _ in range(3000)]
    assert found["chance"]["accuracy"] == pytest.approx(
        np.mean([(guess == labels).mean() for guess in drawn]), abs=3e-3
    )
    assert found["chance"]["log_loss"] == pytest.approx(np.log(7))
    assert found["chance"]["top_5_accuracy"] == pytest.approx(5 / 7)
    always = np.full(100, 2)
    assert found["majority"] == pytest.approx(
        {
            "accuracy": 0.03,
            "balanced_accuracy": 1 / 7,
            "macro_f1": sklearn.metrics.f1_score(labels, always, average="macro"),
            "weighted_f1": sklearn.metrics.f1_score(labels, always, average="weighted"),
        }
    )
    absent = guesses(np.array([1, 1]), 3, largest=0)["majority"]
    assert absent == {"accuracy": 0.0, "balanced_accuracy": 0.0, "macro_f1": 0.0, "weighted_f1": 0.0}
    unknown = guesses(np.array([0, 1, 2, 2]), 2, largest=0)["chance"]
    assert unknown["accuracy"] == 0.25


def test_a_calibration_errors_interval_holds_its_value():
    for seed in range(10):
        rng = np.random.default_rng(seed)
        probabilities = SINGLE_LABEL.probabilities(rng.standard_normal((300, 3)))
        labels = (probabilities.cumsum(axis=1) > rng.uniform(size=(300, 1))).argmax(axis=1)
        found = figures(SINGLE_LABEL.answers(probabilities), labels, seed=seed)["expected_calibration_error"]
        assert found["interval_95"][0] <= found["value"] <= found["interval_95"][1]


def test_an_evaluation_names_unknown_labels_and_has_its_baselines():
    probabilities = np.array([[0.9, 0.1], [0.3, 0.7], [0.8, 0.2]])
    plain = {"log_mel": SINGLE_LABEL.answers(probabilities[:, ::-1])}
    answers = SINGLE_LABEL.answers(probabilities)
    scores = evaluate(answers, np.array([0, 1, 2]), ["a", "b", "new"], largest=1, baselines=plain)
    assert scores["unknown_labels"] == {"new": 1}
    assert scores["figures"] == figures(SINGLE_LABEL.answers(probabilities), np.array([0, 1, 2]))
    assert scores["baselines"]["majority"]["accuracy"] == pytest.approx(1 / 3)
    assert scores["baselines"]["log_mel"]["accuracy"]["value"] == 0
    assert [record["recall"] for record in scores["per_class"]] == [1, 1, 0]
    assert "rejected" not in scores
    unsure = dataclasses.replace(answers, unsure=np.array([True, False, True]))
    rejected = evaluate(unsure, np.array([0, 1, 2]), ["a", "b", "new"], largest=1)["rejected"]
    assert (rejected["coverage"]["value"], rejected["unknown_refused"]["value"]) == (1 / 3, 1)
    assert "unknown_refused" not in evaluate(unsure, np.array([0, 1, 1]), ["a", "b"], largest=1)["rejected"]


def test_of_clips_with_groups_whole_groups_are_resampled():
    """Clips that are all there four times over say no more than they do once."""
    rng = np.random.default_rng(0)
    probabilities, labels = rng.dirichlet([1.0] * 3, size=200), rng.integers(3, size=200)
    once = figures(SINGLE_LABEL.answers(probabilities), labels)
    four = SINGLE_LABEL.answers(np.repeat(probabilities, 4, axis=0)), np.repeat(labels, 4)
    grouped, alone = figures(*four, np.repeat(np.arange(200), 4)), figures(*four)
    for name, figure in grouped.items():
        width, expected, narrow = (np.ptp(found[name]["interval_95"]) for found in (grouped, once, alone))
        assert figure["value"] == pytest.approx(once[name]["value"])
        assert width == pytest.approx(expected, rel=0.2 if name != "expected_calibration_error" else 0.5)
        assert width > 1.5 * narrow
    of_one = figures(*four, np.zeros(800))
    assert of_one["macro_f1"]["interval_95"] == [0.0, 1.0]
    assert of_one["log_loss"]["interval_95"] == [0.0, pytest.approx(52 * np.log(2))]
