"""Text encoders: a text's vector, whatever runs beside it, against transformers' own forward pass."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from golem_ray.config import ModelConfig
from golem_ray.embedding.recipe import Recipe, part_of
from golem_ray.errors import ConfigError
from golem_ray.text import MODALITY
from golem_ray.text.encoders import TextEncoder
from golem_ray.text.exact_forward import token_frames, tokens_alone
from golem_ray.text.families import FAMILIES as KNOWN
from golem_ray.text.read import tokens_of
from tests.text import FAMILIES, TEXTS, text_recipe, write_text_encoder

LIMIT = 1e-5

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    **{family: (family, {}) for family in FAMILIES},
    "deberta-v2 with a convolution": ("deberta-v2", {"conv_kernel_size": 3, "conv_act": "tanh"}),
    "deberta-v2 with positions": ("deberta-v2", {"position_biased_input": True}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of an encoder of each kind."""

    @cache
    def written(kind: str) -> Path:
        family, changes = KINDS[kind]
        return write_text_encoder(tmp_path_factory.mktemp("encoder"), family, **changes)

    return written


def tokens(recipe: Recipe, texts: tuple[str, ...] = TEXTS) -> list[np.ndarray]:
    return [tokens_of(text.encode(), recipe) for text in texts]


def error(found: np.ndarray, expected: np.ndarray, recipe: Recipe) -> float:
    """The largest relative error of a text's layer, or of a statistic of one."""
    parts, others = (each.reshape(len(each), *recipe.parts) for each in (found, expected))
    return float((np.linalg.norm(parts - others, axis=-1) / np.linalg.norm(others, axis=-1)).max())


def test_every_family_is_tried():
    assert set(FAMILIES) == set(KNOWN)


@pytest.mark.parametrize(("layer", "pooling"), [("last", "mean"), ("auto", "mean+std"), ("auto", "auto"), (1, "auto")])
@pytest.mark.parametrize("kind", KINDS)
def test_a_text_has_the_same_vector_in_a_batch_as_alone(folder, kind, layer, pooling):
    recipe = text_recipe(folder(kind), layer=layer, pooling=pooling)
    texts = tokens(recipe)
    alone = TextEncoder(recipe, "cpu").embed(texts)
    assert alone.shape == (len(TEXTS), recipe.encoded_size)
    encoder = TextEncoder(recipe, "cpu", batch_tokens=1e6)
    assert error(encoder.embed(texts), alone, recipe) <= LIMIT
    encoder._pad = int(texts[3][1])  # a word behind the others, not what they are usually filled up with
    assert error(encoder.embed(texts), alone, recipe) <= LIMIT


@pytest.mark.parametrize("kind", KINDS)
def test_without_the_mask_and_with_another_mean_the_padding_would_be_seen(folder, kind):
    """So that the test above can fail."""
    recipe = text_recipe(folder(kind))
    long, short = sorted(tokens(recipe), key=len, reverse=True)[:2]
    numbers = torch.full((2, len(long)), int(long[1]))
    numbers[0], numbers[1, : len(short)] = torch.from_numpy(long), torch.from_numpy(short)
    encoder = TextEncoder(recipe, "cpu")
    lengths = torch.tensor([len(long), len(short)])
    with torch.inference_mode():
        frames, own = token_frames(encoder.model, numbers, lengths)
        unmasked = encoder.model(input_ids=numbers).last_hidden_state
    expected = encoder.embed([short])[0]
    assert own.sum(dim=1).tolist() == lengths.tolist()

    def differs(vector: torch.Tensor) -> float:
        return float(np.linalg.norm(vector.numpy() - expected) / np.linalg.norm(expected))

    assert differs(frames[1, : len(short)].mean(dim=0)) <= LIMIT
    assert differs(frames[1].mean(dim=0)) > 100 * LIMIT
    assert differs(unmasked[1, : len(short)].mean(dim=0)) > 100 * LIMIT


