import io

import numpy as np
import pytest
import torch

from golem_ray.config import TrainingConfig
from golem_ray.heads import cross_validate
from golem_ray.heads.select import Choice
from golem_ray.heads.single_label import SINGLE_LABEL
from golem_ray.progress import Progress
from tests.heads.training import LAYERS, blobs, by_layer, examples, layered, spec, trained


@pytest.mark.parametrize("informative", [0, 2])
def test_the_layer_that_tells_classes_apart_is_chosen_and_trained_on(informative):
    embeddings, labels = layered(informative)
    config = TrainingConfig(epochs=20)
    held_out, truth = layered(informative)
    seen, result = trained(
        embeddings, labels, 4, config, repeats=1, candidates=by_layer(), held_out=held_out,
        baseline=embeddings[:, :8], held_out_baseline=held_out[:, :8],
    )  # fmt: skip
    assert result.chosen == informative
    _, alone = trained(embeddings[:, 8 * informative :][:, :8], labels, 4, config, repeats=1)
    assert result.weights == alone.weights
    scores = {each["number"]: each["accuracy"] for each in result.metrics["candidates"]}
    assert sorted(scores) == list(range(LAYERS))
    assert next(iter(scores)) == informative
    assert scores.pop(informative) > 0.8 > 0.5 > max(scores.values())
    assert result.metrics["cross_validation"]["nested"]
    assert result.metrics["cross_validation"]["accuracy"] > 0.8
    assert (result.held_out_logits.argmax(axis=1) == truth).all()
    assert [step.done for step in seen if step.stage == "choosing"] == [1, 2, 3, 4]


def test_the_baseline_stands_beside_a_cross_validation_and_its_growth_is_told_where_it_wins():
    """The baseline's vectors tell the classes apart, the embeddings do not, whatever their number."""
    noise, labels = layered(None, num_examples=120)
    telling, _ = blobs(4, 30, 5)
    metrics = trained(noise, labels, 4, repeats=2, baseline=telling)[1].metrics
    scores = metrics["cross_validation"]
    assert scores["baseline"]["accuracy"] > 0.9 > 0.5 > scores["accuracy"]
    _, high = scores["baseline"]["against_it"]["interval_95"]
    assert high < -0.3
    assert scores["growth"]["baseline"] == pytest.approx(0, abs=0.1)
    better = trained(telling, labels, 4, repeats=2, baseline=noise)[1].metrics["cross_validation"]
    assert better["baseline"]["accuracy"] < 0.5
    assert "growth" not in better


