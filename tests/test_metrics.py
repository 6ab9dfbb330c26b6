import numpy as np
import pytest
import sklearn.metrics

from golem_ray.data.folds import held_out, stratified_folds
from golem_ray.heads.target import fit_temperature, softmax
from golem_ray.metrics.figures import baselines, confidence_bins, confusion, figures, per_class
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


@pytest.mark.parametrize("seed", range(5))
def test_folds_test_every_clip_once_a_repeat_and_keep_the_classes_shares(seed):
    labels = np.random.default_rng(seed).permutation(np.repeat([0, 1, 2, 4], [7, 5, 12, 6]))
    folds = stratified_folds(labels, repeats=3, seed=seed)
    assert len(folds) == 3 * 5
    for repeat in range(3):
        tested = np.concatenate([test for _, test in folds[5 * repeat : 5 * repeat + 5]])
        assert np.array_equal(np.sort(tested), np.arange(len(labels)))
    for train, test in folds:
        assert not np.intersect1d(train, test).size
        assert len(train) + len(test) == len(labels)
        assert len(test) == 6
        for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
            assert count // 5 <= (labels[test] == label).sum() <= -(-count // 5)


def test_k_is_the_smallest_count_of_two_or_more_and_single_clips_only_train():
    labels = np.array([0, 0, 0, 1, 1, 2, 3, 0])
    folds = stratified_folds(labels, repeats=2, seed=0)
    assert len(folds) == 2 * 2
    for train, test in folds:
        assert {5, 6} <= set(train)
        assert not {5, 6} & set(test)
        assert set(labels[test]) == {0, 1}


def test_no_folds_without_a_class_of_two_clips_or_without_repeats():
    assert stratified_folds(np.arange(4), repeats=5, seed=0) == []
    assert stratified_folds(np.zeros(4, dtype=np.int64), repeats=0, seed=0) == []


def test_repeats_and_seeds_give_other_folds_and_the_same_seed_the_same():
    labels = np.repeat([0, 1], 10)
    tests = [test.tolist() for _, test in stratified_folds(labels, repeats=2, seed=0)]
    assert tests[:5] != tests[5:]
    assert tests == [test.tolist() for _, test in stratified_folds(labels, repeats=2, seed=0)]
    assert tests != [test.tolist() for _, test in stratified_folds(labels, repeats=2, seed=1)]


