"""The engine of this process alone: the bytes of Ray's, in any layout, and what it leaves as it was."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
import transformers

from golem_ray import engine as engine_module
from golem_ray.config import ClusterConfig, DeviceConfig
from golem_ray.embedding.cache import open_cache
from golem_ray.embedding.stage import EmbeddingTask
from golem_ray.engine import LocalEngine
from golem_ray.errors import ConfigError
from golem_ray.heads.training_set import HeadSpec, TrainingSet
from golem_ray.jobs.vectors import gather
from golem_ray.sample import SAMPLE
from golem_ray.speech.encoders import SpeechEncoder
from tests import warm
from tests.conftest import ROOT, audio_bytes, folder_source, speech_recipe, tone, write_clips

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


def test_a_signal_ends_what_threads_are_at_work_on(source, task, monkeypatch):
    embed, main = SpeechEncoder.embed, threading.main_thread().ident
    sent, ended = threading.Event(), threading.Event()

    def endless(self, waveforms):  # as a clip of hours
        if not sent.is_set():  # a second signal would end pytest
            sent.set()
            time.sleep(0.2)  # a signal wakes a thread that waits, not one that is about to
            signal.pthread_kill(main, signal.SIGINT)
        deadline = time.monotonic() + 20
        try:
            while time.monotonic() < deadline:
                embed(self, waveforms)
        except KeyboardInterrupt:
            ended.set()
            raise

    monkeypatch.setattr(SpeechEncoder, "embed", endless)
    with pytest.raises(KeyboardInterrupt):
        list(local(threads=1).embed(source, task, np.ones(NUM_CLIPS, dtype=bool)))
    assert ended.wait(10)


def test_it_gives_the_vectors_of_rays_engine_to_the_bit(shared_ray, source, task, here, monkeypatch):
    import ray

    from golem_ray.cluster import ray_engine

    from_arrow = ray.data.from_arrow
    monkeypatch.setattr(ray.data, "from_arrow", lambda blocks: from_arrow(blocks[::-1]))  # the last block comes first
    with ray_engine(ClusterConfig(workers=2, threads_per_worker=1), CPU, NUM_CLIPS) as engine:
        assert_same(gather(engine, source, task, NUM_CLIPS), here)
        assert np.array_equal(engine.digests(source), local().digests(source))
        workers = engine.workers
    assert {worker["device"] for worker in workers} == {"cpu"}


def write_recordings(folder):
    """Clips of many kinds and a metadata.csv; returns the labels in order."""
    kinds = [
        (8000, 1, "WAV", "PCM_U8"),
        (8000, 1, "WAV", "PCM_16"),
        (11025, 2, "WAV", "PCM_16"),
        (16000, 1, "WAV", "PCM_24"),
        (22050, 3, "WAV", "FLOAT"),
        (44100, 2, "FLAC", "PCM_16"),
        (48000, 1, "FLAC", "PCM_24"),
        (44100, 1, "MP3", "MPEG_LAYER_III"),
        (48000, 1, "OGG", "VORBIS"),
    ]
    rows = []
    for row, (rate, channels, format, subtype) in enumerate(kinds * 2):
        name = f"{row}.{format.lower()}"
        samples = tone(row, 0.1 + 0.05 * row, rate, channels)
        (folder / name).write_bytes(audio_bytes(samples, rate, format, subtype))
        rows.append({"file_name": name, "label": ("left", "right", "up")[row % 3]})
    with (folder / "metadata.csv").open("w") as file:
        writer = csv.DictWriter(file, ["file_name", "label"])
        writer.writeheader()
        writer.writerows(rows)
    return rows


@pytest.mark.parametrize("encoder", ["random", "sample"])
def test_embeddings_and_head_equal_the_specifications_script(tmp_path, encoder_folder, encoder):
    rows = write_recordings(tmp_path)
    encoder_folder = SAMPLE / "encoder" if encoder == "sample" else encoder_folder
    width = speech_recipe(encoder_folder).vector_size

    # the specification's script, one clip at a time
    extractor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(encoder_folder)
    model = transformers.Wav2Vec2Model.from_pretrained(encoder_folder).eval()
    literal = []
    for row in rows:
        samples, rate = soundfile.read(tmp_path / row["file_name"], dtype="float32", always_2d=True)
        audio = torch.tensor(samples.mean(axis=1))
        if rate != 16000:
            audio = torchaudio.transforms.Resample(rate, 16000)(audio)
        inputs = extractor(audio.numpy(), sampling_rate=16000, return_tensors="pt")
        with torch.no_grad():
            literal.append(model(inputs.input_values).last_hidden_state.mean(dim=1).squeeze(0))
    x = torch.stack(literal)
    y = torch.tensor([["left", "right", "up"].index(row["label"]) for row in rows])

    source = folder_source(tmp_path)
    engine = local(threads=1)
    embedded = gather(engine, source, EmbeddingTask(recipe=speech_recipe(encoder_folder)), 0)
    data = TrainingSet(embeddings=embedded.vectors, labels=y.numpy())
    head, _ = engine.train(lambda scratch: data, HeadSpec(num_classes=3), 1)
    error = np.linalg.norm(embedded.vectors - x.numpy(), axis=1) / np.linalg.norm(x.numpy(), axis=1)
    assert error.max() <= 1e-5

    torch.manual_seed(0)
    linear = torch.nn.Linear(width, 3)
    optimizer = torch.optim.Adam(linear.parameters(), lr=0.01)
    given = torch.tensor(embedded.vectors)
    for _ in range(100):
        optimizer.zero_grad()
        torch.nn.CrossEntropyLoss()(linear(given), y).backward()
        optimizer.step()
    (tmp_path / "head.pth").write_bytes(head.weights)
    state = torch.load(tmp_path / "head.pth", weights_only=True)
    assert torch.allclose(state["weight"], linear.weight, atol=1e-4)
    assert torch.allclose(state["bias"], linear.bias, atol=1e-4)


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


_UNTIL_IT_ENDS = """
import os, signal, sys, types
import numpy as np
from golem_ray.embedding import stage
from golem_ray.embedding.crash_notes import CRASHED
from golem_ray.jobs.vectors import gather
from tests.conftest import folder_source, speech_recipe
from tests.test_engine import CPU, local

