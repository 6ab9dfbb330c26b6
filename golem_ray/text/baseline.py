"""The plain baseline that a text encoder has to beat: TF-IDF of the pieces of words, two to five characters long.

In Russian they do better than whole words, whose endings are many. Counts alone are made here, by hash, so that they
need no vocabulary; heads/terms.py weighs them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from golem_ray.embedding.recipe import Recipe
from golem_ray.errors import ExampleError
from golem_ray.text.prepare import prepared
from golem_ray.text.read import decode
from golem_ray.text.traits import preparation_of

NUM_TERMS = 1 << 22
"""Hashes that there are: of 100,000 different terms one in forty shares its own with another."""


@lru_cache(maxsize=1)
def _vectorizer() -> Any:
    from sklearn.feature_extraction.text import HashingVectorizer

    return HashingVectorizer(
        analyzer="char_wb", ngram_range=(2, 5), n_features=NUM_TERMS, norm=None, alternate_sign=False
    )


def count_terms(contents: Sequence[bytes | None], recipe: Recipe) -> Any:
    """How often each piece of a word is in N texts: (N, NUM_TERMS) CSR; zeros without a text."""
    return _vectorizer().transform([_text(content, recipe) for content in contents])


def _text(content: bytes | None, recipe: Recipe) -> str:
    try:
        return prepared(decode(content or b""), preparation_of(recipe))
    except ExampleError:
        return ""
