"""Embeddings beyond memory: what chunks of them give is what all of them would."""

import dataclasses
import io

import numpy as np
import pytest
import torch

from golem_ray.config import HeadConfig, TrainingConfig
from golem_ray.heads import cross_validate
from golem_ray.heads import rows as streamed
from golem_ray.heads.examples import Examples
from golem_ray.heads.fit import accuracy, fit, log_loss, logits_of
from golem_ray.heads.rows import Streamed, chunks, moments, shuffled
from golem_ray.heads.train_head import train_head
from golem_ray.heads.training_set import TrainingSet
from tests.heads.training import examples, of_epochs, spec


class Watched(np.memmap):
    """A memory map that notes how many rows are asked for at once."""

    asked: list[int]

    def __getitem__(self, rows):
        found = super().__getitem__(rows)
        self.asked.append(len(found))
        return found


@pytest.fixture
def on_disk(tmp_path):
    """Writes an array to a file, and maps that."""

    def write(values, name="rows"):
        values.tofile(tmp_path / name)
        mapped = Watched(tmp_path / name, dtype=values.dtype, mode="r", shape=values.shape)
        mapped.asked = []
        return mapped

    return write


def clips(num_examples=101, width=6, seed=0):
    """Embeddings and labels of four classes, the first by far the largest, sorted by label."""
    rng = np.random.default_rng(seed)
    labels = np.sort(rng.choice(4, num_examples, p=[0.7, 0.1, 0.1, 0.1]))
    centres = 2 * rng.standard_normal((4, width))
    return (centres[labels] + rng.standard_normal((num_examples, width)) + 3).astype(np.float32), labels


def trained(data, training=None, config=None, repeats=0, num_classes=4):
    return train_head(data, spec(num_classes, config, training or TrainingConfig(epochs=20)), repeats=repeats)


def weights(head):
    return torch.load(io.BytesIO(head.weights), weights_only=True)


HEADS = {
    "plain": HeadConfig(),
    "weighted and smoothed": HeadConfig(class_weights=True, label_smoothing=0.2),
    "standardised": HeadConfig(standardize=True, weight_decay=0.1),
    "hidden": HeadConfig(hidden=(8,), layer_norm=True, class_weights=True, standardize=True),
}


@pytest.mark.parametrize("chunk_rows", [1, 7, 100, 101, 1000])
@pytest.mark.parametrize("batch_size", [None, 10, 40])
@pytest.mark.parametrize("head", HEADS)
def test_chunks_give_the_head_that_all_rows_at_once_give(on_disk, monkeypatch, head, batch_size, chunk_rows):
    embeddings, labels = clips()
    training = TrainingConfig(epochs=3, batch_size=batch_size)
    # the order of batches is one of chunks as well, so that it is fixed here
    monkeypatch.setattr(streamed, "shuffled", lambda num_rows, order: torch.randperm(num_rows, generator=order))
    whole = trained(TrainingSet(embeddings=embeddings, labels=labels), training, HEADS[head], num_classes=5)
    monkeypatch.setattr(streamed, "CHUNK_ROWS", chunk_rows)
    mapped = on_disk(embeddings)
    parts = trained(TrainingSet(embeddings=mapped, labels=labels), training, HEADS[head], num_classes=5)
    for name, expected in weights(whole).items():
        assert torch.allclose(weights(parts)[name], expected, atol=1e-5), name
    for metric in ("final_loss", "training_accuracy", "chance", "largest_class"):
        assert parts.metrics[metric] == pytest.approx(whole.metrics[metric], rel=1e-5)


def test_one_chunk_is_the_very_arithmetic_of_memory(on_disk):
    embeddings, labels = clips()
    config = HeadConfig(class_weights=True, hidden=(8,), dropout=0.5)
    for batch_size in (None, 10):
        training = TrainingConfig(epochs=3, batch_size=batch_size)
        data = TrainingSet(embeddings=embeddings, labels=labels)
        beyond = dataclasses.replace(data, embeddings=on_disk(embeddings))
        assert trained(data, training, config).weights == trained(beyond, training, config).weights


@pytest.mark.parametrize("batch_size", [None, 16, 50])
def test_never_more_than_a_chunk_is_taken(on_disk, monkeypatch, batch_size):
    embeddings, labels = clips(num_examples=300)
    plain, tested = embeddings[:, :3] * 50, embeddings[:9] + 1
    data = TrainingSet(
        embeddings=embeddings, labels=labels, groups=np.arange(300) // 2, held_out=tested,
        baseline=plain, held_out_baseline=tested[:, :3], drawn=np.array([0, 50, 299, 300, 308]),
    )  # fmt: skip
    monkeypatch.setattr(streamed, "CHUNK_ROWS", 32)
    monkeypatch.setattr(cross_validate, "SAMPLED_ROWS", 30)
    monkeypatch.setattr(streamed, "RUN_ROWS", 4)
    training = TrainingConfig(epochs=4, batch_size=batch_size)
    config = HeadConfig(standardize=True)
    rows, statistics = on_disk(embeddings), on_disk(plain, "plain")
    beyond = trained(dataclasses.replace(data, embeddings=rows, baseline=statistics), training, config, repeats=2)
    assert 0 < max(rows.asked) <= 32
    assert 0 < max(statistics.asked) <= 32
    whole = trained(data, training, config, repeats=2)
    assert np.allclose(beyond.held_out_logits, whole.held_out_logits, atol=1e-4)
    assert np.allclose(beyond.baseline_logits, whole.baseline_logits, atol=1e-3)
    for head in (beyond, whole):
        assert np.array_equal(head.drawn, np.concatenate([embeddings[[0, 50, 299]], tested[[0, 8]]]))


