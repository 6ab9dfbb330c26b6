"""A driver whose cluster's head is killed: one line, in reasonable time, and what was embedded is kept."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.cluster.test_submit import Head, answers, end, running, start, wait_for
from tests.conftest import ROOT

# isort: split
import psutil  # Ray brings it along, to be found once Ray is imported

pytestmark = pytest.mark.slow

NO_HEAD_S = 5
"""How long Ray's core looks for a head that went; by itself a minute."""


def killed_in_the_middle(head: Head, command: list[str], run: Path) -> subprocess.CompletedProcess[str]:
    """The driver, whose head is killed once something has been embedded."""
    environment = {**head.environment, "RAY_gcs_rpc_server_reconnect_timeout_s": str(NO_HEAD_S)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as driver:
        try:
            assert wait_for(lambda: any(run.rglob("*.parquet")) or driver.poll() is not None, 120)
            for process in running(head.process):
                with contextlib.suppress(psutil.Error):
                    process.kill()
            _, said = driver.communicate(timeout=NO_HEAD_S + 40)
        finally:
            driver.kill()
    return subprocess.CompletedProcess(command, driver.returncode, "", said)


def test_a_driver_whose_head_is_killed_ends_in_one_line(tmp_path):
    folder = Path(tempfile.mkdtemp(prefix="gl", dir="/tmp"))  # short: Ray's sockets lie below it
    head, process = start(folder)
    run = tmp_path / "run"
    command = [sys.executable, str(ROOT / "jobs" / "train.py"), "--dataset.name=sample", "--dataset.split=test"]
    command += ["--model.feature-extractor-model=sample", "--processing.max-samples=336", "--evaluation.repeats=0"]
    command += [f"--paths.save-path={tmp_path}/v.pth", f"--paths.run-dir={run}", f"--cluster.address={head.gcs}"]
    try:
        assert wait_for(lambda: answers(head), 60)
        ended = killed_in_the_middle(head, command, run)
    finally:
        end(process)
        shutil.rmtree(folder, ignore_errors=True)
    assert ended.returncode == 1
    last = [line for line in ended.stderr.splitlines() if not line.startswith(("embedding", "waiting for "))]
    assert len(last) == 1, ended.stderr
    assert last[0].startswith("error: expected to come to an end by itself, found this process killed, or its Ray lost")
    assert any(run.rglob("*.parquet"))
