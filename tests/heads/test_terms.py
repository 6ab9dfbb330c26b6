"""Logistic regressions on TF-IDF against scikit-learn's own pipeline on the same texts, and their file."""

import io
import pickle
import zipfile

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from golem_ray.heads.single_label import SINGLE_LABEL
from golem_ray.heads.terms import JoinedScores, fitted, read_scores, values_of, vocabulary
from tests.heads.texts import LIBLINEAR, by_scikit_learn, counted, drawn, spec

EXACT = {"tol": 1e-10, "max_iter": 100_000}


def logits(texts, labels, others, strength, wanted):
    return fitted(counted(texts), labels, strength, wanted).scores(counted(others))


@pytest.mark.parametrize("strength", [0.3, 10.0])
def test_logits_of_one_label_are_a_pipelines(strength):
    (texts, labels), (others, _) = drawn(several=False), drawn(20, seed=1)
    found = logits(texts, labels, others, strength, spec(False))
    assert (found.shape, found.dtype) == ((20, 3), np.float32)
    np.testing.assert_allclose(found, by_scikit_learn(texts, labels, others, strength), atol=1e-4)
    np.testing.assert_allclose(found, by_scikit_learn(texts, labels, others, strength, **EXACT), atol=0.02)


@pytest.mark.parametrize("strength", [0.3, 10.0])
def test_logits_of_several_labels_are_a_pipelines_for_each(strength):
    (texts, labels), (others, _) = drawn(), drawn(20, seed=1)
    found = logits(texts, labels, others, strength, spec())
    for number in range(3):
        of_label = by_scikit_learn(texts, labels[:, number], others, strength, **LIBLINEAR)
        np.testing.assert_allclose(found[:, number], of_label, atol=1e-4)
        exact = by_scikit_learn(texts, labels[:, number], others, strength, **EXACT)
        np.testing.assert_allclose(found[:, number], exact, atol=0.02)


def test_two_classes_share_one_score():
    (texts, labels), (others, _) = drawn(several=False), drawn(20, seed=1)
    two = labels < 2
    texts, labels = [text for text, kept in zip(texts, two, strict=True) if kept], labels[two]
    found = logits(texts, labels, others, 3.0, spec(False, num_classes=4))
    expected = by_scikit_learn(texts, labels, others, 3.0, **LIBLINEAR)
    np.testing.assert_allclose(found[:, 1] - found[:, 0], expected, atol=1e-4)
    np.testing.assert_allclose(SINGLE_LABEL.probabilities(found)[:, 1], 1 / (1 + np.exp(-expected)), atol=1e-5)
    assert (found[:, 2:] == -100).all()  # no text was of those


def test_labels_that_nothing_or_everything_has_are_certain():
    texts, labels = drawn()
    labels[:, 1], labels[:, 2] = False, True
    found = logits(texts, labels, texts[:5], 3.0, spec())
    assert found[:, 1].tolist() == [-100] * 5
    assert found[:, 2].tolist() == [100] * 5
    (one,) = np.unique(logits(texts, np.full(60, 2), texts[:5], 3.0, spec(False)), axis=0)
    assert one.tolist() == [-100, -100, 0]


def test_the_weights_of_terms_are_those_of_the_texts_that_are_fitted_to():
    texts, others = drawn()[0], ["ура ура", "нигдекромеэтого", ""]
    vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True).fit(texts)
    known = vocabulary(counted(texts))
    x, tested = (values_of(counted(each), *known) for each in (texts, others))
    assert x.shape[1] == tested.shape[1] == len(vectors.vocabulary_)  # what only others have is not counted
    assert x.multiply(x).sum(axis=1) == pytest.approx(np.ones((60, 1)))
    for found, given in ((x, texts), (tested, others)):
        expected = vectors.transform(given)
        np.testing.assert_allclose(np.sort(found.toarray()), np.sort(expected.toarray()), atol=1e-6)
    alone = values_of(counted(others[:1]), *known)
    np.testing.assert_array_equal(alone.toarray()[0], tested.toarray()[0])


def test_the_most_frequent_terms_are_kept_where_there_is_no_room_for_all():
    texts, labels = drawn()
    counts = counted(texts)
    terms, idf = vocabulary(counts, 50)
    every, _ = vocabulary(counts)
    frequencies = dict(zip(*np.unique(counts.indices, return_counts=True), strict=True))
    assert len(terms) == len(idf) == 50 < len(every)
    assert (np.diff(terms) > 0).all()
    dropped = set(every) - set(terms)
    assert min(frequencies[term] for term in terms) >= max(frequencies[term] for term in dropped)
    assert len(fitted(counts, labels, 1.0, spec(), most=50).terms) == 50


