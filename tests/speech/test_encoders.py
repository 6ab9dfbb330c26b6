"""Speech encoders: a clip's vector, whatever runs beside it, against transformers' own forward pass."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch
import transformers

from golem_ray.config import ModelConfig
from golem_ray.embedding.loading import pack, precision_note
from golem_ray.embedding.recipe import Recipe
from golem_ray.errors import ConfigError
from golem_ray.speech import MODALITY
from golem_ray.speech.encoders import SpeechEncoder
from golem_ray.speech.families import FAMILIES
from golem_ray.speech.inspect import inspect_encoder
from tests.conftest import speech_recipe, tone, write_encoder
from tests.speech.test_exact_forward import FAMILIES as IN_BATCHES


def inspect(folder, **keys):
    return inspect_encoder(ModelConfig(feature_extractor_model=str(folder), **keys))


@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("family", ["wav2vec2", "hubert", "wavlm", "unispeech-sat"])
def test_an_embedding_is_the_mean_of_the_last_layer(tmp_path, family, norm):
    folder = write_encoder(
        tmp_path / "enc", family=family, feat_extract_norm=norm, do_stable_layer_norm=norm == "layer"
    )
    info = inspect(folder)
    assert (info.model_type, info.embedding_size, info.traits.sampling_rate) == (family, 32, 16000)
    clips = [tone(seed, seconds, 16000) for seed, seconds in enumerate((0.025, 0.3, 1.1))]
    vectors = SpeechEncoder(Recipe(modality="speech", encoder=info), "cpu").embed(clips)

    extractor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    for clip, vector in zip(clips, vectors, strict=True):
        inputs = extractor(clip, sampling_rate=16000, return_tensors="pt").input_values
        with torch.no_grad():
            expected = model(inputs).last_hidden_state.mean(dim=1)[0].numpy()
        assert np.linalg.norm(vector - expected) <= 1e-5 * np.linalg.norm(expected)


def test_a_clips_vector_does_not_depend_on_what_runs_beside_it(encoder_folder):
    encoder = SpeechEncoder(speech_recipe(encoder_folder), "cpu")
    clips = [tone(seed, 0.2 + 0.1 * seed, 16000) for seed in range(4)]
    together = encoder.embed(clips)
    assert together.dtype == np.float32
    for row, clip in enumerate(clips):
        assert np.array_equal(together[row], encoder.embed([clip])[0])


def test_batches_are_packed_by_padded_seconds_longest_first():
    assert pack([1.0, 5.0, 2.0, 2.0, 30.0], 8.0) == [[4], [1], [2, 3, 0]]
    assert pack([3.0], 1.0) == [[0]]
    assert pack([], 8.0) == []
    rng = np.random.default_rng(0)
    seconds = rng.lognormal(1.85, 0.5, size=500)
    batches = pack(seconds.tolist(), 60.0)
    assert sorted(index for batch in batches for index in batch) == list(range(500))
    padded = [len(batch) * max(seconds[batch]) for batch in batches]
    assert max(padded) <= 60.0
    assert seconds.sum() / sum(padded) > 0.95


def count_forwards(encoder):
    """The shapes of what the encoder's forward pass is given from now on."""
    shapes, forward = [], encoder._forward
    encoder._forward = lambda model, inputs, lengths: (
        shapes.append(tuple(inputs.shape)) or forward(model, inputs, lengths)
    )
    return shapes


def test_only_like_lengths_share_a_batch(encoder_folder):
    clips = [tone(seed, seconds, 16000) for seed, seconds in enumerate((0.5, 4.0, 0.4, 0.5))]
    encoder = SpeechEncoder(speech_recipe(encoder_folder), "cpu", batch_seconds=2.0)
    shapes = count_forwards(encoder)
    encoder.embed(clips)
    assert shapes == [(1, 64000), (3, 8000)]
    encoder = SpeechEncoder(speech_recipe(encoder_folder), "cpu")
    shapes = count_forwards(encoder)
    encoder.embed(clips)
    assert [shape[0] for shape in shapes] == [1, 1, 1, 1]


