"""The private parts of Ray, each taken away: the work goes on without, and says so once."""

from __future__ import annotations

import builtins
import json
import logging
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import ray
from ray.data import DataContext
from ray.experimental import internal_kv

import golem_ray
from golem_ray.cluster import connection, embedding, private, ray_engine
from golem_ray.config import ClusterConfig, DeviceConfig
from golem_ray.embedding.crash_notes import NoStore
from golem_ray.embedding.stage import EmbeddingTask
from golem_ray.jobs.vectors import gather
from tests.conftest import folder_source, speech_recipe, write_clips
from tests.jobs.runs import configuration

KEY_VALUE_STORE = "key-value store for notes of what ends a process"
AUTOSCALER = "state of the autoscaler"
CALLBACK = "callback in Ray Data's steps"
CONNECT = "connect() of a worker"


def without_store(patch: pytest.MonkeyPatch) -> None:
    patch.delattr(internal_kv, "_internal_kv_put")


def without_autoscaler(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(sys.modules, "ray.autoscaler.v2.utils", None)


def without_callback(patch: pytest.MonkeyPatch) -> None:
    """For our own import alone: Ray Data has the same one with each plan."""
    imported = builtins.__import__

    def failing(name: str, names: dict[str, Any] | None = None, *others: Any) -> Any:
        if (
            name == "ray.data._internal.execution.execution_callback"
            and (names or {}).get("__name__") == private.__name__
        ):
            raise ModuleNotFoundError(name)
        return imported(name, names, *others)

    patch.setattr(builtins, "__import__", failing)


PARTS = {KEY_VALUE_STORE: without_store, AUTOSCALER: without_autoscaler, CALLBACK: without_callback}


@pytest.fixture(scope="module")
def few_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("few") / "set", ["in", "out"] * 3, seconds=0.1)


