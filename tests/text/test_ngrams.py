"""The encoder without training: hashed n-grams of characters and words."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from sklearn.utils import murmurhash3_32

from golem_ray.text.encoders import NgramEncoder
from golem_ray.text.ngrams import WIDTH, hashed
from golem_ray.text.read import tokens_of
from tests.text import TEXTS, text_recipe


def by_hand(grams: list[str], size: int) -> np.ndarray:
    """Signed roots of counts by hash, at length one: what the paper says, in a loop."""
    total = np.zeros(size)
    for gram, count in Counter(grams).items():
        number = murmurhash3_32(gram)
        total[abs(number) % size] += count if number >= 0 else -count
    rooted = np.sign(total) * np.sqrt(np.abs(total))
    return rooted / np.linalg.norm(rooted)


def test_a_vector_is_that_of_its_n_grams():
    words = ["мама", "мыла", "раму", "мама", "мыла", "х"]
    pairs = [f"{one} {other}" for one, other in pairwise(words)]
    padded = [f" {word} " for word in words]
    letters = [word[start : start + n] for word in padded for n in range(2, 6) for start in range(len(word) - n + 1)]
    (vector,) = hashed(["Мама мыла раму МАМА мыла х"])
    assert (vector.shape, vector.dtype) == ((WIDTH,), np.float32)
    assert np.allclose(vector[:1024], by_hand(letters, 1024), atol=1e-6)
    assert np.allclose(vector[1024:], by_hand([*words, *pairs], 512), atol=1e-6)


def test_a_text_without_words_has_characters_alone():
    vector = hashed(["?!"])[0]
    assert np.linalg.norm(vector[:1024]) == pytest.approx(1)
    assert not vector[1024:].any()


def test_a_vector_depends_on_its_text_alone_to_the_last_bit():
    recipe = text_recipe("ngrams")
    texts = [tokens_of(text.encode(), recipe) for text in TEXTS]
    together = NgramEncoder(recipe).embed(texts)
    assert together.tobytes() == hashed([" ".join(text.split()) for text in TEXTS]).tobytes()
    for text, vector in zip(texts, together, strict=True):
        assert NgramEncoder(recipe).embed([text]).tobytes() == vector.tobytes()
    assert NgramEncoder(recipe).embed([]).shape == (0, WIDTH)


def test_texts_that_share_words_or_their_beginnings_are_near():
    same, inflected, other = hashed(["закажи такси на утро", "закажу такси утром", "погода в Рязани"])
    assert same @ inflected > 2 * max(same @ other, 0.1)