class Ones:  # an encoder without PyTorch's and transformers' imports
    batch_cost = batch_fill = None

    def __init__(self, recipe, device, batch_seconds):
        pass

    def embed(self, waveforms):
        return np.ones((len(waveforms), 32), dtype=np.float32)

encoders = types.ModuleType("golem_ray.speech.encoders")
encoders.SpeechEncoder, encoders.precision_note = Ones, lambda precision, device: ""
sys.modules[encoders.__name__] = encoders
read_example = stage.read_example

def deadly(row, recipe, baseline):
    if row["id"][0].as_py() == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return read_example(row, recipe, baseline)

stage.read_example = deadly
folder, encoder, notes = sys.argv[1:]
task = stage.EmbeddingTask(recipe=speech_recipe(encoder), crash_notes=notes)
found = gather(local(), folder_source(folder), task, 5)
assert found.bad == {2: CRASHED}
assert found.vectors.any(axis=1).tolist() == [True, True, False, True, True, True]
"""


def test_a_clip_that_ends_the_process_is_left_out_once_the_run_is_gone_on_with(tmp_path, encoder_folder):
    folder = write_clips(tmp_path / "set", ["a", "b"] * 3, seconds=0.1)
    arguments = ["-c", _UNTIL_IT_ENDS, str(folder), str(encoder_folder), str(tmp_path / "run" / "crashes")]
    done = [warm.run(arguments, cwd=ROOT, env=dict(os.environ)) for _ in range(4)]
    assert [each.returncode for each in done] == [-signal.SIGKILL] * 3 + [0], done[-1].stderr
