import numpy as np
import pytest

from golem_ray.data.folds import held_out, round_folds, stratified_folds, with_extra


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


@pytest.mark.parametrize(
    ("counts", "k"),
    [((250, 248, 2), 5), ((3,) * 5, 3), ((4,) * 8 + (3,) * 6, 3), ((9, 9, 2), 5), ((9, 8, 2), 2), ((27, 3, 1), 5)],
)
def test_a_few_clips_of_small_classes_do_not_decide_the_number_of_folds(counts, k):
    labels = np.repeat(np.arange(len(counts)), counts)
    folds = stratified_folds(labels, repeats=1, seed=0)
    assert len(folds) == k
    tested = np.sort(np.concatenate([test for _, test in folds]))
    assert np.array_equal(tested, np.flatnonzero(np.array(counts)[labels] > 1))
    for train, test in folds:
        assert set(labels[test]) <= set(labels[train])


def test_classes_that_are_in_one_group_each_have_no_folds():
    labels, groups = np.repeat([0, 1, 2], 4), np.repeat([7, 8, 9], 4)
    assert stratified_folds(labels, 1, 0, groups) == []
    groups[0] = 8
    assert len(stratified_folds(labels, 1, 0, groups)) == 3


class Compared(np.ndarray):
    """Counts how often all labels are compared with one."""

    times = 0

    def __eq__(self, other):
        Compared.times += 1
        return super().__eq__(other)


def test_labels_are_not_gone_through_once_for_each_class():
    labels = np.tile(np.arange(50), 3).view(Compared)
    assert len(stratified_folds(labels, repeats=2, seed=0)) == 2 * 3
    assert held_out(labels, 10, 0).sum() == 10
    assert Compared.times < 50


def test_single_clips_only_train():
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
    labels, groups = np.arange(50) % 14, np.arange(50) // 8
    assert len(stratified_folds(labels, 1, 0, groups)) == 4  # the largest class has four clips
    assert 0 < held_out(labels, 10, 0, groups).sum() < 50


def test_extra_clips_are_in_every_training_part_and_in_no_test_part():
    main, extra = np.array([0, 0, 1, 1, 0, 1]), np.array([0, 1, 1, 2])
    labels, is_extra = np.concatenate([main, extra]), np.arange(10) >= 6
    alone = stratified_folds(main, 2, 0)
    folds = stratified_folds(labels, 2, 0, None, is_extra)
    assert len(folds) == len(alone) == 2 * 3
    for (train, test), (own, same) in zip(folds, alone, strict=True):
        assert test.tolist() == same.tolist()  # the folds are those without any extra clip
        assert train.tolist() == sorted([*own.tolist(), 6, 7, 8, 9])
    second = round_folds(labels, 2, 1, 0, None, is_extra)
    assert [test.tolist() for _, test in second] == [test.tolist() for _, test in folds[3:]]
    first = is_extra[::-1]  # wherever they stand
    assert all(set(range(4)) <= set(train) for train, _ in stratified_folds(labels[::-1].copy(), 1, 0, None, first))
    assert stratified_folds(labels, 1, 0, None, np.ones(10, dtype=bool)) == []


def test_an_extra_clip_is_not_trained_on_where_its_group_is_tested():
    labels, is_extra = np.array([0, 0, 1, 1, 0, 1, 0]), np.arange(7) >= 4
    groups = np.array([3, 4, 5, 6, 3, 9, 9])  # clip 4 is a copy of clip 0; clips 5 and 6 are of nobody who is tested
    folds = stratified_folds(labels, 1, 0, groups, is_extra)
    assert sorted(np.concatenate([test for _, test in folds]).tolist()) == [0, 1, 2, 3]
    assert [test.tolist() for _, test in folds] == [test.tolist() for _, test in stratified_folds(labels[:4], 1, 0)]
    for train, test in folds:
        assert (4 in train) == (0 not in test)
        assert {5, 6} <= set(train)
    assert with_extra(np.array([1]), np.array([0, 2]), groups, is_extra).tolist() == [1, 5, 6]


@pytest.mark.parametrize("seed", range(3))
def test_no_group_is_on_both_sides_where_some_clips_are_extra(seed):
    rng = np.random.default_rng(seed)
    labels, groups = rng.integers(3, size=80), rng.integers(12, size=80)
    is_extra = rng.uniform(size=80) < 0.4
    folds = stratified_folds(labels, 1, seed, groups, is_extra)
    assert np.array_equal(np.sort(np.concatenate([test for _, test in folds])), np.flatnonzero(~is_extra))
    for train, test in folds:
        assert not set(groups[train]) & set(groups[test])
        left_out = np.setdiff1d(np.flatnonzero(is_extra), train)
        assert set(groups[left_out]) <= set(groups[test])  # and no other extra clip is missing
