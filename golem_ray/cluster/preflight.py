"""What every node must be able to do, tried there before the first example is embedded."""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import time
import uuid
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import golem_ray
from golem_ray import storage
from golem_ray.errors import ConfigError, StorageError, one_line

_SAY_EVERY_S = 15.0

log = logging.getLogger(__name__)

_GONE = (ray.exceptions.NodeDiedError, ray.exceptions.WorkerCrashedError, ray.exceptions.TaskUnschedulableError)

_LIBRARIES = ("torch", "torchaudio", "transformers", "numpy", "pyarrow", "av")
"""The last is an extra: none of it on any node will do, on some it would read clips that others could not."""


def package_version() -> dict[str, str]:
    """This package's version, the digest of its sources, and the versions of what computes with it."""
    sources = hashlib.sha256()
    folder = Path(golem_ray.__file__).resolve().parent
    for file in sorted(folder.rglob("*.py")):
        sources.update(f"{file.relative_to(folder)}\0".encode() + file.read_bytes())
    installed = {name: list(importlib.metadata.distributions(name=name)) for name in _LIBRARIES}
    versions = {name: found[0].version if found else "none" for name, found in installed.items()}
    return {"golem_ray": f"{golem_ray.__version__} ({sources.hexdigest()[:12]})", **versions}


def probe(outputs: tuple[tuple[str, str], ...], beacons: tuple[str, ...]) -> dict[str, str]:
    """Runs on a node: the versions there. Raises OSError if an output cannot be written, or a beacon not be seen."""
    for (key, place), beacon in zip(outputs, beacons, strict=True):
        try:
            storage.check_folder(place)
            if beacon:
                storage.read(beacon)
        except StorageError as error:
            raise OSError(f"{key}: expected {place} to be storage that every node shares, but {error}") from None
    return package_version()


def check_nodes(outputs: tuple[tuple[str, str], ...], timeout_s: float) -> None:
    """Try each node but the driver's own. `outputs`: (key, folder or URI) that workers write to.

    Raises ConfigError if one does not answer for timeout_s, has other versions than the driver, or cannot write where
    it must.
    """
    here = ray.get_runtime_context().get_node_id()
    nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    others = [node for node in nodes if node != here]
    if not others:
        return
    beacons: list[str] = []
    try:
        for key, place in outputs:
            beacons.append(_beacon(key, place))
        task = ray.remote(num_cpus=0, max_retries=0)(probe)
        pinned = {node: NodeAffinitySchedulingStrategy(node_id=node, soft=False) for node in others}
        answers = {
            task.options(scheduling_strategy=where).remote(outputs, tuple(beacons)): node
            for node, where in pinned.items()
        }
        _await(answers, nodes, timeout_s)
        expected = package_version()
        for reference, node in answers.items():
            _check_answer(reference, nodes[node], expected)
    finally:
        for beacon in filter(None, beacons):
            Path(beacon).unlink(missing_ok=True)


def _await(answers: dict[ray.ObjectRef, str], nodes: dict[str, str], timeout_s: float) -> None:
    """Return when every node has answered: one that is slow to start a worker may take a minute."""
    began = time.monotonic()
    while True:
        left = began + timeout_s - time.monotonic()
        patience = max(0.0, min(left, _SAY_EVERY_S))
        _, silent = ray.wait(list(answers), num_returns=len(answers), timeout=patience)
        if not silent:
            return
        named = ", ".join(nodes[answers[reference]] for reference in silent[:5])
        if left <= 0:
            raise ConfigError(
                f"cluster.stall_timeout: expected every node to answer within {timeout_s:.0f} s, {len(silent)} did not "
                f"({named}); see `ray status`, or allow more."
            )
        log.info("waiting for %d of %d nodes to answer, %.0f s more at most: %s", len(silent), len(nodes), left, named)


def _beacon(key: str, place: str) -> str:
    """A file that says that this is the driver's folder, where it is no URI; its path."""
    if "://" in place:
        return ""
    beacon = f"{place}/.{uuid.uuid4().hex}.golem_ray-shared-check"
    try:
        Path(place).mkdir(parents=True, exist_ok=True)
        Path(beacon).touch()
    except OSError as error:
        raise ConfigError(f"{key}: expected to be able to write to {place}, but {error.strerror}.") from None
    return beacon


def _check_answer(reference: ray.ObjectRef, node: str, expected: dict[str, str]) -> None:
    try:
        found = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause or error
        if isinstance(cause, OSError) and ": expected " in str(cause):
            raise ConfigError(f"{cause} (on node {node}).") from None
        raise ConfigError(
            f"cluster.address: expected node {node} to have this package, but {type(cause).__name__}: "
            f"{' '.join(str(cause).split())[-300:]}"
        ) from None
    except ray.exceptions.RayError as error:  # it went meanwhile: the work does without it
        if isinstance(error, _GONE):
            return
        raise ConfigError(f"cluster.address: expected node {node} to run a task, but {one_line(error)}") from None
    differing = [f"{name} {found.get(name)}" for name, version in expected.items() if found.get(name) != version]
    if differing:
        wanted = ", ".join(f"{name} {expected[name]}" for name in (each.split()[0] for each in differing))
        raise ConfigError(
            f"cluster.address: expected node {node} to have the driver's {wanted}, found {', '.join(differing)}; "
            "install the same versions everywhere, or submit with --working-dir."
        )
