"""What a text encoder is found to be by its files, what of a configuration makes its recipe, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from golem_ray.config import ModelConfig, ProcessingConfig
from golem_ray.embedding.recipe import Recipe
from golem_ray.errors import ConfigError
from golem_ray.speech.inspect import recipe_for
from golem_ray.text import MODALITY
from golem_ray.text.inspect import configured_recipe, fingerprint, inspect_encoder, provenance, recorded_recipe
from golem_ray.text.ngrams import WIDTH
from golem_ray.text.traits import TextTraits
from tests.conftest import write_encoder
from tests.text import FAMILIES, text_recipe, write_text_encoder


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text_encoder(tmp_path_factory.mktemp("bert"))


def described(folder: Path, **config: Any) -> Path:
    """A folder with a config.json alone."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def inspect(folder: object, **keys: Any) -> Any:
    return inspect_encoder(ModelConfig(feature_extractor_model=str(folder), **keys))


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_is_known_by_its_config(tmp_path, family):
    info = inspect(write_text_encoder(tmp_path, family))
    assert (info.model_type, info.embedding_size, info.num_layers, info.exact_in_batches) == (family, 32, 2, True)
    longest = {"roberta": 128, "xlm-roberta": 128, "mpnet": 128, "t5": None, "deberta-v2": None}.get(family, 130)
    assert info.traits == TextTraits(tokenizes=True, has_cls=family != "t5", longest=longest)


