import numpy as np

from golem_ray.heads.select import best_layer
from golem_ray.metrics.comparison import Score


def test_another_layer_than_the_last_has_to_be_better_by_a_standard_error():
    right = np.array([1.0] * 10 + [0.0] * 10)
    some_better, much_better = right.copy(), right.copy()
    some_better[[9, 10, 11]] = 0, 1, 1
    much_better[10:16] = 1
    last, mean = Score(0.5, 1.0, right), Score(0.1, 1.0, right * 0.2)
    assert best_layer([Score(0.55, 1.0, some_better), last, mean], None) == 1
    assert best_layer([Score(0.8, 1.0, much_better), last, mean], None) == 0
    assert best_layer([Score(0.8, 1.0, much_better), last, mean], np.repeat([0, 1], 10)) == 1  # all by one person
    assert best_layer([Score(0.4, 1.0, right), last, mean], None) == 1
    assert best_layer([None, None, None], None) == 1
