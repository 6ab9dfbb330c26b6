import hashlib

import numpy as np
import pyarrow as pa
import pytest
import torch

from golem_ray.config import ModelConfig
from golem_ray.devices import Resources, pick_device
from golem_ray.embedding.examples import group_clips, hash_batch, read_clip, ungroup
from golem_ray.embedding.recipe import Recipe
from golem_ray.embedding.stage import EmbedBatch
from golem_ray.errors import ConfigError
from golem_ray.speech.encoders import SpeechEncoder
from golem_ray.speech.inspect import inspect_encoder
from tests.conftest import audio_bytes, tone

CPU = Resources(workers=1, threads=1, cpus=1, gpu=False, backend="cpu")


def clips(*rows) -> pa.Table:
    schema = pa.schema({"id": pa.int64(), "bytes": pa.large_binary(), "path": pa.string(), "label": pa.int64()})
    records = [dict(zip(("bytes", "path", "label"), row, strict=True), id=10 + i) for i, row in enumerate(rows)]
    return pa.Table.from_pylist(records, schema)


GOOD = audio_bytes(tone(0, 0.2))


def read_clips(table, rate, baseline):
    return [read_clip(table.slice(row, 1), rate, baseline) for row in range(table.num_rows)]


def recipe(folder, **changes) -> Recipe:
    return Recipe(encoder=inspect_encoder(ModelConfig(feature_extractor_model=str(folder))), **changes)


def test_a_bad_clip_gets_a_reason_and_its_neighbours_their_waveforms():
    table = clips((GOOD, None, 1), (b"noise", None, 1), (GOOD, None, None), (None, "/no/file", 0))
    found = list(read_clips(table, 16000, baseline=False))
    assert [clip.id for clip in found] == [10, 11, 12, 13]
    assert found[0].reason == ""
    assert "not audio" in found[1].reason
    assert "no label" in found[2].reason
    assert found[3].reason == "missing file"
    assert [len(clip.waveform) for clip in found] == [3200, 0, 0, 0]
    assert {clip.log_mel.shape for clip in found} == {(0,)}
    assert {clip.log_mel.shape for clip in read_clips(table, 16000, baseline=True)} == {(80,)}


def test_digests_are_of_the_files_and_zero_without_one():
    table = clips((GOOD, None, 1), (b"noise", None, 1), (None, "/no/file", 0))
    expected = [hashlib.sha256(GOOD).digest(), hashlib.sha256(b"noise").digest(), bytes(32)]
    assert hash_batch(table)["digest"] == expected
    assert [clip.digest for clip in read_clips(table, 16000, baseline=False)] == expected


@pytest.mark.parametrize("baseline", [False, True])
def test_groups_are_bounded_and_hold_what_was_read(baseline):
    files = [audio_bytes(tone(row, seconds)) for row, seconds in enumerate((0.5, 0.3, 0.3, 2.0, 0.1, 0.4))]
    table = clips(
        *((file, None, 0) for file in files[:4]), (b"noise", None, 0), *((file, None, 0) for file in files[4:])
    )
    groups = list(group_clips(table, 16000, baseline, seconds=1.0))
    assert [group.num_rows for group in groups] == [1, 1, 1, 1]
    members = [ungroup(group, 16000) for group in groups]
    assert [[clip.id for clip in group] for group in members] == [[10, 11], [12], [13], [14, 15, 16]]
    assert [clip.id for clip in ungroup(pa.concat_tables(groups), 16000)] == list(range(10, 17))
    for found, expected in zip(
        ungroup(pa.concat_tables(groups), 16000), read_clips(table, 16000, baseline), strict=True
    ):
        assert np.array_equal(found.waveform, expected.waveform)
        assert np.array_equal(found.log_mel, expected.log_mel)
        assert (found.id, found.digest, found.reason) == (expected.id, expected.digest, expected.reason)


@pytest.mark.parametrize("seconds", [[0.2, 0.3, 0.2], [0.2, 0.2, 0.2]])
def test_embedding_keeps_rows_apart_and_skips_the_bad(encoder_folder, seconds):
    files = [audio_bytes(tone(row, length)) for row, length in enumerate(seconds)]
    table = clips((files[0], None, 0), (b"noise", None, 0), (files[1], None, 0), (files[2], None, 1))
    whole = EmbedBatch(recipe(encoder_folder), CPU)(table)
    assert whole["vector"].shape == (4, 32)
    assert not whole["vector"][1].any()
    (group,) = group_clips(table.slice(1), 16000, baseline=True, seconds=100.0)
    gpu = Resources(workers=1, threads=1, cpus=0, gpu=True, backend="auto")  # one that PyTorch cannot use
    grouped = EmbedBatch(recipe(encoder_folder), gpu, baseline=True)(group)
    assert np.array_equal(whole["vector"][1:], grouped["vector"])
    assert grouped["id"].tolist() == [11, 12, 13]
    assert "not audio" in grouped["reason"][0]
    assert grouped["log_mel"].any(axis=1).tolist() == [False, True, True]


