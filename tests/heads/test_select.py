import numpy as np
import pytest

from golem_ray.config import HeadConfig
from golem_ray.heads.select import FEW, choose, pick
from golem_ray.metrics.comparison import Score
from tests.heads.training import by_layer, examples, layered, spec


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


@pytest.mark.parametrize("number", [FEW - 4, FEW])
def test_hidden_layers_are_tried_where_the_best_of_the_others_is_and_not_on_few_examples(number):
    embeddings, labels = layered(2, num_examples=number)
    hidden = HeadConfig(hidden=(4,))
    candidates = [*by_layer(), *by_layer(head=hidden)]
    (choice,) = choose(examples(embeddings, labels), candidates, spec(4), [np.arange(number)], lambda progress: None)
    assert choice.number in ((2,) if number < FEW else (2, 6))
    assert {*choice.finals, *choice.others} == ({0, 1, 2, 3} if number < FEW else {0, 1, 2, 3, 6})


def test_a_layer_is_chosen_under_hidden_layers_that_are_configured():
    embeddings, labels = layered(2, num_examples=40)
    candidates = by_layer(head=HeadConfig(hidden=(8,)))
    (choice,) = choose(examples(embeddings, labels), candidates, spec(4), [np.arange(40)], lambda progress: None)
    assert choice.number == 2
