"""Actors, nodes and drivers that are killed in the middle of the work: the artifact is the one of a quiet run."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile

import golem_ray
from golem_ray.cluster import embedding
from tests.conftest import ROOT, tone, write_clips
from tests.several_nodes import POISON_SAMPLES, begun, joined, nodes, wait_until

NUM_CLIPS = 60
ACTORS = 2
BLOCK = -(-NUM_CLIPS // (4 * ACTORS))

SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.chaos) for seed in range(1, 6))]


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
        "cluster": {"workers": ACTORS, "threads_per_worker": 1, "stall_timeout": 60.0},
        "paths": {"save_path": str(tmp_path / "v.pth")},
    }


@pytest.fixture(scope="module")
def quiet(clips: Path, encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights of a run that nothing happens to, on a Ray of its own."""
    path = tmp_path_factory.mktemp("quiet") / "v.pth"
    golem_ray.train(
        {
            "dataset": {"name": str(clips), "label_column": "label"},
            "processing": {"max_samples": "all"},
            "device": {"backend": "cpu"},
            "model": {"feature_extractor_model": str(encoder_folder)},
            "evaluation": {"repeats": 0},
            "cluster": {"threads_per_worker": 1},
            "paths": {"save_path": str(path)},
        }
    )
    return path.read_bytes()


@pytest.fixture(scope="module")
def cluster(quiet: bytes) -> Iterator[Any]:
    with nodes(2, num_cpus=1) as cluster:
        yield cluster


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
    assert len(begun(log)) >= NUM_CLIPS
    assert len(set(begun(log))) > ACTORS  # it was started anew
    assert Path(config["paths"]["save_path"]).read_bytes() == quiet


@pytest.mark.parametrize("seed", SEEDS)
def test_a_node_that_is_lost_costs_no_clip(cluster, config, quiet, tmp_path, seed, monkeypatch, caplog):
    monkeypatch.setattr(embedding, "REPLACED_WITHIN_S", 2.0)
    log, draw = tmp_path / "log", random.Random(seed)
    victim = draw.choice(sorted(cluster.worker_nodes, key=lambda node: node.node_ip_address + node.unique_id))
    with joined(cluster, log, 0.1):
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
from tests.several_nodes import joined
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
        wait_until(lambda: len(begun(log)) >= draw.randint(BLOCK * ACTORS, 40) or driver.poll() is not None)
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
