"""What the baseline counts in texts."""

from __future__ import annotations

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer

from golem_ray.text import MODALITY
from golem_ray.text.baseline import NUM_TERMS, count_terms
from tests.text import TEXTS, text_recipe


def sorted_columns(counts: np.ndarray) -> np.ndarray:
    return counts[:, np.lexsort(counts)]


def test_counts_are_those_of_the_pieces_of_words():
    few = TEXTS[:4]  # of which no two pieces share a hash
    found = count_terms([text.encode() for text in few], text_recipe("ngrams"))
    assert (found.shape, found.format) == ((len(few), NUM_TERMS), "csr")
    dense = found[:, np.unique(found.indices)].toarray()
    expected = CountVectorizer(analyzer="char_wb", ngram_range=(2, 5)).fit_transform(few).toarray()
    assert np.array_equal(sorted_columns(dense), sorted_columns(expected))
    assert expected.max() > 1


def test_a_text_has_the_same_counts_whatever_is_beside_it_and_what_is_none_has_zeros():
    contents = [TEXTS[0].encode(), None, "привет".encode("cp1251"), b"", TEXTS[1].encode()]
    assert MODALITY.terms is not None
    found = MODALITY.terms(contents, text_recipe("ngrams"))
    assert found.getnnz(axis=1).tolist()[1:4] == [0, 0, 0]
    for row in (0, 4):
        alone = count_terms([contents[row]], text_recipe("ngrams"))
        assert (found[row] != alone).nnz == 0
        assert alone.nnz > 0


def test_what_is_done_to_texts_is_done_before_their_words_are_counted(tmp_path):
    (tmp_path / "words.csv").write_text("from,to\nщас,сейчас\n")
    recipe = text_recipe("ngrams", {"emoji_language": "ru", "replacements": str(tmp_path / "words.csv")})
    found, expected = (
        count_terms([text.encode()], recipe) for text in ("ＡＢ щас 👍🏽", "ab сейчас большой палец вверх")
    )
    assert (found != expected).nnz == 0
