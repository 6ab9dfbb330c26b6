"""The estimator, as scikit-learn uses it."""

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import get_tags

import golem_ray
from golem_ray.errors import ConfigError, DataError, UserError
from tests.conftest import audio_bytes
from tests.jobs.several import NAMES, rows
from tests.jobs.test_memory import CLIPS, LABELS, clip
from tests.jobs.texts import texts

FILES = [audio_bytes(samples) for samples in CLIPS]

TEXTS, FEELINGS = texts(24)

MESSAGES = [row["text"] for row in rows(60, 0)]
LISTS = [row["label"] for row in rows(60, 0)]
MATRIX = np.array([[int(name in names) for name in NAMES] for names in LISTS])


@pytest.fixture
def estimator(encoder_folder):
    return golem_ray.Classifier(encoder=str(encoder_folder), sampling_rate=8000, epochs=30)


def test_it_predicts_the_labels_it_was_given(estimator):
    for labels in (LABELS, [name == "low" for name in LABELS], [3 if name == "low" else -1 for name in LABELS]):
        fitted = estimator.fit(CLIPS, labels)
        assert fitted is estimator
        assert fitted.classes_.tolist() == sorted(set(labels))
        found = fitted.predict([clip(20), clip(21)])
        assert found.tolist() == labels[:2]
        assert found.dtype == fitted.classes_.dtype
        probabilities = fitted.predict_proba([clip(20), clip(21)])
        assert np.allclose(probabilities.sum(axis=1), 1)
        assert fitted.classes_[probabilities.argmax(axis=1)].tolist() == labels[:2]
        assert fitted.score(CLIPS, labels) == 1


def test_it_is_what_train_gives(estimator, encoder_folder):
    fitted = estimator.fit(CLIPS, LABELS)
    config = {"training": {"epochs": 30}, "evaluation": {"repeats": 1}}
    same = golem_ray.train(config, clips=CLIPS, labels=LABELS, encoder=str(encoder_folder), sampling_rate=8000)
    assert fitted.trained_.artifact.weights == same.artifact.weights


def test_scikit_learn_clones_searches_and_cross_validates_it(estimator, forwards_here):
    estimator.fit(CLIPS, LABELS)
    before = forwards_here()
    assert clone(estimator).get_params() == estimator.get_params()
    assert cross_val_score(estimator, CLIPS, LABELS, cv=3).tolist() == [1, 1, 1]
    whole = Pipeline([("classifier", estimator)])
    search = GridSearchCV(whole, {"classifier__kind": ["gradient", "logistic"], "classifier__hidden": [()]}, cv=2)
    assert search.fit(CLIPS, LABELS).predict([CLIPS[0]]).tolist() == ["low"]
    assert forwards_here() == before  # every clip had been embedded
    assert cross_val_score(estimator, FILES, np.array(LABELS), cv=2).mean() == 1


def test_what_cannot_be_is_said(estimator):
    with pytest.raises(NotFittedError):
        estimator.predict(CLIPS)
    with pytest.raises(ConfigError, match="head.kind: expected 'gradient' or 'logistic' or 'auto', got 'forest'"):
        clone(estimator).set_params(kind="forest").fit(CLIPS, LABELS)
    with pytest.raises(DataError, match="clip 1: not audio"):
        estimator.fit(CLIPS, LABELS).predict([CLIPS[0], b"noise"])


@pytest.fixture
def reader():
    """An estimator of texts."""
    return golem_ray.Classifier(modality="text", epochs=30)


@pytest.mark.parametrize("column", [list, np.array, lambda X: np.array(X, dtype=object), pd.Series])
def test_texts_are_what_train_takes_in_any_column(reader, column):
    """By the encoder that texts have by default."""
    fitted = reader.fit(column(TEXTS), FEELINGS)
    config = {"training": {"epochs": 30}, "evaluation": {"repeats": 1}}
    same = golem_ray.train(config, texts=TEXTS, labels=FEELINGS)
    assert fitted.trained_.artifact.weights == same.artifact.weights
    assert fitted.trained_.recipe.encoder.name == "ngrams"
    assert fitted.predict(column(["рад прекрасно", "боюсь ужас"])).tolist() == ["joy", "fear"]
    assert fitted.score(column(TEXTS), FEELINGS) == 1


def test_clips_keep_their_encoder():
    with pytest.raises(ConfigError, match="facebook/wav2vec2-base"):  # which is not here
        golem_ray.Classifier().fit(CLIPS, LABELS)
    with pytest.raises(ConfigError, match="some/encoder"):
        golem_ray.Classifier(config={"model": {"featureExtractorModel": "some/encoder"}}).fit(CLIPS, LABELS)


