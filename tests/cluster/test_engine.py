"""The Ray engine: embedding by Ray Data and training in a task, on a Ray that believes to have GPUs and on its CPUs."""

import csv
import logging
import os
import signal
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
import ray
import soundfile
import torch
import torchaudio
import transformers
from ray.data import DataContext

from golem_ray.cluster import RayEngine, connection, private, ray_engine
from golem_ray.config import ClusterConfig, DeviceConfig
from golem_ray.devices import Resources
from golem_ray.embedding.stage import EmbeddingTask
from golem_ray.errors import ConfigError
from golem_ray.heads.training_set import HeadSpec, TrainingSet
from golem_ray.jobs.vectors import gather
from golem_ray.sample import SAMPLE
from golem_ray.speech.encoders import SpeechEncoder
from tests.conftest import audio_bytes, folder_source, speech_recipe, tone

CPU = DeviceConfig(backend="cpu")
ONE_THREAD = ClusterConfig(threads_per_worker=1, workers=1)


CPU_RESOURCES = Resources(workers=1, threads=1, cpus=1, gpu=False, backend="cpu")


def embedded_by(engine, source, encoder_folder, **recipe):
    return gather(engine, source, EmbeddingTask(recipe=speech_recipe(encoder_folder, **recipe)), 0)


def trained_by(engine, data, num_classes):
    return engine.train(engine.share(lambda scratch: data), HeadSpec(num_classes=num_classes), 1)


@contextmanager
def fewest_free_gpus():
    """Watches how many GPUs nobody holds; yields the list that the counts are put in."""
    counts, stop = [], threading.Event()

    def watch():
        while not stop.wait(0.05):
            counts.append(ray.available_resources().get("GPU", 0))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield counts
    finally:
        stop.set()
        watcher.join()


@pytest.mark.parametrize("simulated_gpus", [pytest.param(1, marks=pytest.mark.slow), 2], indirect=True)
def test_every_actor_and_the_heads_task_is_given_one_gpu(
    simulated_gpus, clips_folder, encoder_folder, monkeypatch, caplog
):
    caplog.set_level(logging.INFO, logger="golem_ray")
    source = folder_source(clips_folder)
    monkeypatch.setattr(DataContext.get_current(), "wait_for_min_actors_s", 120)  # all actors, then the work
    with ray_engine(ClusterConfig(stall_timeout=123.0), DeviceConfig(), 24) as engine:
        resources = engine.resources
        assert (resources.gpu, resources.workers, resources.cpus) == (True, simulated_gpus, 0)
        assert resources.stall_timeout == 123.0
        with fewest_free_gpus() as free:
            embedded = embedded_by(engine, source, encoder_folder, precision="tf32")
        labels = source.examples["label"].to_numpy()
        _, worker = trained_by(engine, TrainingSet(embeddings=embedded.vectors, labels=labels), 4)
    assert min(free) == 0  # every GPU had its actor, and each actor that worked had one
    assert engine.workers
    assert all(len(worker["gpus"]) == 1 for worker in engine.workers)
    assert len(worker["gpus"]) == 1
    assert {worker["device"], *(each["device"] for each in engine.workers)} == {"cpu"}  # none is real
    assert caplog.text.count("tf32 is float32 on a CPU") == 1  # whatever the number of actors
    assert ray.is_initialized()  # a Ray that was there stays

    direct = SpeechEncoder(speech_recipe(encoder_folder), "cpu")
    for row, path in enumerate(source.examples["path"].to_pylist()):
        samples, rate = soundfile.read(path, dtype="float32")
        waveform = torchaudio.transforms.Resample(rate, 16000)(torch.tensor(samples)).numpy()
        expected = direct.embed([waveform])[0]
        assert np.linalg.norm(embedded.vectors[row] - expected) <= 1e-5 * np.linalg.norm(expected), row


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


