"""TF-IDF under logistic regressions against scikit-learn's own pipeline on the same texts."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from golem_ray.config import TrainingConfig
from golem_ray.heads import terms as terms_module
from golem_ray.heads.cross_validate import halved, rounds_of
from golem_ray.heads.examples import Examples
from golem_ray.heads.multi_label import MULTI_LABEL
from golem_ray.heads.single_label import SINGLE_LABEL
from golem_ray.heads.terms import STRENGTHS, fitted, halved_terms, validated, weighted
from golem_ray.heads.train_head import train_head
from golem_ray.heads.training_set import HeadSpec, TrainingSet
from golem_ray.text.baseline import count_terms
from tests.text import text_recipe

WORDS = {
    "joy": ("рад", "радость", "ура", "смех"),
    "fear": ("страх", "боюсь", "ужас", "тьма"),
    "anger": ("злой", "злость", "гнев", "ярость"),
}
NAMES = tuple(WORDS)


def drawn(number=60, seed=0, several=True):
    """Texts, and their labels: (N, 3) bool, or (N,) int64. Each label's words are there more often with the label."""
    rng = np.random.default_rng(seed)
    labels = rng.uniform(size=(number, 3)) < [0.5, 0.4, 0.2]
    if not several:
        labels = np.eye(3, dtype=bool)[np.arange(number) % 3]
    texts = []
    for row in labels:
        words = [word for name, has in zip(NAMES, row, strict=True) for word in rng.choice(WORDS[name], 1 + 2 * has)]
        texts.append(" ".join(rng.permutation([*words, *rng.choice(["и", "дом", "стол", "вот"], 3)])))
    return texts, labels if several else labels.argmax(axis=1)


def counted(texts):
    return count_terms([text.encode() for text in texts], text_recipe("ngrams"))


def spec(several=True, num_classes=3):
    return HeadSpec(num_classes=num_classes, target=MULTI_LABEL if several else SINGLE_LABEL)


def pipeline(strength, **settings):
    vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    return make_pipeline(vectors, LogisticRegression(C=strength, **{"max_iter": 200, **settings}))


