"""Several Ray nodes: what is tried on each before the work, and actors, nodes and drivers that are killed during it.

Whatever was killed, the artifact is the one of a quiet run.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import soundfile

import golem_ray
from golem_ray.cluster import connection, embedding, preflight
from golem_ray.cluster.preflight import check_nodes
from golem_ray.config import ClusterConfig, DeviceConfig
from golem_ray.errors import ConfigError
from tests.cluster.nodes import POISON_SAMPLES, SEEDS, begun, joined, nodes, wait_until
from tests.conftest import ROOT, tone, write_clips

pytestmark = pytest.mark.slow

NUM_CLIPS = 60
ACTORS = 2
BLOCK = -(-NUM_CLIPS // (4 * ACTORS))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("chaos") / "set", ["in", "out", "up"] * (NUM_CLIPS // 3), seconds=0.2)


@pytest.fixture
def config(clips: Path, encoder_folder: Path, tmp_path: Path) -> dict[str, Any]:
    return {
        "dataset": {"name": str(clips), "label_column": "label"},
        "processing": {"max_samples": "all"},
        "device": {"backend": "cpu"},
        "model": {"feature_extractor_model": str(encoder_folder)},
        "evaluation": {"repeats": 0},
        "cluster": {"workers": ACTORS, "threads_per_worker": 1, "stall_timeout": 120.0},
        "paths": {"save_path": str(tmp_path / "v.pth")},
    }


@pytest.fixture(scope="module")
def quiet(clips: Path, encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights of a run that nothing happens to, without a Ray."""
    path = tmp_path_factory.mktemp("quiet") / "v.pth"
    golem_ray.train(
        {
            "dataset": {"name": str(clips), "label_column": "label"},
            "processing": {"max_samples": "all"},
            "device": {"backend": "cpu"},
            "model": {"feature_extractor_model": str(encoder_folder)},
            "evaluation": {"repeats": 0},
            "cluster": {"address": "none", "threads_per_worker": 1},
            "paths": {"save_path": str(path)},
        }
    )
    return path.read_bytes()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with nodes(2, num_cpus=1) as cluster:
        yield cluster


# --- before the work ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def driver_on(cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with joined(cluster, tmp_path_factory.mktemp("driver") / "log", 0.0):
        yield