def test_a_vector_that_is_not_finite_is_a_reason(encoder_folder):
    embed = EmbedBatch(recipe(encoder_folder), CPU)
    vectors = iter([np.full((1, 32), np.nan, dtype=np.float32), np.ones((1, 32), dtype=np.float32)])
    embed.encoder.embed = lambda waveforms: next(vectors)
    batch = embed(clips((GOOD, None, 0), (GOOD, None, 0)))
    assert batch["reason"] == ["the encoder's vector is not finite in float32", ""]
    assert batch["vector"].sum(axis=1).tolist() == [0, 32]


def test_a_group_goes_in_batches_and_each_vector_to_its_clip(encoder_folder):
    files = [audio_bytes(tone(row, seconds)) for row, seconds in enumerate((0.9, 0.2, 0.5, 0.9, 0.3, 0.21))]
    files.insert(2, b"noise")
    table = clips(*((file, None, 0) for file in files))
    embed = EmbedBatch(recipe(encoder_folder), Resources(workers=1, threads=1, cpus=0, gpu=True, backend="auto"))
    embed.encoder = SpeechEncoder(recipe(encoder_folder), "cpu", batch_seconds=1.0)  # as on a GPU
    (group,) = group_clips(table, 16000, baseline=False, seconds=100.0)
    found, expected = embed(group), EmbedBatch(recipe(encoder_folder), CPU)(table)
    assert found["id"].tolist() == expected["id"].tolist() == list(range(10, 17))
    assert found["reason"] == expected["reason"]
    assert found["digest"] == expected["digest"]
    error = np.linalg.norm(found["vector"] - expected["vector"], axis=1)
    assert (error <= 1e-5 * np.linalg.norm(expected["vector"], axis=1)).all()


@pytest.mark.parametrize("threads", [2, 3])
def test_any_number_of_threads_gives_the_same_bits(encoder_folder, threads):
    table = clips(*((audio_bytes(tone(row, 0.1 + 0.1 * row)), None, 0) for row in range(9)))
    several = Resources(workers=1, threads=threads, cpus=threads, gpu=False, backend="cpu")
    one, more = EmbedBatch(recipe(encoder_folder), CPU)(table), EmbedBatch(recipe(encoder_folder), several)(table)
    assert one["id"].tolist() == more["id"].tolist()
    assert np.array_equal(one["vector"], more["vector"])


@pytest.mark.parametrize("batch_seconds", [None, 64.0])
def test_a_full_gpu_gets_smaller_batches_and_a_clip_too_long_for_it_is_bad(encoder_folder, batch_seconds):
    embed = EmbedBatch(recipe(encoder_folder), CPU)
    embed.encoder.batch_seconds = batch_seconds
    fits, seen = embed.encoder.embed, []

    def limited(waveforms):  # five seconds of memory, in batches that the encoder packs
        seen.append(len(waveforms))
        budget = embed.encoder.batch_seconds or 0
        longest = max(len(waveform) for waveform in waveforms) / 16_000
        if max(longest, min(budget, longest * len(waveforms))) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return np.concatenate([fits([waveform]) for waveform in waveforms])

    embed.encoder.embed = limited
    waveforms = [tone(row, seconds, 16_000) for row, seconds in enumerate((1.0, 3.0, 2.0, 4.0, 1.0))]
    vectors, reasons = embed._embed(waveforms)
    assert reasons == [""] * 5
    if batch_seconds is not None:
        assert 2.5 < embed.encoder.batch_seconds <= 5  # and stays so: the next batch fits at once
        seen.clear()
        assert np.array_equal(embed._embed(waveforms)[0], vectors)
        assert seen == [5]
    embed.encoder.embed = fits
    expected = np.concatenate([fits([waveform]) for waveform in waveforms])
    assert np.array_equal(vectors, expected)

    embed.encoder.embed = limited
    giant = [*waveforms[:2], tone(9, 6.0, 16_000), np.zeros(0, dtype=np.float32)]
    vectors, reasons = embed._embed(giant)
    assert reasons == ["", "", "its 6 s do not fit into the GPU's memory: see processing.max_seconds", ""]
    assert np.array_equal(vectors[:2], expected[:2])
    assert not vectors[2:].any()


def test_on_a_cpu_one_waveform_is_held_at_a_time(encoder_folder, monkeypatch):
    embed = EmbedBatch(recipe(encoder_folder), CPU)
    seen, held = [], []
    one_by_one = embed.encoder.embed
    monkeypatch.setattr(
        "golem_ray.speech.read.load_clip", lambda content, rate: held.append(len(seen)) or tone(0, 0.1, 16000)
    )
    embed.encoder.embed = lambda waveforms: seen.append(len(waveforms)) or one_by_one(waveforms)
    embed(clips(*[(GOOD, None, 0)] * 4))
    assert seen == [1, 1, 1, 1]
    assert held == [0, 1, 2, 3]  # each was read when those before had been embedded


def test_an_encoder_that_does_not_load_is_reported_with_the_first_batch(tmp_path, encoder_folder):
    info = recipe(encoder_folder).encoder
    broken = EmbedBatch(Recipe(encoder=type(info)(**{**vars(info), "path": str(tmp_path)})), CPU)
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
