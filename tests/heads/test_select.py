import numpy as np

from golem_ray.heads.select import pick
from golem_ray.metrics.comparison import Score


def test_another_candidate_than_the_plain_one_has_to_be_better_by_a_standard_error():
    right = np.array([[1.0] * 10 + [0.0] * 10])
    some_better, much_better = right.copy(), right.copy()
    some_better[:, [9, 10, 11]] = 0, 1, 1
    much_better[:, 10:16] = 1
    plain, worse = Score(0.5, 1.0, right), Score(0.1, 1.0, right * 0.2)
    assert pick({0: plain, 3: Score(0.55, 1.0, some_better), 1: worse}, 5, None) == 0
    assert pick({0: plain, 1: worse, 3: Score(0.8, 1.0, much_better)}, 5, None) == 3
    assert pick({0: plain, 1: worse, 3: Score(0.8, 1.0, much_better)}, 5, np.repeat([0, 1], 10)) == 0  # all by one
    assert pick({0: plain, 1: Score(0.4, 1.0, right), 2: None}, 5, None) == 0
    assert pick({0: None, 1: None}, 0, None) == 0
