import numpy as np
import pytest

from golem_ray.data.folds import stratified_folds
from golem_ray.heads.many import unseen_logits
from golem_ray.heads.rounds import play_fewer, play_round
from golem_ray.heads.select import score_of
from golem_ray.heads.training_set import TrainingSet
from golem_ray.metrics import comparison
from tests.heads.training import examples, of_epochs, played


def test_rounds_are_those_of_the_training_jobs_cross_validation():
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 4
    embeddings = (rng.standard_normal((40, 6)) + rng.standard_normal((4, 6))[labels]).astype(np.float32)
    rounds = played(embeddings, labels, 3)
    every, linear = examples(embeddings, labels), of_epochs(labels, 10)
    expected = scored(every, linear, 3)
    assert np.mean([each.right for each in rounds]) == pytest.approx(expected.accuracy)
    assert np.mean([each.losses for each in rounds]) == pytest.approx(expected.log_loss, rel=1e-5)
    assert all(len(each.inner) == 5 for each in rounds)
    train, _ = stratified_folds(labels, 3, 0)[5]  # the first fold of the second round
    inner = scored(every.take(train), linear, 1)
    assert rounds[1].inner[0].accuracy == inner.accuracy
    assert rounds[1].inner[0].log_loss == pytest.approx(inner.log_loss, rel=1e-5)


def scored(every, head, rounds):
    """The score of a head in so many rounds of cross-validation of all examples."""
    rows = np.arange(len(every))
    (found,) = unseen_logits(every, [(rows, rows[:0])], head, rounds=rounds)
    return score_of(found.inner, every.label_array(), head)


def test_fewer_clips_are_some_of_the_more_and_all_of_them_are_the_round_itself():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    embeddings = (rng.standard_normal((60, 6)) + rng.standard_normal((3, 6))[labels]).astype(np.float32)
    data, linear = TrainingSet(embeddings=embeddings, labels=labels), of_epochs(labels, 60)
    right = play_fewer(data, linear, 1, 0, (1, 5, 1000))
    assert right.shape == (3, 60)
    assert np.array_equal(right[2], play_round(data, linear, 1, 0).right)
    assert right[0].mean() < right[2].mean()
    points = comparison.curve((1, 5), right[None, :2], right[None, 2], None)
    assert [point["clips_per_class"] for point in points] == [1, 5, "all"]
    assert [point["value"] for point in points] == pytest.approx(right.mean(axis=1).tolist())