@pytest.mark.parametrize(
    ("config", "longest", "read"),
    [
        ({"model_type": "bert", "max_position_embeddings": 512}, 512, 512),
        ({"model_type": "roberta", "max_position_embeddings": 514}, 512, 512),
        ({"model_type": "xlm-roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 512, 512),
        ({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 0}, 513, 512),
        ({"model_type": "bert", "max_position_embeddings": 64}, 64, 64),
        ({"model_type": "modernbert", "max_position_embeddings": 8192}, 8192, 512),
        ({"model_type": "deberta-v2", "max_position_embeddings": 512}, 512, 512),
        ({"model_type": "deberta-v2", "max_position_embeddings": 512, "position_biased_input": False}, None, 512),
        ({"model_type": "t5", "d_model": 8, "num_layers": 3}, None, 512),
        ({"model_type": "distilbert", "dim": 8, "n_layers": 3, "max_position_embeddings": 256}, 256, 256),
    ],
)
def test_how_much_of_a_text_is_read(tmp_path, config, longest, read):
    folder = described(tmp_path, hidden_size=8, num_hidden_layers=3, **config)
    recipe = text_recipe(folder)
    assert (recipe.encoder.embedding_size, recipe.encoder.num_layers) == (8, 3)
    assert (recipe.encoder.traits.longest, recipe.reading.max_tokens) == (longest, read)
    assert text_recipe(folder, {"max_tokens": 9}).reading.max_tokens == 9
    if longest is None:
        assert text_recipe(folder, {"max_tokens": 5000}).reading.max_tokens == 5000
        return
    assert text_recipe(folder, {"max_tokens": longest}).reading.max_tokens == longest
    with pytest.raises(ConfigError, match=rf"^processing\.max_tokens: expected {longest} or fewer for .*, got 9000\.$"):
        text_recipe(folder, {"max_tokens": 9000})


def test_what_is_no_text_encoder_is_refused_in_one_line(tmp_path, bert):
    for name, kind in ((described(tmp_path / "gpt", model_type="gpt2"), "gpt2"), ("sample", None)):
        with pytest.raises(ConfigError, match=r"^model\.feature_extractor_model: expected ") as error:
            inspect(name)
        assert kind is None or f"expected a text encoder (bert, {', '.join(FAMILIES[1:])})" in str(error.value)
        assert kind is None or f"found {name} to be {kind!r}." in str(error.value)
    speech = write_encoder(tmp_path / "speech")
    with pytest.raises(ConfigError, match="expected a text encoder .* to be 'wav2vec2'"):
        inspect(speech)
    with pytest.raises(ConfigError, match="expected a speech encoder"):
        recipe_for(ModelConfig(feature_extractor_model=str(bert)))
    with pytest.raises(ConfigError, match="expected hidden_size in config.json of .*, found none"):
        inspect(described(tmp_path / "bare", model_type="bert"))
    with pytest.raises(ConfigError, match=r"model.classifier_input_features: expected 32, .* got 768"):
        inspect(bert, classifier_input_features=768)
    with pytest.raises(ConfigError, match=rf"model.classifier_input_features: expected {WIDTH}, .* got 768"):
        text_recipe("ngrams", classifier_input_features=768)


@pytest.mark.parametrize(
    ("key", "value"), [("max_seconds", 9.0), ("trim_silence", True), ("target_sampling_rate", 8000)]
)
def test_what_is_said_of_clips_is_refused_for_texts(bert, key, value):
    with pytest.raises(ConfigError, match=rf"^processing\.{key}: expected none for texts, got {value}\.$"):
        text_recipe(bert, {key: value})


def test_false_which_a_sidecar_has_of_trimming_is_none_and_what_is_joined_no_encoder_gives(bert):
    assert text_recipe(bert, {"trim_silence": False}) == text_recipe(bert, join_baseline="auto") == text_recipe(bert)
    assert text_recipe(bert, join_baseline=True) == text_recipe(bert)


def test_a_configuration_becomes_a_recipe(bert, tmp_path):
    assert text_recipe(bert, layer="auto").layers == (0, 1, "last", "mean")
    assert text_recipe(bert, layer=2).layer == "last"  # what comes out of the last block
    assert text_recipe(bert, pooling="auto").pooling == "mean+cls"
    assert text_recipe(bert, pooling="cls").vector_size == 32
    assert text_recipe(bert, compile=True).compiled
    with pytest.raises(ConfigError, match=r"^model\.layer: expected 0 to 2, the blocks of .*, got 3\.$"):
        text_recipe(bert, layer=3)
    t5 = write_text_encoder(tmp_path, "t5")
    assert text_recipe(t5, pooling="auto").pooling == "mean"
    with pytest.raises(ConfigError, match=r"^model\.pooling: expected 'mean' for .*, which has no \[CLS\]"):
        text_recipe(t5, pooling="cls")
    with pytest.raises(ConfigError, match=r"^model\.pooling: expected .* for clips, got 'cls'\.$"):
        recipe_for(ModelConfig(feature_extractor_model=str(write_encoder(tmp_path / "speech")), pooling="cls"))


def test_the_encoder_without_training_has_one_layer_and_no_tokens():
    recipe = text_recipe("ngrams", layer="auto", pooling="auto", compile=True)
    assert (recipe.layer, recipe.pooling, recipe.compiled, recipe.vector_size) == ("last", "mean", False, WIDTH)
    assert recipe == text_recipe("ngrams") == text_recipe("ngrams", layer=0)
    for key, value in (("layer", 1), ("layer", "mean"), ("pooling", "mean+std"), ("pooling", "cls")):
        with pytest.raises(ConfigError, match=rf"^model\.{key}: expected .* ngrams"):
            text_recipe("ngrams", **{key: value})
    with pytest.raises(ConfigError, match=r"^processing\.max_tokens: expected none for ngrams, got 9\.$"):
        text_recipe("ngrams", {"max_tokens": 9})


@pytest.fixture
def changed(bert: Path, tmp_path: Path) -> Recipe:
    """A recipe that has everything otherwise."""
    (tmp_path / "words.csv").write_text("from,to\nщас,сейчас\nэм,\n")
    processing = {"max_tokens": 9, "emoji_language": "ru", "replacements": str(tmp_path / "words.csv")}
    return text_recipe(bert, processing, layer=1, pooling="mean+std", precision="bfloat16")


def test_what_a_sidecar_says_of_a_recipe_gives_it_again(bert, changed):
    for recipe, name in ((changed, bert), (text_recipe(bert), bert), (text_recipe("ngrams"), "ngrams")):
        record = json.loads(json.dumps(provenance(recipe)))
        assert recorded_recipe(record, str(name), None) == recipe
        assert MODALITY.provenance(recipe) == record
    compiled = dataclasses.replace(changed, compiled=True)
    assert recorded_recipe(provenance(compiled), str(bert), None) == changed
    assert provenance(changed)["replacements"] == [["щас", "сейчас"], ["эм", ""]]  # not where they lay


@pytest.mark.parametrize(
    "change",
    [
        {"max_tokens": "9"},
        {"max_tokens": 0},
        {"max_tokens": True},
        {"emoji_language": "xx"},
        {"emoji_language": ["ru"]},
        {"replacements": 7},
        {"replacements": [["a"]]},
        {"replacements": [["a", 1]]},
        {"replacements": ["ab"]},
    ],
    ids=str,
)
def test_a_sidecar_that_says_something_else_is_refused(bert, changed, change):
    with pytest.raises(ConfigError, match=rf"^encoder\.{next(iter(change))}: expected what this package writes"):
        recorded_recipe({**provenance(changed), **change}, str(bert), None)


def test_everything_that_changes_a_vector_changes_the_fingerprint(bert, tmp_path):
    other = Path(shutil.copytree(bert, tmp_path / "other"))
    (other / "tokenizer.json").write_text((other / "tokenizer.json").read_text() + " ")
    (tmp_path / "a.csv").write_text("from,to\na,b\n")
    (tmp_path / "b.csv").write_text("from,to\na,c\n")
    configurations: list[tuple[object, dict[str, Any], dict[str, Any]]] = [
        (bert, {}, {}),
        (other, {}, {}),
        (bert, {"max_tokens": 9}, {}),
        (bert, {"emoji_language": "ru"}, {}),
        (bert, {"emoji_language": "en"}, {}),
        (bert, {"replacements": str(tmp_path / "a.csv")}, {}),
        (bert, {"replacements": str(tmp_path / "b.csv")}, {}),
        (bert, {}, {"layer": 1}),
        (bert, {}, {"pooling": "cls"}),
        (bert, {}, {"precision": "bfloat16"}),
        (bert, {}, {"compile": True}),
        ("ngrams", {}, {}),
        ("ngrams", {"emoji_language": "ru"}, {}),
    ]
    prints = [json.dumps(fingerprint(text_recipe(*each[:2], **each[2]))) for each in configurations]
    assert len(set(prints)) == len(prints)
    moved = shutil.copytree(bert, tmp_path / "moved")
    assert fingerprint(text_recipe(moved)) == fingerprint(text_recipe(bert))
    assert set(json.loads(prints[0])["libraries"]) == {"torch", "transformers", "tokenizers", "numpy"}
    assert set(json.loads(prints[-1])["libraries"]) == {"scikit-learn", "emoji"}
    assert configured_recipe(ModelConfig(feature_extractor_model="ngrams"), ProcessingConfig()) == text_recipe("ngrams")


def test_the_bundled_encoder_of_clips_is_named_as_such():
    with pytest.raises(ConfigError, match="got 'sample', which is one of clips"):
        text_recipe("sample")
