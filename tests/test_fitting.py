import io

import numpy as np
import pytest
import torch
from torch import nn

from golem_ray.config import HeadConfig, TrainingConfig
from golem_ray.heads.fit import fit_epochs, fitted, logits_of
from golem_ray.heads.logistic import STRENGTHS
from golem_ray.heads.modules import new_head
from golem_ray.heads.select import best_layer
from golem_ray.heads.target import softmax
from golem_ray.heads.train import train_head
from golem_ray.heads.training_set import TrainingSet
from golem_ray.metrics.comparison import Score
from golem_ray.progress import Progress


def blobs(num_classes: int, per_class: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(num_classes * per_class) % num_classes
    centres = 2 * rng.standard_normal((num_classes, width))
    return (centres[labels] + rng.standard_normal((len(labels), width))).astype(np.float32), labels


def trained(embeddings, labels, num_classes, training=None, *, repeats=0, device="cpu", config=None, **more):
    """The progress and the result of train_head."""
    data = TrainingSet(embeddings=embeddings, labels=labels, num_classes=num_classes, **more)
    steps = train_head(data, training or TrainingConfig(), config=config, repeats=repeats, device=device)
    seen = []
    while True:
        try:
            seen.append(next(steps))
        except StopIteration as end:
            return seen, end.value


LAYERS = (0, 1, "last", "mean")


def layered(informative, num_clips=60, seed=0):
    """(N, 4, 8) embeddings that are noise but for one layer, if any; labels of four classes."""
    rng = np.random.default_rng(seed)
    labels = np.arange(num_clips) % 4
    embeddings = rng.standard_normal((num_clips, len(LAYERS), 8)).astype(np.float32)
    if informative is not None:
        embeddings[:, informative] += 3 * rng.standard_normal((4, 8))[labels]
    return embeddings, labels


@pytest.mark.parametrize("informative", range(4))
def test_the_layer_that_tells_classes_apart_is_chosen_and_trained_on(informative):
    embeddings, labels = layered(informative)
    config = TrainingConfig(epochs=20)
    held_out, truth = layered(informative)
    seen, result = trained(
        embeddings, labels, 4, config, repeats=1, layers=LAYERS, held_out=held_out,
        log_mel=embeddings[:, 0], held_out_log_mel=held_out[:, 0],
    )  # fmt: skip
    assert result.layer == LAYERS[informative]
    _, alone = trained(embeddings[:, informative], labels, 4, config, repeats=1)
    assert result.weights == alone.weights
    curve = {each["layer"]: each["accuracy"] for each in result.metrics["layers"]}
    assert list(curve) == list(LAYERS)
    assert curve.pop(result.layer) > 0.8 > 0.5 > max(curve.values())
    assert result.metrics["cross_validation"]["nested"]
    assert result.metrics["cross_validation"]["accuracy"] > 0.8
    assert (result.held_out_logits.argmax(axis=1) == truth).all()
    assert [step.done for step in seen if step.stage == "choosing a layer"] == [1, 2, 3, 4]


@pytest.mark.slow
def test_on_noise_the_accuracy_with_a_chosen_layer_is_chance():
    layers, labels = (*range(14), "last", "mean"), np.arange(60) % 4
    inside, reported, chosen = 0, [], []
    for seed in range(1, 5):
        embeddings = np.random.default_rng(seed).standard_normal((60, 16, 6)).astype(np.float32)
        _, result = trained(embeddings, labels, 4, TrainingConfig(epochs=10, seed=seed), repeats=1, layers=layers)
        scores = result.metrics["cross_validation"]
        inside += scores["interval_95"][0] <= 0.25 <= scores["interval_95"][1]
        reported.append(scores["accuracy"])
        chosen += [each["accuracy"] for each in result.metrics["layers"] if each["layer"] == result.layer]
    assert inside >= 3
    assert np.mean(reported) < 0.29 < 0.31 < np.mean(chosen)  # what is reported is not the winner's own figure


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


def test_without_folds_the_last_layer_is_taken():
    _, result = trained(layered(None, num_clips=4)[0], np.arange(4), 4, TrainingConfig(epochs=2), layers=LAYERS)
    assert (result.layer, result.metrics["layers"]) == ("last", [])


def test_weights_equal_the_literal_scripts():
    embeddings, labels = blobs(14, 4, 768)
    x, y = torch.tensor(embeddings), torch.tensor(labels)
    torch.manual_seed(0)
    head = nn.Linear(768, 14)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
    criterion = nn.CrossEntropyLoss()
    for _ in range(100):
        optimizer.zero_grad()
        loss = criterion(head(x), y)
        loss.backward()
        optimizer.step()

    _, result = trained(embeddings, labels, 14)
    state = torch.load(io.BytesIO(result.weights), weights_only=True)
    assert list(state) == ["weight", "bias"]
    assert torch.allclose(state["weight"], head.weight, atol=1e-6)
    assert torch.allclose(state["bias"], head.bias, atol=1e-6)
    assert result.metrics["final_loss"] == pytest.approx(loss.item(), abs=1e-6)


def test_the_loss_is_reported_every_ten_epochs_and_at_the_last():
    embeddings, labels = blobs(3, 3, 4)
    head = new_head(4, 3, 0)
    reports = list(fit_epochs(head, torch.tensor(embeddings), torch.tensor(labels), TrainingConfig(epochs=25)))
    assert [epoch for epoch, _ in reports] == [10, 20, 25]
    assert reports[0][1] > reports[-1][1]


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
    sure, honest = softmax(unseen).max(axis=1).mean(), softmax(unseen, calibration["temperature"]).max(axis=1).mean()
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


def test_clips_held_out_are_judged_by_the_head_and_by_one_on_log_mel_statistics():
    embeddings, labels = blobs(4, 30, 8)
    train, test = np.arange(120) < 60, np.arange(120) >= 60
    scale = np.float32(10.0) ** np.arange(-4, 4, dtype=np.float32)
    found = []
    for log_mel in (embeddings, embeddings * scale):
        data = {"held_out": embeddings[test], "log_mel": log_mel[train], "held_out_log_mel": log_mel[test]}
        result = trained(embeddings[train], labels[train], 4, **data)[1]
        found.append((result.baseline_logits.argmax(axis=1) == labels[test]).mean())
    state = torch.load(io.BytesIO(result.weights), weights_only=True)
    by_hand = embeddings[test] @ state["weight"].numpy().T + state["bias"].numpy()
    assert np.allclose(result.held_out_logits, by_hand, atol=1e-5)
    assert found[0] > 0.9
    assert found[1] == pytest.approx(found[0], abs=0.02)  # standardised, so that scale does not matter


def by_epoch(embeddings, labels, config, epochs=100):
    """The (epoch, loss) reports of a head of that configuration, and the head."""
    head = new_head(embeddings.shape[1], int(labels.max()) + 1, 0, config)
    training = TrainingConfig(epochs=epochs)
    return list(fit_epochs(head, torch.tensor(embeddings), torch.tensor(labels), training, config)), head


def test_hidden_layers_learn_what_a_linear_head_cannot():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (400, 2)).astype(np.float32)
    y = (x[:, 0] * x[:, 1] > 0).astype(np.int64)  # exclusive or
    plain, deep = (
        trained(x[:200], y[:200], 2, config=config, held_out=x[200:], log_mel=x[:200], held_out_log_mel=x[200:])[1]
        for config in (HeadConfig(), HeadConfig(hidden=(32, 16), activation="gelu", layer_norm=True))
    )
    right = [(each.held_out_logits.argmax(axis=1) == y[200:]).mean() for each in (plain, deep)]
    assert right[0] < 0.7
    assert right[1] > 0.9