@pytest.mark.parametrize("batch_seconds", [None, 6.0])
def test_a_long_clips_mean_and_deviation_are_over_the_frames_of_its_windows(encoder_folder, batch_seconds):
    plain = speech_recipe(encoder_folder, layer="all", pooling="mean+std")
    waveform = tone(0, 4.5, 16000)
    scaled = (waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7)
    encoder = SpeechEncoder(plain, "cpu")
    frames = []
    for window in (scaled[:32000], scaled[32000:64000], scaled[64000:]):
        with torch.inference_mode():
            found = encoder.model(torch.from_numpy(window)[None], output_hidden_states=True)
        states = [state[0].numpy() for state in (*found.hidden_states[:2], found.last_hidden_state)]
        frames.append(np.stack([*states, np.mean(states, axis=0)]))
    whole = np.concatenate(frames, axis=1).astype(np.float64)
    expected = np.stack([whole.mean(axis=1), whole.std(axis=1)], axis=1).reshape(1, -1)
    windowed = dataclasses.replace(plain, window=2.0)
    vectors = SpeechEncoder(windowed, "cpu", batch_seconds=batch_seconds).embed([waveform])
    assert np.linalg.norm(vectors - expected) <= 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize("batch_seconds", [None, 6.0])
def test_a_long_clip_is_the_mean_over_the_frames_of_its_windows(encoder_folder, batch_seconds):
    plain, windowed = speech_recipe(encoder_folder), speech_recipe(encoder_folder, window=2.0)
    waveform = tone(0, 4.5, 16000)
    short = tone(1, 1.9, 16000)
    encoder = SpeechEncoder(windowed, "cpu", batch_seconds=batch_seconds)
    shapes = count_forwards(encoder)
    found = encoder.embed([waveform, short])
    assert max(shape[1] for shape in shapes) == 32000

    alone = SpeechEncoder(plain, "cpu")
    normed = alone.preprocessor(waveform, sampling_rate=16000).input_values[0]
    alone.preprocessor.do_normalize = False
    parts = alone.embed([normed[:32000], normed[32000:64000], normed[64000:]])
    expected = (99 * parts[0] + 99 * parts[1] + 24 * parts[2]) / 222  # frames of 25 ms every 20 ms
    assert np.allclose(found[0], expected, rtol=1e-4, atol=1e-6)
    assert np.allclose(found[1], SpeechEncoder(plain, "cpu").embed([short])[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("batch_seconds", [None, 6.0])
def test_a_clip_of_many_minutes_goes_in_windows_also_where_none_are_asked_for(
    encoder_folder, batch_seconds, monkeypatch, caplog
):
    plain, windowed = speech_recipe(encoder_folder), speech_recipe(encoder_folder, window=1.0)
    clips = [tone(0, 2.0, 16000), tone(1, 2.1, 16000), tone(2, 2.5, 16000)]
    whole, parts = (
        SpeechEncoder(recipe, "cpu", batch_seconds=batch_seconds).embed(clips) for recipe in (plain, windowed)
    )
    monkeypatch.setattr("golem_ray.speech.encoders.WHOLE_S", 2.0)
    monkeypatch.setattr("golem_ray.speech.encoders.WINDOW_S", 1.0)
    monkeypatch.setattr("golem_ray.speech.WHOLE_S", 2.0)
    with caplog.at_level("INFO", logger="golem_ray"):
        found = SpeechEncoder(plain, "cpu", batch_seconds=batch_seconds).embed(clips)
    assert np.allclose(found, np.stack([whole[0], parts[1], parts[2]]), rtol=1e-5, atol=1e-6)
    assert not np.allclose(found[1:], whole[1:], rtol=1e-5, atol=1e-6)
    assert caplog.messages == ["a clip of 2 s goes in windows of 1 s: see processing.max_seconds"]
    assert [MODALITY.remark(clip, plain).split(" minutes")[0] for clip in clips] == [
        "",
        "longer than 5",
        "longer than 5",
    ]
    assert MODALITY.remark(clips[2], windowed) == ""  # they were asked for


def test_a_rest_too_short_for_a_frame_goes_to_the_window_before(encoder_folder):
    encoder = SpeechEncoder(speech_recipe(encoder_folder, window=1.0), "cpu")
    shapes = count_forwards(encoder)
    assert np.isfinite(encoder.embed([tone(0, 2.0, 16000), np.resize(tone(0, 2.0, 16000), 32399)])).all()
    assert shapes == [(1, 16000), (1, 16000), (1, 16000), (1, 16399)]


@pytest.mark.parametrize("batch_seconds", [None, 1000.0])
def test_whisper_takes_windows_of_30_s_and_the_mean_of_the_own_frames(tmp_path, batch_seconds):
    folder = write_encoder(tmp_path / "enc", family="whisper")
    info = inspect(folder)
    assert (info.model_type, info.embedding_size, info.traits.window_s) == ("whisper", 32, 30.0)
    clips = [tone(seed, seconds, 16000) for seed, seconds in enumerate((0.025, 2.0, 45.0))]
    found = SpeechEncoder(Recipe(modality="speech", encoder=info), "cpu", batch_seconds=batch_seconds).embed(clips)

    extractor = transformers.WhisperFeatureExtractor.from_pretrained(folder)
    model = transformers.WhisperModel.from_pretrained(folder).eval().encoder

    def frames(clip, count):
        features = extractor(clip, sampling_rate=16000, return_tensors="pt").input_features
        with torch.no_grad():
            return model(features).last_hidden_state[0, :count].numpy()

    expected = [
        frames(clips[0], 2).mean(axis=0),  # three hops of 10 ms, two frames of 20 ms
        frames(clips[1], 100).mean(axis=0),
        np.concatenate([frames(clips[2][: 30 * 16000], 1500), frames(clips[2][30 * 16000 :], 750)]).mean(axis=0),
    ]
    assert (np.linalg.norm(found - expected, axis=1) <= 1e-5 * np.linalg.norm(expected, axis=1)).all()


def test_of_whisper_only_the_encoder_is_needed(tmp_path):
    from safetensors.torch import load_file, save_file

    weights = write_encoder(tmp_path / "enc", family="whisper") / "model.safetensors"
    clip = tone(0, 0.5, 16000)
    expected = SpeechEncoder(speech_recipe(tmp_path / "enc"), "cpu").embed([clip])
    kept = {name: tensor for name, tensor in load_file(weights).items() if name.startswith("encoder.")}
    save_file(kept, weights, metadata={"format": "pt"})
    assert np.array_equal(SpeechEncoder(speech_recipe(tmp_path / "enc"), "cpu").embed([clip]), expected)
    kept.popitem()
    save_file(kept, weights, metadata={"format": "pt"})
    with pytest.raises(ConfigError, match="1 missing"):
        SpeechEncoder(speech_recipe(tmp_path / "enc"), "cpu")


ONE_BY_ONE = [
    ("data2vec-audio", {"num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 3}),
    ("wav2vec2", {"add_adapter": True}),
    ("hubert", {"conv_pos_batch_norm": True}),
]


def test_every_family_is_tried_here_or_in_batches():
    assert {family for family, _ in ONE_BY_ONE} | {family for family, _ in IN_BATCHES} == set(FAMILIES)


@pytest.mark.parametrize(("family", "changes"), ONE_BY_ONE)
def test_an_encoder_that_is_not_exact_in_batches_runs_one_by_one(tmp_path, family, changes):
    info = inspect(write_encoder(tmp_path / "enc", family=family, **changes))
    assert not info.exact_in_batches
    with pytest.raises(ConfigError, match="expected an encoder that is exact in batches"):
        SpeechEncoder(Recipe(modality="speech", encoder=info), "cpu", batch_seconds=10.0)
    clips = [tone(seed, 0.5 + seed, 16000) for seed in range(3)]
    model = transformers.AutoModel.from_pretrained(tmp_path / "enc").eval()
    extractor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(tmp_path / "enc")
    for clip, vector in zip(
        clips, SpeechEncoder(Recipe(modality="speech", encoder=info), "cpu").embed(clips), strict=True
    ):
        inputs = extractor(clip, sampling_rate=16000, return_tensors="pt").input_values
        with torch.no_grad():
            expected = model(inputs).last_hidden_state.mean(dim=1)[0].numpy()
        assert np.linalg.norm(vector - expected) <= 1e-5 * np.linalg.norm(expected)


def test_one_by_one_equals_the_feature_extractor_and_the_model_to_the_last_bit(encoder_folder):
    clips = [tone(0, 0.7, 16000) + 0.1, np.full(9000, 0.3, dtype=np.float32)]
    extractor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(encoder_folder)
    model = transformers.Wav2Vec2Model.from_pretrained(encoder_folder).eval()
    found = SpeechEncoder(speech_recipe(encoder_folder), "cpu").embed(clips)
    for clip, vector in zip(clips, found, strict=True):
        with torch.inference_mode():
            inputs = extractor(clip, sampling_rate=16000, return_tensors="pt").input_values
            assert np.array_equal(vector, model(inputs).last_hidden_state.mean(dim=1)[0].numpy())


@pytest.mark.parametrize(("precision", "limit"), [("tf32", 1e-6), ("float16", 4e-3), ("bfloat16", 4e-2)])
def test_a_lower_precision_is_close_and_stays_float32_outside(encoder_folder, precision, limit):
    clips = [tone(seed, 0.3 + 0.3 * seed, 16000) for seed in range(4)]
    exact = SpeechEncoder(speech_recipe(encoder_folder), "cpu").embed(clips)
    for batch_seconds in (None, 100.0):
        recipe = speech_recipe(encoder_folder, precision=precision)
        found = SpeechEncoder(recipe, "cpu", batch_seconds=batch_seconds).embed(clips)
        assert found.dtype == np.float32
        error = np.linalg.norm(found - exact, axis=1) / np.linalg.norm(exact, axis=1)
        assert error.max() < limit
        assert precision == "tf32" or error.max() > 1e-6  # it is another precision


def test_tf32_is_on_only_where_asked_for_and_only_in_the_forward_pass(encoder_folder, monkeypatch):
    flags = torch.backends.cuda.matmul, torch.backends.cudnn
    before, seen = [flag.allow_tf32 for flag in flags], []
    for precision, wanted in (("tf32", True), ("float32", False), ("float16", False)):
        encoder = SpeechEncoder(speech_recipe(encoder_folder, precision=precision), "cpu")
        forward = encoder._forward

        def watched(*inputs, forward=forward):
            seen.append([flag.allow_tf32 for flag in flags])
            return forward(*inputs)

        monkeypatch.setattr(encoder, "_forward", watched)
        monkeypatch.setattr(encoder, "device", "cuda")  # as far as flags go
        encoder.embed([tone(0, 0.5, 16000)])
        assert seen.pop() == [wanted, wanted]
        assert [flag.allow_tf32 for flag in flags] == before


def test_what_a_cpu_lacks_is_said(monkeypatch):
    assert precision_note("float32", "cpu") == precision_note("bfloat16", "cuda") == ""
    assert "tf32 is float32 on a CPU" in precision_note("tf32", "cpu")
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx2": True})
    assert "no arithmetic of its own for bfloat16" in precision_note("bfloat16", "cpu")
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"amx_bf16": True})
    assert precision_note("bfloat16", "cpu") == ""


@pytest.mark.parametrize("damage", ["absent", "truncated", "incomplete"])
def test_weights_that_do_not_load_are_refused(encoder_folder, tmp_path, damage):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(encoder_folder, tmp_path / "enc")
    weights = folder / "model.safetensors"
    if damage == "absent":
        weights.unlink()
    elif damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:5000])
    else:
        kept = {name: tensor for name, tensor in load_file(weights).items() if "layers.1." not in name}
        save_file(kept, weights, metadata={"format": "pt"})
    with pytest.raises(ConfigError, match="expected (weights that load|all weights)") as error:
        SpeechEncoder(speech_recipe(folder), "cpu")
    assert "\n" not in str(error.value)