@pytest.fixture
def in_time(driver_on: None) -> Iterator[None]:
    """What preflight finds, it says within half a minute."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < 30


def test_what_is_in_order_passes(in_time, tmp_path):
    check_nodes((("paths.run_dir", str(tmp_path / "run")),), 25.0)
    assert not any((tmp_path / "run").iterdir())  # and leaves nothing behind


@pytest.mark.parametrize("name", ["golem_ray", "torch", "av"])
def test_other_versions_on_a_node_are_named(in_time, monkeypatch, name):
    here = {**preflight.package_version(), name: "99.0"}
    monkeypatch.setattr(preflight, "package_version", lambda: here)
    words = rf"expected node \S+ to have the driver's {name} 99\.0, found {name} (\d|none)"
    with pytest.raises(ConfigError, match=words):
        check_nodes((), 25.0)


def test_storage_that_nodes_do_not_share_is_named(in_time, monkeypatch, tmp_path):
    monkeypatch.setattr(preflight, "_beacon", lambda key, place: str(tmp_path / "seen by the driver alone"))
    words = r"paths\.run_dir: expected \S+ to be storage that every node shares, but .*No such file.*\(on node "
    with pytest.raises(ConfigError, match=words):
        check_nodes((("paths.run_dir", str(tmp_path)),), 25.0)


def test_storage_that_a_worker_cannot_write_is_named(in_time, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(preflight, "_beacon", lambda key, place: "")
    with pytest.raises(ConfigError, match=r"paths\.save_path: expected \S+/file to be storage"):
        check_nodes((("paths.save_path", str(tmp_path / "file")),), 25.0)
    monkeypatch.undo()
    with pytest.raises(
        ConfigError, match=r"paths\.run_dir: expected to be able to write to \S+/file/run, but Not a dir"
    ):
        check_nodes((("paths.run_dir", str(tmp_path / "file" / "run")),), 25.0)


def test_a_node_that_does_not_answer_is_named(in_time, monkeypatch):
    with pytest.raises(ConfigError, match="stall_timeout: expected every node to answer within 0 s, 2 did not"):
        check_nodes((), 0.0)


def test_a_node_that_is_slow_to_answer_is_waited_for(in_time, monkeypatch, caplog):
    def slow_probe(outputs, beacons):
        import time

        time.sleep(2.0)
        return expected

    expected = preflight.package_version()
    monkeypatch.setattr(preflight, "probe", slow_probe)
    monkeypatch.setattr(preflight, "_SAY_EVERY_S", 0.5)
    caplog.set_level(logging.INFO, logger="golem_ray")
    check_nodes((), 25.0)
    assert "waiting for 2 of 3 nodes to answer, 2" in caplog.text


def test_a_package_that_workers_lack_is_named(in_time, monkeypatch):
    module = types.ModuleType("not_on_the_workers")
    exec("def probe(outputs, beacons): return {}", module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(preflight, "probe", module.probe)
    with pytest.raises(ConfigError, match=r"to have this package, but .*not_on_the_workers"):
        check_nodes((), 25.0)


def test_an_encoder_that_only_the_driver_has_is_named(driver_on, config, monkeypatch):
    monkeypatch.setattr(embedding, "Embedder", _without_encoder())
    with pytest.raises(ConfigError, match="model.feature_extractor_model: expected weights that load from"):
        golem_ray.train(config)


def _without_encoder() -> type:
    class Embedder(embedding.Embedder):
        """On a worker where the encoder's folder is not."""

        def __init__(self, task: Any, *arguments: Any) -> None:
            encoder = dataclasses.replace(task.recipe.encoder, path="/nowhere")
            recipe = dataclasses.replace(task.recipe, encoder=encoder)
            super().__init__(dataclasses.replace(task, recipe=recipe), *arguments)

    return Embedder


def test_machines_that_come_are_waited_for(in_time, cluster, caplog):
    caplog.set_level(logging.INFO, logger="golem_ray")
    demanded = DeviceConfig(backend="cuda")
    with pytest.raises(ConfigError, match="expected a cluster with GPUs for 'cuda', found none"):
        connection._awaited(ClusterConfig(), demanded, 10)  # at once: nobody is to bring any
    with ThreadPoolExecutor(1) as threads:
        resources = threads.submit(connection._awaited, ClusterConfig(wait_s=25.0), demanded, 10)
        wait_until(lambda: "waiting for the cluster, 25 s more at most: device.backend: expected" in caplog.text)
        node = cluster.add_node(num_cpus=0, num_gpus=1, object_store_memory=80 << 20)
        try:
            found = resources.result()
        finally:
            cluster.remove_node(node, allow_graceful=False)
    assert (found.gpu, found.workers) == (True, 1)


# --- during the work ------------------------------------------------------------------------------------------