def test_standardising_is_folded_into_the_weights():
    embeddings, labels = blobs(4, 20, 8)
    stretched = embeddings * np.float32(10.0) ** np.arange(-4, 4, dtype=np.float32) + 5
    stretched[:, 0] = 3  # constant
    x, y = torch.tensor(stretched), torch.tensor(labels)
    for config in (HeadConfig(standardize=True), HeadConfig(standardize=True, hidden=(16,))):
        head = fitted(x, y, 4, config, TrainingConfig())
        scale = torch.where(x.std(dim=0, correction=0) > 1e-6, x.std(dim=0, correction=0), 1.0)
        plain = fitted((x - x.mean(dim=0)) / scale, y, 4, HeadConfig(hidden=config.hidden), TrainingConfig())
        assert np.allclose(logits_of(head, x), logits_of(plain, (x - x.mean(dim=0)) / scale), atol=2e-3)


def test_logistic_is_scikit_learns_on_standardised_embeddings():
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    for num_classes in (2, 5):
        embeddings, labels = blobs(num_classes, 12, 6)
        embeddings = embeddings * 3 + 2
        logits = logits_of(
            fitted(torch.tensor(embeddings), torch.tensor(labels), num_classes + 1, LOGISTIC, TrainingConfig()),
            torch.tensor(embeddings),
        )
        expected = [
            make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))
            .fit(embeddings, labels)
            .predict_proba(embeddings)
            for strength in STRENGTHS
        ]
        found = softmax(logits)
        assert found[:, -1].max() < 1e-20  # no clip was of that class
        assert min(np.abs(found[:, :-1] - each).max() for each in expected) < 1e-4


