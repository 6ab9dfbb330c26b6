"""A Ray of several nodes on this machine, slow enough to be struck in the middle of its work."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]  # conftest.py has it too, but a driver of its own must not import that

_NUM_SEEDS = int(os.environ.get("CHAOS_SEEDS", "5"))
CHAOS = [pytest.param(seed, marks=pytest.mark.chaos) for seed in range(1, _NUM_SEEDS + 1)]
"""What to draw the moment by at which something is killed, for `make chaos`."""

SEEDS = [0, *CHAOS]
"""One for `make slow` besides."""

POISON_SAMPLES = 4321
"""A clip of so many samples, at the encoder's rate, kills the process that embeds it."""


def slow_down(log: str, pause_s: float) -> Callable[[], None]:
    """What a worker process runs at its start: each clip takes so long, and is noted with the process's id."""

    def setup() -> None:
        from golem_ray.embedding.stage import EmbedBatch

        start = EmbedBatch.__init__

        def slower(self: Any, *arguments: Any) -> None:
            start(self, *arguments)
            if self.failure:
                return
            embed = self.encoder.embed

            def noted(examples: list[Any]) -> Any:
                for waveform in examples:
                    with open(log, "a") as file:
                        file.write(f"{os.getpid()}\n")
                    if len(waveform) == POISON_SAMPLES:
                        os.kill(os.getpid(), 9)
                    time.sleep(pause_s)
                return embed(examples)

            self.encoder.embed = noted

        EmbedBatch.__init__ = slower  # type: ignore[method-assign]

    return setup


@contextmanager
def nodes(count: int, **resources: float) -> Iterator[Any]:
    """A head without CPUs, and so many worker nodes with these resources; yields ray.cluster_utils.Cluster."""
    import ray
    from ray.cluster_utils import Cluster

    ray.shutdown()  # of a driver that a fixture left
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        patch.setenv("RAY_idle_worker_killing_time_threshold_ms", "60000")
        each = {"object_store_memory": 80 << 20, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **each})
        try:
            for _ in range(count):
                cluster.add_node(**resources, object_store_memory=80 << 20)
            cluster.wait_for_nodes()
            yield cluster
        finally:
            cluster.shutdown()


@contextmanager
def joined(cluster: Any, log: Path, pause_s: float) -> Iterator[None]:
    """This process as the cluster's driver, its workers slowed down."""
    import ray

    log.touch()
    ray.shutdown()  # of a driver that a fixture left
    env = {"worker_process_setup_hook": slow_down(str(log), pause_s)}
    ray.init(address=cluster.address, log_to_driver=False, runtime_env=env)
    try:
        yield
    finally:
        ray.shutdown()


def begun(log: Path) -> list[int]:
    """The processes that clips were begun in, one entry for each clip."""
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def wait_until(condition: Callable[[], bool], timeout_s: float = 240.0) -> None:
    """Return once the condition holds; fails if it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that in time"
        time.sleep(0.02)