def by_scikit_learn(texts, labels, tested, strength, **settings):
    """(M,) or (M, K) of one pipeline."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pipeline(strength, **settings).fit(texts, labels).decision_function(tested)


LIBLINEAR = {"solver": "liblinear", "intercept_scaling": 10}
EXACT = {"tol": 1e-10, "max_iter": 100_000}


@pytest.mark.parametrize("strength", [0.3, 10.0])
def test_logits_of_one_label_are_a_pipelines(strength):
    (texts, labels), (others, _) = drawn(several=False), drawn(20, seed=1)
    found = fitted(counted(texts), labels, counted(others), strength, spec(False))
    assert (found.shape, found.dtype) == ((20, 3), np.float32)
    np.testing.assert_allclose(found, by_scikit_learn(texts, labels, others, strength), atol=1e-4)
    np.testing.assert_allclose(found, by_scikit_learn(texts, labels, others, strength, **EXACT), atol=0.02)


@pytest.mark.parametrize("strength", [0.3, 10.0])
def test_logits_of_several_labels_are_a_pipelines_for_each(strength):
    (texts, labels), (others, _) = drawn(), drawn(20, seed=1)
    found = fitted(counted(texts), labels, counted(others), strength, spec())
    for number in range(3):
        of_label = by_scikit_learn(texts, labels[:, number], others, strength, **LIBLINEAR)
        np.testing.assert_allclose(found[:, number], of_label, atol=1e-4)
        exact = by_scikit_learn(texts, labels[:, number], others, strength, **EXACT)
        np.testing.assert_allclose(found[:, number], exact, atol=0.02)


def test_two_classes_share_one_score():
    (texts, labels), (others, _) = drawn(several=False), drawn(20, seed=1)
    two = labels < 2
    texts, labels = [text for text, kept in zip(texts, two, strict=True) if kept], labels[two]
    found = fitted(counted(texts), labels, counted(others), 3.0, spec(False, num_classes=4))
    expected = by_scikit_learn(texts, labels, others, 3.0, **LIBLINEAR)
    np.testing.assert_allclose(found[:, 1] - found[:, 0], expected, atol=1e-4)
    np.testing.assert_allclose(SINGLE_LABEL.probabilities(found)[:, 1], 1 / (1 + np.exp(-expected)), atol=1e-5)
    assert (found[:, 2:] == -100).all()  # no text was of those


def test_labels_that_nothing_or_everything_has_are_certain():
    texts, labels = drawn()
    labels[:, 1], labels[:, 2] = False, True
    found = fitted(counted(texts), labels, counted(texts[:5]), 3.0, spec())
    assert found[:, 1].tolist() == [-100] * 5
    assert found[:, 2].tolist() == [100] * 5
    (one,) = np.unique(fitted(counted(texts), np.full(60, 2), counted(texts[:5]), 3.0, spec(False)), axis=0)
    assert one.tolist() == [-100, -100, 0]


def test_the_weights_of_terms_are_those_of_the_texts_that_are_fitted_to():
    texts, others = drawn()[0], ["ура ура", "нигдекромеэтого", ""]
    vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True).fit(texts)
    x, tested = weighted(counted(texts), counted(others))
    assert x.shape[1] == tested.shape[1] == len(vectors.vocabulary_)  # what only others have is not counted
    assert x.multiply(x).sum(axis=1) == pytest.approx(np.ones((60, 1)))
    for found, given in ((x, texts), (tested, others)):
        expected = vectors.transform(given)
        np.testing.assert_allclose(np.sort(found.toarray()), np.sort(expected.toarray()), atol=1e-6)
    alone = weighted(counted(texts), counted(others[:1]))[1]
    np.testing.assert_array_equal(alone.toarray()[0], tested.toarray()[0])


def rounds_on(labels, wanted, repeats=1, groups=None):
    examples = Examples(torch.zeros(len(labels), 1), torch.as_tensor(labels), groups)
    return rounds_of(examples, wanted, repeats)


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
    found = validated(counted(texts), rounds, wanted)
    size = len(rounds.folds) // 2
    losses = {}
    for strength in STRENGTHS:
        logits = expected_logits(texts, labels, rounds.folds[:size], strength)
        losses[strength] = np.logaddexp(0, np.where(labels, -1, 1) * logits).mean()
    assert found.strength == min(losses, key=losses.get)
    assert found.strength not in (STRENGTHS[0], STRENGTHS[-1])
    assert found.logits.shape == (2, 60, 3)
    for number in range(2):
        folds = rounds.folds[number * size : (number + 1) * size]
        expected = expected_logits(texts, labels, folds, found.strength)
        np.testing.assert_allclose(found.logits[number], expected, atol=1e-4)


def test_what_is_tested_changes_no_weight_and_no_fit_of_its_fold():
    texts, labels = drawn()
    wanted = spec()
    rounds = rounds_on(labels, wanted)
    before = validated(counted(texts), rounds, wanted).logits[0]
    _, test = rounds.folds[0]
    changed = list(texts)
    changed[test[0]] = "совсем другие слова которых больше нигде нет " * 3
    after = validated(counted(changed), rounds, wanted).logits[0]
    assert np.array_equal(before[test[1:]], after[test[1:]])
    assert not np.array_equal(before[test[0]], after[test[0]])
    others = rounds.folds[1][1]
    assert not np.array_equal(before[others], after[others])  # which are fitted to it


def test_classes_that_a_fold_is_not_trained_on_are_never_named_there():
    texts, labels = drawn(several=False)
    groups = np.where(labels == 2, 0, np.arange(60) % 6)  # all of one class in one group
    wanted = spec(False)
    rounds = rounds_on(labels, wanted, groups=groups)
    found = validated(counted(texts), rounds, wanted).logits[0]
    fold = next(test for _, test in rounds.folds if (labels[test] == 2).any())
    assert (found[fold, 2] == -100).all()
    assert np.isfinite(found).all()
    labels = np.eye(3, dtype=bool)[labels]
    rounds = rounds_on(labels, spec(), groups=groups)
    found = validated(counted(texts), rounds, spec()).logits[0]
    fold = next(test for _, test in rounds.folds if labels[test, 2].any())
    assert (found[fold, 2] == -100).all()
    assert np.isfinite(found).all()


def test_of_many_examples_one_round_is_played_and_each_fit_takes_some(monkeypatch):
    texts, labels = drawn()
    rounds = rounds_on(labels, spec(), repeats=3)
    monkeypatch.setattr(terms_module, "_MOST_TESTED", 100)
    whole = validated(counted(texts), rounds, spec())
    assert whole.logits.shape == (1, 60, 3)
    monkeypatch.setattr(terms_module, "MOST_ROWS", 20)
    some = validated(counted(texts), rounds, spec())
    assert np.isfinite(some.logits).all()
    assert not np.array_equal(some.logits, whole.logits)


def test_without_rounds_the_strength_is_chosen_all_the_same():
    texts, labels = drawn()
    terms = counted(texts)
    chosen = validated(terms, rounds_on(labels, spec(), repeats=0), spec()).strength
    assert chosen == validated(terms, rounds_on(labels, spec(), repeats=1), spec()).strength != 1.0
    nothing = np.zeros((4, 3), dtype=bool)
    found = validated(terms[:4], rounds_on(nothing, spec(), repeats=0), spec())
    assert np.isnan(found.logits).all()
    assert (found.strength, found.logits.shape) == (1.0, (1, 4, 3))


def test_half_of_the_examples_are_those_of_the_halved_rounds():
    texts, labels = drawn()
    half = halved(rounds_on(labels, spec()), spec())
    found = halved_terms(half, counted(texts), spec(), 3.0)
    np.testing.assert_allclose(found[0], expected_logits(texts, labels, half.folds, 3.0), atol=1e-4)


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
    strength = validated(counted(texts), rounds_on(labels, wanted), wanted).strength
    expected = fitted(counted(texts), labels, counted(others), strength, wanted)
    np.testing.assert_array_equal(found.baseline_logits, expected)
    scores = found.metrics["cross_validation"]
    assert scores["baseline"]["accuracy"] > scores["accuracy"]  # words say more than noise
    assert (found.unseen_answers is not None) == several
    assert set(found.baseline_calibration) >= ({"thresholds"} if several else {"temperature"})