def test_beyond_memory_a_sample_is_cross_validated_and_that_is_said(on_disk, monkeypatch):
    embeddings, labels = clips(num_examples=400)
    groups = np.arange(400) // 4
    data = TrainingSet(embeddings=on_disk(embeddings), labels=labels, groups=groups)
    monkeypatch.setattr(cross_validate, "SAMPLED_ROWS", 120)
    beyond = trained(data, repeats=2)
    rows = beyond.unseen_rows
    assert len(np.unique(rows)) == 120
    assert (np.diff(rows) > 0).all()
    assert abs((labels[rows] == 0).mean() - (labels == 0).mean()) < 0.1  # as it falls
    some = TrainingSet(embeddings=embeddings[rows], labels=labels[rows], groups=groups[rows])
    alone = trained(some, repeats=2)
    assert beyond.unseen_logits.shape == (120, 4)
    assert np.array_equal(beyond.unseen_logits, alone.unseen_logits)
    assert beyond.metrics["cross_validation"] == {**alone.metrics["cross_validation"], "sampled": True}
    assert beyond.metrics["calibration"] == alone.metrics["calibration"]
    assert np.array_equal(trained(data, repeats=1).unseen_rows, rows)
    other = trained(data, TrainingConfig(epochs=1, seed=1)).unseen_rows
    assert not np.array_equal(other, rows)


def test_few_enough_rows_are_cross_validated_whole(on_disk):
    embeddings, labels = clips()
    data = TrainingSet(embeddings=embeddings, labels=labels)
    whole = trained(data, repeats=1)
    beyond = trained(dataclasses.replace(data, embeddings=on_disk(embeddings)), repeats=1)
    assert beyond.unseen_rows is whole.unseen_rows is None
    assert beyond.metrics == whole.metrics


def test_moments_do_not_cancel(on_disk, monkeypatch):
    monkeypatch.setattr(streamed, "CHUNK_ROWS", 7)
    rng = np.random.default_rng(0)
    values = (rng.standard_normal((100, 3)) * [1, 1e-3, 0] + [0, 1e3, 3]).astype(np.float32)
    mean, deviation = moments(Streamed(on_disk(values), torch.device("cpu")))
    assert np.allclose(mean, values.astype(np.float64).mean(axis=0), rtol=1e-12)
    assert np.allclose(deviation, values.astype(np.float64).std(axis=0), rtol=1e-9, atol=0)
    assert deviation[2] == 0


def test_figures_by_chunks_are_those_of_all_rows(on_disk, monkeypatch):
    embeddings, labels = clips()
    x, y = torch.tensor(embeddings), torch.tensor(labels)
    every, linear = examples(x, y), of_epochs(labels, 3)
    head = fit(every, linear)
    monkeypatch.setattr(streamed, "CHUNK_ROWS", 8)  # 101 rows: the last chunk has 5
    rows = Streamed(on_disk(embeddings), torch.device("cpu"))
    assert np.allclose(logits_of(head, rows), logits_of(head, x), atol=1e-6)
    assert log_loss(head, Examples(rows, y), linear) == pytest.approx(log_loss(head, every, linear), rel=1e-6)
    share = (logits_of(head, x).argmax(axis=1) == labels).mean()
    assert accuracy(head, Examples(rows, y), linear) == pytest.approx(share, rel=1e-6)


@pytest.mark.parametrize("num_rows", [1, 32, 33, 300])
def test_a_shuffled_order_has_each_row_once_and_comes_from_all_over(monkeypatch, num_rows):
    monkeypatch.setattr(streamed, "CHUNK_ROWS", 32)
    monkeypatch.setattr(streamed, "RUN_ROWS", 4)
    generator = torch.Generator().manual_seed(0)
    first, second = shuffled(num_rows, generator), shuffled(num_rows, generator)
    again = shuffled(num_rows, torch.Generator().manual_seed(0))
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(num_rows))
    assert torch.equal(first, again)
    if num_rows > 1:
        assert not torch.equal(first, second)
    if num_rows == 300:
        for some in first.split(32)[:-1]:  # a chunk's: eight runs of four, not 32 neighbours
            assert len(np.unique(some // 4)) <= 9
            assert some.max() - some.min() > 150
            assert (some.diff() == 1).sum() < 10


def test_a_tensor_is_taken_whole():
    x = torch.zeros(streamed.CHUNK_ROWS + 1, 1)
    assert chunks(x) == [slice(None)]
    rows = torch.arange(len(x))
    assert chunks(x, rows)[0] is rows