@pytest.mark.parametrize("encoder", [pytest.param("random", marks=pytest.mark.slow), "sample"])
def test_embeddings_and_head_equal_the_specifications_script(simulated_gpus, tmp_path, encoder_folder, encoder):
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
    with ray_engine(ONE_THREAD, CPU, len(rows)) as engine:
        embedded = embedded_by(engine, source, encoder_folder)
        head, _ = trained_by(engine, TrainingSet(embeddings=embedded.vectors, labels=y.numpy()), 3)
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


def test_bad_clips_come_back_with_their_reasons_and_order_is_kept(
    simulated_gpus, tmp_path, encoder_folder, monkeypatch
):
    from_arrow = ray.data.from_arrow
    monkeypatch.setattr(ray.data, "from_arrow", lambda blocks: from_arrow(blocks[::-1]))  # the last block comes first
    lines = ["file_name,label"]
    for row in range(40):
        (tmp_path / f"{row}.wav").write_bytes(b"noise" if row == 7 else audio_bytes(tone(row, 0.1)))
        lines.append(f"{row}.wav,{'' if row == 9 else 'ab'[row % 2]}")
    (tmp_path / "39.wav").unlink()
    (tmp_path / "metadata.csv").write_text("\n".join(lines))
    source = folder_source(tmp_path)
    with ray_engine(ONE_THREAD, CPU, 40) as engine:
        embedded = embedded_by(engine, source, encoder_folder)
        hashed = engine.digests(source)
    assert sorted(embedded.bad) == [7, 9, 39]
    assert "not audio" in embedded.bad[7]
    assert "no label" in embedded.bad[9]
    assert embedded.bad[39] == "missing file"
    assert np.array_equal(hashed, embedded.digests)
    direct = SpeechEncoder(speech_recipe(encoder_folder), "cpu")
    for row in (0, 8, 38):
        waveform = torchaudio.transforms.Resample(8000, 16000)(
            torch.tensor(soundfile.read(tmp_path / f"{row}.wav", dtype="float32")[0])
        ).numpy()
        assert np.allclose(embedded.vectors[row], direct.embed([waveform])[0], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_an_encoder_that_a_worker_cannot_load_is_one_line(simulated_gpus, clips_folder, encoder_folder, tmp_path):
    import shutil

    folder = shutil.copytree(encoder_folder, tmp_path / "enc")
    (folder / "model.safetensors").write_bytes(b"x" * 1000)
    with (
        ray_engine(ONE_THREAD, CPU, 24) as engine,
        pytest.raises(ConfigError, match="expected weights that load from") as error,
    ):
        embedded_by(engine, folder_source(clips_folder), folder)
    assert "\n" not in str(error.value)


def test_the_heads_task_is_run_again_where_its_process_ends(simulated_gpus, tmp_path):
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 4
    data = TrainingSet(embeddings=rng.standard_normal((40, 8), dtype=np.float32), labels=labels)
    struck = tmp_path / "struck"

    def deadly_once(scratch):
        if not struck.exists():
            import golem_ray.heads.train_head as module

            fit = module.fit

            def deadly(examples, spec, on_epoch=None):
                def strike(epoch, loss):
                    on_epoch(epoch, loss)
                    time.sleep(0.5)  # so that a part of the answer has been given
                    struck.touch()
                    os.kill(os.getpid(), signal.SIGKILL)

                return fit(examples, spec, strike)

            module.fit = deadly
        return data

    engine = RayEngine(CPU_RESOURCES)
    quiet, _ = trained_by(engine, data, 4)
    head, _ = engine.train(engine.share(deadly_once), HeadSpec(num_classes=4), 1)
    assert struck.exists()
    assert head.weights == quiet.weights


def test_what_the_cluster_cannot_start_ends_in_words(simulated_gpus, clips_folder, encoder_folder):
    impossible = Resources(workers=1, threads=1, cpus=1000, gpu=False, backend="cpu", stall_timeout=3.0)
    with pytest.raises(ConfigError, match="found no progress for 3 s with 0 of 24 clips done"):
        embedded_by(RayEngine(impossible), folder_source(clips_folder), encoder_folder)


def test_the_last_run_of_a_process_ends_the_ray_that_the_first_began(monkeypatch):
    calls = []
    monkeypatch.setattr(connection, "_connect", lambda address: calls.append("connect"))
    monkeypatch.setattr(connection, "_awaited", lambda *arguments: None)
    monkeypatch.setattr(connection, "check_nodes", lambda outputs: None)
    monkeypatch.setattr(connection.ray, "is_initialized", lambda: "connect" in calls)
    monkeypatch.setattr(connection.ray, "shutdown", lambda: calls.append("shutdown"))
    first, second = (connection.joined(ClusterConfig(), CPU, 1) for _ in range(2))
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert calls == ["connect"]
    second.__exit__(None, None, None)
    assert calls == ["connect", "shutdown"]


@pytest.mark.parametrize(
    ("cluster", "backend", "words"),
    [
        (ClusterConfig(workers=3), "auto", "cluster.workers: expected at most 2 on a cluster with 2 GPUs, got 3"),
        (ClusterConfig(workers=2), "cpu", "expected at most 1 on a cluster with 2 CPUs, 2 a worker, got 2"),
    ],
)
def test_more_workers_than_the_cluster_carries_are_refused(simulated_gpus, cluster, backend, words):
    with pytest.raises(ConfigError, match=words):
        connection.plan(cluster, DeviceConfig(backend=backend), 100)


def test_cpu_workers_follow_cores_and_clips(simulated_gpus):
    one_thread = ClusterConfig(threads_per_worker=1)
    assert connection.plan(one_thread, CPU, 1000).workers == 2
    assert connection.plan(one_thread, CPU, 25).workers == 1
    assert connection.plan(ClusterConfig(threads_per_worker=8), CPU, 1000).cpus == 2  # never more than a node has


def test_a_cluster_without_gpus_says_so(monkeypatch):
    monkeypatch.setattr(connection, "alive_nodes", lambda: [{"CPU": 2.0, "memory": 8e9}])
    with pytest.raises(ConfigError, match=r"device\.backend: expected a cluster with GPUs for 'cuda', found none"):
        connection.plan(ClusterConfig(), DeviceConfig(backend="cuda"), 100)
    assert not connection.plan(ClusterConfig(), DeviceConfig(), 100).gpu


def test_machines_are_asked_for_where_there_is_an_autoscaler(simulated_gpus, monkeypatch):
    asked = []
    monkeypatch.setattr("ray.autoscaler.sdk.request_resources", lambda bundles: asked.append(bundles))
    monkeypatch.setattr(private, "is_autoscaled", lambda: True)
    monkeypatch.setattr(connection, "_LOOK_EVERY_S", 0.01)
    wanted = ClusterConfig(workers=5, wait_s=0.05)
    with pytest.raises(ConfigError, match="cluster.workers: expected at most 2 on a cluster with 2 GPUs, got 5"):
        connection._awaited(wanted, DeviceConfig(backend="cuda"), 100)
    assert asked == [[{"GPU": 1}] * 5, []]  # and given back


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_while_ray_starts_waits_until_it_has_started(monkeypatch, number):
    before, seen = signal.getsignal(number), []

    def stop(number, frame):
        raise KeyboardInterrupt

    def start():
        with connection._stop_held_back():
            signal.raise_signal(number)
            signal.signal(number, signal.SIG_DFL)  # as Ray puts its own handler there
            seen.append("started")

    signal.signal(number, stop)  # a shell has its background jobs ignore Ctrl-C
    try:
        with pytest.raises(KeyboardInterrupt):
            start()
        assert seen == ["started"]
        assert signal.getsignal(number) is stop
    finally:
        signal.signal(number, before)