def scores_of(seed, num_clips=200, num_classes=8):
    """Probabilities that know something, and labels, of which some classes have none."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(num_classes - 1, num_clips, p=np.arange(1, num_classes) / np.arange(1, num_classes).sum())
    return softmax(rng.standard_normal((num_clips, num_classes)) + 1.5 * np.eye(num_classes)[labels]), labels


@pytest.mark.parametrize("seed", range(4))
def test_figures_equal_scikit_learns(seed):
    probabilities, labels = scores_of(seed)
    said, classes = probabilities.argmax(axis=1), np.arange(8)
    found = {name: figure["value"] for name, figure in figures(probabilities, labels).items()}
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
    found = figures(probabilities, np.array([0, 1, 2, 2]))
    assert found["accuracy"]["value"] == 0.5
    assert found["balanced_accuracy"]["value"] == pytest.approx(2 / 3)
    assert found["macro_f1"]["value"] == pytest.approx((0.5 + 1 + 0) / 3)
    assert found["log_loss"]["value"] == pytest.approx(-(np.log(0.9) + np.log(0.8)) / 2)
    assert "top_5_accuracy" not in found
    nobody = figures(probabilities, np.array([2, 2, 2, 2]))
    assert nobody["accuracy"]["value"] == 0
    assert "log_loss" not in nobody


def test_intervals_cover_what_more_clips_would_show():
    """Of a hundred draws of 60 clips, about 95 intervals hold the figure of very many."""
    probabilities, labels = scores_of(0, num_clips=100_000, num_classes=4)
    whole = figures(probabilities[:20_000], labels[:20_000])
    rng = np.random.default_rng(1)
    names = ["accuracy", "balanced_accuracy", "macro_f1", "log_loss"]
    covered = dict.fromkeys(names, 0)
    for _ in range(40):
        rows = rng.choice(100_000, 60, replace=False)
        found = figures(probabilities[rows], labels[rows])
        for name in names:
            low, high = found[name]["interval_95"]
            covered[name] += low <= whole[name]["value"] <= high
    assert min(covered.values()) >= 33, covered
    assert np.isclose(found["accuracy"]["interval_95"], wilson_interval(found["accuracy"]["value"], 60)).all()


def test_all_right_is_not_certain():
    found = figures(np.eye(3)[[0, 1, 2]], np.arange(3))
    assert found["accuracy"]["interval_95"][0] < 0.5


def test_bins_hold_their_upper_bound():
    assert confidence_bins(np.array([1e-9, 0.1, 0.1000001, 0.95, 1.0])).tolist() == [0, 0, 1, 9, 9]


def test_baselines_equal_guesses_that_were_drawn():
    labels = np.repeat(np.arange(7), [1, 2, 3, 4, 5, 6, 79])
    found = baselines(labels, 7, largest=2)
    rng = np.random.default_rng(0)
    guesses = [rng.integers(7, size=100) for _ in range(3000)]
    assert found["chance"]["accuracy"] == pytest.approx(
        np.mean([(guess == labels).mean() for guess in guesses]), abs=3e-3
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
    absent = baselines(np.array([1, 1]), 3, largest=0)["majority"]
    assert absent == {"accuracy": 0.0, "balanced_accuracy": 0.0, "macro_f1": 0.0, "weighted_f1": 0.0}
    unknown = baselines(np.array([0, 1, 2, 2]), 2, largest=0)["chance"]
    assert unknown["accuracy"] == 0.25


def test_the_temperature_that_made_the_logits_is_found_again():
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((20_000, 5))
    labels = (softmax(logits).cumsum(axis=1) > rng.uniform(size=(20_000, 1))).argmax(axis=1)
    assert fit_temperature(7 * logits, labels, 20_000) == pytest.approx(7, rel=0.05)
    assert fit_temperature(logits / 3, labels, 20_000) == pytest.approx(1 / 3, rel=0.05)


def test_a_few_clips_that_are_all_right_do_not_make_it_certain():
    logits = 10 * np.eye(2)[[0, 1] * 10]
    probabilities = softmax(logits, fit_temperature(logits, np.array([0, 1] * 10), 20))
    assert probabilities.max() == pytest.approx(21 / 22, abs=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_the_holdout_is_stratified_and_leaves_one_clip_of_each_class(seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(4), [1, 2, 17, 30]))
    held = held_out(labels, 10, seed)
    assert held.sum() == 10
    assert np.array_equal(held, held_out(labels, 10, seed))
    assert not np.array_equal(held, held_out(labels, 10, seed + 1))
    counts = np.bincount(labels[held], minlength=4)
    assert counts[0] == 0
    assert counts[1] <= 1
    assert abs(counts[3] - 6) <= 1
    assert held_out(labels, 49, seed).sum() == 46


@pytest.mark.parametrize("seed", range(5))
def test_no_group_is_on_both_sides(seed):
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(20), rng.integers(1, 8, 20))
    labels = rng.integers(3, size=len(groups))
    held = held_out(labels, len(groups) // 4, seed, groups)
    assert not set(groups[held]) & set(groups[~held])
    assert abs(held.sum() - len(groups) // 4) <= 1
    folds = stratified_folds(labels, 2, seed, groups)
    assert len(folds) == 10
    for train, test in folds:
        assert not set(groups[train]) & set(groups[test])
    for repeat in (folds[:5], folds[5:]):
        assert np.array_equal(np.sort(np.concatenate([test for _, test in repeat])), np.arange(len(groups)))
    assert stratified_folds(labels, 2, seed, np.zeros_like(labels)) == []


@pytest.mark.parametrize(
    ("sizes", "wanted", "expected"),
    [((80, 5, 5, 5, 5), 20, 20), ((50, 30, 10, 10), 10, 10), ((14, 6), 4, 6), ((10,) * 20, 160, 160), ((3, 3), 1, 3)],
)
def test_a_holdout_of_groups_is_as_near_to_the_number_wanted_as_groups_allow(sizes, wanted, expected):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    for seed in range(3):
        assert held_out(np.arange(len(groups)) % 2, wanted, seed, groups).sum() == expected


def test_groups_with_fewer_clips_of_each_class_than_folds():
    labels, groups = np.arange(50) % 14, np.arange(50) % 7
    assert len(stratified_folds(labels, 1, 0, groups)) == 4  # the largest class has four clips
    assert 0 < held_out(labels, 10, 0, groups).sum() < 50


def test_a_calibration_errors_interval_holds_its_value():
    for seed in range(10):
        rng = np.random.default_rng(seed)
        probabilities = softmax(rng.standard_normal((300, 3)))
        labels = (probabilities.cumsum(axis=1) > rng.uniform(size=(300, 1))).argmax(axis=1)
        found = figures(probabilities, labels, seed=seed)["expected_calibration_error"]
        assert found["interval_95"][0] <= found["value"] <= found["interval_95"][1]
