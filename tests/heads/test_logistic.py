import io

import numpy as np
import torch

from golem_ray.config import HeadConfig
from golem_ray.heads.fit import fit, logits_of
from golem_ray.heads.logistic import STRENGTHS
from golem_ray.heads.single_label import SINGLE_LABEL
from tests.heads.training import blobs, examples, spec, trained


def test_logistic_is_scikit_learns_on_standardised_embeddings():
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    for num_classes in (2, 5):
        embeddings, labels = blobs(num_classes, 12, 6)
        embeddings = embeddings * 3 + 2
        head = fit(examples(embeddings, labels), spec(num_classes + 1, LOGISTIC))
        logits = logits_of(head, torch.tensor(embeddings))
        expected = {
            strength: make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=100_000, tol=1e-10))
            .fit(embeddings.astype(np.float64), labels)
            .predict_proba(embeddings)
            for strength in STRENGTHS
        }
        found = SINGLE_LABEL.probabilities(logits)
        assert found[:, -1].max() < 1e-20  # no clip was of that class
        distances = {strength: np.abs(found[:, :-1] - each).max() for strength, each in expected.items()}
        assert min(distances.values()) < 1e-5
        assert min(distances, key=distances.get) == head.C


LOGISTIC = HeadConfig(kind="logistic")


def test_logistic_is_regularised_the_more_the_less_there_is_to_learn():
    rng = np.random.default_rng(0)
    noise, labels = rng.standard_normal((60, 64)).astype(np.float32), np.arange(60) % 3
    result = trained(noise, labels, 3, config=LOGISTIC, repeats=2)[1]
    assert SINGLE_LABEL.probabilities(result.unseen_logits).max(axis=1).mean() < 0.5  # hardly more than an even guess
    assert result.metrics["logistic"] == {"C": 0.01}
    embeddings, labels = blobs(3, 20, 64)
    assert "logistic" not in trained(embeddings, labels, 3, repeats=0)[1].metrics
    result = trained(embeddings, labels, 3, config=LOGISTIC, repeats=1)[1]
    assert result.metrics["cross_validation"]["accuracy"] > 0.95
    assert SINGLE_LABEL.probabilities(result.unseen_logits).max(axis=1).mean() > 0.8
    assert result.metrics["logistic"]["C"] > 0.01
    assert result.metrics["loss_history"] == []
    assert 0 < result.metrics["final_loss"] < 0.2


def test_logistic_with_a_single_clip_of_a_class_and_with_one_class_in_a_fold():
    embeddings, labels = blobs(3, 2, 4)
    result = trained(embeddings[:5], labels[:5], 3, config=LOGISTIC, repeats=1)[1]  # the last class has one clip
    assert np.isfinite(torch.load(io.BytesIO(result.weights), weights_only=True)["weight"]).all()
    groups = np.array([0, 1, 1, 1])
    grouped = trained(embeddings[[0, 3, 1, 4]], np.array([0, 0, 1, 1]), 2, config=LOGISTIC, repeats=1, groups=groups)
    assert grouped[1].metrics["cross_validation"]["accuracy"] == 0.5  # who trained on one class says that class
