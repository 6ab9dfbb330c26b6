"""The Ray engine: embedding by Ray Data and training in a task, on a Ray that believes to have GPUs and on its CPUs."""

import dataclasses
import logging
import os
import signal
import threading
import time
from contextlib import contextmanager, nullcontext, suppress

import numpy as np
import pytest
import ray
import soundfile
import torch
import torchaudio
from ray.data import DataContext

from golem_ray.cluster import RayEngine, connection, embedding, private, ray_engine
from golem_ray.config import ClusterConfig, DeviceConfig
from golem_ray.devices import Resources
from golem_ray.embedding.stage import EmbeddingTask
from golem_ray.engine import LocalEngine
from golem_ray.errors import ConfigError, DataError
from golem_ray.heads.training_set import HeadSpec, TrainingSet
from golem_ray.jobs.vectors import gather
from golem_ray.progress import ProgressBar
from golem_ray.speech.encoders import SpeechEncoder
from tests.conftest import folder_source, ray_with_gpus, speech_recipe

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


@pytest.mark.slow
def test_the_one_gpu_is_the_actors_and_then_the_heads(clips_folder, encoder_folder, monkeypatch, caplog):
    with ray_with_gpus(1) as count:
        test_every_actor_and_the_heads_task_is_given_one_gpu(count, clips_folder, encoder_folder, monkeypatch, caplog)


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
    quiet, _ = trained_by(LocalEngine(ONE_THREAD, CPU), data, 4)
    head, _ = engine.train(engine.share(deadly_once), HeadSpec(num_classes=4), 1)
    assert struck.exists()
    assert head.weights == quiet.weights


@pytest.mark.parametrize("stopped", [True, False])
def test_the_heads_task_may_take_long_but_not_stand_still(simulated_gpus, tmp_path, stopped):
    labels = np.arange(40) % 4
    data = TrainingSet(embeddings=np.eye(40, 8, dtype=np.float32), labels=labels)

    def slow(scratch):
        if stopped:
            (tmp_path / "process").write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(4.5)
        return data

    engine = RayEngine(CPU_RESOURCES)
    engine.train(engine.share(lambda scratch: data), HeadSpec(num_classes=4), 0)  # a process is there from now on
    engine = RayEngine(dataclasses.replace(CPU_RESOURCES, stall_timeout=3.0))
    if not stopped:
        engine.train(engine.share(slow), HeadSpec(num_classes=4), 0)
        return
    try:
        with pytest.raises(ConfigError, match=r"cluster\.stall_timeout: expected .*, found no sign of it for 3 s; see"):
            engine.train(engine.share(slow), HeadSpec(num_classes=4), 0)
    finally:
        os.kill(int((tmp_path / "process").read_text()), signal.SIGKILL)


def test_what_the_cluster_cannot_start_ends_in_words(simulated_gpus, clips_folder, encoder_folder):
    impossible = Resources(workers=1, threads=1, cpus=1000, gpu=False, backend="cpu", stall_timeout=3.0)
    with pytest.raises(ConfigError, match="found no progress for 3 s with 0 of 24 clips done"):
        embedded_by(RayEngine(impossible), folder_source(clips_folder), encoder_folder)


def test_the_last_run_of_a_process_ends_the_ray_that_the_first_began(monkeypatch):
    calls = []

    def connect(address, leave):
        calls.append("connect")
        leave.callback(calls.append, "shutdown")

    monkeypatch.setattr(connection, "_connect", connect)
    monkeypatch.setattr(connection, "_awaited", lambda *arguments: None)
    monkeypatch.setattr(connection, "check_nodes", lambda *arguments: None)
    monkeypatch.setattr(connection.ray, "is_initialized", lambda: "connect" in calls)
    first, second = (connection.joined(ClusterConfig(), CPU, 1) for _ in range(2))
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert calls == ["connect"]
    second.__exit__(None, None, None)
    assert calls == ["connect", "shutdown"]