def test_a_file_says_the_same_alone_as_among_others():
    texts, labels = drawn()
    found = fitted(counted(texts), labels, 1.0, spec())
    content = found.file()
    assert fitted(counted(texts), labels, 1.0, spec()).file() == content
    read = read_scores(content)
    assert read.file() == content
    whole = read.scores(counted(texts))
    np.testing.assert_allclose(whole, found.scores(counted(texts)), atol=0.01)  # weights in half precision
    for text, logits_of_text in zip(texts, whole, strict=True):
        assert read.scores(counted([text])).tobytes() == logits_of_text.tobytes()
    np.testing.assert_array_equal(read.scores(counted([""]))[0], read.biases)


def test_what_a_file_says_is_sent_to_another_process_as_that_file():
    texts, labels = drawn()
    scores = JoinedScores(fitted(counted(texts), labels, 1.0, spec()).file())
    sent = pickle.dumps(scores)
    assert len(sent) < len(scores.content) + 200
    assert pickle.loads(sent) == scores
    assert pickle.loads(sent).scores(counted(texts)).tobytes() == scores.scores(counted(texts)).tobytes()


def changed(content, **arrays):
    with np.load(io.BytesIO(content)) as found:
        kept = {name: found[name] for name in found.files}
        kept |= {name: value(kept) if callable(value) else value for name, value in arrays.items()}
    written = io.BytesIO()
    np.savez(written, **{name: value for name, value in kept.items() if value is not None})
    return written.getvalue()


@pytest.mark.parametrize(
    "arrays",
    [
        {"idf": None},
        {"terms": np.zeros(3, dtype=np.int32)},
        {"biases": np.zeros(2, dtype=np.float32)},
        {"biases": np.array([0, np.nan, 0], dtype=np.float32)},
        {"biases": np.array(["a", "b", "c"])},
        {"idf": np.array([{}], dtype=object)},
        {"weights": lambda found: found["weights"][:, 0], "biases": np.float32(0)},
        {"weights": lambda found: found["weights"][:, :0], "biases": np.zeros(0, dtype=np.float32)},
        {"weights": lambda found: found["weights"].astype(np.float64) * 1e300},
    ],
    ids=[
        "no idf",
        "too few terms",
        "too few labels",
        "not finite",
        "words",
        "pickled",
        "one number a term",
        "no label",
        "too large to add up",
    ],
)
def test_a_file_that_was_changed_is_refused(arrays):
    texts, labels = drawn()
    content = fitted(counted(texts), labels, 1.0, spec()).file()
    with pytest.raises(ValueError, match=r"no file of term weights|arrays of other"):
        read_scores(changed(content, **arrays))


def test_a_file_that_was_cut_or_put_in_another_order_is_refused():
    texts, labels = drawn()
    found = fitted(counted(texts), labels, 1.0, spec())
    content = found.file()
    with pytest.raises(ValueError, match="no file of term weights"):
        read_scores(content[:-100])
    with pytest.raises(ValueError, match="out of order"):
        read_scores(changed(content, terms=found.terms[::-1].copy()))


def test_a_file_whose_terms_are_negative_is_refused():
    texts, labels = drawn()
    found = fitted(counted(texts), labels, 1.0, spec())
    terms = found.terms.copy()
    terms[0] = -1
    with pytest.raises(ValueError, match="negative"):
        read_scores(changed(found.file(), terms=terms))


def test_a_file_that_holds_no_arrays_or_grows_in_memory_is_refused():
    names = ("terms", "idf", "weights", "biases")
    plain, packed = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(plain, "w") as archive:
        for name in names:
            archive.writestr(name, "no array")
    with pytest.raises(ValueError, match="arrays of other"):
        read_scores(plain.getvalue())
    kinds = (np.int32, np.float32, np.float16, np.float32)
    np.savez_compressed(packed, **{name: np.zeros(100_000, kind) for name, kind in zip(names, kinds, strict=True)})
    with pytest.raises(ValueError, match=r"no file of term weights \(ValueError\)"):
        read_scores(packed.getvalue())
