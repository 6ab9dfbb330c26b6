"""What a classifier rejects: how that is chosen, recorded and applied."""

import json

import numpy as np
import pytest

from golem_ray.data.folds import stratified_folds
from golem_ray.heads import reject
from golem_ray.heads.target import SINGLE_LABEL
from tests.heads.training import blobs, trained


def shares(record, known, unknown):
    """The share of each that is named."""
    return [
        1 - reject.unsure(json.loads(json.dumps(record)), np.ones(len(each)), each).mean() for each in (known, unknown)
    ]


def by_distance(embeddings, labels):
    return reject.by_distance(embeddings, labels, None, stratified_folds(labels, 1, 0), 0)


def test_a_class_that_was_never_trained_on_is_unlike_all_others():
    embeddings, labels = blobs(6, 60, 32)
    embeddings = embeddings * np.float32(10.0) ** np.arange(-4, 28, dtype=np.float32) + 5
    unknown, first = labels == 5, np.arange(360) < 180
    trained_on, known = ~unknown & first, ~unknown & ~first
    record = by_distance(embeddings[trained_on], labels[trained_on])
    kept, passed = shares(record, embeddings[known], embeddings[unknown])
    assert kept == pytest.approx(record["kept"]["value"], abs=0.07)
    assert kept >= 0.85
    assert passed < 0.15
    assert record["refused"]["value"] > 0.85
    low, high = record["kept"]["interval_95"]
    assert 0.85 < low < record["kept"]["value"] <= high


def test_where_no_class_can_be_told_from_another_nine_of_ten_examples_are_kept():
    embeddings, labels = np.random.default_rng(0).standard_normal((400, 8)).astype(np.float32), np.arange(400) % 4
    record = by_distance(embeddings, labels)
    assert record["kept"]["value"] >= 0.9
    assert record["refused"]["value"] < 0.25


def test_a_distance_cannot_be_calibrated_on_two_classes():
    embeddings, labels = blobs(2, 20, 8)
    record = by_distance(embeddings, labels)
    assert record["threshold"] is None
    assert shares(record, embeddings, embeddings) == [0, 0]


def test_folds_that_test_nothing_leave_no_threshold():
    embeddings, labels = blobs(3, 1, 8)
    assert reject.by_distance(embeddings, labels, None, [], 0)["threshold"] is None
    logits = np.zeros((1, 3, 3), dtype=np.float32) + np.nan
    assert reject.by_precision(0.9, logits, labels, None, SINGLE_LABEL, None)["threshold"] is None


@pytest.mark.parametrize("wanted", [0.9, "unlike"])
def test_a_head_learns_what_to_reject_and_does_so_with_what_is_held_out(wanted):
    embeddings, labels = blobs(4, 200, 4)
    embeddings += 1.3 * np.random.default_rng(1).standard_normal(embeddings.shape).astype(np.float32)
    train, test = np.arange(800) < 400, np.arange(800) >= 400
    data = {"held_out": embeddings[test], "baseline": embeddings[train], "held_out_baseline": embeddings[test]}
    _, head = trained(embeddings[train], labels[train], 4, repeats=3, reject=wanted, **data)
    record = head.metrics["reject"]
    assert reject.is_record(record, 4)
    right = head.held_out_logits.argmax(axis=1) == labels[test]
    named = ~head.held_out_unsure
    assert 0.1 < named.mean() < 1
    if wanted == "unlike":
        assert named.mean() == pytest.approx(record["kept"]["value"], abs=0.1)
    else:
        assert right.mean() < 0.87
        assert right[named].mean() >= 0.9
        answers = SINGLE_LABEL.answers(SINGLE_LABEL.probabilities(head.held_out_logits, head.metrics["calibration"]))
        assert np.array_equal(named, answers.confidence >= record["threshold"])
    _, plain = trained(embeddings[train], labels[train], 4, repeats=3, **data)
    assert "reject" not in plain.metrics
    assert plain.held_out_unsure is None
    assert plain.weights == head.weights


def test_a_record_that_was_changed_is_none():
    embeddings, labels = blobs(3, 10, 4)
    unlike = json.loads(json.dumps(by_distance(embeddings, labels)))
    precision = {"by": "precision", "precision": 0.9, "threshold": None}
    assert all(reject.is_record(each, 4) for each in (None, unlike, precision))
    figure = {"value": 0.5, "interval_95": [0.4, 0.6]}
    known = {**precision, "threshold": 0.5, "cross_validated": {"coverage": figure, "precision": figure}}
    assert reject.is_record(known, 4)
    for changed in (
        {},
        [],
        {**unlike, "by": "else"},
        {**unlike, "threshold": "0.5"},
        {**unlike, "threshold": float("nan")},
        {**unlike, "means": "?"},
        {**unlike, "means": ""},
        {**unlike, "mean": unlike["mean"][:-8]},
        {**unlike, "kept": None},
        {**unlike, "refused": {"value": 1, "interval_95": [0]}},
        {**precision, "precision": 2.0},
        {**precision, "precision": "0.9"},
        {**known, "cross_validated": None},
        {**known, "cross_validated": {"coverage": figure}},
    ):
        assert not reject.is_record(changed, 4), changed
    assert not reject.is_record(unlike, 5)
