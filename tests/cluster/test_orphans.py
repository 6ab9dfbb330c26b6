"""What a process has started ends with it, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from golem_ray.cluster import orphans
from golem_ray.cluster.orphans import swept
from tests import warm
from tests.cluster.nodes import wait_until
from tests.conftest import ROOT

CODE = """
import os, signal, subprocess, sys
from pathlib import Path
from golem_ray.cluster.orphans import swept

with swept() as mark:
    child = subprocess.Popen(["sleep", "60"], env={**os.environ, **mark}, start_new_session=True)
    other = subprocess.Popen(["sleep", "60"], start_new_session=True)
    logs = Path(sys.argv[2]) / f"session_2026-11-27_11-57-06_360629_{os.getpid()}" / "logs"
    logs.mkdir(parents=True)
    unmarked = subprocess.Popen(["sleep", "60"], stdout=(logs / "raylet.out").open("w"), start_new_session=True)
    forked = subprocess.Popen(
        ["sleep", "60"], stdout=(logs / "python-core-driver-0.log").open("w"), start_new_session=True
    )
    reader = subprocess.Popen(["sleep", "60"], stdin=(logs / "raylet.out").open(), start_new_session=True)
    print(child.pid, unmarked.pid, other.pid, forked.pid, reader.pid, flush=True)
    if sys.argv[1] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
"""


def alive(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="there is no /proc")
@pytest.mark.parametrize(("how", "status"), [("killed", -signal.SIGKILL), ("by itself", 0)])
def test_what_a_process_has_started_ends_with_it(tmp_path, how, status):
    began = time.monotonic()
    ended = warm.run(["-c", CODE, how, str(tmp_path)], cwd=ROOT, env=dict(os.environ), timeout=30)
    assert ended.returncode == status, ended.stderr
    child, unmarked, *others = map(int, ended.stdout.split())
    try:
        wait_until(lambda: not alive(child) and not alive(unmarked), timeout_s=10)
        assert time.monotonic() - began < 10
        assert all(map(alive, others))  # started otherwise, forked, or reading along
    finally:
        for other in others:
            os.kill(other, signal.SIGKILL)


def test_what_has_ended_in_order_is_not_waited_for():
    with swept() as mark:
        subprocess.run(["true"], env={**os.environ, **mark}, check=True)
        began = time.monotonic()
    assert time.monotonic() - began < orphans._LATE_S
