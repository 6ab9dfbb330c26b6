"""Batches of clips of unlike lengths give each clip the vector that it has alone."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial

import numpy as np
import pytest
import torch
from torch import nn

from golem_ray.embedding.pooling import masked_mean, pool
from golem_ray.speech.encoders import SpeechEncoder
from golem_ray.speech.exact_forward import masked_group_norm
from tests.conftest import speech_recipe, tone, write_encoder

FAMILIES = [
    (family, norm) for family in ("wav2vec2", "hubert", "wavlm", "unispeech-sat") for norm in ("group", "layer")
] + [("whisper", "layer")]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """The recipe of a tiny random encoder, by family and norm; large ones norm by layer and before each block."""

    @cache
    def get(family, norm, **changes):
        folder = tmp_path_factory.mktemp("encoder")
        if family != "whisper":
            large = norm == "layer"
            changes |= {"feat_extract_norm": norm, "do_stable_layer_norm": large, "conv_bias": large}
        write_encoder(folder, family=family, **changes)
        return speech_recipe(folder)

    return get


def clips(seed):
    """Shortest possible, silent, constant, of equal lengths, of any length, and one giant, in any order."""
    rng = np.random.default_rng(seed)
    lengths = [400, 401, 719, 720, *rng.integers(400, 80_000, size=5), 16_000, 16_000, 16_000]
    waveforms = [tone(seed + row, length / 16_000, 16_000) for row, length in enumerate(lengths)]
    waveforms += [
        np.zeros(400, dtype=np.float32),
        np.zeros(30_000, dtype=np.float32),
        np.full(20_001, 0.3, dtype=np.float32),
        np.full(400, -1.0, dtype=np.float32),
        tone(seed, 12.0 if seed == 0 else 6.0, 16_000),
        rng.standard_normal(48_000).astype(np.float32) * 1e-4,
    ]
    return [waveforms[row] for row in rng.permutation(len(waveforms))]


def assert_same(found, expected):
    error, size = np.linalg.norm(found - expected, axis=1), np.linalg.norm(expected, axis=1)
    assert (error <= 1e-5 * size).all(), error  # a silent clip's vector may be zero


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("family", "norm"), FAMILIES)
def test_a_batch_equals_one_by_one(recipe, family, norm, seed):
    waveforms = clips(seed)
    alone = SpeechEncoder(recipe(family, norm), "cpu").embed(waveforms)
    together = SpeechEncoder(recipe(family, norm), "cpu", batch_seconds=1000).embed(waveforms)  # all in one batch
    packed = SpeechEncoder(recipe(family, norm), "cpu", batch_seconds=12).embed(waveforms)
    assert_same(together, alone)
    assert_same(packed, alone)
    assert len({vector.tobytes() for vector in alone}) > 10  # they are not all alike


def moments(frames):
    """Mean and standard deviation over time, of (T, D)."""
    return np.concatenate([frames.mean(axis=0), frames.std(axis=0)])


@pytest.mark.parametrize(("family", "norm"), FAMILIES)
def test_layers_are_those_of_the_models_own_forward_pass_and_the_same_in_a_batch(recipe, family, norm):
    plain = recipe(family, norm)
    waveforms = [tone(row, seconds, 16_000) for row, seconds in enumerate((0.025, 1.3, 0.7, 1.3))]
    every = dataclasses.replace(plain, layer="all", pooling="mean+std")
    assert every.layers == (0, 1, "last", "mean")
    encoder = SpeechEncoder(every, "cpu")
    alone = encoder.embed(waveforms)
    assert alone.shape == (4, 4 * 64)
    assert_same(SpeechEncoder(every, "cpu", batch_seconds=1000).embed(waveforms), alone)

    for waveform, vector in zip(waveforms, alone, strict=True):
        if family == "whisper":
            inputs = encoder.preprocessor([waveform], sampling_rate=16_000, return_tensors="pt").input_features
            own = (-(-len(waveform) // 160) - 1) // 2 + 1
        else:
            inputs = encoder.preprocessor(waveform, sampling_rate=16_000, return_tensors="pt").input_values
            own = None
        with torch.inference_mode():
            found = encoder.model(inputs, output_hidden_states=True)
        states = [state[0, :own].numpy() for state in (*found.hidden_states[:2], found.last_hidden_state)]
        expected = np.concatenate([moments(state) for state in (*states, np.mean(states, axis=0))])
        assert_same(vector[None], expected[None])

    for number, layer in enumerate((0, 1, "last", "mean")):
        one = dataclasses.replace(plain, layer=layer, pooling="mean+std")
        vectors = SpeechEncoder(one, "cpu").embed(waveforms)
        assert_same(vectors, alone.reshape(4, 4, 64)[:, number])
        averages = SpeechEncoder(dataclasses.replace(one, pooling="mean"), "cpu").embed(waveforms)
        assert_same(averages, vectors[:, :32])


def test_threads_that_share_an_encoder_do_not_see_each_others_layers(recipe):
    encoder = SpeechEncoder(dataclasses.replace(recipe("wavlm", "layer"), layer="all"), "cpu")
    waveforms = [tone(row, 0.1 + 0.05 * (row % 7), 16_000) for row in range(40)]
    expected = [encoder.embed([waveform]) for waveform in waveforms]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda waveform: encoder.embed([waveform]), waveforms))
    assert np.array_equal(np.stack(found), np.stack(expected))


def assert_compiled_is_exact(recipe, family, norm):
    torch._dynamo.reset()
    several = family in ("whisper", "wavlm")  # the first of WavLM's gives the next ones their bias
    plain = recipe(family, norm, **({} if several else {"num_hidden_layers": 1}))
    waveforms = [tone(row, seconds, 16_000) for row, seconds in enumerate((0.025, 2.5, 3.1, 0.7, 3.1, 2.2, 2.9))]
    waveforms += [np.zeros(400, dtype=np.float32), np.full(40_001, 0.3, dtype=np.float32)]
    alone = SpeechEncoder(plain, "cpu").embed(waveforms)
    encoder = SpeechEncoder(dataclasses.replace(plain, compiled=True), "cpu", batch_seconds=20)
    shapes, compiled = [], encoder._forward
    encoder._forward = lambda model, inputs, lengths: shapes.append(inputs.shape) or compiled(model, inputs, lengths)
    assert_same(encoder.embed(waveforms), alone)
    assert len(set(shapes)) >= 2 or family == "whisper"  # several shapes, one graph or a few
    assert_same(encoder.embed(waveforms[1:4]), alone[1:4])


UNLIKE = [("wav2vec2", "group"), ("wavlm", "layer"), ("whisper", "layer")]
"""Between them they have all kinds of blocks that there are: the other families have those of Wav2Vec2, in graphs of
their own."""


@pytest.mark.parametrize(
    ("family", "norm"),
    [pytest.param(*each, marks=[] if each == UNLIKE[0] else pytest.mark.slow) for each in FAMILIES],
)
def test_a_batch_of_one_graph_equals_one_by_one(recipe, monkeypatch, family, norm):
    """What is compiled, traced whole and for any shape, but without the compiler's own code."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    assert_compiled_is_exact(recipe, family, norm)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("family", "norm"), UNLIKE)
