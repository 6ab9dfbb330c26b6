import json
import shutil

import numpy as np
import pytest
import torch
import transformers

from golem_ray.config import ModelConfig
from golem_ray.encoders import SpeechEncoder, check_sampling_rate, inspect_encoder
from golem_ray.errors import ConfigError
from tests.conftest import tone, write_encoder


def inspect(folder, **keys):
    return inspect_encoder(ModelConfig(feature_extractor_model=str(folder), **keys))


@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("family", ["wav2vec2", "hubert", "wavlm", "unispeech-sat"])
def test_an_embedding_is_the_mean_of_the_last_layer(tmp_path, family, norm):
    folder = write_encoder(
        tmp_path / "enc", family=family, feat_extract_norm=norm, do_stable_layer_norm=norm == "layer"
    )
    info = inspect(folder)
    assert (info.model_type, info.embedding_size, info.sampling_rate) == (family, 32, 16000)
    clips = [tone(seed, seconds, 16000) for seed, seconds in enumerate((0.025, 0.3, 1.1))]
    vectors = SpeechEncoder(info, "cpu").embed(clips)

    extractor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    for clip, vector in zip(clips, vectors, strict=True):
        inputs = extractor(clip, sampling_rate=16000, return_tensors="pt").input_values
        with torch.no_grad():
            expected = model(inputs).last_hidden_state.mean(dim=1)[0].numpy()
        assert np.linalg.norm(vector - expected) <= 1e-5 * np.linalg.norm(expected)


def test_a_clips_vector_does_not_depend_on_what_runs_beside_it(encoder_folder):
    encoder = SpeechEncoder(inspect(encoder_folder), "cpu")
    clips = [tone(seed, 0.2 + 0.1 * seed, 16000) for seed in range(4)]
    together = encoder.embed(clips)
    assert together.dtype == np.float32
    for row, clip in enumerate(clips):
        assert np.array_equal(together[row], encoder.embed([clip])[0])


def test_the_digest_follows_the_weights(tmp_path):
    first = inspect(write_encoder(tmp_path / "a", seed=0))
    assert inspect(write_encoder(tmp_path / "b", seed=0)).sha256 == first.sha256
    assert inspect(write_encoder(tmp_path / "c", seed=1)).sha256 != first.sha256


def edit_json(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda folder: (folder / "config.json").unlink(), "expected a config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "to hold a JSON object"),
        (lambda folder: edit_json(folder / "config.json", model_type="bert"), "expected a speech encoder .*'bert'"),
        (lambda folder: (folder / "preprocessor_config.json").unlink(), "expected sampling_rate in preprocessor"),
    ],
)
def test_a_folder_that_is_no_speech_encoder_is_refused(encoder_folder, tmp_path, edit, words):
    folder = shutil.copytree(encoder_folder, tmp_path / "enc")
    edit(folder)
    with pytest.raises(ConfigError, match=words):
        inspect(folder)


def test_what_does_not_match_the_encoder_is_refused_with_both_numbers(encoder_folder):
    assert inspect(encoder_folder, classifier_input_features=32).embedding_size == 32
    with pytest.raises(ConfigError, match=r"model.classifier_input_features: expected 32, .* got 768"):
        inspect(encoder_folder, classifier_input_features=768)
    with pytest.raises(ConfigError, match=r"processing.target_sampling_rate: expected 16000, .* got 8000"):
        check_sampling_rate(inspect(encoder_folder), 8000)
    with pytest.raises(ConfigError, match="expected a Hub id or a local folder, found neither at '/no/such'"):
        inspect("/no/such")


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
        SpeechEncoder(inspect(folder), "cpu")
    assert "\n" not in str(error.value)
