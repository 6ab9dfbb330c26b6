"""The estimator, as scikit-learn uses it."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline

import golem_ray
from golem_ray.errors import ConfigError, DataError
from tests.conftest import audio_bytes
from tests.jobs.test_memory import CLIPS, LABELS, clip

FILES = [audio_bytes(samples) for samples in CLIPS]


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
