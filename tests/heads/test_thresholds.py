"""Calibration of single labels against scikit-learn's regression, and thresholds against trying every one."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from golem_ray.heads.thresholds import best_thresholds, platt, sigmoid


def by_scikit_learn(logits, labels, num_examples):
    """Slope and intercept of one label: unregularised, each example a yes and a no that weigh as Platt's targets."""
    yes = labels.mean() * num_examples
    targets = np.where(labels, (yes + 1) / (yes + 2), 1 / (num_examples - yes + 2))
    middle, spread = logits.mean(), logits.std()
    x, y = np.tile((logits - middle) / spread, 2)[:, None], np.repeat([1, 0], len(logits))
    head = LogisticRegression(C=np.inf, tol=1e-12, max_iter=10_000)
    head.fit(x, y, sample_weight=np.concatenate([targets, 1 - targets]))
    slope = head.coef_[0, 0] / spread
    return slope, head.intercept_[0] - slope * middle


def drawn(number, rate, scale=1.0, offset=0.0, gap=1.2, seed=0):
    """Logits (N,) that are higher by `gap` where the label is, and the labels."""
    rng = np.random.default_rng(seed)
    labels = rng.uniform(size=number) < rate
    labels[:2] = True, False
    return (scale * (rng.standard_normal(number) + gap * labels) + offset).astype(np.float32), labels


CASES = {
    "plain": drawn(200, 0.5),
    "rare, and too sure": drawn(300, 0.05, scale=10, offset=50),
    "unsure": drawn(60, 0.3, scale=1e-3),
    "huge": drawn(200, 0.2, scale=1e4, offset=-1e6),
    "hardly better than chance": drawn(400, 0.5, gap=0.2),
    "separated": (np.repeat([-5.0, 5.0], 30), np.repeat([False, True], 30)),
    "far apart": drawn(100, 0.4, gap=60),
    "absent in one fold": (np.r_[np.full(50, -100.0), drawn(50, 0.4)[0]], np.r_[[False] * 50, drawn(50, 0.4)[1]]),
}


@pytest.mark.parametrize("name", CASES)
def test_slopes_and_intercepts_are_scikit_learns_on_platts_targets(name):
    logits, labels = CASES[name]
    ((slope,), (intercept,)) = platt(logits[:, None], labels[:, None], len(labels))
    expected, base = by_scikit_learn(logits.astype(np.float64), labels, len(labels))
    assert slope == pytest.approx(expected, rel=1e-3)
    assert sigmoid(slope * logits + intercept) == pytest.approx(expit(expected * logits + base), abs=1e-3)


def test_labels_are_calibrated_each_by_itself():
    cases = [drawn(80, 0.3, seed=seed, scale=3.0**seed) for seed in range(4)]
    logits, labels = (np.stack(each, axis=1) for each in zip(*cases, strict=True))
    slopes, intercepts = platt(logits, labels, 80)
    for number, (one, own) in enumerate(cases):
        ((slope,), (intercept,)) = platt(one[:, None], own[:, None], 80)
        assert (slopes[number], intercepts[number]) == pytest.approx((slope, intercept), rel=1e-4)


def test_rounds_of_the_same_examples_make_it_no_surer():
    logits, labels = (np.repeat([-5.0, 5.0], 30)[:, None], np.repeat([False, True], 30)[:, None])
    once = platt(logits, labels, 60)
    assert sigmoid(5 * once[0] + once[1])[0] == pytest.approx(31 / 32, abs=1e-4)  # of 30 that have it, all say so
    again = platt(np.tile(logits, (5, 1)), np.tile(labels, (5, 1)), 60)
    assert again == pytest.approx(np.array(once), abs=1e-6)


def test_logits_that_are_all_the_same_keep_their_slope_and_give_the_rate():
    labels = (np.arange(60) < 12)[:, None]
    for value in (0.0, -100.0):
        slope, intercept = platt(np.full((60, 1), value), labels, 60)
        assert slope == 1.0
        assert sigmoid(slope * value + intercept) == pytest.approx((12 * 13 / 14 + 48 / 50) / 60)


@pytest.mark.parametrize("every", [False, True])
def test_a_label_that_nothing_has_or_everything_is_near_its_rate(every):
    logits = drawn(98, 0.5)[0][:, None]
    ((slope,), (intercept,)) = platt(logits, np.full((98, 1), every), 98)
    assert slope > 0
    assert sigmoid(slope * logits + intercept) == pytest.approx(np.full((98, 1), 0.99 if every else 0.01), abs=1e-3)


def test_what_ranks_higher_stays_likelier_even_where_labels_say_the_reverse():
    for scale in (1e-3, 1.0, 1e4):
        logits, labels = drawn(100, 0.4, scale=scale, gap=-3)
        ((slope,), (intercept,)) = platt(logits[:, None], labels[:, None], 100)
        assert slope > 0
        found = slope * logits.astype(np.float64) + intercept
        assert np.array_equal(np.argsort(found), np.argsort(logits))
        have = labels.sum()  # the intercept is still the best one: it gives the mean target
        mean = (have * (have + 1) / (have + 2) + (100 - have) / (102 - have)) / 100
        assert sigmoid(found).mean() == pytest.approx(mean, abs=1e-5)


def f1_score(labels, said):
    return 2 * (labels & said).sum() / (labels.sum() + said.sum())


@pytest.mark.parametrize("decimals", [1, 2, 9])
@pytest.mark.parametrize("seed", range(4))
def test_thresholds_have_the_best_f1_of_all_that_there_are(seed, decimals):
    rng = np.random.default_rng(seed)
    probabilities = rng.uniform(size=(40, 6)).round(decimals)  # of one decimal there are many ties
    labels = rng.uniform(size=(40, 6)) < probabilities * rng.uniform(0.1, 1.0, size=6)
    labels[0] = True
    found = best_thresholds(probabilities, labels)
    assert ((found > 0) & (found < 1)).all()
    for number, threshold in enumerate(found):
        own, p = labels[:, number], probabilities[:, number]
        every = [f1_score(own, p >= each) for each in np.unique(p)]
        assert f1_score(own, p >= threshold) == pytest.approx(max(every))
        assert np.abs(p - threshold).min() > 0  # it stands between two


def test_a_threshold_is_halfway_to_the_next_lower_probability():
    probabilities = np.array([[0.9], [0.5], [0.3], [0.1]])
    labels = np.array([[True], [True], [False], [False]])
    assert best_thresholds(probabilities, labels) == pytest.approx([0.4])
    assert best_thresholds(probabilities, ~labels) == pytest.approx([0.05])  # yes to all four
    assert best_thresholds(probabilities, np.array([[True]] * 4)) == pytest.approx([0.05])


def test_equal_probabilities_are_decided_alike():
    probabilities = np.array([[0.6], [0.6], [0.6], [0.2]])
    labels = np.array([[True], [False], [False], [False]])
    assert best_thresholds(probabilities, labels) == pytest.approx([0.4])


def test_a_label_that_nothing_has_is_given_from_one_half_on():
    assert best_thresholds(np.full((3, 2), 0.1), np.zeros((3, 2), dtype=bool)).tolist() == [0.5, 0.5]


def test_probabilities_at_the_ends_are_told_apart():
    probabilities = np.array([[1.0, 1e-8], [1 - 1e-8, 1e-9], [0.0, 0.0]])
    labels = np.array([[True, True], [False, False], [False, False]])
    found = best_thresholds(probabilities, labels)
    assert np.array_equal(probabilities >= found, labels)
    assert np.isfinite(np.log(found / (1 - found))).all()
