"""What a speech encoder is found to be by its files, and what is refused."""

import json
import shutil
from pathlib import Path

import pytest

from golem_ray.config import ModelConfig, ProcessingConfig
from golem_ray.errors import ConfigError
from golem_ray.speech.inspect import configured_recipe, inspect_encoder, provenance, recipe_for, recorded_recipe
from tests.conftest import speech_recipe, write_encoder


def configured(folder, **keys):
    return ModelConfig(feature_extractor_model=str(folder), **keys)


def inspect(folder, **keys):
    return inspect_encoder(configured(folder, **keys))


def edit_json(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_the_digest_follows_the_weights(tmp_path):
    first = inspect(write_encoder(tmp_path / "a", seed=0))
    assert inspect(write_encoder(tmp_path / "b", seed=0)).sha256 == first.sha256
    assert inspect(write_encoder(tmp_path / "c", seed=1)).sha256 != first.sha256


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


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_file_that_this_user_may_not_read_is_named(encoder_folder, monkeypatch, name):
    opened = Path.open

    def refused(path, *arguments, **options):
        if path.name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(ConfigError, match=rf"expected to be able to read \S+/{name}, but Permission denied\.$"):
        inspect(encoder_folder)


@pytest.mark.parametrize(
    "change", [{"chunk_length": 10}, {"chunk_length": 30.5}, {"chunk_length": 0}, {"hop_length": 80}]
)
def test_a_whisper_whose_windows_do_not_fit_is_refused(tmp_path, change):
    folder = write_encoder(tmp_path / "enc", family="whisper")
    edit_json(folder / "preprocessor_config.json", **change)
    with pytest.raises(ConfigError, match="expected chunk_length in preprocessor_config.json of .* to fit"):
        inspect(folder)


def test_what_does_not_match_the_encoder_is_refused_with_both_numbers(encoder_folder):
    assert inspect(encoder_folder, classifier_input_features=32).embedding_size == 32
    with pytest.raises(ConfigError, match=r"model.classifier_input_features: expected 32, .* got 768"):
        inspect(encoder_folder, classifier_input_features=768)
    model = ModelConfig(feature_extractor_model=str(encoder_folder))
    with pytest.raises(ConfigError, match=r"processing.target_sampling_rate: expected 16000, .* got 8000"):
        configured_recipe(model, ProcessingConfig(target_sampling_rate=8000))
    assert configured_recipe(model, ProcessingConfig()) == speech_recipe(encoder_folder)
    with pytest.raises(ConfigError, match="expected a Hub id or a local folder, found neither at '/no/such'"):
        inspect("/no/such")


def test_a_configuration_becomes_a_recipe(encoder_folder, tmp_path):
    assert recipe_for(configured(encoder_folder, layer="auto")).layers == (0, 1, "last", "mean")
    assert recipe_for(configured(encoder_folder, layer=1), 5.0) == speech_recipe(encoder_folder, layer=1, window=5.0)
    assert recipe_for(configured(encoder_folder, layer=2)).layer == "last"  # what comes out of the last block
    with pytest.raises(ConfigError, match=r"model\.layer: expected 0 to 2, the blocks of .*, got 3"):
        recipe_for(configured(encoder_folder, layer=3))
    adapted = write_encoder(tmp_path / "enc", add_adapter=True)
    with pytest.raises(ConfigError, match=r"model\.layer: expected 'last', 'auto' or a number for .* got 'mean'"):
        recipe_for(configured(adapted, layer="mean"))


def test_what_a_sidecar_says_of_a_recipe_gives_it_again(encoder_folder):
    recipe = speech_recipe(encoder_folder, precision="bfloat16", layer=1, pooling="mean+std", window=4.0)
    record = provenance(recipe)
    assert (record["max_seconds"], record["sampling_rate"]) == (4.0, 16000)
    assert recorded_recipe(record, str(encoder_folder), None) == recipe
    oldest = {"name": str(encoder_folder)}  # as the first versions wrote it
    assert recorded_recipe(oldest, str(encoder_folder), None) == speech_recipe(encoder_folder)
