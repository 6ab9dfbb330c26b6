"""Joining or starting Ray, and how work is spread over what it has."""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import ray

import golem_ray
from golem_ray.cluster import private
from golem_ray.cluster.orphans import swept
from golem_ray.cluster.preflight import check_nodes
from golem_ray.config import ClusterConfig, DeviceConfig
from golem_ray.devices import Resources, environment
from golem_ray.errors import ConfigError, one_line
from golem_ray.storage import in_submitted_job

log = logging.getLogger(__name__)

MEMORY_PER_WORKER = 3 << 30
"""Bytes of memory that a CPU actor with a base-size encoder may take, with some to spare."""

_LEAST_MEMORY_PER_WORKER = 3 << 28
"""Bytes that any actor takes: PyTorch alone is most of it."""

_EXAMPLES_PER_WORKER = 25
"""Fewest examples that are worth another CPU actor, or machine: starting one costs as much as embedding some dozens."""

AUTOSCALER_WAIT_S = 600.0
"""cluster.wait_s = auto, where machines come when they are asked for."""

_LOOK_EVERY_S, _SAY_EVERY_S = 1.0, 15.0

_lock = threading.Lock()
_users = 0  # runs in this process that use Ray: a service may have several at once
_left: ExitStack | None = None  # how the last of them leaves it, where the first one connected to it


@contextmanager
def joined(
    config: ClusterConfig, device: DeviceConfig, num_examples: int, *, outputs: tuple[tuple[str, str], ...] = ()
) -> Iterator[Resources]:
    """Join or start the configured Ray, and leave or end it again; yields how the work will be spread there.

    A Ray that this process is already connected to is used as it is, and kept. `outputs` are (key, folder or URI) that
    workers will write to. Raises ConfigError if the cluster cannot be reached, lacks what is asked for (after waiting
    for it, where it may come), or has nodes that cannot do the work.
    """
    global _users, _left
    with _lock:
        if not ray.is_initialized():
            with ExitStack() as leave, _kept_stop_signal(), private.quiet_core():
                _connect(config.address, leave)
                _left = leave.pop_all()
        _users += 1
    try:
        resources = _awaited(config, device, num_examples)
        check_nodes(outputs, config.stall_timeout)
        yield resources
    finally:
        with _lock:
            _users -= 1
            if _left is not None and _users == 0:
                leave, _left = _left, None
                leave.close()


