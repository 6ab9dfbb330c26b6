"""Jobs on a real Ray head: `ray job submit`, the Jobs REST interface, and a driver that joins by address.

The head has ports, folders, a home and a token of its own (its dashboard listens on loopback, but Ray itself on
every address), and only processes that it started are ended.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import ray  # noqa: F401
import torch
import yaml

import golem_ray
from golem_ray.storage import STORAGE_ROOT_VARIABLE
from tests.conftest import ROOT, job
from tests.jobs.texts import SECRET, write_csv
from tests.text import write_text_encoder

# isort: split
import psutil  # Ray brings it along, to be found once Ray is imported

pytestmark = pytest.mark.slow

STARTUP_S = 60.0
JOB_S = 180.0

_HTTP = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback, whatever proxy is configured


@dataclass(frozen=True, kw_only=True)
class Head:
    """A running head node, and how to talk to it."""

    gcs: str
    """host:port that a driver joins."""
    dashboard: str
    """http://host:port of the Jobs interface."""
    metrics: str
    """Where Prometheus would ask."""
    process: int
    """Its first process's id."""
    environment: dict[str, str] = field(repr=False)
    """What a client needs to be let in, on top of what the tests run with: not for anybody's logs."""

    def request(self, method: str, path: str, body: bytes | None = None, kind: str = "application/json") -> Any:
        """The answer's JSON (None if it is empty) to a plain HTTP request."""
        headers = {"Authorization": f"Bearer {self.environment['RAY_AUTH_TOKEN']}", "Content-Type": kind}
        request = urllib.request.Request(self.dashboard + path, body, headers, method=method)
        with _HTTP.open(request, timeout=30) as response:
            return json.loads(response.read() or b"null")

    def submit(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """`ray job submit` as a reader of the README would type it, from the checkout's root."""
        command = ["ray", "job", "submit", "--address", self.dashboard, "--working-dir", ".", *map(str, arguments)]
        return subprocess.run(
            command,
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=JOB_S,
        )


def free_ports(count: int) -> list[int]:
    """Ports on loopback that nothing listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def running(leader: int) -> set[Any]:
    """The live processes of the session that `leader` opened, with all that descends from them (drivers leave it)."""
    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if os.getsid(process.pid) == leader:
                found |= {process, *process.children(recursive=True)}
    return alive(found)


def alive(processes: set[Any]) -> set[Any]:
    """Those that have not ended; one that nobody has collected yet has ended."""
    found = set()
    for process in processes:
        with contextlib.suppress(psutil.Error):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.add(process)
    return found


def wait_for(condition: Callable[[], bool], timeout: float) -> bool:
    """Whether the condition came true in time."""
    deadline = time.monotonic() + timeout
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return met


def end(leader: subprocess.Popen[bytes]) -> None:
    """Kill what `leader` started (asked politely, Ray drains for half a minute); fails if something is left."""
    started = running(leader.pid)
    deadline = time.monotonic() + 20
    while left := alive(started) | running(leader.pid):
        assert time.monotonic() < deadline, f"left of the head: {left}"
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        leader.poll()  # collects it
        time.sleep(0.2)
    leader.wait(timeout=1)


def start(folder: Path) -> tuple[Head, subprocess.Popen[bytes]]:
    """`ray start --head` on free ports, under `folder`."""
    gcs, dashboard, *others = free_ports(7)
    environment = {
        **os.environ,
        "HOME": str(folder),
        "RAY_TMPDIR": str(folder),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
        "RAY_metrics_report_interval_ms": "1000",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "NO_PROXY": "127.0.0.1",
    }
    environment.pop("PYTHONPATH", None)  # the package has to come with the job
    command = ["ray", "start", "--head", "--block", "--num-cpus=2", "--num-gpus=0", "--object-store-memory=200000000"]
    command += ["--disable-usage-stats", f"--temp-dir={folder}", f"--port={gcs}"]
    command += ["--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"]
    names = ("dashboard-agent-listen", "dashboard-agent-grpc", "runtime-env-agent", "metrics-export")
    command += [f"--{name}-port={port}" for name, port in zip((*names, "ray-client-server"), others, strict=True)]
    with (folder / "head.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    head = Head(
        gcs=f"127.0.0.1:{gcs}",
        dashboard=f"http://127.0.0.1:{dashboard}",
        metrics=f"http://127.0.0.1:{others[3]}/metrics",
        process=process.pid,
        environment=environment,
    )
    return head, process


def answers(head: Head) -> bool:
    """Whether the Jobs interface is up."""
    try:
        head.request("GET", "/api/jobs/")
    except OSError:  # URLError is one
        return False
    return True


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    folder = Path(tempfile.mkdtemp(prefix="gs", dir="/tmp"))  # short: Ray's sockets lie below it
    for _ in range(3):  # another process may take a port between our look and Ray's
        head, process = start(folder)
        wait_for(lambda head=head, process=process: process.poll() is not None or answers(head), STARTUP_S)
        if process.poll() is None and answers(head):
            break
        end(process)
    else:
        pytest.fail(f"no Ray head came up:\n{(folder / 'head.log').read_text()[-3000:]}")
    yield head
    end(process)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def options(clips_folder: Path, encoder_folder: Path) -> list[str]:
    """A small configuration, its inputs by absolute paths."""
    return [
        *("--dataset.name", str(clips_folder), "--dataset.label-column", "label"),
        *("--model.feature-extractor-model", str(encoder_folder)),
        *("--training.epochs", "5", "--evaluation.repeats", "1", "--cluster.workers", "1"),
    ]


@pytest.fixture(scope="module")
def storage_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def runtime_env(storage_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository's runtime_env.yaml, with its storage root moved to a folder of the test's."""
    values = yaml.safe_load((ROOT / "runtime_env.yaml").read_text())
    values["env_vars"][STORAGE_ROOT_VARIABLE] = str(storage_root)
    file = tmp_path_factory.mktemp("submit") / "runtime_env.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


@pytest.fixture(scope="module")
def submitted(head: Head, runtime_env: Path, options: list[str]) -> subprocess.CompletedProcess[str]:
    """One job through `ray job submit`, saved under the storage root as voice.pth."""
    entrypoint = ["python", "jobs/train.py", *options, "--paths.save-path", "sub/voice.pth", "--json"]
    return head.submit("--runtime-env", runtime_env, "--", *entrypoint)


def result_in(output: str) -> dict[str, str]:
    """The one line of JSON in a job's output."""
    (line,) = [line for line in output.splitlines() if line.startswith('{"')]
    return json.loads(line)


def check_artifact(result: dict[str, str], path: Path) -> None:
    """The result names the file, which lies there whole, with its sidecar."""
    assert result["savedArtifactPath"] == str(path)
    sidecar = json.loads(path.with_suffix(".json").read_text())
    assert sidecar["weights"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert sidecar["clips"]["used"] == 24
    assert result["summary"] == sidecar["summary"]


def test_submitted_job_saves_under_the_storage_root(
    submitted: subprocess.CompletedProcess[str], storage_root: Path
) -> None:
    assert submitted.returncode == 0, submitted.stdout
    check_artifact(result_in(submitted.stdout), storage_root / "sub" / "voice.pth")
    assert sorted(path.name for path in (storage_root / "sub").iterdir()) == ["report.html", "voice.json", "voice.pth"]


def test_driver_given_an_address_makes_the_same_weights(
    head: Head,
    submitted: subprocess.CompletedProcess[str],
    storage_root: Path,
    options: list[str],
    tmp_path: Path,
) -> None:
    """Neither the checkout's package nor the environment of the driver is known to that cluster's workers."""
    assert submitted.returncode == 0, submitted.stdout
    path = tmp_path / "voice.pth"
    addressed = [*options, "--cluster.address", head.gcs, "--paths.save-path", path, "--json"]
    done = job("train", *addressed, cwd=tmp_path, **head.environment)
    assert done.returncode == 0, done.stderr
    check_artifact(json.loads(done.stdout.splitlines()[-1]), path)
    assert path.read_bytes() == (storage_root / "sub" / "voice.pth").read_bytes()
    # It ran there, not on a Ray of its own: that head knows the driver.
    assert [job["driver_info"]["pid"] for job in head.request("GET", "/api/jobs/") if job["type"] == "DRIVER"]


def test_submitted_job_without_a_storage_root_fails_in_words(head: Head, options: list[str]) -> None:
    done = head.submit("--submission-id", "rootless", "--", "python", "jobs/train.py", *options)
    assert done.returncode == 1
    assert "error: paths.save_path: expected an absolute path or a URI in a submitted job" in done.stdout
    assert STORAGE_ROOT_VARIABLE in done.stdout
    assert "Traceback" not in done.stdout
    details = head.request("GET", "/api/jobs/rootless")
    assert (details["status"], details["driver_exit_code"]) == ("FAILED", 2)


def test_submitted_job_trains_on_texts(
    head: Head, runtime_env: Path, storage_root: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """The same head as in one quiet process."""
    bert, source = write_text_encoder(tmp_path_factory.mktemp("bert")), write_csv(tmp_path / "train.csv", 24)
    flags = ["--dataset.text-column=text", "--dataset.label-column=label", f"--model.feature-extractor-model={bert}"]
    flags += [f"--dataset.name={source}", "--training.epochs=5", "--evaluation.repeats=0"]
    entrypoint = ["python", "jobs/train.py", *flags, "--paths.save-path=sub/t.pth", "--json"]
    done = head.submit("--runtime-env", runtime_env, "--", *entrypoint)
    assert done.returncode == 0, done.stdout
    check_artifact(result_in(done.stdout), storage_root / "sub" / "t.pth")
    assert SECRET not in done.stdout
    assert job("train", *flags, "--cluster.address=none", f"--paths.save-path={tmp_path}/t.pth").returncode == 0
    quiet, submitted = (
        torch.load(path, weights_only=True) for path in (tmp_path / "t.pth", storage_root / "sub" / "t.pth")
    )
    for name in quiet:  # other batches round otherwise
        torch.testing.assert_close(submitted[name], quiet[name], rtol=0, atol=1e-4)


def package() -> bytes:
    """What a job needs of the checkout, zipped."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for file in [*Path(golem_ray.__file__).parent.rglob("*.py"), ROOT / "jobs" / "train.py"]:
            archive.write(file, file.relative_to(ROOT))
    return buffer.getvalue()


def test_job_through_the_rest_interface(head: Head, options: list[str], storage_root: Path) -> None:
    """Plain HTTP from the package to the logs."""
    content = package()
    name = f"_ray_pkg_{hashlib.sha256(content).hexdigest()[:16]}.zip"
    head.request("PUT", f"/api/packages/gcs/{name}", content, "application/octet-stream")
    job = {
        "entrypoint": " ".join(["python jobs/train.py", *options, "--paths.save-path rest.pth --json"]),
        "runtime_env": {"working_dir": f"gcs://{name}", "env_vars": {STORAGE_ROOT_VARIABLE: str(storage_root)}},
    }
    submission = head.request("POST", "/api/jobs/", json.dumps(job).encode())["submission_id"]
    deadline = time.monotonic() + JOB_S
    while (details := head.request("GET", f"/api/jobs/{submission}"))["status"] in ("PENDING", "RUNNING"):
        assert time.monotonic() < deadline, details
        time.sleep(0.5)
    logs = head.request("GET", f"/api/jobs/{submission}/logs")["logs"]
    assert (details["status"], details["driver_exit_code"]) == ("SUCCEEDED", 0), logs
    check_artifact(result_in(logs), storage_root / "rest.pth")


def test_jobs_interface_refuses_who_has_no_token(head: Head) -> None:
    """What the tests above rely on: their head takes no jobs from strangers."""
    with pytest.raises(urllib.error.HTTPError, match="401"):
        _HTTP.open(f"{head.dashboard}/api/jobs/", timeout=30)


def tells_metrics(head: Head) -> bool:
    """Whether its agent, which starts later than the head, answers yet."""
    try:
        _HTTP.open(head.metrics, timeout=10).close()
    except urllib.error.URLError:
        return False
    return True


def counted(head: Head, name: str) -> float:
    """What Prometheus would read of one of our counters, over all workers."""
    with _HTTP.open(head.metrics, timeout=10) as response:
        lines = response.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if re.match(rf"(ray_)?golem_ray_{name}(_total)?[{{ ]", line))


def test_a_job_is_seen_while_it_runs_and_stops_when_that_is_asked(head: Head, tmp_path: Path) -> None:
    run = tmp_path / "run"
    entrypoint = ["python", "jobs/train.py", "--dataset.name=sample", "--dataset.split=test", f"--paths.run-dir={run}"]
    entrypoint += ["--model.feature-extractor-model=sample", "--processing.max-samples=336", "--cluster.workers=1"]
    entrypoint += [f"--paths.save-path={tmp_path}/v.pth", "--evaluation.split=train"]
    names = ("clips", "audio_seconds", "bad_clips")
    assert wait_for(lambda: tells_metrics(head), 60)
    before = {name: counted(head, name) for name in names}  # of jobs before this one
    done = head.submit("--submission-id", "stopped", "--no-wait", "--", *entrypoint)
    assert done.returncode == 0, done.stdout
    assert wait_for(lambda: counted(head, "clips") > before["clips"], 120)
    more = {name: counted(head, name) - before[name] for name in names}
    assert more["audio_seconds"] > more["clips"] > more["bad_clips"] == 0  # requests of a second and more
    actors = [each for each in running(head.process) if "Embedder" in " ".join(each.cmdline())]
    assert actors
    began = time.monotonic()
    stopped = subprocess.run(
        ["ray", "job", "stop", "--address", head.dashboard, "stopped"],
        env=head.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    assert wait_for(lambda: head.request("GET", "/api/jobs/stopped")["status"] == "STOPPED", 10)
    assert wait_for(lambda: not alive(set(actors)), 10 - (time.monotonic() - began))
    assert 1 <= len(list(run.rglob("*.parquet"))) < 10  # of more
    assert not (tmp_path / "v.pth").exists()
