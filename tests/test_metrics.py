import numpy as np
import pytest

from golem_ray.metrics import stratified_folds, wilson_interval


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
