"""Examples that are only ever trained on: heads learn from them, and no figure, choice or calibration counts them."""

import dataclasses
import io

import numpy as np
import pytest
import torch

from golem_ray.config import HeadConfig, TrainingConfig
from golem_ray.heads import cross_validate, fit
from golem_ray.heads.rounds import play_fewer, play_round
from golem_ray.heads.single_label import SINGLE_LABEL
from golem_ray.heads.training_set import TrainingSet
from tests.heads.training import blobs, by_layer, examples, layered, of_epochs, spec, trained

EXTRA = np.arange(60) >= 40


@pytest.fixture
def asked(monkeypatch):
    """Whenever folds are made: their (train, test) parts, and which examples were extra ones."""
    seen, folds = [], type(SINGLE_LABEL).folds

    def watching(self, labels, repeats, seed, groups=None, extra=None):
        found = folds(self, labels, repeats, seed, groups, extra)
        seen.append((found, extra))
        return found

    monkeypatch.setattr(type(SINGLE_LABEL), "folds", watching)
    return seen


def test_cross_validation_calibration_and_guesses_are_of_the_others_alone():
    embeddings, labels = blobs(3, 20, 5)
    labels = np.where(EXTRA, 0, labels)  # so that the largest class is another without them
    _, result = trained(embeddings, labels, 3, repeats=2, extra=EXTRA)
    own = np.bincount(labels[~EXTRA])
    metrics = result.metrics
    assert metrics["cross_validation"]["num_clips"] == metrics["calibration"]["num_clips"] == 40
    assert (metrics["chance"], metrics["largest_class"]) == (1 / 3, own.max() / 40)
    assert np.isfinite(result.unseen_logits).all(axis=1).tolist() == (~EXTRA).tolist()
    _, plain = trained(embeddings[~EXTRA], labels[~EXTRA], 3, repeats=2)
    assert result.weights != plain.weights
    assert metrics["cross_validation"]["folds"] == plain.metrics["cross_validation"]["folds"]


def test_a_head_of_a_fold_was_trained_on_them_but_not_on_a_tested_examples_copy():
    """Labels are noise: only a copy of a tested example tells its label."""
    rng = np.random.default_rng(0)
    embeddings = rng.standard_normal((40, 64)).astype(np.float32)
    labels = rng.permutation(np.arange(40) % 2)
    both, names = np.concatenate([embeddings, embeddings]), np.concatenate([labels, labels])
    extra, files = np.arange(80) >= 40, np.arange(80) % 40
    _, honest = trained(both, names, 2, repeats=2, extra=extra, groups=files)
    _, leaking = trained(both, names, 2, repeats=2, extra=extra)  # as if the copies were other files
    assert leaking.metrics["cross_validation"]["accuracy"] == 1.0
    assert honest.metrics["cross_validation"]["accuracy"] < 0.75


def test_a_layer_is_chosen_by_the_others_alone(asked):
    embeddings, labels = layered(1)
    _, result = trained(embeddings, labels, 4, TrainingConfig(epochs=20), repeats=1, candidates=by_layer(), extra=EXTRA)
    assert result.chosen == 1
    assert len(asked) > 5  # of the choice, and of the choice in each fold
    for folds, extra in asked:
        for _, test in folds:
            assert not extra[test].any()


def test_the_strength_of_a_logistic_head_is_chosen_by_the_others_alone(asked):
    embeddings, labels = blobs(3, 20, 5)
    data = dataclasses.replace(examples(embeddings, labels), extra=EXTRA)
    fit.fit(data, spec(3, HeadConfig(kind="logistic")))
    ((folds, extra),) = asked
    assert np.array_equal(extra, EXTRA)
    for train, test in folds:
        assert set(np.flatnonzero(EXTRA)) <= set(train)
        assert not EXTRA[test].any()


