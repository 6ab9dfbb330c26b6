"""What a classifier rejects: how that is chosen, recorded and applied."""

import json

import numpy as np
import pytest
import torch

from golem_ray.data.folds import stratified_folds
from golem_ray.heads import reject, train_head
from golem_ray.heads.examples import Examples
from golem_ray.heads.single_label import SINGLE_LABEL
from golem_ray.heads.training_set import HeadCandidate, HeadSpec
from golem_ray.metrics.answers import Answers
from tests.heads.training import blobs, trained


def sure_of(decisions, confidence):
    """Answers of that confidence."""
    return Answers(probabilities=np.zeros((len(decisions), 2)), decisions=decisions, confidence=confidence)


def shares(record, known, unknown):
    """The share of each that is named."""
    record = json.loads(json.dumps(record))
    sure = [sure_of(np.zeros(len(each), dtype=np.int64), np.ones(len(each))) for each in (known, unknown)]
    return [
        1 - reject.unsure(record, answers, each).mean() for answers, each in zip(sure, (known, unknown), strict=True)
    ]


def by_precision(wanted, logits, labels, embeddings, groups=None):
    folds = stratified_folds(labels, len(logits), 0)
    return reject.by_precision(wanted, logits, labels, groups, folds, lambda fold: embeddings, SINGLE_LABEL, None)


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
    none = reject.by_precision(0.9, logits, labels, None, [], lambda fold: embeddings, SINGLE_LABEL, None)
    assert none == {"by": "precision", "precision": 0.9, "threshold": None}


def test_a_label_that_the_vector_speaks_against_is_not_believed():
    embeddings, labels = blobs(3, 200, 16)
    said = np.where(np.random.default_rng(0).uniform(size=600) < 0.25, (labels + 1) % 3, labels)
    logits = 2 * np.eye(3, dtype=np.float32)[said][None]  # as sure of each, right or wrong
    record = json.loads(json.dumps(by_precision(0.9, logits, labels, embeddings)))
    assert reject.is_record(record, 16, 3)
    assert record["weights"][2] > 0
    answers = SINGLE_LABEL.answers(SINGLE_LABEL.probabilities(logits[0]))
    named = ~reject.unsure(record, answers, embeddings)
    assert (said == labels)[named].mean() > 0.9
    assert named.mean() > 0.7


def test_where_every_label_is_right_its_probability_alone_decides():
    embeddings, labels = blobs(3, 20, 4)
    logits = np.linspace(1, 5, 60, dtype=np.float32)[None, :, None] * np.eye(3, dtype=np.float32)[labels]
    record = by_precision(0.9, logits, labels, embeddings)
    assert "weights" not in record
    answers = SINGLE_LABEL.answers(SINGLE_LABEL.probabilities(logits[0]))
    assert record["threshold"] == answers.confidence.min()
    assert not reject.unsure(record, answers, embeddings).any()


def test_nearness_is_how_much_more_of_the_cosine_is_the_own_class_than_the_next():
    means = reject._Means(np.zeros(2), np.ones(2), np.array([[1.0, 0], [0, 1], [0, 0]]))  # the last has no examples
    vectors = np.tile([[3.0, 4]], (3, 1))
    assert means.nearness(vectors, np.arange(3)) == pytest.approx([0.6 - 0.8, 0.8 - 0.6, -1 - 0.8])


def test_vectors_that_say_nothing_are_no_reason_to_believe_a_label():
    rng, labels = np.random.default_rng(0), np.arange(90) % 3
    said = np.where(rng.uniform(size=90) < 0.3, (labels + 1) % 3, labels)
    logits = 2 * np.eye(3, dtype=np.float32)[said][None]
    noise = rng.standard_normal((90, 64)).astype(np.float32)  # whose own means would tell the labels
    assert by_precision(0.9, logits, labels, noise)["threshold"] is None


