"""One text: from the bytes of a file or of a manifest's cell to the numbers that its encoder takes.

Knows nothing of datasets or Ray. Numbers are a tokenizer's, all of them, what an encoder adds included; for an encoder
without a tokenizer they are the characters' code points.
"""

from __future__ import annotations

import os
import threading
from functools import lru_cache
from typing import Any

import numpy as np

from golem_ray.data.encodings import likely_encoding, marked
from golem_ray.data.table import read_content
from golem_ray.embedding.recipe import EncoderInfo, Recipe
from golem_ray.errors import ConfigError, ExampleError, one_line
from golem_ray.text.prepare import prepared
from golem_ray.text.traits import preparation_of, traits_of

MOST_CHARACTERS = 100_000
"""Of a text that is used: more is a document, of which an encoder would see the beginning alone."""


def decode(content: bytes) -> str:
    """The text in a file. Raises ExampleError for one that is not UTF-8, empty, or a whole document."""
    try:
        text = content.decode("utf-8-sig") if marked(content) in (None, "utf-8") else None
    except UnicodeDecodeError:
        text = None
    if text is None:
        found = marked(content) or next(iter(likely_encoding(content[: 1 << 16]) or ()), "utf-8")
        raise ExampleError("not UTF-8" + (f" (it looks like {found})" if found != "utf-8" else ""))
    if not text.strip():
        raise ExampleError("empty text")
    if len(text) > MOST_CHARACTERS:
        raise ExampleError(f"{len(text)} characters, more than {MOST_CHARACTERS}")
    return text


def as_bytes(text: object) -> bytes:
    """What a caller gives as a text, as a file would hold it: a string is the text itself, a path names a file.

    Raises ExampleError for anything else.
    """
    if isinstance(text, bytes | bytearray | memoryview):
        return bytes(text)
    if isinstance(text, str):
        return text.encode("utf-8", "surrogatepass")
    if isinstance(text, os.PathLike):
        return read_content(None, os.path.expanduser(os.fspath(text)), "text")
    raise ExampleError(f"a {type(text).__name__}, which is no text, path or bytes")


def tokens_of(content: bytes, recipe: Recipe) -> np.ndarray:
    """The text in a file as its encoder takes it, (T,) int32. Raises ExampleError for one that cannot be used."""
    text = prepared(decode(content), preparation_of(recipe))
    if not text:
        raise ExampleError("empty text")
    if not traits_of(recipe).tokenizes:
        return np.frombuffer(text.encode("utf-32-le", "replace"), dtype=np.int32)
    tokenizer, lock = _tokenizer(recipe.encoder)
    with lock:  # which sets its own state for each call
        numbers = tokenizer(text, truncation=False, verbose=False)["input_ids"]
    return np.array(numbers, dtype=np.int32)


def is_truncated(tokens: np.ndarray, recipe: Recipe) -> bool:
    """Whether the encoder takes the beginning alone."""
    longest = longest_of(recipe)
    return longest is not None and len(tokens) > longest


def truncated(tokens: np.ndarray, recipe: Recipe) -> np.ndarray:
    """The numbers that the encoder takes: (T,) -> (T',) int32, what it adds at the end still there."""
    longest = longest_of(recipe)
    if longest is None or len(tokens) <= longest:
        return tokens
    added = _added_behind(recipe.encoder)
    return np.concatenate([tokens[: longest - added], tokens[len(tokens) - added :]])


def longest_of(recipe: Recipe) -> int | None:
    """Numbers that the encoder takes of a text at most; None for all."""
    return preparation_of(recipe).max_tokens


@lru_cache(maxsize=2)
def _added_behind(encoder: EncoderInfo) -> int:
    """How many numbers the encoder's tokenizer adds behind a text."""
    tokenizer, lock = _tokenizer(encoder)
    with lock:
        mask = tokenizer("a", return_special_tokens_mask=True)["special_tokens_mask"]
    return int(np.cumprod(mask[::-1]).sum()) if not all(mask) else 0


@lru_cache(maxsize=2)
def _tokenizer(encoder: EncoderInfo) -> tuple[Any, threading.Lock]:
    """The encoder's tokenizer, and who may use it."""
    from transformers import AutoTokenizer
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    try:
        found = AutoTokenizer.from_pretrained(
            encoder.path, revision=encoder.revision, local_files_only=encoder.cached, use_fast=True
        )
    except Exception as error:
        raise ConfigError(
            f"model.feature_extractor_model: expected a tokenizer that loads from {encoder.name}, but "
            f"{type(error).__name__}: {one_line(error)}"
        ) from None
    if len(found.get_vocab()) - len(found.added_tokens_decoder) < 2:  # what transformers makes where there is none
        raise ConfigError(
            f"model.feature_extractor_model: expected a tokenizer with words in {encoder.name}, found none; save the "
            "tokenizer beside the encoder."
        )
    return found, threading.Lock()


def pad_number(encoder: EncoderInfo) -> int:
    """What stands behind a text in a batch; an encoder's mask has it not looked at."""
    return int(_tokenizer(encoder)[0].pad_token_id or 0)
