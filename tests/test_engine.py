"""The engine of this process alone: the bytes of Ray's, in any layout, and what it leaves as it was."""

from __future__ import annotations

import dataclasses
import hashlib
import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from golem_ray import engine as engine_module
from golem_ray.config import ClusterConfig, DeviceConfig
from golem_ray.embedding import examples as examples_module
from golem_ray.embedding.cache import open_cache
from golem_ray.embedding.crash_notes import CRASHED
from golem_ray.embedding.stage import EmbeddingTask
from golem_ray.engine import LocalEngine
from golem_ray.errors import ConfigError
from golem_ray.heads.training_set import HeadSpec, TrainingSet
from golem_ray.jobs.vectors import gather
from tests.conftest import audio_bytes, folder_source, speech_recipe, tone, write_clips

CPU = DeviceConfig(backend="cpu")
NUM_CLIPS = 11
BAD = {3: "not audio", 6: "no label", 9: "missing file"}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Eleven clips of unlike lengths, of which three cannot be used."""
    labels = ["" if row == 6 else "ab"[row % 2] for row in range(NUM_CLIPS)]
    folder = write_clips(tmp_path_factory.mktemp("engine") / "set", labels, seconds=0.1)
    for row in range(NUM_CLIPS):
        (folder / "clips" / f"{row}.wav").write_bytes(audio_bytes(tone(row, 0.1 + 0.07 * (row % 4))))
    (folder / "clips" / "3.wav").write_bytes(b"noise")
    (folder / "clips" / "9.wav").unlink()
    return folder_source(folder)


@pytest.fixture(scope="module")
def task(encoder_folder):
    return EmbeddingTask(recipe=speech_recipe(encoder_folder), baseline=True)


def local(workers=1, threads=2, device=CPU):
    return LocalEngine(ClusterConfig(address="none", workers=workers, threads_per_worker=threads), device)


@pytest.fixture(scope="module")
def here(source, task):
    """What this process gives."""
    return gather(local(), source, task, NUM_CLIPS)


def assert_same(found, expected):
    for name in ("vectors", "baseline", "digests"):
        assert getattr(found, name).tobytes() == getattr(expected, name).tobytes(), name
    assert found.bad == expected.bad
    assert found.cost == pytest.approx(expected.cost)


def test_it_gives_the_vectors_of_rays_engine_to_the_bit(shared_ray, source, task, here):
    from golem_ray.cluster import ray_engine

    with ray_engine(ClusterConfig(workers=2, threads_per_worker=1), CPU, NUM_CLIPS) as engine:
        assert_same(gather(engine, source, task, NUM_CLIPS), here)
        assert np.array_equal(engine.digests(source), local().digests(source))
        workers = engine.workers
    assert {worker["device"] for worker in workers} == {"cpu"}


def test_a_vector_is_that_of_its_clip_alone(source, task, here):
    from golem_ray.speech.encoders import SpeechEncoder
    from golem_ray.speech.read import load_clip

    encoder = SpeechEncoder(task.recipe, "cpu")
    for row, path in enumerate(source.examples["path"].to_pylist()):
        if row in BAD:
            assert not here.vectors[row].any()
        else:
            assert np.array_equal(here.vectors[row], encoder.embed([load_clip(Path(path).read_bytes(), 16000)])[0])


@pytest.mark.parametrize(("block_rows", "workers", "threads"), [(1, 1, 1), (3, 1, 3), (5, 2, 1), (64, 4, 2)])
def test_any_layout_gives_the_same_bits(source, task, here, monkeypatch, block_rows, workers, threads):
    monkeypatch.setattr(engine_module, "_BLOCK_ROWS", block_rows)
    assert_same(gather(local(workers, threads), source, task, NUM_CLIPS), here)


def test_bad_examples_come_with_their_reasons(here):
    assert sorted(here.bad) == sorted(BAD)
    for row, words in BAD.items():
        assert words in here.bad[row]
        assert not here.vectors[row].any()
        assert not here.baseline[row].any()


def test_only_wanted_rows_come_and_each_of_them_once(source, task, here, monkeypatch):
    monkeypatch.setattr(engine_module, "_BLOCK_ROWS", 4)
    wanted = np.zeros(NUM_CLIPS, dtype=bool)
    wanted[[0, 3, 5, 10]] = True
    engine = local()
    batches = list(engine.embed(source, task, wanted))
    assert len(batches) == 3
    assert np.concatenate([batch.rows for batch in batches]).tolist() == [0, 3, 5, 10]  # in the source's order
    for batch in batches:
        assert np.array_equal(batch.vectors, here.vectors[batch.rows])
        assert np.array_equal(batch.digests, here.digests[batch.rows])
        assert batch.reasons == [here.bad.get(row, "") for row in batch.rows]
    assert engine.workers == ({"device": "cpu", "gpus": []},)
    assert wanted.sum() == 4  # the caller's own array stays as it was
    assert list(engine.embed(source, task, np.zeros(NUM_CLIPS, dtype=bool))) == []


def test_digests_are_of_the_files_and_zero_without_one(source, monkeypatch):
    monkeypatch.setattr(engine_module, "_BLOCK_ROWS", 4)
    found = local().digests(source)
    for row, path in enumerate(source.examples["path"].to_pylist()):
        file = Path(path)
        expected = hashlib.sha256(file.read_bytes()).digest() if file.exists() else bytes(32)
        assert found[row : row + 1].tobytes() == expected


def test_the_cache_is_written_and_then_read_in_its_place(source, task, here, tmp_path, forwards_here):
    engine = local()
    cached = dataclasses.replace(task, cache=open_cache(str(tmp_path), task.recipe, engine.resources))
    assert_same(gather(engine, source, cached, NUM_CLIPS), here)
    assert forwards_here() == NUM_CLIPS - len(BAD)
    again = gather(engine, source, cached, NUM_CLIPS, engine.digests(source))
    assert forwards_here() == NUM_CLIPS - len(BAD)
    assert again.cost == 0
    assert_same(dataclasses.replace(again, cost=here.cost), here)


def test_an_encoder_that_does_not_load_is_one_line(source, task, tmp_path):
    elsewhere = dataclasses.replace(task.recipe, encoder=dataclasses.replace(task.recipe.encoder, path=str(tmp_path)))
    with pytest.raises(ConfigError, match="expected weights that load from") as error:
        gather(local(), source, EmbeddingTask(recipe=elsewhere), 0)
    assert "\n" not in str(error.value)


@pytest.fixture
def five_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(5)
    yield
    torch.set_num_threads(before)


def training_set():
    vectors = np.random.default_rng(0).standard_normal((40, 8), dtype=np.float32)
    return TrainingSet(embeddings=vectors, labels=np.arange(40) % 4)


def test_the_number_of_pytorchs_threads_is_put_back(five_threads, source, task):
    engine, seen = local(threads=3), []

    def look():
        seen.append(torch.get_num_threads())
        torch.set_num_threads(2)

    gather(engine, source, task, NUM_CLIPS)
    assert torch.get_num_threads() == 5
    batches = engine.embed(source, task, np.ones(NUM_CLIPS, dtype=bool))
    next(batches)
    batches.close()  # as one who needs no more of them does
    assert torch.get_num_threads() == 5
    engine.train(lambda scratch: seen.append(torch.get_num_threads()) or training_set(), HeadSpec(num_classes=4), 0)
    assert torch.get_num_threads() == 5
    engine.map(look, [()], "looking", "times")
    assert torch.get_num_threads() == 5
    assert seen == [3, 5]
    with pytest.raises(ZeroDivisionError):
        engine.map(lambda: look() or 1 / 0, [()], "failing", "times")
    assert torch.get_num_threads() == 5


def test_a_head_is_the_one_that_ray_trains(shared_ray):
    from golem_ray.cluster import RayEngine

    found = []
    for engine in (local(threads=1), RayEngine(local(threads=1).resources)):
        data = training_set()
        head, worker = engine.train(engine.share(lambda scratch, data=data: data), HeadSpec(num_classes=4), 1)
        found.append((head.weights, head.metrics, head.unseen_logits.tobytes(), worker))
    assert found[0] == found[1]
    assert found[0][3] == {"device": "cpu", "gpus": []}


def test_a_gpu_that_is_not_there_is_refused_in_one_line(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(
        ConfigError, match=r"^device\.backend: expected a GPU that PyTorch can use .* found none"
    ) as error:
        local(device=DeviceConfig(backend="cuda"))
    assert "\n" not in str(error.value)
    assert not local(device=DeviceConfig()).resources.gpu
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert local(device=DeviceConfig()).resources.gpu
    assert not local().resources.gpu  # not asked for


def test_a_map_keeps_the_order_of_its_jobs(shared_ray):
    from golem_ray.cluster import RayEngine

    jobs = [(number, number % 3) for number in range(7)]
    for engine in (local(), RayEngine(local().resources)):
        assert engine.map(lambda first, second: first * 10 + second, jobs, "working", "jobs") == [
            first * 10 + second for first, second in jobs
        ]
        assert engine.map(lambda: None, [], "working", "jobs") == []


def embed_until_it_ends(folder, encoder_folder, notes):
    """In a process of its own: reading the clip in row 2 ends it."""
    read_example = examples_module.read_example

    def deadly(row, recipe, baseline):
        if row["id"][0].as_py() == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return read_example(row, recipe, baseline)

    import golem_ray.embedding.stage as stage_module

    stage_module.read_example = deadly
    task = EmbeddingTask(recipe=speech_recipe(encoder_folder), crash_notes=notes)
    found = gather(local(), folder_source(folder), task, 5)
    assert found.bad == {2: CRASHED}
    assert found.vectors[[0, 1, 3, 4]].any(axis=1).all()


def test_a_clip_that_ends_the_process_is_left_out_once_the_run_is_gone_on_with(tmp_path, encoder_folder):
    folder = write_clips(tmp_path / "set", ["a", "b"] * 3, seconds=0.1)
    context = multiprocessing.get_context("forkserver")  # forks of a process without threads
    context.set_forkserver_preload(["golem_ray.speech.encoders", "golem_ray.engine", "golem_ray.speech.read"])
    ended = []
    for _ in range(4):
        arguments = (folder, encoder_folder, str(tmp_path / "run" / "crashes"))
        process = context.Process(target=embed_until_it_ends, args=arguments)
        process.start()
        process.join(60)
        ended.append(process.exitcode)
    assert ended == [-signal.SIGKILL] * 3 + [0]
