import io

import numpy as np
import pytest
import torch
from torch import nn

from golem_ray.config import HeadConfig, TrainingConfig
from golem_ray.heads.fit import fit, fit_epochs, logits_of
from golem_ray.heads.modules import new_head
from golem_ray.heads.single_label import SINGLE_LABEL
from tests.heads.training import blobs, examples, of_epochs, spec, trained


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
    reports = []
    fit_epochs(head, examples(embeddings, labels), of_epochs(labels, 25), lambda *report: reports.append(report))
    assert [epoch for epoch, _ in reports] == [10, 20, 25]
    assert reports[0][1] > reports[-1][1]


def by_epoch(embeddings, labels, config, epochs=100):
    """The (epoch, loss) reports of a head of that configuration, and the head."""
    num_classes, reports = int(labels.max()) + 1, []
    head = new_head(embeddings.shape[1], num_classes, 0, config)
    recipe = spec(num_classes, config, TrainingConfig(epochs=epochs))
    fit_epochs(head, examples(embeddings, labels), recipe, lambda *report: reports.append(report))
    return reports, head


def test_hidden_layers_learn_what_a_linear_head_cannot():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (400, 2)).astype(np.float32)
    y = (x[:, 0] * x[:, 1] > 0).astype(np.int64)  # exclusive or
    plain, deep = (
        trained(x[:200], y[:200], 2, config=config, held_out=x[200:], baseline=x[:200], held_out_baseline=x[200:])[1]
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
        head = fit(examples(x, y), spec(4, config))
        scale = torch.where(x.std(dim=0, correction=0) > 1e-6, x.std(dim=0, correction=0), 1.0)
        plain = fit(examples((x - x.mean(dim=0)) / scale, y), spec(4, HeadConfig(hidden=config.hidden)))
        assert np.allclose(logits_of(head, x), logits_of(plain, (x - x.mean(dim=0)) / scale), atol=2e-3)


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
    head = fit(examples(embeddings, labels), spec(4, config))
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
    assert (
        SINGLE_LABEL.probabilities(logits_of(smooth, x)).max() < SINGLE_LABEL.probabilities(logits_of(plain, x)).max()
    )

    counts = np.bincount(labels)
    weights = torch.tensor(len(labels) / (3 * counts), dtype=torch.float32)
    head = new_head(8, 3, 0)
    expected = nn.functional.cross_entropy(head(x), torch.tensor(labels), weight=weights).item()
    reports, _ = by_epoch(embeddings, labels, HeadConfig(class_weights=True), epochs=1)
    assert reports[0][1] == pytest.approx(expected, rel=1e-6)


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


def test_class_weights_that_are_true_are_inverse_and_those_that_are_false_none():
    embeddings, labels = blobs(3, 20, 8)
    embeddings, labels = embeddings[labels < 2 + (np.arange(60) < 9)], labels[labels < 2 + (np.arange(60) < 9)]
    found = {
        kind: trained(embeddings, labels, 3, config=HeadConfig(class_weights=kind))[1].weights
        for kind in (True, "inverse", "sqrt", False, "none", (1.0, 1.0, 1.0), (1.0, 2.0, 0.5))
    }
    assert found[True] == found["inverse"]
    assert found[False] == found["none"]
    assert len({*found.values()}) >= 4
    weights = torch.tensor(len(labels) / (3 * np.bincount(labels)), dtype=torch.float32)
    x, y = torch.tensor(embeddings), torch.tensor(labels)
    expected = {"sqrt": weights.sqrt(), "inverse": weights, (1.0, 2.0, 0.5): torch.tensor([1.0, 2.0, 0.5])}
    for kind, weight in expected.items():
        criterion = SINGLE_LABEL.criterion(y, 3, HeadConfig(class_weights=kind))
        logits = new_head(8, 3, 0)(x)
        assert criterion.loss(logits, y).item() == pytest.approx(
            nn.functional.cross_entropy(logits, y, weight=weight).item(), rel=1e-6
        )


OPTIMIZERS = {
    ("sgd", 0.1): lambda weights: torch.optim.SGD(weights, lr=0.05, momentum=0.9, weight_decay=0.1),
    ("adam", 0.1): lambda weights: torch.optim.Adam(weights, lr=0.05, weight_decay=0.1),
    ("adamw", 0.1): lambda weights: torch.optim.AdamW(weights, lr=0.05, weight_decay=0.1),
    (None, 0.1): lambda weights: torch.optim.AdamW(weights, lr=0.05, weight_decay=0.1),
    ("adamw", 0.0): lambda weights: torch.optim.AdamW(weights, lr=0.05, weight_decay=0.0),
    (None, 0.0): lambda weights: torch.optim.Adam(weights, lr=0.05),
}


@pytest.mark.parametrize(("kind", "decay"), OPTIMIZERS)
def test_the_optimizer_is_pytorchs_of_that_name(kind, decay):
    embeddings, labels = blobs(3, 9, 8)
    x, y = torch.tensor(embeddings), torch.tensor(labels)
    torch.manual_seed(0)
    head = nn.Linear(8, 3)
    optimizer = OPTIMIZERS[kind, decay](head.parameters())
    for _ in range(5):
        optimizer.zero_grad()
        nn.functional.cross_entropy(head(x), y).backward()
        optimizer.step()
    training = TrainingConfig(epochs=5, learning_rate=0.05, optimizer=kind)
    found = fit(examples(x, y), spec(3, HeadConfig(weight_decay=decay), training))
    assert torch.allclose(found.weight, head.weight, atol=1e-6)