@pytest.mark.parametrize("problem", [OSError("no room"), SystemExit(signal.SIGTERM)])
def test_a_ray_that_does_not_start_is_one_line_and_leaves_no_handler_of_its_own(monkeypatch, problem):
    def init(**options):
        signal.signal(signal.SIGTERM, lambda *_: None)  # as Ray does
        raise problem

    chosen = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(connection.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(connection.ray, "init", init)
    monkeypatch.setattr(connection.ray, "shutdown", lambda: None)
    monkeypatch.setattr(
        connection, "swept", lambda: nullcontext({})
    )  # it would take this process's real Ray for its own
    expected: type[BaseException] = ConfigError
    words: str | None = "cluster.address: expected to be able to start a Ray on this machine, but no room; "
    if isinstance(problem, SystemExit):  # its handler exits so
        expected, words = KeyboardInterrupt, None
    with pytest.raises(expected, match=words), connection.joined(ClusterConfig(address="local"), CPU, 1):
        pass
    assert signal.getsignal(signal.SIGTERM) is chosen


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


def test_where_machines_come_there_may_be_as_many_workers_as_the_clips_are_worth(monkeypatch):
    monkeypatch.setattr(connection, "alive_nodes", lambda: [{"CPU": 2.0, "memory": 8e9}])
    plans = [connection.plan(ClusterConfig(), CPU, clips, grows=True) for clips in (20, 1000)]
    assert [(each.workers, each.most_workers) for each in plans] == [(1, 1), (1, 40)]
    assert connection.plan(ClusterConfig(), CPU, 1000).most_workers == 1
    assert connection.plan(ClusterConfig(workers=1), CPU, 1000, grows=True).most_workers == 1
    fifty_million = dataclasses.replace(plans[1], growth=2_000_000)
    assert len(embedding._cut(np.arange(100_000), fifty_million)[0]) == 64  # blocks are not cut for them all


@pytest.mark.slow
def test_the_pool_grows_to_what_there_is(simulated_gpus, clips_folder, encoder_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(embedding, "Embedder", _embedder_in_company(tmp_path, 2))
    engine = RayEngine(Resources(workers=1, threads=1, cpus=0, gpu=True, backend="auto", growth=1))
    assert not embedded_by(engine, folder_source(clips_folder), encoder_folder).bad
    assert len(list(tmp_path.iterdir())) == 2


def test_work_side_by_side_may_take_long_but_not_stand_still(simulated_gpus, tmp_path):
    engine = RayEngine(dataclasses.replace(CPU_RESOURCES, stall_timeout=60.0))
    engine.map(lambda: None, [()], "comparing", "rounds")  # a process is there from now on
    engine = RayEngine(dataclasses.replace(CPU_RESOURCES, stall_timeout=2.0))
    assert engine.map(lambda: time.sleep(3), [()], "comparing", "rounds") == [None]

    def suspended():
        (tmp_path / "process").write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGSTOP)

    try:
        with pytest.raises(ConfigError, match=r"stall_timeout: .* progress for 2 s with 0 of 1 rounds done \(compar"):
            engine.map(suspended, [()], "comparing", "rounds")
    finally:
        with suppress(ProcessLookupError):
            os.kill(int((tmp_path / "process").read_text()), signal.SIGKILL)


def test_what_goes_wrong_side_by_side_is_said_in_words(simulated_gpus):
    def ended():
        os.kill(os.getpid(), signal.SIGKILL)

    def refused():
        raise DataError("a class: expected two clips, found one.")

    engine = RayEngine(CPU_RESOURCES)
    with pytest.raises(DataError, match="expected two clips"):
        engine.map(refused, [()], "comparing", "rounds")
    with pytest.raises(ConfigError, match=r"expected machines that see the work through \(comparing\), but WorkerCr"):
        engine.map(ended, [()], "comparing", "rounds")
    with pytest.raises(ZeroDivisionError):  # a bug stays one
        engine.map(lambda: 1 / 0, [()], "comparing", "rounds")


def test_rays_loggers_are_quiet_for_our_plans_alone():
    loggers = [logging.getLogger(name) for name in embedding._LOG_LEVELS]
    before = [logger.level for logger in loggers]
    with embedding._quiet_context(CPU_RESOURCES):
        assert [logger.level for logger in loggers] == list(embedding._LOG_LEVELS.values())
    assert [logger.level for logger in loggers] == before


def test_reading_that_is_begun_anew_goes_on_in_the_same_bar(simulated_gpus, clips_folder, monkeypatch):
    steps = []

    class Bar(ProgressBar):
        def update(self, done, note=""):
            steps.append(done)

        def close(self):
            steps.append("closed")

    dataset = embedding._dataset
    lost = [ray.exceptions.NodeDiedError("gone")]

    def failing_once(examples, blocks):
        if lost:
            raise lost.pop()
        return dataset(examples, blocks)

    monkeypatch.setattr(embedding, "ProgressBar", Bar)
    monkeypatch.setattr(embedding, "_dataset", failing_once)
    assert RayEngine(CPU_RESOURCES).digests(folder_source(clips_folder)).all()
    assert not lost
    assert steps[-2:] == [24, "closed"]
    assert steps.count("closed") == 1


def _embedder_in_company(folder, workers):
    class Embedder(embedding.Embedder):
        """Begins its work when there are so many of it."""

        def __init__(self, *arguments):
            super().__init__(*arguments)
            (folder / str(os.getpid())).touch()

        def __call__(self, batch):
            deadline = time.monotonic() + 60
            while len(list(folder.iterdir())) < workers and time.monotonic() < deadline:
                time.sleep(0.05)
            return super().__call__(batch)

    return Embedder


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