@pytest.mark.parametrize("kind", KINDS)
def test_layers_are_those_that_transformers_gives(folder, kind):
    recipe = text_recipe(folder(kind), layer="auto", pooling="auto")
    found = TextEncoder(recipe, "cpu").embed(tokens(recipe))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder(kind))
    kind_of = transformers.T5EncoderModel if kind == "t5" else transformers.AutoModel
    model = kind_of.from_pretrained(folder(kind)).eval()
    expected = []
    for text in TEXTS:
        with torch.inference_mode():
            given = tokenizer(text, return_tensors="pt", return_token_type_ids=False)
            said = model(**given, output_hidden_states=True)
        states = [*said.hidden_states[:2], said.last_hidden_state]
        states.append(torch.stack(states).mean(dim=0))
        statistics = [[state[0].mean(dim=0), state[0, 0]][: len(recipe.pooling.split("+"))] for state in states]
        expected.append(torch.cat([each for layer in statistics for each in layer]).numpy())
    assert error(found, np.stack(expected), recipe) <= LIMIT
    assert recipe.layers == (0, 1, "last", "mean")
    for layer in recipe.layers:
        for pooling in recipe.pooling.split("+"):
            one = text_recipe(folder(kind), layer=layer, pooling=pooling)
            encoder = TextEncoder(one, "cpu", batch_tokens=200.0)
            assert error(encoder.embed(tokens(one)), part_of(found, recipe, layer, pooling), one) <= LIMIT


def test_one_by_one_equals_the_model_to_the_last_bit(folder):
    recipe = text_recipe(folder("bert"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder("bert"))
    model = transformers.AutoModel.from_pretrained(folder("bert")).eval()
    found = TextEncoder(recipe, "cpu").embed(tokens(recipe))
    for text, vector in zip(TEXTS, found, strict=True):
        with torch.inference_mode():
            given = torch.tensor([tokenizer(text)["input_ids"]])
            assert np.array_equal(vector, model(given).last_hidden_state.mean(dim=1)[0].numpy())
    with pytest.raises(AssertionError, match="alone"):
        tokens_alone(model, torch.zeros(2, 3, dtype=torch.long), torch.tensor([3, 3]))


@pytest.mark.parametrize("kind", KINDS)
def test_the_longest_text_runs_and_of_a_longer_one_the_beginning_counts(folder, kind):
    recipe = text_recipe(folder(kind))
    most = recipe.reading.max_tokens
    assert most in (128, 130, 512)
    text = TEXTS[3] * 40
    (whole,) = tokens(recipe, (text,))
    cut = np.concatenate([whole[: most - 1], whole[-1:]])
    encoder = TextEncoder(recipe, "cpu")
    assert len(whole) > most
    assert np.array_equal(encoder.embed([whole]), encoder.embed([cut]))
    assert not np.array_equal(encoder.embed([whole]), encoder.embed([cut[1:]]))


def test_batches_hold_texts_of_like_lengths_and_no_more_tokens_than_allowed(folder):
    recipe = text_recipe(folder("bert"))
    texts = tokens(recipe)
    encoder, shapes = TextEncoder(recipe, "cpu", batch_tokens=60.0), []
    forward = encoder._forward
    encoder._forward = lambda model, numbers, lengths: (
        shapes.append(tuple(numbers.shape)) or forward(model, numbers, lengths)
    )
    encoder.embed(texts)
    assert sum(rows for rows, _ in shapes) == len(texts)
    assert len(shapes) > 1
    assert all(rows * width <= 60 or rows == 1 for rows, width in shapes)
    assert encoder.batch_fill == sum(map(len, texts)) / (60 * len(shapes))
    assert encoder.embed([]).shape == (0, 32)


def keep(folder: Path, wanted: Callable[[str], bool]) -> int:
    """Leave those weights alone in the folder; how many were taken out."""
    weights = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if wanted(name)}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return len(weights) - len(kept)


@pytest.mark.parametrize("family", ["bert", "roberta", "mpnet"])
def test_a_missing_weight_is_refused_but_not_a_missing_pooler(tmp_path, family):
    folder = write_text_encoder(tmp_path, family)
    recipe = text_recipe(folder)
    expected = TextEncoder(recipe, "cpu").embed(tokens(recipe))
    assert keep(folder, lambda name: not name.startswith("pooler.")) == 2
    assert np.array_equal(TextEncoder(recipe, "cpu").embed(tokens(recipe)), expected)
    assert keep(folder, lambda name: not name.endswith("layer.1.output.dense.bias")) == 1
    with pytest.raises(ConfigError, match=r"expected all weights of a .* encoder .* found 1 missing \(encoder\..*\.$"):
        TextEncoder(text_recipe(folder), "cpu")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match="expected weights that load from"):
        TextEncoder(text_recipe(folder), "cpu")


