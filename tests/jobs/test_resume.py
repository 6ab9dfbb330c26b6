"""A run's own folder: what a stopped run had embedded is not embedded again, and only the same run goes on from it."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import ray  # noqa: F401
import torch

import golem_ray
from golem_ray.cli.flags import parse_train
from golem_ray.config import PathsConfig
from golem_ray.embedding import joining, run_folder
from golem_ray.errors import ConfigError, DataError, UserError
from tests.cluster.nodes import CHAOS, wait_until
from tests.conftest import ROOT, audio_bytes, tone, write_clips

# isort: split
import psutil  # Ray brings it along, to be found once Ray is imported

NUM_CLIPS, SECONDS = 12, 0.3


@pytest.fixture
def config(tmp_path: Path, encoder_folder: Path) -> dict[str, Any]:
    clips = write_clips(tmp_path / "set", ["in", "out"] * (NUM_CLIPS // 2), SECONDS)
    return {
        "dataset": {"name": str(clips), "label_column": "label"},
        "device": {"backend": "cpu"},
        "cluster": {"address": "none", "workers": 1},
        "model": {"feature_extractor_model": str(encoder_folder)},
        "training": {"epochs": 5},
        "evaluation": {"repeats": 0},
        "paths": {"save_path": str(tmp_path / "v.pth"), "run_dir": str(tmp_path / "run")},
    }


def train(config: dict[str, Any]) -> tuple[bytes, int]:
    """The weights, and how many clips were embedded for them."""
    golem_ray.train(config)
    path = Path(config["paths"]["save_path"])
    embedded = json.loads(path.with_suffix(".json").read_text())["timings"]["audio_seconds_embedded"]
    return path.read_bytes(), round(embedded / SECONDS)


def test_a_mended_clip_is_all_that_is_embedded_in_the_end(config, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(joining, "FEWEST", 2)
    bad = Path(config["dataset"]["name"]) / "clips" / "5.wav"
    good = bad.read_bytes()
    bad.write_bytes(b"noise")
    with pytest.raises(DataError, match=r"5\.wav\): .*not audio"):
        golem_ray.train(config)
    bad.write_bytes(good)
    weights, embedded = train(config)
    assert embedded == 1
    (joined,) = (tmp_path / "run" / "embeddings").rglob("*.parquet")
    assert joined.name.startswith("run-joined-")
    sidecar = json.loads((tmp_path / "v.json").read_text())
    assert sidecar["config"]["paths"]["run_dir"] is None  # another run by this sidecar is not that run
    again, embedded = train({**config, "cluster": {"address": "none", "workers": 2}})  # where it runs may change
    assert (again, embedded) == (weights, 0)
    quiet, embedded = train({**config, "paths": {"save_path": str(tmp_path / "quiet.pth")}})
    assert (quiet, embedded) == (weights, NUM_CLIPS)
    timings = json.loads((tmp_path / "quiet.json").read_text())["timings"]["seconds"]
    assert list(timings) == ["listing", "joining the cluster", "embedding", "training"]
    assert all(seconds >= 0 for seconds in timings.values())


def test_only_the_same_run_goes_on(config):
    golem_ray.train(config)
    metadata = Path(config["dataset"]["name"]) / "metadata.csv"
    listed = metadata.read_text()

    def refused(changed: dict[str, Any], words: str, kind: type[UserError] = ConfigError) -> None:
        with pytest.raises(kind, match=words):
            golem_ray.train(changed)

    refused({**config, "training": {"epochs": 6}}, r"training\.epochs: 5 then, 6 now\)")
    refused({**config, "processing": {"max_samples": 10}}, "processing.max_samples: 50 then, 10 now")
    refused({**config, "processing": {"max_seconds": 5.0}}, "recipe.max_seconds: None then, 5.0 now")
    metadata.write_text(listed.replace("3.wav,out", "3.wav,in"))
    refused(config, "found another .other clips, labels or order")
    metadata.write_text(listed)
    clip = Path(config["dataset"]["name"]) / "clips" / "5.wav"
    clip.write_bytes(audio_bytes(tone(99, SECONDS)))
    refused(
        config,
        r"expected the clips that the run in .* began with, found 1 changed or out of reach \(clip 5 ",
        DataError,
    )
    clip.unlink()
    refused(config, r"found 1 changed or out of reach \(clip 5 ", DataError)


def test_a_resumed_run_has_the_configuration_that_it_began_with(tmp_path, monkeypatch, config):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "run"
    with pytest.raises(ConfigError, match=f"--resume: expected a folder that .*, found no run in {folder}"):
        parse_train(["--resume", "run"])
    folder.mkdir()
    first = parse_train(["--training.epochs", "7", "--paths.run-dir", "run", "--head.hidden", "8", "4"]).config
    document = {"format_version": run_folder.FORMAT_VERSION, "config": dataclasses.asdict(first)}
    document |= {"data": {}, "encoder": {}, "recipe": {}}
    (folder / "run.json").write_text(json.dumps(document))
    for arguments in (["--resume", "run"], ["--resume=run"]):
        resumed = parse_train(arguments).config
        assert dataclasses.replace(resumed, paths=first.paths) == first
        assert resumed.paths.run_dir == str(folder)
    assert parse_train(["--resume", "run", "--cluster.workers", "2"]).config.cluster.workers == 2
    with pytest.raises(ConfigError, match="--resume: expected no preset beside it, found demo.toml"):
        parse_train(["demo.toml", "--resume", "run"])
    without_a_key, without_a_group = copy.deepcopy(document), copy.deepcopy(document)
    del without_a_key["config"]["dataset"]["revision"], without_a_group["config"]["cluster"]
    for content in ("{", "[]", '{"format_version": 99}', json.dumps(without_a_key), json.dumps(without_a_group)):
        (folder / "run.json").write_text(content)
        with pytest.raises(ConfigError, match="--resume: expected a run"):
            parse_train(["--resume", "run"])
    (folder / "run.json").write_text(json.dumps(document))
    with pytest.raises(ConfigError, match="expected the folder of the run .*other"):
        parse_train(["--resume", "run", "--paths.run-dir", "other"])
    with pytest.raises(ConfigError, match="--resume: expected a URI without a password"):
        parse_train(["--resume", "s3://key:secret@bucket/run"])


def test_a_run_has_one_place_for_its_vectors():
    with pytest.raises(ConfigError, match="expected it without paths.embedding_cache, found both"):
        PathsConfig(run_dir="run", embedding_cache="cache")


@pytest.mark.slow  # tests/heads/test_rows.py holds it for the head's task
def test_embeddings_that_stay_in_storage_make_the_same_head(config, tmp_path):
    config["evaluation"] = {"repeats": 1, "holdout": 4}
    config["paths"].pop("run_dir")
    train(config)
    gathered = json.loads((tmp_path / "v.json").read_text())
    stored = {**config, "cluster": {**config["cluster"], "gather_limit": 11}}
    with pytest.raises(ConfigError, match=r"gather_limit: expected paths\.run_dir, where the embeddings of 12 clips"):
        golem_ray.train(stored)
    stored["paths"] = {"save_path": str(tmp_path / "stored.pth"), "run_dir": str(tmp_path / "run")}
    with pytest.raises(ConfigError, match="model.layer: expected one layer for more than cluster.gather_limit clips"):
        golem_ray.train({**stored, "model": {**config["model"], "layer": "auto"}})
    weights, embedded = train(stored)
    assert embedded == NUM_CLIPS
    for name, values in torch.load(tmp_path / "stored.pth", weights_only=True).items():
        assert torch.allclose(values, torch.load(tmp_path / "v.pth", weights_only=True)[name], atol=1e-6)
    again = json.loads((tmp_path / "stored.json").read_text())
    for part in ("num_clips", "per_class"):
        assert again["metrics"]["evaluation"][part] == gathered["metrics"]["evaluation"][part]
    assert again["metrics"]["cross_validation"] == gathered["metrics"]["cross_validation"]
    assert train(stored) == (weights, 0)
    shutil.rmtree(next((tmp_path / "run" / "embeddings").iterdir()))
    assert train(stored) == (weights, NUM_CLIPS)


def _job(folder: Path, num_clips: int = 336) -> list[str]:
    """The command of a training that keeps its vectors in the folder."""
    command = [sys.executable, str(ROOT / "jobs" / "train.py"), "--dataset.name=sample", "--dataset.split=test"]
    command += ["--model.feature-extractor-model=sample", f"--processing.max-samples={num_clips}"]
    command += ["--dataset.label-column=intent_class", "--training.epochs=5", "--evaluation.repeats=0"]
    return [*command, f"--paths.save-path={folder}/v.pth", f"--paths.run-dir={folder}/run"]


def _started(command: list[str]) -> subprocess.Popen[str]:
    """The job in a group of its own."""
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)


def _left(job: subprocess.Popen[str]) -> dict[int, str]:
    """What still runs of the job: all of it is in its session."""
    found = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if os.getsid(process.pid) == job.pid and process.status() != psutil.STATUS_ZOMBIE:
                found[process.pid] = " ".join(process.cmdline())[:100]
    return found


def _ended(job: subprocess.Popen[str]) -> str:
    """What a job said that was struck just now; fails if it, or what it has started, is there after ten seconds."""
    began = time.monotonic()
    _, said = job.communicate(timeout=30)
    took = time.monotonic() - began
    assert took < 10, said
    wait_until(lambda: not _left(job), timeout_s=10 - took)
    return said


STRIKES: dict[str, Callable[[subprocess.Popen[str]], object]] = {
    "Ctrl-C": lambda job: job.send_signal(signal.SIGINT),
    "SIGTERM": lambda job: job.send_signal(signal.SIGTERM),
    "SIGTERM to the group": lambda job: os.killpg(job.pid, signal.SIGTERM),  # `timeout`, a shell
    "SIGTERM to all": lambda job: [os.kill(pid, signal.SIGTERM) for pid in sorted(_left(job))],  # systemd, Slurm
    "SIGKILL": lambda job: job.kill(),
}


@pytest.mark.slow  # test_submit.py has a job stopped too
@pytest.mark.parametrize(
    "how",
    [
        "Ctrl-C",
        pytest.param("SIGTERM", marks=pytest.mark.chaos),
        "SIGTERM to the group",
        pytest.param("SIGTERM to all", marks=pytest.mark.chaos),
        "SIGKILL",
    ],
)
def test_a_stopped_job_ends_soon_and_leaves_its_vectors_and_nothing_running(tmp_path, how):
    run = tmp_path / "run"
    job = _started(_job(tmp_path))
    try:
        wait_until(lambda: len(list(run.rglob("*.parquet"))) >= 2 or job.poll() is not None)
        assert len(_left(job)) > 3  # Ray, and its workers
        STRIKES[how](job)
        said = _ended(job)
    finally:
        job.kill()
    assert "max_restarts > 0" not in said
    assert "Traceback" not in said
    assert said.splitlines()[-1].endswith("a run with paths.run_dir keeps what it has embedded: go on with --resume")
    if not how.startswith(("SIGKILL", "SIGTERM to all")):  # then Ray's core may be the first to end it
        assert job.returncode == 130, said
    assert not (tmp_path / "v.pth").exists()
    kept = sum(1 for _ in run.rglob("*.parquet"))
    assert 2 <= kept < 336 / 64 + 1  # blocks: clips remained to be done
    assert os.path.exists(run / "run.json")


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, float]:
    """The weights of a job that nothing happens to, and the seconds that it takes."""
    folder, began = tmp_path_factory.mktemp("quiet"), time.monotonic()
    subprocess.run(_job(folder, 120), check=True, capture_output=True)
    return (folder / "v.pth").read_bytes(), time.monotonic() - began


@pytest.mark.slow
@pytest.mark.parametrize("seed", CHAOS)
def test_a_group_that_is_stopped_at_any_moment_ends_and_is_gone_on_from(quiet, tmp_path, seed):
    weights, seconds = quiet
    command = _job(tmp_path, 120)
    job = _started(command)
    time.sleep(random.Random(seed).uniform(0.0, 1.0) * seconds)
    try:
        with suppress(ProcessLookupError):  # it was faster
            os.killpg(job.pid, signal.SIGTERM)
        said = _ended(job)
    finally:
        job.kill()
    # Done; stopped; before there was anything to leave. While Ray connects, its core's own handler is the first one.
    assert job.returncode in (0, 130, -signal.SIGTERM) or said.startswith("*** SIGTERM received"), said
    assert "Traceback" not in said
    assert (tmp_path / "v.pth").exists() or job.returncode != 0
    again = ["--resume", str(tmp_path / "run")] if (tmp_path / "run" / "run.json").exists() else command[2:]
    subprocess.run([*command[:2], *again, "--cluster.address=none"], check=True, capture_output=True)
    assert (tmp_path / "v.pth").read_bytes() == weights