def test_the_nearness_of_a_fold_is_that_of_the_columns_that_its_head_takes(monkeypatch):
    embeddings, labels = blobs(2, 10, 6)
    examples = Examples(torch.tensor(embeddings), torch.tensor(labels), None)
    seen = {}

    def noted(wanted, logits, labels, groups, folds, embeddings, target, calibration):
        seen.update({fold: embeddings(fold) for fold in (None, 0, 1)})
        return {}

    monkeypatch.setattr(train_head, "by_precision", noted)
    spec = HeadSpec(num_classes=2, reject=0.9)
    columns = [((0, 2),), ((1, 4),), ((0, 1), (5, 6))]  # of the final head, and of two folds
    candidates = [HeadCandidate(columns=each, head=spec.head) for each in columns]
    rounds = train_head.Rounds(examples, None, [(np.arange(10), np.arange(10, 20))] * 2, 1)
    train_head._rejection(rounds, np.zeros((1, 20, 2)), candidates, spec, {"calibration": None})
    assert np.array_equal(seen[None], embeddings[:, :2])
    assert np.array_equal(seen[0], embeddings[:, 1:4])
    assert np.array_equal(seen[1], embeddings[:, [0, 5]])


@pytest.mark.parametrize("wanted", [0.9, "unlike"])
def test_a_head_learns_what_to_reject_and_does_so_with_what_is_held_out(wanted):
    embeddings, labels = blobs(4, 200, 4)
    embeddings += 1.3 * np.random.default_rng(1).standard_normal(embeddings.shape).astype(np.float32)
    train, test = np.arange(800) < 400, np.arange(800) >= 400
    data = {"held_out": embeddings[test], "baseline": embeddings[train], "held_out_baseline": embeddings[test]}
    _, head = trained(embeddings[train], labels[train], 4, repeats=3, reject=wanted, **data)
    record = head.metrics["reject"]
    assert reject.is_record(record, 4, 4)
    right = head.held_out_logits.argmax(axis=1) == labels[test]
    named = ~head.held_out_unsure
    assert 0.1 < named.mean() < 1
    if wanted == "unlike":
        assert named.mean() == pytest.approx(record["kept"]["value"], abs=0.1)
    else:
        assert right.mean() < 0.87
        assert right[named].mean() >= 0.9
        answers = SINGLE_LABEL.answers(SINGLE_LABEL.probabilities(head.held_out_logits, head.metrics["calibration"]))
        assert np.array_equal(named, ~reject.unsure(json.loads(json.dumps(record)), answers, embeddings[test]))
    _, plain = trained(embeddings[train], labels[train], 4, repeats=3, **data)
    assert "reject" not in plain.metrics
    assert plain.held_out_unsure is None
    assert plain.weights == head.weights


def test_a_record_that_was_changed_is_none():
    embeddings, labels = blobs(3, 10, 4)
    unlike = json.loads(json.dumps(by_distance(embeddings, labels)))
    precision = {"by": "precision", "precision": 0.9, "threshold": None}
    assert all(reject.is_record(each, 4, 3) for each in (None, unlike, precision))
    figure = {"value": 0.5, "interval_95": [0.4, 0.6]}
    known = {**precision, "threshold": 0.5, "cross_validated": {"coverage": figure, "precision": figure}}
    weighed = {**known, "weights": [0.0, 1, 2.5], **{key: unlike[key] for key in ("mean", "scale", "means")}}
    assert reject.is_record(known, 4, 3)
    assert reject.is_record(weighed, 4, 3)
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
        {**weighed, "weights": [0.0, 1]},
        {**weighed, "weights": [0.0, 1, None]},
        {**known, "weights": [0.0, 1, 2.5]},
    ):
        assert not reject.is_record(changed, 4, 3), changed
    assert not reject.is_record(unlike, 5, 3)
    assert not reject.is_record(weighed, 5, 3)
    assert not reject.is_record(weighed, 4, 2)