LOGISTIC = HeadConfig(kind="logistic")


def test_logistic_is_regularised_the_more_the_less_there_is_to_learn():
    rng = np.random.default_rng(0)
    noise, labels = rng.standard_normal((60, 64)).astype(np.float32), np.arange(60) % 3
    result = trained(noise, labels, 3, config=LOGISTIC, repeats=2)[1]
    assert softmax(result.unseen_logits).max(axis=1).mean() < 0.5  # hardly more than an even guess
    embeddings, labels = blobs(3, 20, 64)
    result = trained(embeddings, labels, 3, config=LOGISTIC, repeats=1)[1]
    assert result.metrics["cross_validation"]["accuracy"] > 0.95
    assert softmax(result.unseen_logits).max(axis=1).mean() > 0.8
    assert result.metrics["loss_history"] == []
    assert 0 < result.metrics["final_loss"] < 0.2


def test_logistic_with_a_single_clip_of_a_class_and_with_one_class_in_a_fold():
    embeddings, labels = blobs(3, 2, 4)
    result = trained(embeddings[:5], labels[:5], 3, config=LOGISTIC, repeats=1)[1]  # the last class has one clip
    assert np.isfinite(torch.load(io.BytesIO(result.weights), weights_only=True)["weight"]).all()
    groups = np.array([0, 1, 0, 1])
    grouped = trained(embeddings[[0, 1, 3, 4]], np.array([0, 1, 0, 1]), 2, config=LOGISTIC, repeats=1, groups=groups)
    assert grouped[1].metrics["cross_validation"]["accuracy"] == 0.0  # who trained on one class says that class


def test_patience_stops_when_the_clips_kept_for_it_gain_nothing_and_keeps_the_best_weights():
    rng = np.random.default_rng(0)
    noise, labels = rng.standard_normal((100, 64)).astype(np.float32), rng.permutation(np.arange(100) % 4)
    reports, stopped = by_epoch(noise, labels, HeadConfig(patience=5), epochs=500)
    assert reports[-1][0] < 100
    _, going_on = by_epoch(noise, labels, HeadConfig(), epochs=500)
    assert stopped.weight.abs().sum() < going_on.weight.abs().sum() / 2


