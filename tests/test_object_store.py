"""Clips read from, and the artifact written to, an S3 server on loopback."""

import json
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
import torch
from moto.server import ThreadedMotoServer

from tests.conftest import write_clips


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    """What a process needs to know to reach the server."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key-of-the-test",
        "AWS_SECRET_ACCESS_KEY": "secret-of-the-test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    server.stop()


@pytest.fixture
def bucket(s3, monkeypatch):
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="bucket")
    yield client
    for entry in client.list_objects_v2(Bucket="bucket").get("Contents", []):
        client.delete_object(Bucket="bucket", Key=entry["Key"])
    client.delete_bucket(Bucket="bucket")


def upload(client, folder: Path, prefix: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            client.put_object(Bucket="bucket", Key=f"{prefix}/{path.relative_to(folder)}", Body=path.read_bytes())


def test_a_run_from_and_to_a_bucket_gives_the_local_bytes(bucket, s3, run_job, encoder_folder, tmp_path):
    clips = write_clips(tmp_path / "set", ["up", "down"] * 6)
    upload(bucket, clips, "clips")
    common = ["--dataset.label-column=label", f"--model.feature-extractor-model={encoder_folder}"]
    common += ["--evaluation.repeats=1", "--cluster.threads-per-worker=1"]
    local = run_job(f"--dataset.name={clips}", f"--paths.save-path={tmp_path}/v.pth", *common)
    assert local.returncode == 0, local.stderr
    common += ["--dataset.name=s3://bucket/clips", "--paths.save-path=runs/v.pth", "--paths.embedding-cache=cache"]
    common += ["--paths.storage-root=s3://bucket/shared", "--json"]
    stored = run_job(*common, **s3)
    assert stored.returncode == 0, stored.stderr
    again = run_job(*common, **s3)
    assert "12 of 12 clips are in the embedding cache" in again.stderr
    assert json.loads(stored.stdout.splitlines()[-1])["savedArtifactPath"] == "s3://bucket/shared/runs/v.pth"
    keys = [entry["Key"] for entry in bucket.list_objects_v2(Bucket="bucket", Prefix="shared/runs/")["Contents"]]
    assert keys == ["shared/runs/report.html", "shared/runs/v.json", "shared/runs/v.pth"]
    weights = bucket.get_object(Bucket="bucket", Key="shared/runs/v.pth")["Body"].read()
    assert weights == (tmp_path / "v.pth").read_bytes()
    assert set(torch.load(tmp_path / "v.pth", weights_only=True)) == {"weight", "bias"}
    sidecar = bucket.get_object(Bucket="bucket", Key="shared/runs/v.json")["Body"].read().decode()
    assert "secret-of-the-test" not in sidecar + stored.stdout + stored.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dataset.name=s3://bucket/nothing", "--paths.save-path=/tmp/v.pth"], "error: dataset.name: expected"),
        (["--dataset.name=s3://no-such-bucket/x", "--paths.save-path=/tmp/v.pth"], "error: dataset.name: expected"),
        (["--paths.save-path=s3://no-such-bucket/v.pth"], "error: paths.save_path: expected to be able to write"),
    ],
)
def test_what_the_store_lacks_is_one_line(bucket, s3, run_job, encoder_folder, arguments, words):
    done = run_job(*arguments, f"--model.feature-extractor-model={encoder_folder}", **s3)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith(words)
    assert "Traceback" not in done.stderr
