"""What the baseline on terms says behind an encoder's vectors: of no example by a fit that knew it."""

import dataclasses
import io

import numpy as np
import pytest
import torch

from golem_ray.config import HeadConfig, TrainingConfig
from golem_ray.errors import ConfigError
from golem_ray.heads import joined as joined_module
from golem_ray.heads.examples import Examples
from golem_ray.heads.fit import fit, logits_of
from golem_ray.heads.joined import STRENGTH, Counted, folds_of, joined
from golem_ray.heads.many import unseen_logits
from golem_ray.heads.terms import JoinedScores, fitted
from golem_ray.heads.train_head import train_head
from golem_ray.heads.training_set import HeadCandidate, HeadSpec, TrainingSet
from tests.heads.texts import counted, drawn, spec

NOISE = np.random.default_rng(0).standard_normal((100, 4)).astype(np.float32)


def examples_of(texts, labels, groups=None):
    embeddings = torch.from_numpy(NOISE[: len(texts)])
    return Examples(embeddings, torch.as_tensor(labels), groups, None, Counted(counted(texts)))


def behind(examples, rows, wanted):
    """(N, K), the columns that are joined."""
    found = joined(examples, rows, wanted).embeddings.numpy()
    width = examples.embeddings.shape[1]
    assert np.array_equal(found[:, :width], examples.embeddings.numpy())
    return found[:, width:]


@pytest.mark.parametrize("several", [False, True])
def test_each_example_has_what_a_fit_to_other_folds_says_and_others_what_one_to_all_says(several):
    texts, labels = drawn(several=several)
    examples, rows, wanted = examples_of(texts, labels), np.arange(45), spec(several)
    found, counts = behind(examples, rows, wanted), counted(texts)
    folds = folds_of(examples, rows, wanted)
    assert sorted(np.concatenate([test for _, test in folds])) == list(rows)
    for train, test in folds:
        assert not set(train) & set(test)
        expected = fitted(counts[train], labels[train], STRENGTH, wanted).scores(counts[test])
        np.testing.assert_array_equal(found[test], expected)
    expected = fitted(counts[:45], labels[:45], STRENGTH, wanted).scores(counts[45:])
    np.testing.assert_array_equal(found[45:], expected)


def test_neither_an_examples_own_label_nor_a_tested_one_changes_what_it_has():
    texts, labels = drawn(several=False)
    wanted, rows = spec(False), np.arange(45)
    before = behind(examples_of(texts, labels), rows, wanted)
    folds = folds_of(examples_of(texts, labels), rows, wanted)
    other = labels.copy()
    other[50:] = (labels[50:] + 1) % 3
    assert np.array_equal(behind(examples_of(texts, other), rows, wanted), before)
    _, test = folds[0]
    swapped = labels.copy()
    swapped[test] = labels[test[::-1]]  # of one fold, whose labels are as many as before
    examples = dataclasses.replace(examples_of(texts, labels), labels=torch.as_tensor(swapped))
    pinned = [(train, test) for train, test in folds]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(joined_module, "folds_of", lambda *given: pinned)
        after = behind(examples, rows, wanted)
    assert np.array_equal(after[test], before[test])
    assert not np.array_equal(after[folds[1][1]], before[folds[1][1]])


def test_no_example_has_what_a_fit_to_its_own_group_says():
    texts, labels = drawn()
    groups = np.arange(60) % 7
    examples = examples_of(texts, labels, groups)
    folds = folds_of(examples, np.arange(60), spec())
    assert len(folds) > 1
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(60))
    for train, test in folds:
        assert not set(groups[train]) & set(groups[test])


def test_one_that_is_alone_in_its_class_has_something_too_and_nothing_is_too_sure():
    texts, labels = drawn(several=False)
    labels[7] = 3
    wanted = spec(False, num_classes=5)
    found = behind(examples_of(texts, labels), np.arange(60), wanted)
    assert (found[7, :3] != 0).all()
    assert found[7, 3] == -10  # no other example is of its class
    assert (found[:, 4] == -10).all()  # and none at all of this one
    assert np.abs(found).max() == 10


