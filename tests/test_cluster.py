"""The Ray Data graph and the training task, on a Ray that believes to have GPUs and on its CPUs."""

import csv
import dataclasses
import logging
import os
import signal
import threading
from contextlib import contextmanager

import numpy as np
import pytest
import ray
import soundfile
import torch
import torchaudio
import transformers
from ray.data import DataContext

from golem_ray import cluster
from golem_ray.cluster import connection, embedding
from golem_ray.config import ClusterConfig, DatasetConfig, DeviceConfig, ModelConfig, TrainConfig
from golem_ray.data import open_source
from golem_ray.devices import Resources
from golem_ray.embedding.recipe import Recipe
from golem_ray.errors import ConfigError
from golem_ray.heads.training_set import TrainingSet
from golem_ray.jobs.engines import announce
from golem_ray.sample import SAMPLE
from golem_ray.speech.encoders import SpeechEncoder
from golem_ray.speech.inspect import inspect_encoder
from tests.conftest import audio_bytes, tone, write_encoder

CPU = DeviceConfig(backend="cpu")
ONE_THREAD = ClusterConfig(threads_per_worker=1, workers=1)


def folder_source(folder):
    return open_source(DatasetConfig(name=str(folder), label_column="label"), None)


CPU_RESOURCES = Resources(workers=1, threads=1, cpus=1, gpu=False, backend="cpu")


def info(folder):
    return inspect_encoder(ModelConfig(feature_extractor_model=str(folder)))


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
    recipe = Recipe(encoder=info(encoder_folder), precision="tf32")
    source = folder_source(clips_folder)
    monkeypatch.setattr(DataContext.get_current(), "wait_for_min_actors_s", 120)  # all actors, then the work
    with cluster.joined(ClusterConfig(stall_timeout=123.0), DeviceConfig(), 24) as resources:
        assert (resources.gpu, resources.workers, resources.cpus) == (True, simulated_gpus, 0)
        assert resources.stall_timeout == 123.0
        with fewest_free_gpus() as free:
            embedded = cluster.embed(source, recipe, resources, 0)
        labels = source.examples["label"].to_numpy()
        data = TrainingSet(embeddings=embedded.vectors, labels=labels, num_classes=4)
        _, worker = cluster.train(lambda scratch: data, TrainConfig(), resources)
    assert min(free) == 0  # every GPU had its actor, and each actor that worked had one
    assert all(len(worker["gpus"]) == 1 for worker in embedded.workers)
    assert len(worker["gpus"]) == 1
    assert {worker["device"], *(each["device"] for each in embedded.workers)} == {"cpu"}  # none is real
    assert caplog.text.count("tf32 is float32 on a CPU") == 1  # whatever the number of actors
    assert ray.is_initialized()  # a Ray that was there stays

    direct = SpeechEncoder(Recipe(encoder=info(encoder_folder)), "cpu")
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
    width = info(encoder_folder).embedding_size

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
    with cluster.joined(ONE_THREAD, CPU, len(rows)) as resources:
        embedded = cluster.embed(source, Recipe(encoder=info(encoder_folder)), resources, 0)
        data = TrainingSet(embeddings=embedded.vectors, labels=y.numpy(), num_classes=3)
        head, _ = cluster.train(lambda scratch: data, TrainConfig(), resources)
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
    with cluster.joined(ONE_THREAD, CPU, 40) as resources:
        embedded = cluster.embed(source, Recipe(encoder=info(encoder_folder)), resources, 0)
        hashed = cluster.hash_clips(source, resources)
    assert sorted(embedded.bad) == [7, 9, 39]
    assert "not audio" in embedded.bad[7]
    assert "no label" in embedded.bad[9]
    assert embedded.bad[39] == "missing file"
    assert np.array_equal(hashed, embedded.digests)
    direct = SpeechEncoder(Recipe(encoder=info(encoder_folder)), "cpu")
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
        cluster.joined(ONE_THREAD, CPU, 24) as resources,
        pytest.raises(ConfigError, match="expected weights that load from") as error,
    ):
        cluster.embed(folder_source(clips_folder), Recipe(encoder=info(folder)), resources, 0)
    assert "\n" not in str(error.value)