@pytest.mark.parametrize("family", ["bert", "t5"])
def test_an_encoder_is_loaded_out_of_a_model_that_was_trained_for_something(tmp_path, family):
    whole = write_text_encoder(tmp_path, family, decoder_start_token_id=1)
    config = transformers.AutoConfig.from_pretrained(whole)
    names = {"bert": ("BertForMaskedLM", "bert"), "t5": ("T5ForConditionalGeneration", "encoder")}[family]
    torch.manual_seed(7)
    model = getattr(transformers, names[0])(config).eval()
    model.save_pretrained(whole)
    recipe = text_recipe(whole)
    found = TextEncoder(recipe, "cpu").embed(tokens(recipe))
    with torch.inference_mode():
        for numbers, vector in zip(tokens(recipe), found, strict=True):
            said = getattr(model, names[1])(input_ids=torch.from_numpy(numbers)[None].long()).last_hidden_state
            assert np.allclose(vector, said.mean(dim=1)[0].numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("precision", "limit"), [("tf32", 1e-6), ("float16", 1e-2), ("bfloat16", 6e-2)])
def test_a_lower_precision_is_close_and_stays_float32_outside(folder, precision, limit):
    recipe = text_recipe(folder("bert"), precision=precision)
    exact = TextEncoder(text_recipe(folder("bert")), "cpu").embed(tokens(recipe))
    for batch_tokens in (None, 100.0):
        found = TextEncoder(recipe, "cpu", batch_tokens=batch_tokens).embed(tokens(recipe))
        assert found.dtype == np.float32
        assert error(found, exact, recipe) < limit
        assert precision == "tf32" or error(found, exact, recipe) > 1e-6  # it is another precision


@pytest.mark.parametrize("kind", ["bert", "t5"])
def test_stopping_ends_what_is_under_way_within_a_layer(folder, kind):
    recipe = text_recipe(folder(kind))
    encoder, passed = TextEncoder(recipe, "cpu", batch_tokens=64.0), []
    first, second = KNOWN[recipe.encoder.model_type].blocks(encoder.model)
    first.register_forward_pre_hook(lambda *_: encoder.stop())  # as another thread does
    second.register_forward_pre_hook(lambda *_: passed.append(True))
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            encoder.embed(tokens(recipe))
    assert not passed
    ngrams = MODALITY.load_encoder(text_recipe("ngrams"), "cpu", None)
    ngrams.stop()
    with pytest.raises(KeyboardInterrupt):
        ngrams.embed(tokens(text_recipe("ngrams")))


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_behind_the_layer_are_not_run(folder, kind):
    encoder = TextEncoder(text_recipe(folder(kind), layer=0), "cpu")
    assert len(KNOWN[encoder.recipe.encoder.model_type].blocks(encoder.model)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("batch_tokens", [None, 200.0])
def test_a_compiled_encoder_gives_the_same_vectors(folder, batch_tokens):
    recipe = text_recipe(folder("bert"), compile=True, layer="auto", pooling="auto")
    texts = tokens(recipe)
    expected = TextEncoder(text_recipe(folder("bert"), layer="auto", pooling="auto"), "cpu").embed(texts)
    found = TextEncoder(recipe, "cpu", batch_tokens=batch_tokens).embed(texts)
    assert error(found, expected, recipe) <= LIMIT


def test_what_does_not_compile_is_one_clear_error(folder, monkeypatch):
    def broken(*_: object, **__: object) -> Any:
        raise RuntimeError("no C++ compiler\nfound")

    monkeypatch.setattr("golem_ray.text.encoders.compiled", lambda forward: broken)
    with pytest.raises(ConfigError, match=r"^model\.compile: expected .*no C\+\+ compiler found; leave it off\.$"):
        TextEncoder(text_recipe(folder("bert"), compile=True), "cpu")
    assert ModelConfig().compile is False
