import hashlib

import numpy as np
import pyarrow as pa
import pytest

from golem_ray.config import ModelConfig
from golem_ray.encoders import inspect_encoder
from golem_ray.errors import ConfigError
from golem_ray.stages import EmbedBatch, Resources, decode_batch, hash_batch, pick_device
from tests.conftest import audio_bytes, tone

CPU = Resources(workers=1, threads=1, cpus=1, gpu=False, backend="cpu")


def clips(*rows) -> pa.Table:
    schema = pa.schema({"id": pa.int64(), "bytes": pa.large_binary(), "path": pa.string(), "label": pa.int64()})
    records = [dict(zip(("bytes", "path", "label"), row, strict=True), id=10 + i) for i, row in enumerate(rows)]
    return pa.Table.from_pylist(records, schema)


GOOD = audio_bytes(tone(0, 0.2))


def test_a_bad_clip_gets_a_reason_and_its_neighbours_their_waveforms():
    batch = decode_batch(clips((GOOD, None, 1), (b"noise", None, 1), (GOOD, None, None), (None, "/no/file", 0)), 16000)
    assert batch["id"].tolist() == [10, 11, 12, 13]
    assert batch["reason"][0] == ""
    assert "not audio" in batch["reason"][1]
    assert "no label" in batch["reason"][2]
    assert batch["reason"][3] == "missing file"
    assert [len(waveform) for waveform in batch["waveform"]] == [3200, 0, 0, 0]


def test_digests_are_of_the_files_and_zero_without_one():
    table = clips((GOOD, None, 1), (b"noise", None, 1), (None, "/no/file", 0))
    expected = [hashlib.sha256(GOOD).digest(), hashlib.sha256(b"noise").digest(), bytes(32)]
    assert hash_batch(table)["digest"] == expected
    assert decode_batch(table, 16000)["digest"] == expected


@pytest.mark.parametrize("seconds", [[0.2, 0.3, 0.2], [0.2, 0.2, 0.2]])
def test_embedding_keeps_rows_apart_and_skips_the_bad(encoder_folder, seconds):
    info = inspect_encoder(ModelConfig(feature_extractor_model=str(encoder_folder)))
    files = [audio_bytes(tone(row, length)) for row, length in enumerate(seconds)]
    table = clips((files[0], None, 0), (b"noise", None, 0), (files[1], None, 0), (files[2], None, 1))
    whole = EmbedBatch(info, CPU, 16000)(table)
    assert whole["vector"].shape == (4, 32)
    assert not whole["vector"][1].any()
    apart = EmbedBatch(info, CPU)(decode_batch(table.slice(2), 16000))
    assert np.array_equal(whole["vector"][2:], apart["vector"])


def test_a_vector_that_is_not_finite_is_a_reason(encoder_folder):
    embed = EmbedBatch(inspect_encoder(ModelConfig(feature_extractor_model=str(encoder_folder))), CPU, 16000)
    embed.encoder.embed = lambda waveforms: np.array([[np.nan] * 32, [1.0] * 32], dtype=np.float32)
    batch = embed(clips((GOOD, None, 0), (GOOD, None, 0)))
    assert batch["reason"] == ["the encoder's vector is not finite", ""]
    assert batch["vector"].sum(axis=1).tolist() == [0, 32]


def test_an_encoder_that_does_not_load_is_reported_with_the_first_batch(tmp_path, encoder_folder):
    info = inspect_encoder(ModelConfig(feature_extractor_model=str(encoder_folder)))
    broken = EmbedBatch(type(info)(**{**vars(info), "path": str(tmp_path)}), CPU, 16000)
    assert "expected weights that load" in broken(clips((GOOD, None, 0)))["failure"][0]


def test_a_gpu_that_pytorch_cannot_use_is_an_error_only_if_demanded(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert pick_device(CPU) == "cpu"
    assert pick_device(Resources(workers=1, threads=1, cpus=0, gpu=True, backend="auto")) == "cpu"
    with pytest.raises(ConfigError, match="device.backend: expected PyTorch to use the GPU"):
        pick_device(Resources(workers=1, threads=1, cpus=0, gpu=True, backend="cuda"))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert pick_device(CPU) == "cpu"
    assert pick_device(Resources(workers=1, threads=1, cpus=0, gpu=True, backend="cuda")) == "cuda"