class Blow(threading.Thread):
    """Strikes once so many clips were begun; joined, says how many were then."""

    def __init__(self, log: Path, after: int, strike: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self.log, self.after, self.strike = log, after, strike
        self.struck_at: int | None = None
        self.problem: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            wait_until(lambda: len(begun(self.log)) >= self.after)
            self.strike()
            self.struck_at = len(begun(self.log))
        except BaseException as problem:
            self.problem = problem

    def remained(self) -> int:
        """Clips that had not been begun when it struck."""
        self.join(10)
        assert self.problem is None, self.problem
        assert self.struck_at is not None
        return NUM_CLIPS - self.struck_at


@pytest.mark.parametrize("seed", SEEDS)
def test_an_actor_that_is_killed_costs_no_clip(cluster, config, quiet, tmp_path, seed):
    log, draw = tmp_path / "log", random.Random(seed)
    with joined(cluster, log, 0.1):
        blow = Blow(log, draw.randint(3, 40), lambda: os.kill(draw.choice(sorted(set(begun(log)))), signal.SIGKILL))
        golem_ray.train(config)
    assert blow.remained() > 0
    assert NUM_CLIPS < len(begun(log)) <= NUM_CLIPS + 2 * BLOCK  # what was under way, once more
    assert len(set(begun(log))) > ACTORS  # it was started anew
    assert Path(config["paths"]["save_path"]).read_bytes() == quiet


@pytest.mark.parametrize("seed", SEEDS)
def test_a_node_that_is_lost_costs_no_clip(cluster, config, quiet, tmp_path, seed, monkeypatch, caplog):
    monkeypatch.setattr(embedding, "REPLACED_WITHIN_S", 2.0)
    log, draw = tmp_path / "log", random.Random(seed)
    victim = draw.choice(sorted(cluster.worker_nodes, key=lambda node: node.node_ip_address + node.unique_id))
    with joined(cluster, log, 0.2):
        blow = Blow(log, draw.randint(3, 40), lambda: cluster.remove_node(victim, allow_graceful=False))
        golem_ray.train(config)
    cluster.add_node(num_cpus=1, object_store_memory=80 << 20)  # for the tests that follow
    assert blow.remained() > 0
    assert "1 of 2 workers went with their machines: going on with the" in caplog.text
    assert Path(config["paths"]["save_path"]).read_bytes() == quiet


DRIVER = """
import json, sys
from pathlib import Path
import golem_ray
from tests.cluster.nodes import joined
from types import SimpleNamespace

config, address, log = json.loads(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
with joined(SimpleNamespace(address=address), log, 0.1):
    golem_ray.train(config)
"""


@pytest.mark.parametrize("seed", SEEDS)
def test_a_driver_that_is_killed_is_gone_on_from(cluster, config, quiet, tmp_path, seed):
    log, draw = tmp_path / "log", random.Random(seed)
    config["paths"]["run_dir"] = str(tmp_path / "run")
    command = [sys.executable, "-c", DRIVER, json.dumps(config), cluster.address, str(log)]
    driver = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        after = draw.randint(BLOCK * ACTORS, 40)
        wait_until(lambda: len(begun(log)) >= after or driver.poll() is not None)
    finally:
        driver.kill()
        driver.wait()
    struck_at = len(begun(log))
    assert 0 < struck_at < NUM_CLIPS
    assert not Path(config["paths"]["save_path"]).exists()

    again = tmp_path / "again"
    with joined(cluster, again, 0.0):
        golem_ray.train(config)
    assert Path(config["paths"]["save_path"]).read_bytes() == quiet
    assert len(begun(again)) <= NUM_CLIPS - struck_at + BLOCK * ACTORS
    assert len(begun(again)) < NUM_CLIPS


def test_a_clip_that_ends_its_process_every_time_is_a_bad_clip(cluster, config, tmp_path):
    folder = write_clips(tmp_path / "set", ["in", "out"] * 10, seconds=0.2)
    soundfile.write(folder / "clips" / "7.wav", tone(7, 1.0, 16000)[:POISON_SAMPLES], 16000)
    config["dataset"]["name"] = str(folder)
    config["processing"]["max_bad_fraction"] = 0.1
    with joined(cluster, tmp_path / "log", 0.0):
        golem_ray.train(config)
    sidecar = json.loads(Path(config["paths"]["save_path"]).with_suffix(".json").read_text())
    assert sidecar["clips"]["used"] == 19
    (bad,) = sidecar["clips"]["bad"]
    assert (bad["id"], bad["reason"].split(" (")[0]) == (7, "it ended 3 processes that worked on it")
