"""The parts of Ray that are not its public interface: all of them, each with what is done where they are not there.

A release of Ray may take them away. The work then goes on without what they were for, and says so once.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from golem_ray.devices import environment
from golem_ray.embedding.crash_notes import NoStore, Store

log = logging.getLogger(__name__)

NAMESPACE = b"golem_ray"

_CORE_LEVEL = "RAY_BACKEND_LOG_LEVEL"

_said: set[str] = set()


def _do_without(what: str, error: Exception) -> None:
    """Say once in this process what this release of Ray lacks."""
    if what not in _said:
        _said.add(what)
        log.warning("this release of Ray has no %s (%s): going on without", what, type(error).__name__)


class KeyValueStore:
    """A store of crash notes in the memory of the cluster's head: it outlives every worker. One for each run."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id

    def get(self, key: str) -> int:
        """The number under a key; 0 if there is none."""
        from ray.experimental.internal_kv import _internal_kv_get

        return int(_internal_kv_get(f"{self.run_id}/{key}", namespace=NAMESPACE) or 0)

    def put(self, key: str, value: int) -> None:
        """Written down when this returns; 0 removes it."""
        from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_put

        if value:
            _internal_kv_put(f"{self.run_id}/{key}", str(value), namespace=NAMESPACE)
        else:
            _internal_kv_del(f"{self.run_id}/{key}", namespace=NAMESPACE)

    def clear(self) -> None:
        """Forget the run."""
        from ray.experimental.internal_kv import _internal_kv_del

        _internal_kv_del(f"{self.run_id}/", del_by_prefix=True, namespace=NAMESPACE)


def crash_store(run_id: str) -> Store:
    """Where a run's crash notes are kept.

    Without it, an example that ends its process every time is not found: Ray gives the work up instead.
    """
    store = KeyValueStore(run_id)
    try:
        store.put("probe", 1)
        store.put("probe", 0)
    except Exception as error:  # an import, an attribute, or another signature
        _do_without("key-value store for notes of what ends a process", error)
        return NoStore()
    return store


def forget(store: Store) -> None:
    """Remove a run's notes."""
    if isinstance(store, KeyValueStore):
        store.clear()


def is_autoscaled() -> bool:
    """Whether machines come when they are asked for: by the newer autoscaler, which is there only then, or the older.

    Where there is none, the older one's monitor names the nodes' types by the nodes. Without that state: no.
    """
    try:
        from ray.autoscaler.v2.utils import is_autoscaler_v2
        from ray.experimental.internal_kv import _internal_kv_get

        if is_autoscaler_v2(fetch_from_server=True):
            return True
        status = json.loads(_internal_kv_get("__autoscaling_status") or b"{}")
        types = status.get("autoscaler_report", {}).get("active_nodes", {})
        return any(not name.startswith("node_") for name in types)
    except Exception as error:
        _do_without("state of the autoscaler", error)
        return False


@contextmanager
def apart() -> Iterator[None]:
    """Have the processes that `ray.init` starts inside be in groups of their own.

    What is sent to the group of this process (by `timeout`, by a shell) is then for this process alone, which ends them
    in order. Without that Ray ends under it, and its core ends it, or it is ended by force.
    """
    try:
        from ray._private import services as module

        services: Any = module
        popen = services.ConsolePopen
    except Exception as error:
        _do_without("way to start its processes in groups of their own", error)
        yield
        return
    services.ConsolePopen = partial(popen, process_group=0)
    try:
        yield
    finally:
        services.ConsolePopen = popen


@contextmanager
def quiet_core() -> Iterator[None]:
    """Keep off the terminal what Ray's core says in this process, if `ray.init` is called inside: it calls every actor
    of Ray Data one whose restart may fail. What ends the process is still said (not while it connects), and Ray's own
    processes log on.

    The core takes its level from a variable when it starts, which the processes that `ray.init` starts before must not
    see, and says so on the terminal. Without this there is a line that looks like a failure.
    """
    try:
        from ray._private import worker

        connect = worker.connect
    except Exception as error:
        _do_without("connect() of a worker", error)
        yield
        return

    def quietly(*arguments: Any, **options: Any) -> Any:
        with environment({_CORE_LEVEL: "fatal"}), _standard_error_aside():
            return connect(*arguments, **options)

    if _CORE_LEVEL not in os.environ:
        worker.connect = quietly
    try:
        yield
    finally:
        worker.connect = connect


@contextmanager
def _standard_error_aside() -> Iterator[None]:
    """Have what libraries write to standard error wait in a file, and leave out that a level was set."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as said:
        kept = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            said.seek(0)
            os.write(2, b"".join(line for line in said if _CORE_LEVEL.encode() not in line))


def watch(context: Any, look: Callable[[], None]) -> None:
    """Have Ray Data call `look` with each step of the plans of this context (a DataContext); it may raise.

    Without it, a plan whose machines went is ended by its no-progress timeout only.
    """
    try:
        from ray.data._internal.execution.execution_callback import ExecutionCallback

        class Watch(ExecutionCallback):
            def on_execution_step(self, executor: Any) -> None:
                look()

        context.custom_execution_callback_classes = [*context.custom_execution_callback_classes, Watch]
    except Exception as error:
        _do_without("callback in Ray Data's steps", error)