@pytest.mark.parametrize("joined", [False, True])
def test_one_that_was_fitted_is_pickled(reader, joined):
    written, labels = texts(24)
    fitted = clone(reader).set_params(join_baseline=joined).fit(written, labels)
    expected = fitted.predict_proba(written[:5])
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_allclose(again.predict_proba(written[:5]), expected, atol=1e-6)
    assert again.trained_.predict(written[0]).label == fitted.trained_.predict(written[0]).label


def test_scikit_learn_clones_searches_and_cross_validates_texts(reader):
    assert clone(reader).get_params() == reader.get_params()
    assert cross_val_score(reader, TEXTS, FEELINGS, cv=3, error_score="raise").tolist() == [1, 1, 1]
    search = GridSearchCV(reader, {"kind": ["gradient", "logistic"]}, cv=2, error_score="raise")
    assert search.fit(TEXTS, FEELINGS).cv_results_["mean_test_score"].tolist() == [1, 1]
    written_out = FunctionTransformer(
        lambda X: [text.replace(":)", "рад прекрасно").replace(":o", "ужас") for text in X]
    )
    whole = Pipeline([("written_out", written_out), ("classifier", reader)]).fit(TEXTS, FEELINGS)
    assert whole.predict([":)", ":o"]).tolist() == ["joy", "fear"]


SEVERAL = {
    "matrix": (MATRIX, [0, 1, 2]),
    "bool": (MATRIX.astype(bool), [0, 1, 2]),
    "rows": (MATRIX.tolist(), [0, 1, 2]),
    "sparse": (csr_matrix(MATRIX), [0, 1, 2]),
    "frame": (pd.DataFrame(MATRIX, columns=NAMES), list(NAMES)),
    "lists": (LISTS, list(NAMES)),
    "sets": ([set(names) for names in LISTS], list(NAMES)),
    "arrays": (pd.Series([np.array(names, dtype=object) for names in LISTS]), list(NAMES)),
}


@pytest.mark.parametrize(("y", "classes"), SEVERAL.values(), ids=SEVERAL)
def test_labels_may_be_several_in_each_form(reader, y, classes):
    fitted = reader.fit(MESSAGES, y)
    config = {"training": {"epochs": 30}, "evaluation": {"repeats": 1}}
    same = golem_ray.train(config, texts=MESSAGES, labels=LISTS)
    assert fitted.trained_.artifact.weights == same.artifact.weights
    assert fitted.trained_.labels == list(map(str, classes))
    assert fitted.classes_.tolist() == classes
    found, probabilities = fitted.predict(MESSAGES), fitted.predict_proba(MESSAGES)
    assert (found.shape, found.dtype.kind, probabilities.shape) == ((60, 3), "i", (60, 3))
    for said, row, each in zip(same.predict(MESSAGES), found, probabilities, strict=True):
        assert {name for name, has in zip(NAMES, row, strict=True) if has} == set(said.labels)
        assert each.tolist() == pytest.approx([said.probabilities[name] for name in NAMES])
    right = (found == MATRIX).all(axis=1)
    assert 0.5 < right.mean() < 1
    assert fitted.score(MESSAGES, y) == pytest.approx(right.mean())
    weights = np.arange(60)
    assert fitted.score(MESSAGES, y, sample_weight=weights) == pytest.approx(np.average(right, weights=weights))


def test_a_label_reaches_its_own_threshold(reader):
    fitted = reader.fit(MESSAGES, MATRIX)
    thresholds = fitted.trained_.artifact.document["metrics"]["calibration"]["thresholds"]
    probabilities = fitted.predict_proba(MESSAGES)
    assert (fitted.predict(MESSAGES) == (probabilities >= thresholds)).all()
    assert (fitted.predict(MESSAGES) != (probabilities >= 0.5)).any()
    reader.set_params(config={"head": {"threshold": 0.001}})
    assert reader.fit(MESSAGES, MATRIX).predict(MESSAGES).all()


def test_scikit_learn_scores_several_labels(reader):
    scores = cross_val_score(reader, MESSAGES, MATRIX, cv=3, error_score="raise")
    assert cross_val_score(reader, MESSAGES, LISTS, cv=KFold(3), error_score="raise").tolist() == scores.tolist()
    for scoring, least in (("f1_macro", 0.6), ("roc_auc", 0.8), ("average_precision", 0.7)):
        assert cross_val_score(reader, MESSAGES, MATRIX, cv=2, scoring=scoring, error_score="raise").mean() > least
    search = GridSearchCV(reader, {"class_weights": ["none", "inverse"]}, cv=2, error_score="raise")
    assert search.fit(MESSAGES, MATRIX).predict(MESSAGES[:2]).shape == (2, 3)


def test_clips_may_have_several_labels_and_a_column_nothing(estimator):
    """As in a fold that lacks a label; its column stays."""
    matrix = np.array([[name == "low", False, name == "high" or row > 5] for row, name in enumerate(LABELS)])
    fitted = estimator.fit(CLIPS, matrix)
    assert fitted.trained_.labels == ["0", "1", "2"]
    assert fitted.predict([clip(20), clip(21)])[:, :2].tolist() == [[1, 0], [0, 0]]
    assert fitted.predict_proba([clip(20)]).shape == (1, 3)