def test_growth_is_by_heads_of_half_of_each_classs_examples_in_the_same_folds():
    embeddings, labels = blobs(3, 21, 4)
    every = examples(embeddings, labels)
    rounds = cross_validate.rounds_of(every, spec(3), 2)
    half = cross_validate.halved(rounds, spec(3))
    assert half.number == 1
    for (train, test), (fewer, same) in zip(rounds.folds[:5], half.folds, strict=True):
        assert np.array_equal(test, same)
        assert set(fewer) < set(train)
        counts = np.bincount(labels[train])
        assert np.array_equal(np.bincount(labels[fewer]), (counts + 1) // 2)


def test_each_fold_trains_the_candidate_that_was_chosen_for_it_by_its_training_examples(monkeypatch):
    embeddings, labels = layered(None)
    asked = []

    def choose(every, candidates, spec, sets, report):
        asked.extend(sets)
        return [Choice(number % LAYERS, {}, {}) for number in range(len(sets))]

    monkeypatch.setattr("golem_ray.heads.train_head.choose", choose)
    training = TrainingConfig(epochs=10)
    _, result = trained(embeddings, labels, 4, training, repeats=1, candidates=by_layer())
    folds = spec(4).target.folds(labels, 1, 0)
    assert np.array_equal(asked[0], np.arange(60))
    for number, ((train, test), rows) in enumerate(zip(folds, asked[1:], strict=True), start=1):
        assert np.array_equal(rows, train)
        start = 8 * (number % LAYERS)
        _, alone = trained(embeddings[:, start : start + 8], labels, 4, training, repeats=1)
        np.testing.assert_allclose(result.unseen_logits[test], alone.unseen_logits[test], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_on_noise_the_accuracy_with_a_chosen_layer_is_chance():
    labels = np.arange(60) % 4
    inside, reported, chosen = 0, [], []
    for seed in range(1, 5):
        embeddings = np.random.default_rng(seed).standard_normal((60, 16 * 6)).astype(np.float32)
        training = TrainingConfig(epochs=10, seed=seed)
        _, result = trained(embeddings, labels, 4, training, repeats=1, candidates=by_layer(16, 6))
        scores = result.metrics["cross_validation"]
        inside += scores["interval_95"][0] <= 0.25 <= scores["interval_95"][1]
        reported.append(scores["accuracy"])
        chosen += [max(each["accuracy"] for each in result.metrics["candidates"])]
    assert inside >= 3
    assert np.mean(reported) < 0.29 < 0.31 < np.mean(chosen)  # what is reported is not the winner's own figure


def test_without_folds_the_plain_candidate_is_taken():
    embeddings, labels = layered(None, num_examples=4)
    _, result = trained(embeddings, labels, 4, TrainingConfig(epochs=2), candidates=by_layer())
    assert (result.chosen, result.metrics["candidates"]) == (0, [])


def test_metrics_say_what_was_learned_and_what_it_is_worth():
    embeddings, labels = blobs(4, 10, 16)
    steps, result = trained(embeddings, labels, 4, repeats=2)
    metrics = result.metrics
    assert metrics["training_accuracy"] == 1.0
    assert metrics["chance"] == metrics["largest_class"] == 0.25
    scores = metrics["cross_validation"]
    assert scores["accuracy"] > 0.9
    assert (scores["folds"], scores["repeats"], scores["num_clips"]) == (5, 2, 40)
    low, high = scores["interval_95"]
    assert low < scores["accuracy"] <= high
    assert steps[-1] == Progress(stage="cross-validating", done=10, total=10, unit="folds")


def test_cross_validation_is_at_chance_on_noise_that_training_learns_by_heart():
    rng = np.random.default_rng(0)
    covered = []
    for seed in range(5):
        noise = rng.standard_normal((60, 96)).astype(np.float32)
        labels = rng.permutation(np.arange(60) % 4)
        metrics = trained(noise, labels, 4, TrainingConfig(seed=seed), repeats=1)[1].metrics
        assert metrics["training_accuracy"] == 1.0
        low, high = metrics["cross_validation"]["interval_95"]
        covered.append(low <= 0.25 <= high)
    assert sum(covered) >= 4


def test_there_are_fewer_rounds_where_the_logits_of_all_would_be_too_many(monkeypatch):
    embeddings, labels = blobs(4, 10, 6)
    for most, rounds in ((2 * 40 * 4, 2), (1, 1)):
        monkeypatch.setattr(cross_validate, "MOST_LOGITS", most)
        _, result = trained(embeddings, labels, 4, TrainingConfig(epochs=2), repeats=5)
        assert result.metrics["cross_validation"]["repeats"] == rounds


def test_no_cross_validation_without_two_clips_of_a_class():
    embeddings = np.eye(3, dtype=np.float32)
    _, result = trained(embeddings, np.arange(3), 3, TrainingConfig(epochs=5), repeats=5)
    assert result.metrics["cross_validation"] is result.metrics["calibration"] is None
    assert np.isnan(result.unseen_logits).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_gpu_gives_the_cpus_head():
    embeddings, labels = blobs(14, 4, 768)
    states = []
    for device in ("cpu", "cuda"):
        weights = trained(embeddings, labels, 14, device=device)[1].weights
        states.append(torch.load(io.BytesIO(weights), weights_only=True))
    assert torch.allclose(states[0]["weight"], states[1]["weight"], atol=1e-4)


def test_a_clips_unseen_logits_are_those_of_a_head_that_did_not_see_it():
    """With a clip's label changed, the heads that judge that clip stay the same, and those of the others do not."""
    embeddings, labels = blobs(3, 10, 8)
    first = trained(embeddings, labels, 3, repeats=2)[1]
    assert first.unseen_logits.shape == (30, 3)
    right = (first.unseen_logits.argmax(axis=1) == labels).mean()
    assert right == pytest.approx(first.metrics["cross_validation"]["accuracy"], abs=0.1)
    moved = embeddings.copy()
    moved[0] *= -5
    second = trained(moved, labels, 3, repeats=2)[1]
    weight_and_bias = np.linalg.lstsq(
        np.hstack([moved[[0]], [[1]]]) - np.hstack([embeddings[[0]], [[1]]]),
        second.unseen_logits[[0]] - first.unseen_logits[[0]],
        rcond=None,
    )[0]
    assert np.isfinite(weight_and_bias).all()
    others_in_its_fold = np.isclose(first.unseen_logits, second.unseen_logits).all(axis=1)
    assert 5 <= others_in_its_fold.sum() <= 6  # its fold's head did not see it; the other heads did
    assert not np.isclose(first.unseen_logits[0], second.unseen_logits[0]).all()


def test_calibration_needs_twenty_clips_and_makes_sure_heads_less_sure():
    rng = np.random.default_rng(0)
    noise, labels = rng.standard_normal((60, 96)).astype(np.float32), np.arange(60) % 4
    calibration = trained(noise, labels, 4, repeats=2)[1].metrics["calibration"]
    assert calibration["num_clips"] == 60
    unseen = trained(noise, labels, 4, repeats=2)[1].unseen_logits
    sure, honest = (
        SINGLE_LABEL.probabilities(unseen).max(axis=1).mean(),
        SINGLE_LABEL.probabilities(unseen, calibration).max(axis=1).mean(),
    )
    assert sure > 0.6
    assert honest < 0.35  # noise deserves no more than chance
    assert trained(noise[:19], labels[:19], 4, repeats=2)[1].metrics["calibration"] is None
    assert trained(noise[:20], labels[:20], 4, repeats=2)[1].metrics["calibration"] is not None


def test_groups_stay_together_in_cross_validation():
    """Each group has a direction of its own that names the label: without groups the head looks it up."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(12), 6)
    labels = np.repeat(np.arange(12) % 2, 6)
    embeddings = (np.eye(12)[groups] * 8 + rng.standard_normal((72, 12))).astype(np.float32)
    alone = trained(embeddings, labels, 2, repeats=2)[1].metrics["cross_validation"]
    grouped = trained(embeddings, labels, 2, repeats=2, groups=groups)[1].metrics["cross_validation"]
    assert alone["accuracy"] > 0.95
    assert grouped["accuracy"] < 0.7
    assert grouped["num_clips"] == 72


def test_clips_held_out_are_judged_by_the_head_and_by_one_on_the_baseline():
    embeddings, labels = blobs(4, 30, 8)
    train, test = np.arange(120) < 60, np.arange(120) >= 60
    scale = np.float32(10.0) ** np.arange(-4, 4, dtype=np.float32)
    found = []
    for plain in (embeddings, embeddings * scale):
        data = {"held_out": embeddings[test], "baseline": plain[train], "held_out_baseline": plain[test]}
        result = trained(embeddings[train], labels[train], 4, **data)[1]
        found.append((result.baseline_logits.argmax(axis=1) == labels[test]).mean())
    state = torch.load(io.BytesIO(result.weights), weights_only=True)
    by_hand = embeddings[test] @ state["weight"].numpy().T + state["bias"].numpy()
    assert np.allclose(result.held_out_logits, by_hand, atol=1e-5)
    assert found[0] > 0.9
    assert found[1] == pytest.approx(found[0], abs=0.02)  # standardised, so that scale does not matter
