"""The embedding worker's stage: vectors of a batch of examples, on CPUs and on what it takes for a GPU."""

import dataclasses

import numpy as np
import pytest
import torch

from golem_ray.devices import Resources
from golem_ray.embedding.cache import open_cache
from golem_ray.embedding.examples import group_examples
from golem_ray.embedding.stage import EmbedBatch, EmbeddingTask
from golem_ray.speech.encoders import SpeechEncoder
from tests.conftest import audio_bytes, clips_table, speech_recipe, tone

CPU = Resources(workers=1, threads=1, cpus=1, gpu=False, backend="cpu")
GPU = Resources(workers=1, threads=1, cpus=0, gpu=True, backend="auto")  # one that PyTorch cannot use

GOOD = audio_bytes(tone(0, 0.2))


def embed_batch(folder, resources=CPU, **task):
    return EmbedBatch(EmbeddingTask(recipe=speech_recipe(folder), **task), resources)


@pytest.mark.parametrize("seconds", [[0.2, 0.3, 0.2], [0.2, 0.2, 0.2]])
def test_embedding_keeps_rows_apart_and_skips_the_bad(encoder_folder, seconds):
    files = [audio_bytes(tone(row, length)) for row, length in enumerate(seconds)]
    table = clips_table((files[0], None, 0), (b"noise", None, 0), (files[1], None, 0), (files[2], None, 1))
    whole = embed_batch(encoder_folder)(table)
    assert whole["vector"].shape == (4, 32)
    assert not whole["vector"][1].any()
    (group,) = group_examples(table.slice(1), speech_recipe(encoder_folder), baseline=True, most_cost=100.0)
    grouped = embed_batch(encoder_folder, GPU, baseline=True)(group)
    assert np.array_equal(whole["vector"][1:], grouped["vector"])
    assert grouped["id"].tolist() == [11, 12, 13]
    assert "not audio" in grouped["reason"][0]
    assert grouped["baseline"].any(axis=1).tolist() == [False, True, True]


def test_what_there_is_to_say_of_a_clip_comes_with_its_vector_and_again_from_the_cache(encoder_folder, tmp_path):
    cache = open_cache(str(tmp_path), speech_recipe(encoder_folder), CPU)
    silence = audio_bytes(np.zeros(800, np.float32))
    table = clips_table((GOOD, None, 0), (b"noise", None, 0), (silence, None, 0), (silence, None, None))
    (group,) = group_examples(table, speech_recipe(encoder_folder), baseline=False, most_cost=100.0)
    rows = embed_batch(encoder_folder, cache=cache)(table)
    assert rows["remark"] == embed_batch(encoder_folder, GPU)(group)["remark"] == ["", "", "silent", ""]
    digests = np.array(rows["digest"], dtype="S32")[[2, 0, 2]]
    ((found, columns),) = cache.known(digests, ["vector"])
    assert dict(zip(found.tolist(), columns["remark"], strict=True)) == {0: "silent", 1: "", 2: "silent"}


def test_a_vector_that_is_not_finite_is_a_reason(encoder_folder):
    embed = embed_batch(encoder_folder)
    vectors = iter([np.full((1, 32), np.nan, dtype=np.float32), np.ones((1, 32), dtype=np.float32)])
    embed.encoder.embed = lambda examples: next(vectors)
    batch = embed(clips_table((GOOD, None, 0), (GOOD, None, 0)))
    assert batch["reason"] == ["the encoder's vector is not finite in float32", ""]
    assert batch["vector"].sum(axis=1).tolist() == [0, 32]


def test_a_group_goes_in_batches_and_each_vector_to_its_clip(encoder_folder):
    files = [audio_bytes(tone(row, seconds)) for row, seconds in enumerate((0.9, 0.2, 0.5, 0.9, 0.3, 0.21))]
    files.insert(2, b"noise")
    table = clips_table(*((file, None, 0) for file in files))
    embed = embed_batch(encoder_folder, GPU)
    embed.encoder = SpeechEncoder(speech_recipe(encoder_folder), "cpu", batch_seconds=1.0)  # as on a GPU
    (group,) = group_examples(table, speech_recipe(encoder_folder), baseline=False, most_cost=100.0)
    found, expected = embed(group), embed_batch(encoder_folder)(table)
    assert found["id"].tolist() == expected["id"].tolist() == list(range(10, 17))
    assert found["reason"] == expected["reason"]
    assert found["digest"] == expected["digest"]
    error = np.linalg.norm(found["vector"] - expected["vector"], axis=1)
    assert (error <= 1e-5 * np.linalg.norm(expected["vector"], axis=1)).all()


@pytest.mark.parametrize("threads", [2, 3])
def test_any_number_of_threads_gives_the_same_bits(encoder_folder, threads):
    table = clips_table(*((audio_bytes(tone(row, 0.1 + 0.1 * row)), None, 0) for row in range(9)))
    several = Resources(workers=1, threads=threads, cpus=threads, gpu=False, backend="cpu")
    one, more = embed_batch(encoder_folder)(table), embed_batch(encoder_folder, several)(table)
    assert one["id"].tolist() == more["id"].tolist()
    assert np.array_equal(one["vector"], more["vector"])