def test_when_to_stop_is_decided_by_a_fifth_of_the_others_whose_copies_are_not_trained_on():
    embeddings, labels = blobs(3, 20, 5)
    files = np.where(EXTRA, np.arange(60) - 40, np.arange(60))  # each extra one is a copy of one of the first twenty
    data = dataclasses.replace(examples(embeddings, labels, files), extra=EXTRA)
    train, kept = fit._validation_parts(data, spec(3))
    assert len(kept) == 40 // 5
    assert not EXTRA[kept].any()
    assert not set(files[train]) & set(files[kept])
    assert sorted(files[kept][files[kept] < 20]) == sorted(files[np.setdiff1d(np.flatnonzero(EXTRA), train)])
    alone = dataclasses.replace(data, groups=None)
    assert set(np.flatnonzero(EXTRA)) <= set(fit._validation_parts(alone, spec(3))[0])


def test_rounds_of_a_comparison_and_its_learning_curves_test_the_others_alone():
    embeddings, labels = blobs(3, 20, 5)
    data = TrainingSet(embeddings=embeddings, labels=labels, extra=EXTRA)
    played = play_round(data, of_epochs(labels, 10), 2, 0)
    assert np.array_equal(np.isfinite(played.right), ~EXTRA)
    assert np.array_equal(played.folds >= 0, ~EXTRA)
    fewer = play_fewer(data, of_epochs(labels, 10), 2, 0, (1, 100))
    assert np.array_equal(np.isfinite(fewer), np.stack([~EXTRA] * 2))
    assert np.array_equal(fewer[1], played.right, equal_nan=True)  # all of the others, and the extra ones


def test_a_learning_curve_counts_the_others_and_always_trains_on_all_extra_ones(monkeypatch):
    from golem_ray.heads import select

    embeddings, labels = blobs(3, 20, 5)
    seen, fitted = [], select.unseen_logits
    monkeypatch.setattr(
        select, "unseen_logits", lambda data, folds, spec: seen.extend(folds) or fitted(data, folds, spec)
    )
    play_fewer(TrainingSet(embeddings=embeddings, labels=labels, extra=EXTRA), of_epochs(labels, 2), 1, 0, (2,))
    assert len(seen) == 5
    for train, _ in seen:
        assert set(np.flatnonzero(EXTRA)) <= set(train)
        assert np.bincount(labels[train[~EXTRA[train]]]).tolist() == [2, 2, 2]


def test_the_head_on_the_baseline_stops_by_the_others_too(monkeypatch):
    embeddings, labels = blobs(3, 20, 5)
    seen, parts = [], fit._validation_parts
    monkeypatch.setattr(fit, "_validation_parts", lambda data, spec: seen.append(data.extra) or parts(data, spec))
    tested = {"held_out": embeddings[:4], "baseline": embeddings, "held_out_baseline": embeddings[:4]}
    trained(embeddings, labels, 3, config=HeadConfig(patience=3), extra=EXTRA, **tested)
    assert len(seen) == 2
    assert all(np.array_equal(extra, EXTRA) for extra in seen)


def test_beyond_memory_a_sample_of_both_is_cross_validated_on_and_the_others_tested(tmp_path, monkeypatch):
    monkeypatch.setattr(cross_validate, "SAMPLED_ROWS", 45)
    embeddings, labels = blobs(3, 20, 5)
    mapped = np.memmap(tmp_path / "rows", np.float32, mode="w+", shape=embeddings.shape)
    mapped[:] = embeddings
    _, streamed = trained(mapped, labels, 3, TrainingConfig(epochs=5), repeats=1, extra=EXTRA)
    _, whole = trained(embeddings, labels, 3, TrainingConfig(epochs=5), repeats=0, extra=EXTRA)
    found = streamed.metrics["cross_validation"]
    assert found["sampled"]
    assert found["num_clips"] == (~EXTRA[streamed.unseen_rows]).sum() < 40
    first, second = (torch.load(io.BytesIO(each.weights), weights_only=True) for each in (streamed, whole))
    assert all(torch.allclose(first[name], second[name], atol=1e-5) for name in first)
    assert streamed.metrics["largest_class"] == whole.metrics["largest_class"]