def test_without_two_folds_nothing_is_said_and_no_head_is_trained():
    texts, labels = drawn(3, several=False)
    assert labels.tolist() == [0, 1, 2]
    assert not behind(examples_of(texts, labels), np.arange(3), spec(False)).any()
    data = TrainingSet(embeddings=NOISE[:3], labels=labels, terms=counted(texts))
    with pytest.raises(ConfigError, match=r"^model\.join_baseline: expected a label with two examples"):
        train_head(data, dataclasses.replace(spec(False), joined=True), repeats=1)


def test_what_was_fitted_once_is_not_fitted_again_for_another_candidate(monkeypatch):
    texts, labels = drawn()
    examples, fits = examples_of(texts, labels), []
    monkeypatch.setattr(joined_module, "fitted", lambda *given, **most: fits.append(1) or fitted(*given, **most))
    whole = behind(examples, np.arange(60), spec())
    once = len(fits)
    assert once == 5
    narrow = examples.of_columns(((0, 2),))
    assert np.array_equal(behind(narrow, np.arange(60), spec()), whole)
    assert len(fits) == once
    behind(examples, np.arange(40), spec())
    assert len(fits) == once + 6  # five folds, and all for the twenty others


def test_of_many_examples_a_fit_takes_some(monkeypatch):
    texts, labels = drawn()
    whole = behind(examples_of(texts, labels), np.arange(45), spec())
    monkeypatch.setattr(joined_module, "MOST_ROWS", 20)
    some = behind(examples_of(texts, labels), np.arange(45), spec())
    assert not np.array_equal(some[:45], whole[:45])
    assert not np.array_equal(some[45:], whole[45:])


def test_the_file_has_a_bound(monkeypatch):
    texts, labels = drawn()
    monkeypatch.setattr(joined_module, "MOST_BYTES", 1400)
    content = joined_module.joined_scores(counted(texts), labels, spec()).content
    assert len(content) < 1400 + 2000  # the headers of four arrays
    assert len(np.load(io.BytesIO(content))["terms"]) == 1400 // (8 + 2 * 3)


@pytest.mark.parametrize("kind", ["gradient", "logistic"])
def test_heads_of_folds_are_those_that_are_fitted_one_by_one(kind):
    texts, labels = drawn()
    head, training = HeadConfig(kind=kind), TrainingConfig(epochs=20)
    wanted = dataclasses.replace(spec(), head=head, training=training, joined=True)
    plain, examples = dataclasses.replace(wanted, joined=False), examples_of(texts, labels)
    folds = wanted.target.folds(labels, 1, 0)
    found = unseen_logits(examples, folds, wanted, rounds=1)
    for (train, test), unseen in zip(folds, found, strict=True):
        own = joined(examples, train, wanted)
        expected = logits_of(fit(own.take(train), plain), own.embeddings[test])
        np.testing.assert_allclose(unseen.tested, expected, atol=2e-3)
        assert unseen.inner.shape == (1, len(train), 3)


def test_a_regressions_penalty_holds_joined_columns_down_less():
    texts, labels = drawn()
    wanted = dataclasses.replace(spec(), head=HeadConfig(kind="logistic"))
    examples = joined(examples_of(texts, labels), np.arange(60), wanted)
    behind = examples.embeddings[:, 4:]
    wide = dataclasses.replace(examples, num_joined=0, embeddings=torch.cat([examples.embeddings, *[behind] * 15], 1))
    found = logits_of(fit(examples, wanted), examples.embeddings)  # as if each were there sixteen times
    np.testing.assert_allclose(found, logits_of(fit(wide, wanted), wide.embeddings), atol=1e-3)
    alone = dataclasses.replace(examples, num_joined=0)
    assert np.abs(found - logits_of(fit(alone, wanted), alone.embeddings)).max() > 0.01


def held_out_set(**changes):
    (texts, labels), (others, tested) = drawn(), drawn(40, seed=1)
    vectors = NOISE[:60], NOISE[60:]
    data = TrainingSet(
        embeddings=vectors[0],
        labels=labels,
        held_out=vectors[1],
        terms=counted(texts),
        held_out_terms=counted(others),
        **changes,
    )
    return data, tested