def test_a_compiled_batch_equals_one_by_one(recipe, family, norm):
    assert_compiled_is_exact(recipe, family, norm)


@pytest.mark.parametrize("poison", [999.0, float("nan"), float("inf")])
@pytest.mark.parametrize(("family", "norm"), [each for each in FAMILIES if each[0] != "whisper"])
def test_what_the_padding_holds_changes_nothing(recipe, family, norm, poison):
    encoder = SpeechEncoder(recipe(family, norm), "cpu")
    frames = partial(encoder.family.frames(True), encoder.model)
    lengths = torch.tensor([16_000, 400, 7_000])
    zeros, poisoned = torch.zeros(3, 20_000), torch.full((3, 20_000), poison)
    for row, length in enumerate(lengths):
        zeros[row, :length] = poisoned[row, :length] = torch.from_numpy(tone(row, 1.0, 16_000))[:length]
    with torch.inference_mode():
        found, expected = (pool(*frames(each, lengths), "mean+std") for each in (poisoned, zeros))
    assert torch.equal(found, expected)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
@pytest.mark.parametrize(("family", "norm"), FAMILIES)
def test_a_batch_in_half_precision_is_close_to_one_by_one(recipe, family, norm, precision):
    waveforms = [tone(row, seconds, 16_000) for row, seconds in enumerate((0.3, 1.1, 0.7, 1.0))]
    exact = SpeechEncoder(recipe(family, norm), "cpu").embed(waveforms)
    half = dataclasses.replace(recipe(family, norm), precision=precision)
    for batch_seconds in (None, 100.0):
        found = SpeechEncoder(half, "cpu", batch_seconds=batch_seconds).embed(waveforms)
        error = np.linalg.norm(found - exact, axis=1) / np.linalg.norm(exact, axis=1)
        assert 1e-6 < error.max() < (5e-3 if precision == "float16" else 5e-2)


@pytest.mark.parametrize(("family", "norm"), FAMILIES)
def test_nan_stays_in_its_row(recipe, family, norm):
    encoder = SpeechEncoder(recipe(family, norm), "cpu", batch_seconds=1000)
    waveforms = [tone(row, 0.5 + 0.2 * row, 16_000) for row in range(4)]
    expected = encoder.embed(waveforms)
    waveforms[2] = waveforms[2].copy()
    waveforms[2][100] = np.nan
    found = encoder.embed(waveforms)
    assert np.isnan(found[2]).all()
    assert np.array_equal(found[[0, 1, 3]], expected[[0, 1, 3]])


def test_masked_mean_keeps_to_the_own_frames():
    frames = torch.tensor([[[1.0], [3.0], [999.0]], [[5.0], [float("nan")], [7.0]]])
    own = torch.tensor([[True, True, False], [True, False, False]])
    assert masked_mean(frames, own).tolist() == [[2.0], [5.0]]


def test_masked_group_norm_is_the_norm_of_the_own_frames():
    torch.manual_seed(0)
    norm = nn.GroupNorm(4, 4)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    features = torch.randn(2, 4, 50) + 3.0
    own = torch.arange(50) < torch.tensor([[50], [20]])
    features[1, :, 20:] = 999.0
    found = masked_group_norm(norm, features, own)
    assert torch.allclose(found[0], norm(features[:1])[0], atol=1e-5)
    assert torch.allclose(found[1, :, :20], norm(features[1:, :, :20])[0], atol=1e-6)
    assert not found[1, :, 20:].any()