def _connect(address: str, leave: ExitStack) -> None:
    """Start a Ray of our own, or join one, and have `leave` leave it.

    Either way its workers can import this package, installed or not.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's coming default; else it warns
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or "local"
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)
    options: dict[str, Any] = {"logging_level": logging.WARNING, "log_to_driver": False}
    package = Path(golem_ray.__file__).resolve().parent
    if address == "local":
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # Keep the process that warm_up made ready; Ray ends idle ones after a second on small machines.
        os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", "60000")
        path = [str(package.parent), os.environ.get("PYTHONPATH")]  # an empty entry would be the working folder
        marked = leave.enter_context(swept())
        leave.callback(ray.shutdown)
        with (
            environment({**marked, "PYTHONPATH": os.pathsep.join(filter(None, path))}),
            private.apart(),
            _stop_held_back(),
        ):
            try:
                ray.init(address="local", include_dashboard=False, **options)
            except (OSError, ValueError, RuntimeError) as error:  # no right to write its files, say
                raise ConfigError(
                    f"cluster.address: expected to be able to start a Ray on this machine, but {one_line(error)}; mend "
                    "that, or do without Ray: --cluster.address none."
                ) from None
        return
    leave.callback(ray.shutdown)
    if not in_submitted_job():  # a submitted job brings its working directory along
        options["runtime_env"] = {"py_modules": [str(package)]}
    try:
        _check_listening(address)
        ray.init(address=address, **options)
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"cluster.address: expected a Ray cluster at {address!r}, but {one_line(error)}") from None


@contextmanager
def _kept_stop_signal() -> Iterator[None]:
    """Have SIGTERM go to the handler that this process chose: Ray puts one of its own in its place."""
    chosen = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as end:  # which is what Ray's does, where it comes before ours is back
        if end.code != signal.SIGTERM:
            raise
        raise KeyboardInterrupt from None
    finally:
        if chosen is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, chosen)


@contextmanager
def _stop_held_back() -> Iterator[None]:
    """Have Ctrl-C and SIGTERM wait until this is done: a Ray that is ended half started leaves processes behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    chosen = {number: signal.signal(number, lambda number, frame: came.append(number)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in chosen.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None: one that Python did not set
    if came:
        signal.raise_signal(came[0])


def _check_listening(address: str) -> None:
    """Raise OSError if nobody listens at host:port; Ray itself keeps trying for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


# --- what there is, and what may come --------------------------------------------------------------------------


def _awaited(config: ClusterConfig, device: DeviceConfig, num_examples: int) -> Resources:
    """The plan, as soon as the cluster carries it. Raises ConfigError after cluster.wait_s."""
    autoscaled = private.is_autoscaled()
    wait_s = (AUTOSCALER_WAIT_S if autoscaled else 0.0) if config.wait_s == "auto" else config.wait_s
    deadline, said, asked = time.monotonic() + wait_s, -math.inf, False
    try:
        while True:
            try:
                return plan(config, device, num_examples, wait_s, grows=autoscaled)
            except ConfigError as problem:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise
                if time.monotonic() - said >= _SAY_EVERY_S:
                    log.info("waiting for the cluster, %.0f s more at most: %s", left, problem)
                    said = time.monotonic()
            if autoscaled and not asked:
                _ask_for(1 if config.workers == "auto" else config.workers, config, device)
                asked = True
            time.sleep(_LOOK_EVERY_S)
    finally:
        if asked:  # from here on the work itself keeps the machines busy
            _ask_for(0, config, device)


def _ask_for(workers: int, config: ClusterConfig, device: DeviceConfig) -> None:
    """Have the autoscaler bring the machines for so many workers; for none, have it forget that."""
    from ray.autoscaler.sdk import request_resources

    each = {"GPU": 1} if device.backend == "cuda" else {"CPU": config.threads_per_worker}
    request_resources(bundles=[each] * workers)


def plan(
    config: ClusterConfig, device: DeviceConfig, num_examples: int, wait_s: float = 0.0, *, grows: bool = False
) -> Resources:
    """How to spread the work over the cluster as it stands, so that nothing waits for what it lacks.

    With `grows`, an autoscaler's cluster, also over what it may come to have.

    Raises ConfigError if it lacks what is asked for.
    """
    nodes = alive_nodes()
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    node_cpus = [int(node.get("CPU", 0)) for node in nodes]
    gpu = device.backend == "cuda" or (device.backend == "auto" and gpus > 0)
    if gpu and gpus == 0:
        raise ConfigError(
            f"device.backend: expected a cluster with GPUs for 'cuda', found none ({sum(node_cpus)} CPUs); use 'auto' "
            "or 'cpu', or a cluster that has them."
        )
    cpus = min(config.threads_per_worker, max(1, *node_cpus))
    most = gpus if gpu else sum(count // cpus for count in node_cpus)
    if most == 0:
        raise ConfigError(
            f"cluster.address: expected a cluster with CPUs for work, found none among {len(nodes)} nodes; start "
            "workers, or set cluster.wait_s to wait for them."
        )
    if config.workers != "auto" and config.workers > most:
        what = f"{gpus} GPUs" if gpu else f"{sum(node_cpus)} CPUs, {cpus} a worker"
        raise ConfigError(
            f"cluster.workers: expected at most {most} on a cluster with {what}, got {config.workers}; use fewer, or "
            "'auto'."
        )
    memory = int(sum(node.get("memory", 0) for node in nodes))
    if config.workers != "auto":
        workers = config.workers
        if workers * _LEAST_MEMORY_PER_WORKER > memory:
            raise ConfigError(
                f"cluster.workers: expected {_LEAST_MEMORY_PER_WORKER / 2**30:.2g} GiB of memory for each of "
                f"{workers}, found {memory / 2**30:.2g} GiB in the cluster; use fewer, or more memory."
            )
    elif gpu:
        workers = most
    else:
        workers = max(1, min(most, memory // MEMORY_PER_WORKER, math.ceil(num_examples / _EXAMPLES_PER_WORKER)))
    useful = math.ceil(num_examples / _EXAMPLES_PER_WORKER) if grows and config.workers == "auto" else 0
    return Resources(
        workers=workers,
        threads=config.threads_per_worker,
        cpus=0 if gpu else cpus,  # beside a GPU none: else actors and decoding wait for each other's CPUs
        gpu=gpu,
        backend=device.backend,
        batch_cost=config.batch_seconds,
        stall_timeout=config.stall_timeout,
        wait_s=wait_s,
        growth=max(0, useful - workers),
    )


def alive_nodes() -> list[dict[str, float]]:
    """What each node has to give."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def carried(resources: Resources) -> int:
    """How many of such actors the nodes that are alive can hold."""
    nodes = alive_nodes()
    if resources.gpu:
        return sum(int(node.get("GPU", 0)) for node in nodes)
    return sum(int(node.get("CPU", 0)) // max(1, resources.cpus) for node in nodes)


def last_line(error: Exception) -> str:
    """The end of one of Ray's long messages."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1][:300] if lines else ''}"