def test_a_head_takes_of_what_is_held_out_what_the_file_says():
    data, tested = held_out_set()
    wanted = dataclasses.replace(spec(), joined=True, training=TrainingConfig(epochs=300))
    found = train_head(data, wanted, repeats=2)
    state = torch.load(io.BytesIO(found.weights), weights_only=True)
    assert state["weight"].shape == (3, 4 + 3)
    taken = np.concatenate([data.held_out, JoinedScores(found.joined).scores(data.held_out_terms)], axis=1)
    expected = taken @ state["weight"].numpy().T + state["bias"].numpy()
    np.testing.assert_allclose(found.held_out_logits, expected, atol=1e-4)
    alone = train_head(data, dataclasses.replace(wanted, joined=False), repeats=2)
    assert alone.joined is None

    def figure(head):
        return head.metrics["cross_validation"]["figures"]["mean_average_precision"]["value"]

    assert figure(found) > figure(alone) + 0.2  # whose vectors are noise
    right = ((found.held_out_logits > 0) == tested).mean()
    assert right > ((alone.held_out_logits > 0) == tested).mean() + 0.1
    assert found.drawn.shape[1] == alone.drawn.shape[1] == 4
    np.testing.assert_array_equal(found.baseline_logits, alone.baseline_logits)


def test_it_is_chosen_where_it_is_better_and_left_where_it_says_nothing():
    candidates = tuple(
        HeadCandidate(columns=((0, 4),), head=HeadConfig(kind="logistic"), joined=joined) for joined in (False, True)
    )
    data, _ = held_out_set(candidates=candidates)
    found = train_head(data, spec(), repeats=1)
    assert found.chosen == 1
    assert found.joined is not None
    empty = counted([""] * 60)
    data = dataclasses.replace(data, terms=empty, held_out_terms=empty[:40])
    found = train_head(data, spec(), repeats=1)
    assert (found.chosen, found.joined) == (0, None)


def test_of_many_examples_fewer_rounds_are_played():
    texts, labels = drawn()
    data = TrainingSet(embeddings=NOISE[:60], labels=labels, terms=counted(texts))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("golem_ray.heads.cross_validate.MOST_JOINED", 130)
        of_joined = train_head(data, dataclasses.replace(spec(), joined=True), repeats=5)
        alone = train_head(data, spec(), repeats=5)
    assert of_joined.metrics["cross_validation"]["repeats"] == 2
    assert alone.metrics["cross_validation"]["repeats"] == 5


def test_candidates_for_many_wide_examples_are_chosen_in_one_round(monkeypatch):
    _, labels = drawn()
    candidates = tuple(HeadCandidate(columns=((0, width),), head=HeadConfig()) for width in (2, 4))
    data = TrainingSet(embeddings=NOISE[:60], labels=labels, candidates=candidates)
    for most, repeats in ((60 * 4, 2), (60 * 4 - 1, 1)):
        monkeypatch.setattr("golem_ray.heads.cross_validate.MOST_CHOSEN", most)
        found = train_head(data, spec(), repeats=2)
        assert found.metrics["cross_validation"]["repeats"] == repeats
    alone = dataclasses.replace(data, candidates=())
    assert train_head(alone, spec(), repeats=2).metrics["cross_validation"]["repeats"] == 2


def test_what_is_unlike_all_that_was_trained_on_is_judged_by_all_that_the_head_takes():
    data, _ = held_out_set()
    labels = data.labels.argmax(axis=1)
    data = dataclasses.replace(data, labels=labels)
    wanted = dataclasses.replace(spec(False), joined=True, reject="unlike")
    found = train_head(data, wanted, repeats=1)
    assert found.held_out_unsure.shape == (40,)
    state = torch.load(io.BytesIO(found.weights), weights_only=True)
    assert state["weight"].shape == (3, 7)


def test_a_spec_is_of_its_candidate():
    candidate = HeadCandidate(columns=((0, 2),), head=HeadConfig(kind="logistic"), joined=True)
    found = HeadSpec(num_classes=2, reject=0.9).of(candidate)
    assert (found.head, found.joined, found.reject) == (candidate.head, True, 0.9)
