"""Vectors of texts without any training: hashed n-grams. What there is where no encoder can be reached.

Each n-gram's number of occurrences, its square root taken, is added to or subtracted from one of the coordinates, both
by its hash (Weinberger et al., Feature hashing for large scale multitask learning, ICML 2009).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

SIZES = {"char_wb": ((2, 5), 1024), "word": ((1, 2), 512)}
"""Kind of n-gram -> the least and the most that one is of, and how many coordinates theirs are."""

WIDTH = sum(size for _, size in SIZES.values())


@lru_cache(maxsize=1)
def _vectorizers() -> list[Any]:
    from sklearn.feature_extraction.text import HashingVectorizer

    return [
        HashingVectorizer(analyzer=kind, ngram_range=lengths, n_features=size, norm=None, token_pattern=r"(?u)\b\w+\b")
        for kind, (lengths, size) in SIZES.items()
    ]


def hashed(texts: Sequence[str]) -> np.ndarray:
    """N texts -> (N, WIDTH) float32: each kind's coordinates at length one, or zero for a text without any."""
    parts = []
    for vectorizer in _vectorizers():
        counts = vectorizer.transform(texts).toarray()
        vectors = np.sign(counts) * np.sqrt(np.abs(counts))
        lengths = np.sqrt((vectors**2).sum(axis=1, keepdims=True))
        parts.append(vectors / np.maximum(lengths, 1e-12))
    return np.concatenate(parts, axis=1).astype(np.float32)
