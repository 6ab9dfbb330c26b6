"""One text, from bytes to the numbers that its encoder takes: what cannot be used, and what is kept of a long one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from golem_ray.embedding.examples import read_example
from golem_ray.errors import ConfigError, ExampleError
from golem_ray.text import MODALITY
from golem_ray.text.read import MOST_CHARACTERS, as_bytes, decode, is_truncated, pad_number, tokens_of, truncated
from tests.text import TEXTS, text_recipe, texts_table, write_text_encoder

SECRET = "мой пароль: тайна"


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text_encoder(tmp_path_factory.mktemp("bert"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty text"),
        (b"\xef\xbb\xbf", "empty text"),
        (" \t\n\u00a0\u2003".encode(), "empty text"),
        (None, "no text"),
        (SECRET.encode("cp1251"), "not UTF-8 (it looks like cp1251)"),
        (SECRET.encode("koi8-r"), "not UTF-8 (it looks like koi8-r)"),
        (SECRET.encode("utf-16"), "not UTF-8 (it looks like utf-16)"),
        ("secret".encode("utf-16-le"), "not UTF-8 (it looks like utf-16-le)"),
        (bytes(range(0x80, 0x100)), "not UTF-8"),
        (SECRET.encode()[:-1], "not UTF-8"),
        (b"a" * 1_000_000, "1000000 characters, more than 100000"),
    ],
    ids=range(11),
)
def test_a_text_that_cannot_be_used_has_a_reason_without_the_text(content, reason):
    example = read_example(texts_table((content, 0)), text_recipe("ngrams"), baseline=True)
    assert example.reason == reason
    assert (example.data.size, example.cost, example.remark, example.baseline.size) == (0, 0.0, "", 0)


def test_what_preparing_leaves_nothing_of_is_empty():
    with pytest.raises(ExampleError, match="^empty text$"):
        tokens_of("🏽".encode(), text_recipe("ngrams", {"emoji_language": "ru"}))


def test_a_byte_order_mark_is_no_part_of_a_text_and_the_longest_text_is_read():
    assert decode(b"\xef\xbb\xbf" + SECRET.encode()) == SECRET
    assert len(decode(("ё" * MOST_CHARACTERS).encode())) == MOST_CHARACTERS


def test_a_string_is_the_text_and_a_path_names_a_file(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_bytes(SECRET.encode())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert as_bytes("a.txt") == b"a.txt"
    assert as_bytes(Path("a.txt")) == as_bytes(Path("~/a.txt")) == SECRET.encode()
    assert as_bytes(bytearray(b"a")) == as_bytes(memoryview(b"a")) == b"a"
    for given, reason in (
        (Path("b.txt"), "^missing file$"),
        (Path(), "^a folder, not a file$"),
        (None, "a NoneType, which is no text"),
        (7, "an? int, which is no text"),
        (["a"], "a list, which is no text"),
    ):
        with pytest.raises(ExampleError, match=reason):
            as_bytes(given)
    with pytest.raises(ExampleError, match="^not UTF-8"):
        decode(as_bytes("half a pair \ud83d"))


def test_code_points_are_what_an_encoder_without_a_tokenizer_takes():
    tokens = tokens_of("  Ёж 😀 ".encode(), text_recipe("ngrams"))
    assert tokens.tolist() == [ord(letter) for letter in "Ёж 😀"]
    assert tokens.dtype == np.int32


def with_template(folder: Path, template: str) -> None:
    """Have the encoder's tokenizer add these."""
    from tokenizers import processors
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    ends = [(name, tokenizer.convert_tokens_to_ids(name)) for name in ("<s>", "</s>")]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=ends)
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize(
    ("family", "template"),
    [("bert", "<s> $A </s>"), ("t5", "$A </s>"), ("bert", "<s> $A </s> </s>"), ("bert", "<s> $A"), ("t5", "$A")],
)
@pytest.mark.parametrize("most", [3, 7, 20])
def test_a_long_text_is_cut_as_the_tokenizer_cuts_it(tmp_path, family, template, most):
    from transformers import AutoTokenizer

    folder = write_text_encoder(tmp_path, family)
    with_template(folder, template)
    recipe, tokenizer = text_recipe(folder, {"max_tokens": most}), AutoTokenizer.from_pretrained(folder)
    for text in TEXTS:
        tokens = tokens_of(text.encode(), recipe)
        whole = tokenizer(text)["input_ids"]
        assert tokens.tolist() == whole  # from which it is counted whether the text is longer
        assert is_truncated(tokens, recipe) == (len(whole) > most)
        assert truncated(tokens, recipe).tolist() == tokenizer(text, truncation=True, max_length=most)["input_ids"]
        assert MODALITY.cost(len(tokens), recipe) == min(len(whole), most)
        assert MODALITY.remark(tokens, recipe) == (f"read up to {most} tokens" if len(whole) > most else "")


def test_an_encoder_without_a_limit_reads_whole_texts():
    recipe = text_recipe("ngrams")
    tokens = tokens_of(("слово " * 10_000).encode(), recipe)
    assert not is_truncated(tokens, recipe)
    assert truncated(tokens, recipe) is tokens
    assert (MODALITY.remark(tokens, recipe), MODALITY.cost(len(tokens), recipe)) == ("", 59_999.0)


def test_what_is_done_to_a_text_is_done_before_it_is_tokenized(bert):
    assert (
        tokens_of("е\u0308  лка".encode(), text_recipe(bert)).tolist()
        == tokens_of("ё лка".encode(), text_recipe(bert)).tolist()
    )
    named = text_recipe(bert, {"emoji_language": "ru"})
    assert tokens_of("👍🏽".encode(), named).tolist() == tokens_of("большой палец вверх".encode(), named).tolist()


def test_a_folder_without_a_tokenizer_is_refused_in_one_line(bert, tmp_path):
    folder = write_text_encoder(tmp_path)
    assert pad_number(text_recipe(folder).encoder) == 1
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(ConfigError, match=r"^model\.feature_extractor_model: expected a tokenizer with words in .*\.$"):
        tokens_of(b"a", text_recipe(folder))  # of which transformers makes one that knows no word
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"^model\.feature_extractor_model: expected a tokenizer that loads .*$"):
        tokens_of(b"a", text_recipe(folder))
