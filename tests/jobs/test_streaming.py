"""Predictions and evaluations as vectors come by: in order, each clip once, and never all vectors at a time."""

from __future__ import annotations

import dataclasses
import gc
import itertools
import json
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from golem_ray import artifact
from golem_ray.config import ExamplesConfig, PredictConfig
from golem_ray.devices import Resources
from golem_ray.embedding.embeddings import Intake, VectorBatch
from golem_ray.embedding.stage import EmbeddingTask
from golem_ray.errors import DataError
from golem_ray.jobs import predict as predict_job
from golem_ray.jobs.evaluate import evaluate_artifact
from golem_ray.jobs.predict import predict, write_predictions
from golem_ray.jobs.seen import Seen
from golem_ray.jobs.vectors import gather
from tests.jobs.runs import on

WIDTH, AT_ONCE = 32, 5
SUFFIXES = [".csv", ".jsonl", ".parquet"]


class GivingEngine:
    """An engine that embeds nothing: it gives drawn vectors in blocks, and sees which of them somebody still holds."""

    resources = Resources(workers=1, threads=1, cpus=1, gpu=False, backend="cpu")
    workers = ()

    def __init__(self, order: list[int], bad: frozenset[int] = frozenset(), twice: bool = False) -> None:
        self.order, self.bad, self.twice = order, bad, twice
        self.num_given = self.most_held = 0
        self.closed = False
        self._given: list[weakref.ref[np.ndarray]] = []

    def embed(self, source: Any, task: EmbeddingTask, wanted: np.ndarray) -> Iterator[VectorBatch]:
        intake = Intake(wanted, task.gathered)
        try:
            for number in self.order:
                for _ in range(1 + self.twice):
                    batch = intake.take(self._done(number, len(wanted)))
                    assert batch.vectors is not None
                    self._given.append(weakref.ref(batch.vectors))
                    self.num_given += 1
                    self.most_held = max(self.most_held, sum(each() is not None for each in self._given))
                    yield batch
                    del batch
        finally:
            self.closed = True

    def _done(self, number: int, num_examples: int) -> dict[str, Any]:
        """What a worker gives of a block."""
        ids = np.arange(AT_ONCE * number, min(AT_ONCE * (number + 1), num_examples))
        rng = np.random.default_rng(number)
        return {
            "id": ids,
            "reason": ["not audio" if row in self.bad else "" for row in ids],
            "remark": [""] * len(ids),
            "digest": [int(row + 1).to_bytes(32, "big") for row in ids],
            "cost": np.ones(len(ids), dtype=np.float32),
            "vector": rng.standard_normal((len(ids), WIDTH), dtype=np.float32),
            **{name: [value] * len(ids) for name, value in (("worker", "cpu||"), ("failure", ""), ("unsaved", ""))},
        }


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Has jobs run on the engine that it is given, and gives it back."""

    def using(engine: GivingEngine) -> GivingEngine:
        @contextmanager
        def opened(*arguments: Any, **options: Any) -> Iterator[GivingEngine]:
            yield engine

        monkeypatch.setattr("golem_ray.jobs.vectors.opened", opened)
        return engine

    return using


@pytest.fixture
def saved(applied: tuple[Path, Path]) -> artifact.Artifact:
    return artifact.load(str(applied[1]))


def files(count: int) -> list[str]:
    return [f"/clips/{row}.wav" for row in range(count)]


def shuffled(num_blocks: int) -> list[int]:
    """Blocks out of order, the first of them third."""
    order = np.random.default_rng(0).permutation(np.arange(3, num_blocks)).tolist()
    return [2, 1, 0, *order]


def test_predictions_come_in_order_as_soon_as_those_before_them_are_there(use, saved):
    engine = use(GivingEngine(shuffled(20)))
    rows = predict(saved, files(100), PredictConfig())
    assert engine.num_given == 0
    first = list(itertools.islice(rows, 3 * AT_ONCE))
    assert engine.num_given == 3  # no block more than these needed
    rest = list(rows)
    assert engine.num_given == 20
    assert [row["id"] for row in first + rest] == files(100)
    use(GivingEngine(list(range(20))))
    assert list(predict(saved, files(100), PredictConfig())) == first + rest


def test_an_example_that_comes_twice_is_predicted_once(use, saved):
    use(GivingEngine(shuffled(8)))
    expected = list(predict(saved, files(40), PredictConfig()))
    engine = use(GivingEngine(shuffled(8), twice=True))
    assert list(predict(saved, files(40), PredictConfig())) == expected
    assert engine.num_given == 16
    assert len({row["id"] for row in expected}) == 40


def test_no_prediction_comes_before_an_example_that_can_be_used(use, saved):
    engine = use(GivingEngine([0, 1, 2], bad=frozenset(range(AT_ONCE))))
    rows = predict(saved, files(15), PredictConfig())
    assert next(rows)["problem"] == "not audio"
    assert engine.num_given == 2
    engine = use(GivingEngine([0, 1, 2], bad=frozenset(range(15))))
    with pytest.raises(DataError, match="expected clips that can be used, found none among 15"):
        next(predict(saved, files(15), PredictConfig()))


def test_who_needs_no_more_predictions_ends_the_work(use, saved):
    engine = use(GivingEngine(list(range(20))))
    rows = predict(saved, files(100), PredictConfig())
    next(rows)
    assert not engine.closed
    rows.close()
    assert engine.closed
    assert engine.num_given == 1


def test_a_prediction_holds_no_more_than_the_batch_at_hand(use, saved):
    engine = use(GivingEngine(shuffled(60)))
    assert sum(1 for _ in predict(saved, files(300), PredictConfig())) == 300
    assert engine.num_given == 60
    assert engine.most_held <= 2


def test_an_evaluation_holds_no_more_than_the_batch_at_hand_and_what_the_report_shows(
    use, saved, applied, tmp_path, monkeypatch
):
    import golem_ray.jobs.seen as seen_job

    kept = []
    points = Seen.points

    def counting(self, *arguments):
        kept.append(len(self._vectors))
        return points(self, *arguments)

    drawn = seen_job.drawn
    monkeypatch.setattr(seen_job, "drawn", lambda rows: drawn(rows, most=7))
    monkeypatch.setattr(Seen, "points", counting)
    engine = use(GivingEngine(shuffled(12), twice=True))
    found = evaluate_artifact(saved, on(applied[0], report=str(tmp_path / "report.html")))
    assert (found["num_clips"], engine.num_given) == (60, 24)
    assert engine.most_held <= 2
    assert kept == [7]


def interrupted(rows: Iterator[dict[str, Any]], after: int, error: type[BaseException]) -> Iterator[dict[str, Any]]:
    """The first rows, and then the error."""
    yield from itertools.islice(rows, after)
    raise error("stopped")


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("error", [KeyboardInterrupt, DataError, RuntimeError])
def test_predictions_that_are_stopped_half_way_leave_no_file(use, saved, tmp_path, monkeypatch, suffix, error):
    monkeypatch.setattr(predict_job, "_ROWS_AT_ONCE", 8)
    engine = use(GivingEngine(shuffled(20)))
    target = tmp_path / "out" / f"p{suffix}"
    with pytest.raises(error):
        write_predictions(str(target), interrupted(predict(saved, files(100), PredictConfig()), 50, error))
    gc.collect()  # what is left open would complain now
    assert 0 < engine.num_given < 20
    assert os.listdir(tmp_path / "out") == []
    target.write_text("of an earlier run")
    with pytest.raises(error):
        write_predictions(str(target), interrupted(predict(saved, files(100), PredictConfig()), 50, error))
    assert os.listdir(tmp_path / "out") == [target.name]
    assert target.read_text() == "of an earlier run"


def test_predictions_that_are_stopped_half_way_leave_nothing_at_a_uri(use, saved, monkeypatch):
    import fsspec

    monkeypatch.setattr(predict_job, "_ROWS_AT_ONCE", 8)
    use(GivingEngine(list(range(20))))
    rows = interrupted(predict(saved, files(100), PredictConfig()), 50, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        write_predictions("memory://streaming/p.jsonl", rows)
    assert not fsspec.filesystem("memory").exists("/streaming/p.jsonl")


@pytest.mark.parametrize(("workers", "more"), [(1, 0), (3, 2)])
def test_one_bad_clip_too_many_ends_the_work_after_the_batches_under_way(workers, more):
    engine = GivingEngine(list(range(20)), bad=frozenset({7, 12, 13, 50}))
    engine.resources = dataclasses.replace(engine.resources, workers=workers)
    source = SimpleNamespace(examples=SimpleNamespace(num_rows=100))
    task = EmbeddingTask(recipe=SimpleNamespace(vector_size=WIDTH, modality="speech"))
    assert set(gather(engine, source, task, 1).bad) == {7, 12, 13}  # the second one came in the third batch
    assert (engine.num_given, engine.closed) == (3 + more, True)


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_too_many_clips_that_cannot_be_used_leave_no_file(use, saved, tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(predict_job, "_ROWS_AT_ONCE", 8)
    use(GivingEngine(list(range(20)), bad=frozenset({97, 98, 99})))
    few = PredictConfig(processing=ExamplesConfig(max_bad_fraction=0.02))
    with pytest.raises(DataError, match="at most 2 of 100 clips to be unusable, found 3"):
        write_predictions(str(tmp_path / f"p{suffix}"), predict(saved, files(100), few))
    gc.collect()  # what is left open would complain now
    assert os.listdir(tmp_path) == []
    more = PredictConfig(processing=ExamplesConfig(max_bad_fraction=0.03))
    assert write_predictions(str(tmp_path / f"p{suffix}"), predict(saved, files(100), more)) == 100


def test_what_is_written_in_parts_is_what_is_written_at_once(use, saved, tmp_path, monkeypatch):
    written = []
    for at_once in (8, 4096):
        monkeypatch.setattr(predict_job, "_ROWS_AT_ONCE", at_once)
        for suffix in SUFFIXES:
            use(GivingEngine(shuffled(20), bad=frozenset({0, 1, 2, 3, 4, 5, 6, 7})))  # a part without one label
            path = tmp_path / f"{at_once}{suffix}"
            assert write_predictions(str(path), predict(saved, files(100), PredictConfig())) == 100
            written.append(path)
    for parts, whole in zip(written[:2], written[3:5], strict=True):  # a Parquet file has its row groups
        assert parts.read_bytes() == whole.read_bytes()
    import pyarrow.parquet as pq

    assert pq.read_table(written[2]) == pq.read_table(written[5])
    lines = [json.loads(line) for line in written[1].read_text().splitlines()]
    assert lines == pq.read_table(written[2]).to_pylist()
