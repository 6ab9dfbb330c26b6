"""The baseline on terms, its strength by folds, and what a training has beside its figures."""

import numpy as np
import pytest
import torch

from golem_ray.config import TrainingConfig
from golem_ray.heads import baselines, joined
from golem_ray.heads.baselines import STRENGTHS, OnTerms
from golem_ray.heads.cross_validate import halved, rounds_of
from golem_ray.heads.examples import Examples
from golem_ray.heads.terms import fitted
from golem_ray.heads.train_head import train_head
from golem_ray.heads.training_set import HeadSpec, TrainingSet
from tests.heads.texts import LIBLINEAR, by_scikit_learn, counted, drawn, spec


def rounds_on(labels, wanted, repeats=1, groups=None):
    examples = Examples(torch.zeros(len(labels), 1), torch.as_tensor(labels), groups)
    return rounds_of(examples, wanted, repeats)


def on_terms(texts, rounds, wanted):
    labels = rounds.examples.label_array()
    data = TrainingSet(embeddings=np.zeros((len(labels), 1)), labels=labels, terms=counted(texts))
    return OnTerms(data, rounds, wanted)


def expected_logits(texts, labels, folds, strength):
    """(N, K) of pipelines for several labels, fold by fold."""
    found = np.full(labels.shape, np.nan)
    for train, test in folds:
        given, tested = ([texts[row] for row in rows] for rows in (train, test))
        for number in range(labels.shape[1]):
            found[test, number] = by_scikit_learn(given, labels[train, number], tested, strength, **LIBLINEAR)
    return found


def test_the_strength_is_the_one_with_the_least_log_loss_over_the_folds_of_the_first_round():
    texts, labels = drawn()
    labels ^= np.random.default_rng(9).uniform(size=labels.shape) < 0.15  # which words do not tell
    wanted = spec()
    rounds = rounds_on(labels, wanted, repeats=2)
    found = on_terms(texts, rounds, wanted)
    size = len(rounds.folds) // 2
    losses = {}
    for strength in STRENGTHS:
        logits = expected_logits(texts, labels, rounds.folds[:size], strength)
        losses[strength] = np.logaddexp(0, np.where(labels, -1, 1) * logits).mean()
    assert found.strength == min(losses, key=losses.get)
    assert found.strength not in (STRENGTHS[0], STRENGTHS[-1])
    assert found.unseen.shape == (2, 60, 3)
    for number in range(2):
        folds = rounds.folds[number * size : (number + 1) * size]
        expected = expected_logits(texts, labels, folds, found.strength)
        np.testing.assert_allclose(found.unseen[number], expected, atol=1e-4)


def test_what_is_tested_changes_no_weight_and_no_fit_of_its_fold():
    texts, labels = drawn()
    wanted = spec()
    rounds = rounds_on(labels, wanted)
    before = on_terms(texts, rounds, wanted).unseen[0]
    _, test = rounds.folds[0]
    changed = list(texts)
    changed[test[0]] = "совсем другие слова которых больше нигде нет " * 3
    after = on_terms(changed, rounds, wanted).unseen[0]
    assert np.array_equal(before[test[1:]], after[test[1:]])
    assert not np.array_equal(before[test[0]], after[test[0]])
    others = rounds.folds[1][1]
    assert not np.array_equal(before[others], after[others])  # which are fitted to it


def test_classes_that_a_fold_is_not_trained_on_are_never_named_there():
    texts, labels = drawn(several=False)
    groups = np.where(labels == 2, 0, np.arange(60) % 6)  # all of one class in one group
    wanted = spec(False)
    rounds = rounds_on(labels, wanted, groups=groups)
    found = on_terms(texts, rounds, wanted).unseen[0]
    fold = next(test for _, test in rounds.folds if (labels[test] == 2).any())
    assert (found[fold, 2] == -100).all()
    assert np.isfinite(found).all()
    labels = np.eye(3, dtype=bool)[labels]
    rounds = rounds_on(labels, spec(), groups=groups)
    found = on_terms(texts, rounds, spec()).unseen[0]
    fold = next(test for _, test in rounds.folds if labels[test, 2].any())
    assert (found[fold, 2] == -100).all()
    assert np.isfinite(found).all()


def test_of_many_examples_one_round_is_played_and_each_fit_takes_some(monkeypatch):
    texts, labels = drawn()
    rounds = rounds_on(labels, spec(), repeats=3)
    monkeypatch.setattr(baselines, "_MOST_TESTED", 100)
    whole = on_terms(texts, rounds, spec())
    assert whole.unseen.shape == (1, 60, 3)
    monkeypatch.setattr(joined, "MOST_ROWS", 20)
    some = on_terms(texts, rounds, spec())
    assert np.isfinite(some.unseen).all()
    assert not np.array_equal(some.unseen, whole.unseen)


def test_without_rounds_the_strength_is_chosen_all_the_same():
    texts, labels = drawn()
    chosen = on_terms(texts, rounds_on(labels, spec(), repeats=0), spec())
    assert chosen.unseen is None
    assert chosen.strength == on_terms(texts, rounds_on(labels, spec(), repeats=1), spec()).strength != 1.0
    nothing = np.zeros((4, 3), dtype=bool)
    found = on_terms(texts[:4], rounds_on(nothing, spec(), repeats=0), spec())
    assert (found.strength, found.unseen) == (1.0, None)


def test_half_of_the_examples_are_those_of_the_halved_rounds():
    texts, labels = drawn()
    half = halved(rounds_on(labels, spec()), spec())
    found = on_terms(texts, rounds_on(labels, spec()), spec())
    found.strength = 3.0
    expected = expected_logits(texts, labels, half.folds, 3.0)
    np.testing.assert_allclose(found.fewer(half)[0], expected, atol=1e-4)


@pytest.mark.parametrize("several", [False, True])
def test_a_training_has_it_beside_its_figures_and_on_what_is_held_out(several):
    (texts, labels), (others, _) = drawn(several=several), drawn(20, seed=1)
    vectors = np.random.default_rng(0).standard_normal((80, 4)).astype(np.float32)
    data = TrainingSet(
        embeddings=vectors[:60],
        labels=labels,
        held_out=vectors[60:],
        terms=counted(texts),
        held_out_terms=counted(others),
    )
    wanted = HeadSpec(num_classes=3, target=spec(several).target, training=TrainingConfig(epochs=3))
    found = train_head(data, wanted, repeats=1)
    strength = on_terms(texts, rounds_on(labels, wanted), wanted).strength
    expected = fitted(counted(texts), labels, strength, wanted).scores(counted(others))
    np.testing.assert_array_equal(found.baseline_logits, expected)
    scores = found.metrics["cross_validation"]
    assert scores["baseline"]["accuracy"] > scores["accuracy"]  # words say more than noise
    assert (found.unseen_answers is not None) == several
    assert set(found.baseline_calibration) >= ({"thresholds"} if several else {"temperature"})
