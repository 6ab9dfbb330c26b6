"""Clips read from, and everything written to, an S3 server on loopback, reliable or not."""

import http.client
import io
import json
import os
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from moto.server import ThreadedMotoServer

from tests import warm
from tests.conftest import ROOT, job, write_clips


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


class Faults:
    """An unreliable store: of seventeen requests one is refused, one is slow, one breaks off halfway."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.requests = 0
        self.seen: dict[str, int] = {"refused": 0, "slow": 0, "broken off": 0}

    def next(self) -> str:
        """What befalls the next request; '' for nothing."""
        with self.lock:
            self.requests += 1
            fault = {3: "refused", 6: "slow", 9: "broken off"}.get(self.requests % 17, "")
            if fault:
                self.seen[fault] += 1
            return fault


@pytest.fixture
def unreliable(s3: dict[str, str]) -> Iterator[tuple[dict[str, str], Faults]]:
    """The environment of a process that reaches the server through a proxy with faults, and the faults."""
    faults = Faults()
    target = urlsplit(s3["AWS_ENDPOINT_URL"]).netloc

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            content = self.body()
            fault = faults.next()
            if fault == "refused":
                self.answer(503, {}, b"<Error><Code>SlowDown</Code><Message>Please reduce your rate.</Message></Error>")
                return
            if fault == "slow":
                time.sleep(0.5)
            connection = http.client.HTTPConnection(target, timeout=30)
            headers = {name: value for name, value in self.headers.items() if name != "Transfer-Encoding"}
            connection.request(self.command, self.path, content, headers)
            response = connection.getresponse()
            found = response.read()
            connection.close()
            if fault == "broken off":
                self.close_connection = True
                if self.command == "HEAD" or not found:
                    return  # without an answer
            sent = found[: len(found) // 2] if fault == "broken off" else found
            self.answer(response.status, dict(response.getheaders()), sent, len(found))

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def answer(self, status: int, headers: dict[str, str], content: bytes, length: int | None = None) -> None:
            self.send_response(status)
            own = ("connection", "date", "server")  # of this proxy
            kept = {name: value for name, value in headers.items() if name.lower() not in own}
            if self.command != "HEAD":
                kept["Content-Length"] = str(len(content) if length is None else length)
            for name, value in kept.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = forward

        def log_message(self, *arguments: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {**s3, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}"}, faults
    server.shutdown()


_ROUND = """
import json, sys
import numpy as np
from golem_ray import storage
from golem_ray.embedding.cache import EmbeddingCache
from golem_ray.config import DatasetConfig
from golem_ray.data import open_source
from golem_ray.data.shards import with_contents
from golem_ray.speech import MODALITY

keys = np.array([number.to_bytes(32, "big") for number in range(1, 41)], dtype="S32")
vectors = np.arange(160, dtype=np.float32).reshape(40, 4)
cache = EmbeddingCache("s3://bucket/cache", {}, 4, 3)
for row in range(0, 40, 4):
    assert cache.add(np.arange(row, row + 4), keys[row : row + 4], vectors[row : row + 4], None) == ""
found = np.zeros_like(vectors)
assert EmbeddingCache("s3://bucket/cache", {}, 4, 3).look_up(keys, vectors=found, baseline=None).all()
assert (found == vectors).all()
for row in range(20):
    storage.write(f"s3://bucket/files/{row}", b"%d" % row * 1000)
    assert storage.read(f"s3://bucket/files/{row}") == b"%d" % row * 1000
dataset = DatasetConfig(name="s3://bucket/set.parquet", label_column="label")
clips = open_source(dataset, MODALITY.content, None).examples
read = [with_contents(clips.slice(row, 3))["bytes"].to_pylist() for row in range(0, 12, 3)]
assert sum(read, []) == [b"%d" % row * 100 for row in range(12)], read
"""


def test_what_is_read_and_written_survives_an_unreliable_bucket(bucket, unreliable):
    environment, faults = unreliable
    buffer = io.BytesIO()
    clips = [b"%d" % row * 100 for row in range(12)]
    pq.write_table(pa.table({"audio": clips, "label": ["a", "b"] * 6}), buffer, row_group_size=4)
    bucket.put_object(Bucket="bucket", Key="set.parquet", Body=buffer.getvalue())
    done = warm.run(["-c", _ROUND], cwd=ROOT, env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr
    assert min(faults.seen.values()) >= 3, faults.seen


@pytest.mark.slow
def test_a_run_from_and_to_an_unreliable_bucket_gives_the_local_bytes(bucket, unreliable, encoder_folder, tmp_path):
    environment, faults = unreliable
    clips = write_clips(tmp_path / "set", ["up", "down"] * 12)
    upload(bucket, clips, "clips")
    common = ["--dataset.label-column=label", f"--model.feature-extractor-model={encoder_folder}"]
    common += ["--evaluation.repeats=0", "--cluster.threads-per-worker=1"]
    here = "--cluster.address=none"  # no Ray to wait for, where it is not the subject
    local = job("train", f"--dataset.name={clips}", f"--paths.save-path={tmp_path}/v.pth", *common, here)
    assert local.returncode == 0, local.stderr
    common += ["--dataset.name=s3://bucket/clips", "--paths.save-path=runs/v.pth", "--paths.run-dir=run"]
    common += ["--paths.storage-root=s3://bucket/shared", "--json"]
    stored = job("train", *common, **environment)
    assert stored.returncode == 0, stored.stderr
    assert min(faults.seen.values()) >= 3, faults.seen
    assert json.loads(stored.stdout.splitlines()[-1])["savedArtifactPath"] == "s3://bucket/shared/runs/v.pth"
    keys = [entry["Key"] for entry in bucket.list_objects_v2(Bucket="bucket", Prefix="shared/runs/")["Contents"]]
    assert keys == ["shared/runs/report.html", "shared/runs/v.json", "shared/runs/v.pth"]
    weights = bucket.get_object(Bucket="bucket", Key="shared/runs/v.pth")["Body"].read()
    assert weights == (tmp_path / "v.pth").read_bytes()
    assert set(torch.load(tmp_path / "v.pth", weights_only=True)) == {"weight", "bias"}
    sidecar = bucket.get_object(Bucket="bucket", Key="shared/runs/v.json")["Body"].read().decode()
    assert "secret-of-the-test" not in sidecar + stored.stdout + stored.stderr

    bucket.delete_object(Bucket="bucket", Key="shared/runs/v.pth")
    again = job("train", "--resume=s3://bucket/shared/run", here, **environment)
    assert again.returncode == 0, again.stderr
    assert "24 of 24 clips are in the embedding cache" in again.stderr
    assert bucket.get_object(Bucket="bucket", Key="shared/runs/v.pth")["Body"].read() == weights


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dataset.name=s3://bucket/nothing", "--paths.save-path=/tmp/v.pth"], "error: dataset.name: expected"),
        (["--dataset.name=s3://no-such-bucket/x", "--paths.save-path=/tmp/v.pth"], "error: dataset.name: expected"),
        (["--paths.save-path=s3://no-such-bucket/v.pth"], "error: paths.save_path: expected to be able to write"),
    ],
)
def test_what_the_store_lacks_is_one_line(bucket, s3, encoder_folder, arguments, words):
    done = job("train", *arguments, f"--model.feature-extractor-model={encoder_folder}", **s3)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith(words)
    assert "Traceback" not in done.stderr