@pytest.mark.parametrize("batch_seconds", [None, 64.0])
def test_a_full_gpu_gets_smaller_batches_and_a_clip_too_long_for_it_is_bad(encoder_folder, batch_seconds):
    embed = embed_batch(encoder_folder)
    embed.encoder.batch_cost = batch_seconds
    fits, seen = embed.encoder.embed, []

    def limited(waveforms):  # five seconds of memory, in batches that the encoder packs
        seen.append(len(waveforms))
        budget = embed.encoder.batch_cost or 0
        longest = max(len(waveform) for waveform in waveforms) / 16_000
        if max(longest, min(budget, longest * len(waveforms))) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return np.concatenate([fits([waveform]) for waveform in waveforms])

    embed.encoder.embed = limited
    waveforms = [tone(row, seconds, 16_000) for row, seconds in enumerate((1.0, 3.0, 2.0, 4.0, 1.0))]
    vectors, reasons = embed._embed(waveforms)
    assert reasons == [""] * 5
    if batch_seconds is not None:
        assert 2.5 < embed.encoder.batch_cost <= 5  # and stays so: the next batch fits at once
        seen.clear()
        assert np.array_equal(embed._embed(waveforms)[0], vectors)
        assert seen == [5]
    embed.encoder.embed = fits
    expected = np.concatenate([fits([waveform]) for waveform in waveforms])
    assert np.array_equal(vectors, expected)

    embed.encoder.embed = limited
    giant = [*waveforms[:2], tone(9, 6.0, 16_000), np.zeros(0, dtype=np.float32)]
    vectors, reasons = embed._embed(giant)
    assert reasons == ["", "", "its 6 s do not fit into the memory: see processing.max_seconds", ""]
    assert np.array_equal(vectors[:2], expected[:2])
    assert not vectors[2:].any()


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")]
)
def test_a_clip_too_long_for_a_cpus_memory_is_bad_and_its_neighbours_are_not(encoder_folder, monkeypatch, error):
    def raising(*_):
        raise error

    embed = embed_batch(encoder_folder)
    fits = embed.encoder.embed
    embed.encoder.embed = lambda waveforms: raising() if len(waveforms[0]) > 4000 else fits(waveforms)
    found = embed(clips_table((GOOD, None, 0), (audio_bytes(tone(0, 0.5)), None, 0)))
    assert found["reason"] == ["", "its 0 s do not fit into the memory: see processing.max_seconds"]
    monkeypatch.setattr("golem_ray.speech.read.resample", raising)
    assert embed(clips_table((GOOD, None, 0)))["reason"] == ["more samples than fit into the memory"]
    error = RuntimeError("a bug")
    with pytest.raises(RuntimeError, match="a bug"):
        embed(clips_table((GOOD, None, 0)))


def test_on_a_cpu_one_waveform_is_held_at_a_time(encoder_folder, monkeypatch):
    embed = embed_batch(encoder_folder)
    seen, held = [], []
    one_by_one = embed.encoder.embed
    monkeypatch.setattr(
        "golem_ray.speech.read.load_clip", lambda content, *how: held.append(len(seen)) or tone(0, 0.1, 16000)
    )
    embed.encoder.embed = lambda waveforms: seen.append(len(waveforms)) or one_by_one(waveforms)
    embed(clips_table(*[(GOOD, None, 0)] * 4))
    assert seen == [1, 1, 1, 1]
    assert held == [0, 1, 2, 3]  # each was read when those before had been embedded


def test_an_encoder_that_does_not_load_is_reported_with_the_first_batch(tmp_path, encoder_folder):
    whole = speech_recipe(encoder_folder)
    elsewhere = dataclasses.replace(whole, encoder=dataclasses.replace(whole.encoder, path=str(tmp_path)))
    broken = EmbedBatch(EmbeddingTask(recipe=elsewhere), CPU)
    assert "expected weights that load" in broken(clips_table((GOOD, None, 0)))["failure"][0]


def test_vectors_go_into_the_cache_and_come_back_only_where_they_are_gathered(encoder_folder, tmp_path):
    cache = open_cache(str(tmp_path), speech_recipe(encoder_folder), CPU)
    table = clips_table((GOOD, None, 0), (b"noise", None, 0))
    plain = embed_batch(encoder_folder, baseline=True)(table)
    found = embed_batch(encoder_folder, baseline=True, cache=cache)(table)
    stored = embed_batch(encoder_folder, baseline=True, cache=cache, gathered=False)(table)
    assert {"vector", "baseline"} <= found.keys()
    assert not {"vector", "baseline"} & stored.keys()
    assert np.array_equal(found["vector"], plain["vector"])
    vectors, baseline = np.zeros((2, 32), np.float32), np.zeros((2, 80), np.float32)
    digests = np.array(found["digest"], dtype="S32")
    known = cache.look_up(digests, vectors=vectors, baseline=baseline, with_baseline=True)
    assert known.tolist() == [True, False]  # a bad one is not kept
    assert np.array_equal(vectors, plain["vector"])
    assert np.array_equal(baseline, plain["baseline"])


def test_a_gpu_that_pytorch_cannot_use_does_not_write_into_the_cache(encoder_folder, tmp_path):
    cache = open_cache(str(tmp_path), speech_recipe(encoder_folder), GPU)
    (group,) = group_examples(clips_table((GOOD, None, 0)), speech_recipe(encoder_folder), False, 100.0)
    assert embed_batch(encoder_folder, GPU, cache=cache)(group)["vector"].any()
    assert not cache.files()
    refused = embed_batch(encoder_folder, GPU, cache=cache, gathered=False)(group)
    assert "cluster.gather_limit: expected GPUs that PyTorch can use" in refused["failure"][0]