def test_a_failure_in_the_midst_of_a_block_is_told(clips_folder, encoder_folder):
    work = embedding._Work(folder_source(clips_folder), Recipe(encoder=info(encoder_folder)), False, None, True)
    with pytest.raises(ConfigError, match="the GPU is full"):
        work._take({"id": np.arange(2), "failure": np.array(["", "the GPU is full"], dtype=object)})


def test_the_heads_task_is_run_again_where_its_process_ends(simulated_gpus, tmp_path):
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 4
    data = TrainingSet(embeddings=rng.standard_normal((40, 8), dtype=np.float32), labels=labels, num_classes=4)
    struck = tmp_path / "struck"

    def deadly_once(scratch):
        if not struck.exists():
            import golem_ray.heads.train as module

            fit = module.fit

            def deadly(*arguments):
                yield next(fit(*arguments))  # so that a part of the answer has been given
                struck.touch()
                os.kill(os.getpid(), signal.SIGKILL)

            module.fit = deadly
        return data

    quiet, _ = cluster.train(lambda scratch: data, TrainConfig(), CPU_RESOURCES)
    head, _ = cluster.train(deadly_once, TrainConfig(), CPU_RESOURCES)
    assert struck.exists()
    assert head.weights == quiet.weights


def test_what_the_cluster_cannot_start_ends_in_words(simulated_gpus, clips_folder, encoder_folder):
    impossible = Resources(workers=1, threads=1, cpus=1000, gpu=False, backend="cpu", stall_timeout=3.0)
    with pytest.raises(ConfigError, match="found no progress for 3 s with 0 of 24 clips done"):
        cluster.embed(folder_source(clips_folder), Recipe(encoder=info(encoder_folder)), impossible, 0)


def test_the_last_run_of_a_process_ends_the_ray_that_the_first_began(monkeypatch):
    calls = []
    monkeypatch.setattr(connection, "_connect", lambda address: calls.append("connect"))
    monkeypatch.setattr(connection, "_awaited", lambda *arguments: None)
    monkeypatch.setattr(connection, "check_nodes", lambda outputs: None)
    monkeypatch.setattr(connection.ray, "is_initialized", lambda: "connect" in calls)
    monkeypatch.setattr(connection.ray, "shutdown", lambda: calls.append("shutdown"))
    first, second = (cluster.joined(ClusterConfig(), CPU, 1) for _ in range(2))
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


def test_an_encoder_that_is_not_exact_in_batches_is_named_on_gpus(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="golem_ray")
    changes = {"num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 3}
    encoder = info(write_encoder(tmp_path / "enc", family="data2vec-audio", **changes))
    resources = Resources(workers=2, threads=1, cpus=0, gpu=True, backend="auto")
    announce("some", 24, encoder, resources)
    assert caplog.text.count("(data2vec-audio) is not exact in batches: one clip at a time") == 1
    caplog.clear()
    announce("some", 24, encoder, dataclasses.replace(resources, gpu=False))
    assert "exact" not in caplog.text


@pytest.mark.parametrize(("types", "autoscaled"), [({}, False), ({"node_0a1b": 1}, False), ({"gpu_worker": 0}, True)])
def test_an_autoscaler_is_known_by_the_names_of_its_nodes(simulated_gpus, monkeypatch, types, autoscaled):
    import json

    from ray.experimental import internal_kv

    status = json.dumps({"autoscaler_report": {"active_nodes": types}}).encode()
    monkeypatch.setattr(internal_kv, "_internal_kv_get", lambda key: status)
    assert connection.is_autoscaled() == autoscaled


def test_machines_are_asked_for_where_there_is_an_autoscaler(simulated_gpus, monkeypatch):
    asked = []
    monkeypatch.setattr("ray.autoscaler.sdk.request_resources", lambda bundles: asked.append(bundles))
    monkeypatch.setattr(connection, "is_autoscaled", lambda: True)
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
