"""Texts from and to an S3 server, and after a kill: the same head as in one quiet process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch

from tests.cluster.nodes import wait_until
from tests.cluster.test_object_store import bucket, s3  # noqa: F401
from tests.conftest import ROOT, job
from tests.jobs.texts import SECRET, sidecar, write_csv
from tests.text import write_text_encoder

pytestmark = pytest.mark.slow

NUM_TEXTS = 5000


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text_encoder(tmp_path_factory.mktemp("bert"))


def options(bert: Path, *more: str) -> list[str]:
    flags = ["--dataset.text-column=text", "--dataset.label-column=label", f"--model.feature-extractor-model={bert}"]
    return [*flags, "--training.epochs=5", "--evaluation.repeats=0", "--processing.max-samples=all", *more]


def differ(one: Path, other: Path) -> float:
    """The largest difference of two heads' weights: other batches round otherwise."""
    first, second = (torch.load(path, weights_only=True) for path in (one, other))
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def test_texts_are_read_from_a_bucket_and_everything_is_written_there(bucket, s3, bert, tmp_path):  # noqa: F811
    """To train on, from a Parquet file of several row groups; to predict, from a CSV file."""
    source = write_csv(tmp_path / "train.csv", 40)
    pq.write_table(pa.csv.read_csv(source), tmp_path / "train.parquet", row_group_size=7)
    for name in ("train.csv", "train.parquet"):
        bucket.put_object(Bucket="bucket", Key=f"set/{name}", Body=(tmp_path / name).read_bytes())
    bucket.put_object(Bucket="bucket", Key="words.csv", Body="from,to\nура,здорово\n".encode())
    (tmp_path / "words.csv").write_text("from,to\nура,здорово\n")
    local = options(bert, f"--dataset.name={source}", f"--paths.save-path={tmp_path}/t.pth", "--cluster.address=none")
    assert job("train", *local, f"--processing.replacements={tmp_path}/words.csv").returncode == 0
    flags = options(bert, "--dataset.name=s3://bucket/set/train.parquet", "--paths.storage-root=s3://bucket/shared")
    flags += ["--processing.replacements=s3://bucket/words.csv", "--paths.save-path=t.pth", "--paths.run-dir=run"]
    done = job("train", *flags, **s3)
    assert done.returncode == 0, done.stderr
    (tmp_path / "stored.pth").write_bytes(bucket.get_object(Bucket="bucket", Key="shared/t.pth")["Body"].read())
    assert differ(tmp_path / "t.pth", tmp_path / "stored.pth") < 1e-4
    again = job("train", "--resume=s3://bucket/shared/run", "--cluster.address=none", **s3)
    assert again.returncode == 0, again.stderr
    assert "40 of 40 texts are in the embedding cache" in again.stderr
    assert (
        bucket.get_object(Bucket="bucket", Key="shared/t.pth")["Body"].read() == (tmp_path / "stored.pth").read_bytes()
    )
    said = job("predict", "s3://bucket/shared/t.pth", "s3://bucket/set/train.csv", "--cluster.address=none", **s3)
    assert said.returncode == 0, said.stderr
    assert len(said.stdout.splitlines()) == 40
    assert SECRET not in done.stderr + said.stdout + said.stderr


@pytest.fixture(scope="module")
def quiet(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts to train on, in `train.csv`, and beside it the artifact of a run that nothing happens to; its .pth."""
    work = tmp_path_factory.mktemp("quiet")
    flags = options(bert, f"--dataset.name={write_csv(work / 'train.csv', NUM_TEXTS)}", "--cluster.address=none")
    done = job("train", *flags, "--cluster.threads-per-worker=1", f"--paths.save-path={work}/q.pth", timeout=240)
    assert done.returncode == 0, done.stderr
    return work / "q.pth"


@pytest.mark.parametrize("address", ["none", "auto"])
def test_a_run_that_is_killed_is_gone_on_from_its_last_block(bert, quiet, tmp_path, address):
    flags = options(bert, f"--dataset.name={quiet.parent / 'train.csv'}", f"--paths.save-path={tmp_path}/t.pth")
    flags += [f"--paths.run-dir={tmp_path}/run", f"--cluster.address={address}", "--cluster.threads-per-worker=1"]
    command = [sys.executable, str(ROOT / "jobs" / "train.py"), *flags]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        wait_until(lambda: list((tmp_path / "run").rglob("*.parquet")) != [] or running.poll() is not None)
        os.killpg(running.pid, signal.SIGKILL)
    finally:
        running.kill()
        _, said = running.communicate(timeout=30)
    assert SECRET not in said
    assert not (tmp_path / "t.pth").exists(), "it was faster"
    time.sleep(1)
    done = job("train", f"--resume={tmp_path}/run", "--cluster.address=none", timeout=240)
    assert done.returncode == 0, done.stderr
    resumed: dict[str, Any] = sidecar(tmp_path / "t.pth")
    expected = sidecar(quiet)
    assert 0 < resumed["timings"]["tokens_embedded"] < expected["timings"]["tokens_embedded"]
    assert resumed["clips"] == expected["clips"]
    assert differ(tmp_path / "t.pth", quiet) < 1e-3
    accuracies = [each["metrics"]["training_accuracy"] for each in (resumed, expected)]
    assert accuracies[0] == pytest.approx(accuracies[1], abs=2 / NUM_TEXTS)