def test_dropout_is_the_seeds_and_off_when_the_head_is_used():
    embeddings, labels = blobs(4, 10, 8)
    config = HeadConfig(hidden=(32,), dropout=0.5)
    before = torch.get_rng_state()
    first, second, without = (
        trained(embeddings, labels, 4, config=each)[1].weights for each in (config, config, HeadConfig(hidden=(32,)))
    )
    assert first == second != without
    assert torch.equal(torch.get_rng_state(), before)
    head = fitted(torch.tensor(embeddings), torch.tensor(labels), 4, config, TrainingConfig())
    assert np.array_equal(logits_of(head, torch.tensor(embeddings)), logits_of(head, torch.tensor(embeddings)))


def test_weight_decay_shrinks_and_smoothing_and_class_weights_change_the_loss():
    embeddings, labels = blobs(3, 20, 8)
    keep = np.r_[np.flatnonzero(labels == 0), np.flatnonzero(labels != 0)[:8]]
    embeddings, labels = embeddings[keep], labels[keep]
    plain = by_epoch(embeddings, labels, HeadConfig())[1]
    decayed = by_epoch(embeddings, labels, HeadConfig(weight_decay=1.0))[1]
    assert decayed.weight.abs().sum() < plain.weight.abs().sum()
    smooth = by_epoch(embeddings, labels, HeadConfig(label_smoothing=0.2))[1]
    x = torch.tensor(embeddings)
    assert softmax(logits_of(smooth, x)).max() < softmax(logits_of(plain, x)).max()

    counts = np.bincount(labels)
    weights = torch.tensor(len(labels) / (3 * counts), dtype=torch.float32)
    head = new_head(8, 3, 0)
    expected = nn.functional.cross_entropy(head(x), torch.tensor(labels), weight=weights).item()
    config = HeadConfig(class_weights=True)
    fresh = new_head(8, 3, 0, config)
    steps = fit_epochs(fresh, x, torch.tensor(labels), TrainingConfig(epochs=1), config)
    assert next(iter(steps))[1] == pytest.approx(expected, rel=1e-6)


def test_batches_are_a_literal_loop_over_shuffled_rows():
    embeddings, labels = blobs(3, 9, 8)  # 27 rows: the last batch has 7
    x, y = torch.tensor(embeddings), torch.tensor(labels)
    torch.manual_seed(5)
    head = nn.Linear(8, 3)
    optimizer, order = torch.optim.Adam(head.parameters(), lr=0.01), torch.Generator().manual_seed(5)
    for _ in range(3):
        sizes, losses = [], []
        for rows in torch.randperm(27, generator=order).split(10):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(head(x[rows]), y[rows])
            loss.backward()
            optimizer.step()
            sizes.append(len(rows))
            losses.append(loss.item())

    assert sizes == [10, 10, 7]
    _, result = trained(embeddings, labels, 3, TrainingConfig(epochs=3, batch_size=10, seed=5))
    state = torch.load(io.BytesIO(result.weights), weights_only=True)
    assert torch.allclose(state["weight"], head.weight, atol=1e-7)
    assert torch.allclose(state["bias"], head.bias, atol=1e-7)
    assert result.metrics["final_loss"] == pytest.approx(np.average(losses, weights=sizes), rel=1e-6)


def test_batches_are_the_seeds_and_leave_other_randomness_alone():
    embeddings, labels = blobs(3, 9, 8)
    before = torch.get_rng_state()
    first, second, other, whole = (
        trained(embeddings, labels, 3, TrainingConfig(epochs=5, batch_size=size, seed=seed), repeats=1)[1]
        for size, seed in ((4, 0), (4, 0), (5, 0), (None, 0))
    )
    assert first.weights == second.weights
    assert np.array_equal(first.unseen_logits, second.unseen_logits)
    assert len({first.weights, other.weights, whole.weights}) == 3
    assert torch.equal(torch.get_rng_state(), before)


def test_batches_go_with_patience_and_dropout():
    embeddings, labels = blobs(4, 20, 8)
    config = HeadConfig(hidden=(16,), dropout=0.2, patience=3, class_weights=True)
    first, second = (trained(embeddings, labels, 4, TrainingConfig(batch_size=7), config=config)[1] for _ in range(2))
    assert first.weights == second.weights
    assert first.metrics["training_accuracy"] > 0.9