@pytest.fixture
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private, "_said", set())


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was said to be missing."""
    return [record.getMessage() for record in caplog.records if "this release of Ray has no" in record.getMessage()]


def embedded(folder: Path, encoder_folder: Path) -> np.ndarray:
    cluster = ClusterConfig(threads_per_worker=1, workers=1)
    with ray_engine(cluster, DeviceConfig(backend="cpu"), 6) as engine:
        found = gather(engine, folder_source(folder), EmbeddingTask(recipe=speech_recipe(encoder_folder)), 0)
    assert not found.bad
    return found.vectors


class Labelled:
    """An embedding actor that needs no PyTorch: a vector is the example's number. The way to and from it is Ray's."""

    def __init__(self, *arguments: Any) -> None:
        pass

    def __call__(self, batch: pa.Table) -> dict[str, Any]:
        ids = batch["id"].to_numpy()
        done = {"id": ids, "vector": np.repeat(ids[:, None], 32, axis=1).astype(np.float32)}
        done |= {
            "worker": ["cpu|||"] * len(ids),
            "cost": np.ones(len(ids), np.float32),
            "digest": [b"d" * 32] * len(ids),
        }
        return {**done, **{name: [""] * len(ids) for name in ("reason", "remark", "failure", "unsaved")}}


def test_a_ray_that_has_them_all_is_silent(shared_ray, nothing_said, few_clips, encoder_folder, monkeypatch, caplog):
    monkeypatch.setattr(embedding, "Embedder", Labelled)
    assert embedded(few_clips, encoder_folder)[:, 0].tolist() == list(range(6))
    assert said(caplog) == []


@pytest.mark.parametrize("part", list(PARTS))
def test_without_one_part_clips_are_embedded_all_the_same(
    shared_ray, nothing_said, few_clips, encoder_folder, monkeypatch, caplog, part
):
    monkeypatch.setattr(embedding, "Embedder", Labelled)
    PARTS[part](monkeypatch)
    assert embedded(few_clips, encoder_folder)[:, 0].tolist() == list(range(6))
    private.crash_store("another run")
    private.watch(DataContext.get_current().copy(), list)
    private.is_autoscaled()
    (words,) = said(caplog)
    assert words.startswith(f"this release of Ray has no {part} (")
    assert words.endswith("): going on without")


@pytest.mark.slow  # each by itself is quicker
def test_without_any_of_them_a_whole_job_gives_the_same_bytes(
    shared_ray, nothing_said, clips_folder, encoder_folder, tmp_path, monkeypatch, caplog
):
    def trained(name: str, address: str) -> bytes:
        path = tmp_path / name
        cluster = {"address": address, "workers": 1}
        golem_ray.train(configuration(clips_folder, encoder_folder, path, cluster=cluster))
        return path.read_bytes()

    for take_away in PARTS.values():
        take_away(monkeypatch)
    assert trained("less.pth", "auto") == trained("here.pth", "none")
    assert len(said(caplog)) == len(PARTS)
    assert all(sum(part in words for words in said(caplog)) == 1 for part in PARTS)


# --- each by itself -------------------------------------------------------------------------------------------


def test_crash_notes_are_kept_by_run_in_the_clusters_head(shared_ray):
    first, second = private.crash_store("one"), private.crash_store("two")
    first.put("embedding/3", 2)
    second.put("embedding/3", 1)
    assert (first.get("embedding/3"), second.get("embedding/3"), first.get("embedding/4")) == (2, 1, 0)
    read_there = ray.remote(num_cpus=0)(lambda store: store.get("embedding/3"))
    assert ray.get(read_there.remote(first)) == 2  # as a worker sees them
    first.put("embedding/3", 0)
    assert first.get("embedding/3") == 0
    second.put("reading/3", 1)
    private.forget(second)
    assert (second.get("embedding/3"), second.get("reading/3")) == (0, 0)


@pytest.mark.parametrize("problem", [AttributeError("gone"), TypeError("another signature"), RuntimeError("moved")])
def test_a_store_that_does_not_work_is_done_without(shared_ray, nothing_said, monkeypatch, caplog, problem):
    def broken(*arguments, **options):
        raise problem

    monkeypatch.setattr(internal_kv, "_internal_kv_put", broken)
    store = private.crash_store("run")
    assert isinstance(store, NoStore)
    private.forget(store)
    (words,) = said(caplog)
    assert type(problem).__name__ in words


@pytest.mark.parametrize(("types", "autoscaled"), [({}, False), ({"node_0a1b": 1}, False), ({"gpu_worker": 0}, True)])
def test_an_autoscaler_is_known_by_the_names_of_its_nodes(shared_ray, monkeypatch, types, autoscaled):
    status = json.dumps({"autoscaler_report": {"active_nodes": types}}).encode()
    monkeypatch.setattr(internal_kv, "_internal_kv_get", lambda key: status)
    assert private.is_autoscaled() == autoscaled


def test_without_the_autoscalers_state_no_machines_are_waited_for(shared_ray, nothing_said, monkeypatch, caplog):
    caplog.set_level(logging.INFO, logger="golem_ray")
    without_autoscaler(monkeypatch)
    with pytest.raises(golem_ray.errors.ConfigError, match="found none"):
        connection._awaited(ClusterConfig(), DeviceConfig(backend="cuda"), 10)  # at once
    assert len(said(caplog)) == 1
    assert "waiting for the cluster" not in caplog.text


def test_what_looks_on_is_called_with_the_steps_of_a_plan(shared_ray):
    calls: list[int] = []
    context = DataContext.get_current().copy()
    before = list(context.custom_execution_callback_classes)
    private.watch(context, lambda: calls.append(1))
    with DataContext.current(context):
        assert ray.data.range(4).map_batches(lambda batch: batch).count() == 4
        ray.data.range(4).map_batches(lambda batch: batch).materialize()
    assert calls
    assert DataContext.get_current().custom_execution_callback_classes == before  # of other plans nobody looks on


def test_a_context_that_takes_no_callbacks_is_done_without(nothing_said, caplog):
    private.watch(SimpleNamespace(), list)
    (words,) = said(caplog)
    assert words.startswith(f"this release of Ray has no {CALLBACK} (AttributeError)")


def test_what_rays_core_says_in_this_process_is_kept_off_the_terminal(nothing_said, monkeypatch, capfd):
    def connect(name: str) -> str:
        os.write(2, f"Set ray log level from {os.environ['RAY_BACKEND_LOG_LEVEL']} RAY_BACKEND_LOG_LEVEL\n".encode())
        os.write(2, b"what else is said\n")
        return name

    monkeypatch.delenv("RAY_BACKEND_LOG_LEVEL", raising=False)
    monkeypatch.setattr("ray._private.worker.connect", connect)
    with private.quiet_core():
        assert ray._private.worker.connect("us") == "us"
        assert "RAY_BACKEND_LOG_LEVEL" not in os.environ  # for the processes that Ray starts
    assert capfd.readouterr().err == "what else is said\n"
    assert ray._private.worker.connect is connect
    monkeypatch.setenv("RAY_BACKEND_LOG_LEVEL", "debug")  # whoever asks for more gets it
    with private.quiet_core():
        ray._private.worker.connect("us")
    assert "Set ray log level from debug" in capfd.readouterr().err


def test_a_ray_that_connects_in_another_way_is_not_quiet(nothing_said, monkeypatch, caplog):
    monkeypatch.delattr("ray._private.worker.connect")
    with private.quiet_core():
        pass
    (words,) = said(caplog)
    assert words.startswith(f"this release of Ray has no {CONNECT} (AttributeError)")


def test_what_ray_starts_is_in_groups_of_its_own(nothing_said, monkeypatch, caplog):
    from ray._private import services

    popen = services.ConsolePopen
    with private.apart(), services.ConsolePopen(["sleep", "60"]) as started:
        assert os.getpgid(started.pid) == started.pid
        started.kill()
    assert services.ConsolePopen is popen
    monkeypatch.delattr("ray._private.services.ConsolePopen")
    with private.apart():
        pass
    (words,) = said(caplog)
    assert words.startswith("this release of Ray has no way to start its processes in groups of their own (")


def test_a_plan_whose_workers_went_is_ended_by_who_looks_on(shared_ray, monkeypatch):
    resources = connection.plan(ClusterConfig(threads_per_worker=1, workers=1), DeviceConfig(backend="cpu"), 6)
    watch = embedding._Watch(resources, 2)
    now = [100.0]
    monkeypatch.setattr(embedding.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(embedding, "carried", lambda resources: 1)
    watch.looked = 0.0
    watch.look()
    now[0] += embedding.REPLACED_WITHIN_S + 2.0
    with pytest.raises(embedding.WorkersLost, match="1 of 2 workers went with their machines"):
        watch.look()
