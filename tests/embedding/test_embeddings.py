"""What an engine takes in from its workers: every example once, whatever comes twice, and what else they say."""

import numpy as np
import pytest

from golem_ray.embedding.embeddings import Intake
from golem_ray.errors import ConfigError


def done(*ids, worker="cpu||7|", failure="", unsaved="", reasons=None, vectors=True):
    """What EmbedBatch gives of so many examples, each with its own id for a vector."""
    count = len(ids)
    batch = {
        "id": np.array(ids),
        "reason": np.array(reasons or [""] * count, dtype=object),
        "remark": np.array(["odd" if number == 1 else "" for number in ids], dtype=object),
        "digest": np.array([b"%d" % number for number in ids], dtype="S32"),
        "cost": np.full(count, 0.5, dtype=np.float32),
        "worker": np.array([worker] * count, dtype=object),
        "failure": np.array([failure] * count, dtype=object),
        "unsaved": np.array([unsaved] * count, dtype=object),
    }
    if vectors:
        batch["vector"] = np.array([[number, number] for number in ids], dtype=np.float32)
    return batch


def test_what_comes_twice_is_taken_once():
    intake = Intake(np.array([True, True, False, True]), gathered=True)
    first = intake.take(done(3, 0))
    second = intake.take(done(0, 2, 1, reasons=["", "", "noise"]))
    assert (first.rows.tolist(), second.rows.tolist()) == ([3, 0], [1])
    assert first.vectors.tolist() == [[3, 3], [0, 0]]
    assert first.baseline is None
    assert second.vectors.tolist() == [[1, 1]]
    assert (first.cost, second.cost) == (1.0, 0.5)
    assert (first.reasons, second.reasons) == (["", ""], ["noise"])
    assert (first.remarked(), second.remarked()) == ({}, {})  # the only one with a remark cannot be used
    assert Intake(np.ones(3, dtype=bool), gathered=True).take(done(2, 1)).remarked() == {1: "odd"}
    assert second.digests.tolist() == [b"1"]
    assert not intake.left.any()
    assert (intake.num_bad, intake.note()) == (1, "1 bad")


def test_vectors_that_stay_in_the_cache_do_not_come():
    intake = Intake(np.ones(2, dtype=bool), gathered=False)
    assert intake.take(done(0, 1, vectors=False)).vectors is None


def test_a_failure_in_the_midst_of_a_block_is_raised():
    with pytest.raises(ConfigError, match="the GPU is full"):
        Intake(np.ones(2, dtype=bool), gathered=True).take(
            {"id": np.arange(2), "failure": np.array(["", "the GPU is full"], dtype=object)}
        )


def test_what_cannot_be_kept_is_a_warning_once_unless_vectors_are_nowhere_else(caplog):
    intake = Intake(np.ones(3, dtype=bool), gathered=True)
    for number in range(3):
        intake.take(done(number, unsaved="the disk is full"))
    assert caplog.text.count("the disk is full: going on without") == 1
    with pytest.raises(ConfigError, match="paths.run_dir: expected storage that keeps the embeddings, but the disk is"):
        Intake(np.ones(1, dtype=bool), gathered=False).take(done(0, unsaved="the disk is full", vectors=False))


def test_workers_are_listed_and_what_they_note_is_logged_once(caplog):
    intake = Intake(np.ones(3, dtype=bool), gathered=True)
    for number, process in enumerate((7, 8, 7)):
        intake.take(done(number, worker=f"cpu|{process % 2}|{process}|tf32 is float32 here"))
    assert intake.workers() == ({"device": "cpu", "gpus": ["0"]}, {"device": "cpu", "gpus": ["1"]})
    assert caplog.text.count("tf32 is float32 here") == 1
