import io

import numpy as np
import pytest
import torch
from torch import nn

from golem_ray.config import TrainingConfig
from golem_ray.heads import evaluate, evaluate_baseline, fit_epochs, new_head, train_head, weights_file
from golem_ray.progress import Progress


def blobs(num_classes: int, per_class: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(num_classes * per_class) % num_classes
    centres = 2 * rng.standard_normal((num_classes, width))
    return (centres[labels] + rng.standard_normal((len(labels), width))).astype(np.float32), labels


def finish(steps):
    """The progress and the result of train_head."""
    seen = []
    while True:
        try:
            seen.append(next(steps))
        except StopIteration as end:
            return seen, end.value


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

    _, (weights, metrics) = finish(train_head(embeddings, labels, 14, TrainingConfig(), repeats=0))
    state = torch.load(io.BytesIO(weights), weights_only=True)
    assert list(state) == ["weight", "bias"]
    assert torch.allclose(state["weight"], head.weight, atol=1e-6)
    assert torch.allclose(state["bias"], head.bias, atol=1e-6)
    assert metrics["final_loss"] == pytest.approx(loss.item(), abs=1e-6)


def test_a_new_head_is_the_seeds_and_leaves_the_global_generator_alone():
    torch.manual_seed(7)
    expected = nn.Linear(5, 3).weight
    torch.manual_seed(1)
    before = torch.get_rng_state()
    assert torch.equal(new_head(5, 3, seed=7).weight, expected)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_loss_is_reported_every_ten_epochs_and_at_the_last():
    embeddings, labels = blobs(3, 3, 4)
    head = new_head(4, 3, 0)
    reports = list(fit_epochs(head, torch.tensor(embeddings), torch.tensor(labels), TrainingConfig(epochs=25)))
    assert [epoch for epoch, _ in reports] == [10, 20, 25]
    assert reports[0][1] > reports[-1][1]


def test_the_same_weights_give_the_same_bytes():
    first, second = (weights_file(new_head(6, 2, seed=3)) for _ in range(2))
    assert first == second
    assert first != weights_file(new_head(6, 2, seed=4))


def test_metrics_say_what_was_learned_and_what_it_is_worth():
    embeddings, labels = blobs(4, 10, 16)
    steps, (_, metrics) = finish(train_head(embeddings, labels, 4, TrainingConfig(), repeats=2))
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
        _, (_, metrics) = finish(train_head(noise, labels, 4, TrainingConfig(seed=seed), repeats=1))
        assert metrics["training_accuracy"] == 1.0
        low, high = metrics["cross_validation"]["interval_95"]
        covered.append(low <= 0.25 <= high)
    assert sum(covered) >= 4


def test_no_cross_validation_without_two_clips_of_a_class():
    embeddings = np.eye(3, dtype=np.float32)
    _, (_, metrics) = finish(train_head(embeddings, np.arange(3), 3, TrainingConfig(epochs=5), repeats=5))
    assert metrics["cross_validation"] is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_gpu_gives_the_cpus_head():
    embeddings, labels = blobs(14, 4, 768)
    states = []
    for device in ("cpu", "cuda"):
        _, (weights, _) = finish(train_head(embeddings, labels, 14, TrainingConfig(), repeats=0, device=device))
        states.append(torch.load(io.BytesIO(weights), weights_only=True))
    assert torch.allclose(states[0]["weight"], states[1]["weight"], atol=1e-4)


def test_a_saved_head_is_evaluated_on_other_clips():
    head = nn.Linear(3, 3)
    with torch.no_grad():
        head.weight.copy_(torch.eye(3))
        head.bias.zero_()
    embeddings = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
    scores = evaluate(weights_file(head), embeddings, np.array([0, 1, 0, 3]))  # the last class it does not know
    assert (scores["accuracy"], scores["num_clips"]) == (0.5, 4)
    assert scores["interval_95"] == pytest.approx([0.150, 0.850], abs=1e-3)


def test_the_baseline_is_trained_like_the_head_whatever_the_features_scale():
    features, labels = blobs(4, 30, 8)
    trained, tested = np.arange(120) < 60, np.arange(120) >= 60
    scale = np.float32(10.0) ** np.arange(-4, 4, dtype=np.float32)
    accuracies = []
    for stretched in (features, features * scale):
        arrays = stretched[trained], labels[trained], stretched[tested], labels[tested]
        accuracies.append(evaluate_baseline(*arrays, num_classes=4, training=TrainingConfig())["accuracy"])
    assert accuracies[0] > 0.9
    assert accuracies[1] == pytest.approx(accuracies[0], abs=0.02)
    noise = np.random.default_rng(0).standard_normal((1200, 8)).astype(np.float32)
    arrays = noise[:600], np.arange(600) % 4, noise[600:], np.arange(600) % 4
    scores = evaluate_baseline(*arrays, num_classes=4, training=TrainingConfig())
    assert scores["interval_95"][0] < 0.25 < scores["interval_95"][1]