def test_a_name_that_was_not_trained_on_is_missed(reader):
    fitted = reader.fit(MESSAGES, LISTS)
    found = [[NAMES[number] for number in np.flatnonzero(row)] for row in fitted.predict(MESSAGES[:4])]
    assert fitted.score(MESSAGES[:4], [*map(tuple, found[:2]), [*found[2], " ", *found[2]], found[3]]) == 1
    assert fitted.score(MESSAGES[:4], [*found[:3], [*found[3], "shame"]]) == 0.75


def test_config_keeps_what_the_estimator_has_no_parameter_for(reader):
    config = {
        "head": {"normalization": "batch", "at_least_one": True, "threshold": 0.9},
        "dataset": {"text_column": "body"},
        "evaluation": {"holdout": 12},
    }
    reader.set_params(config=config, hidden=[8, 4], dropout=[0.1, 0.2], class_weights="sqrt")
    fitted = clone(reader).fit(MESSAGES, MATRIX)
    kept = fitted.trained_.artifact.document["config"]
    wanted = {**config["head"], "hidden": [8, 4], "dropout": [0.1, 0.2], "class_weights": "sqrt"}
    assert {key: kept["head"][key] for key in wanted} == wanted
    assert (kept["dataset"]["text_column"], kept["evaluation"]["holdout"]) == ("body", 12)
    assert fitted.predict(MESSAGES).any(axis=1).all()


def test_its_tags_are_true(reader, estimator):
    for each, takes_rows in ((reader, False), (estimator, True)):
        tags = get_tags(each)
        assert (tags.estimator_type, tags.classifier_tags.multi_label) == ("classifier", True)
        assert (tags.input_tags.one_d_array, tags.input_tags.string) == (True, True)
        assert tags.input_tags.two_d_array is takes_rows
    assert get_tags(Pipeline([("classifier", reader)])).classifier_tags.multi_label
    assert estimator.fit(np.stack(CLIPS), LABELS).score(np.stack(CLIPS), LABELS) == 1


@pytest.mark.parametrize(
    ("X", "y", "words"),
    [
        (pd.DataFrame({"text": TEXTS}), FEELINGS, "X: expected a list of texts.* a DataFrame of shape .24, 1."),
        (np.array(TEXTS)[:, None], FEELINGS, "X: expected a list of texts.* a ndarray of shape .24, 1."),
        ("abc", FEELINGS[:3], "X: expected a list of texts, or a column of them, found a str."),
        (None, FEELINGS, "X: expected a list of texts, or a column of them, found a NoneType."),
        ([*TEXTS[:23], np.nan], FEELINGS, "text 23: expected a text that can be used, found a float"),
        (TEXTS, None, "y: expected a label for each text, found a NoneType."),
        (TEXTS, "a" * 24, "y: expected a label for each text, found a str."),
        (TEXTS, FEELINGS[:5], "labels: expected one for each of the 24 texts, found 5."),
        (TEXTS, [*FEELINGS[:23], np.nan], "y: expected a label for each text, found none for text 23."),
        (TEXTS, pd.Series([1, "a"] * 12), "y: expected names or numbers, found labels that cannot be put in an order."),
        (TEXTS, [["joy"], "fear"] * 12, "y: expected a list of names for each, found a str beside lists."),
        (TEXTS, np.full((24, 2), 2), r"labels: expected a matrix .N, K. of 0 and 1 .* found .24, 2. of int64"),
        (TEXTS, np.array(FEELINGS)[:, None], r"labels: expected a matrix .* found .24, 1. of <U5; where each has one"),
        (TEXTS, pd.DataFrame(np.eye(24, 2, dtype=int), columns=["a", "a"]), "labels: expected columns of different"),
    ],
)
def test_what_cannot_be_is_said_of_texts_in_one_line(reader, X, y, words):
    with pytest.raises(UserError, match=words) as caught:
        reader.fit(X, y)
    assert "\n" not in str(caught.value)


def test_a_table_is_no_column_when_predicting_either(reader, estimator):
    with pytest.raises(ConfigError, match=r"X: expected a list of clips.* a DataFrame of shape .12, 1."):
        estimator.fit(pd.DataFrame({"clip": FILES}), LABELS)
    fitted = reader.fit(TEXTS, FEELINGS)
    with pytest.raises(ConfigError, match=r"X: expected a list of texts.* a DataFrame of shape .24, 1."):
        fitted.predict(pd.DataFrame({"text": TEXTS}))
    with pytest.raises(ConfigError, match="modality: expected 'speech' or 'text', got 'texts'."):
        reader.set_params(modality="texts").fit(TEXTS, FEELINGS)
