"""Logistic regressions on TF-IDF: scores of examples by the terms that are counted in them.

The weights of terms and of the regression follow from the examples that it is fitted to, as scikit-learn's
TfidfTransformer and LogisticRegression have them. Knows no modality: terms come in as counts.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from golem_ray.heads.training_set import HeadSpec

NEVER = -100.0
"""Logit of a class without examples."""

BOUND = 10.0
"""Largest logit that is joined: a larger one tells no more, and a class without examples would outweigh the others."""


@dataclass(frozen=True)
class TermScores:
    """A regression that was fitted: counts of terms in, logits out."""

    terms: np.ndarray
    """(V,) int32, ascending: the numbers of the terms that count."""
    idf: np.ndarray
    """(V,) float32: what each weighs in an example, more where it is rare."""
    weights: np.ndarray
    """(V, K)."""
    biases: np.ndarray
    """(K,)."""

    def scores(self, counts: Any) -> np.ndarray:
        """Logits (N, K) float32 of counts (N, T) in SciPy's CSR form; an example's do not depend on the others."""
        weights = self.weights.astype(np.float64, copy=False)
        return (values_of(counts, self.terms, self.idf) @ weights + self.biases.astype(np.float64)).astype(np.float32)

    def file(self) -> bytes:
        """A file of NumPy's, .npz, with weights in half precision: the same bytes for the same regression."""
        written = io.BytesIO()
        np.savez(
            written,
            terms=self.terms.astype(np.int32),
            idf=self.idf.astype(np.float32),
            weights=self.weights.astype(np.float16),
            biases=self.biases.astype(np.float32),
        )
        return written.getvalue()


def read_scores(content: bytes) -> TermScores:
    """The regression in a file as `TermScores.file` writes it; nothing in it is run. Raises ValueError for another."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as found:
            if sum(each.file_size for each in found.zip.infolist()) > len(content):
                raise ValueError("packed")  # ours are not, and a small file could fill the memory
            terms, idf, weights, biases = (np.asarray(found[name]) for name in ("terms", "idf", "weights", "biases"))
    except Exception as error:  # of a zip file that was cut, of an entry that is not there, ...
        raise ValueError(f"no file of term weights ({type(error).__name__})") from None
    shapes = terms.shape == idf.shape == weights.shape[:1] and weights.shape[1:] == biases.shape and weights.ndim == 2
    kinds = [each.dtype for each in (terms, idf, weights, biases)] == [np.int32, np.float32, np.float16, np.float32]
    if not (shapes and kinds and weights.size and all(np.isfinite(each).all() for each in (idf, weights, biases))):
        raise ValueError("arrays of other shapes or types, or not finite")
    if terms[0] < 0 or (terms[1:] <= terms[:-1]).any():
        raise ValueError("terms that are negative or out of order")
    return TermScores(terms, idf, weights.astype(np.float64), biases)  # once: for each text it would take milliseconds


class JoinedScores:
    """What gives the logits that are appended to vectors, from a file of `TermScores.file`; equal if the files are.

    Raises ValueError for another file.
    """

    def __init__(self, content: bytes) -> None:
        self.content, self._regression = content, read_scores(content)
        self.sha256 = hashlib.sha256(content).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JoinedScores) and self.sha256 == other.sha256

    def __hash__(self) -> int:
        return hash(self.sha256)

    def __reduce__(self) -> tuple[type[JoinedScores], tuple[bytes]]:
        """Only the file is sent to workers: the arrays take several times as much."""
        return JoinedScores, (self.content,)

    @property
    def size(self) -> int:
        """How many columns these are."""
        return len(self._regression.biases)

    def scores(self, counts: Any) -> np.ndarray:
        """(N, K) float32 of counts (N, T) in SciPy's CSR form."""
        return self._regression.scores(counts).clip(-BOUND, BOUND)


def fitted(counts: Any, labels: np.ndarray, strength: float, spec: HeadSpec, most: int | None = None) -> TermScores:
    """A regression on counts (N, T) and labels, of scikit-learn's strength C; on the `most` most frequent terms."""
    terms, idf = vocabulary(counts, most)
    return TermScores(terms, idf, *regressed(values_of(counts, terms, idf), labels, strength, spec))


def vocabulary(counts: Any, most: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The terms in counts (N, T), (V,) int32, and what each weighs, (V,) float32; the `most` most frequent ones.

    V is at least 1: where nothing is counted, it is a term that nothing has.
    """
    terms, frequencies = np.unique(counts.indices, return_counts=True)
    if not len(terms):
        terms, frequencies = np.zeros(1, dtype=np.int32), np.zeros(1, dtype=np.int64)
    if most is not None and len(terms) > most:
        kept = np.sort(np.argsort(-frequencies, kind="stable")[:most])
        terms, frequencies = terms[kept], frequencies[kept]
    idf = np.log((1 + counts.shape[0]) / (1 + frequencies)) + 1
    return terms.astype(np.int32), idf.astype(np.float32)


def values_of(counts: Any, terms: np.ndarray, idf: np.ndarray) -> Any:
    """Counts (N, T) as vectors (N, V) of length one: of these terms the logarithm of how often, times the weight."""
    from scipy.sparse import csr_matrix
    from sklearn.preprocessing import normalize

    place = np.minimum(np.searchsorted(terms, counts.indices), len(terms) - 1)
    known = terms[place] == counts.indices
    ends = np.concatenate([[0], np.cumsum(known)])[counts.indptr]
    place = place[known]
    values = (1 + np.log(counts.data[known])) * idf[place].astype(np.float64)
    return normalize(csr_matrix((values, place, ends), shape=(counts.shape[0], len(terms))), copy=False)


def regressed(x: Any, labels: np.ndarray, strength: float, spec: HeadSpec) -> tuple[np.ndarray, np.ndarray]:
    """Weights (V, K) and biases (K,) of a logistic regression on vectors (N, V); of several labels, of one for each."""
    weights, biases = np.zeros((x.shape[1], spec.num_classes)), np.full(spec.num_classes, NEVER)
    if labels.ndim == 1:
        classes = np.unique(labels)
        if len(classes) == 1:
            biases[classes] = 0
        else:
            slopes, offsets = _fit(x, labels, strength)
            if len(classes) == 2:  # one row, of which the classes share the difference
                slopes, offsets = (np.concatenate([-each, each]) / 2 for each in (slopes, offsets))
            weights[:, classes], biases[classes] = slopes.T, offsets
        return weights, biases
    for number in range(spec.num_classes):
        present = labels[:, number].mean()
        if 0 < present < 1:
            (weights[:, number],), (biases[number],) = _fit(x, labels[:, number], strength)
        elif present == 1:
            biases[number] = -NEVER
    return weights, biases


@lru_cache(maxsize=1)
def _threads() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _fit(x: Any, labels: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Slopes (1, V) and offsets (1,) of two classes, or (K, V) and (K,).

    Of two, LIBLINEAR is the fastest; it regularises the intercept too, a hundredth as much with that scaling: without
    it, rare labels would be taken for too likely.
    """
    from sklearn.linear_model import LogisticRegression

    two = len(np.unique(labels)) == 2
    settings = {"solver": "liblinear", "intercept_scaling": 10.0} if two else {"solver": "lbfgs"}
    with warnings.catch_warnings(), _threads().limit(limits=1):  # many small steps, which threads would wait for
        warnings.simplefilter("ignore")  # that a regression may have stopped a little early
        head = LogisticRegression(C=strength, max_iter=200, random_state=0, **settings).fit(x, labels)
    return head.coef_, head.intercept_
