import numpy as np
import pytest

from golem_ray.config import HeadConfig, TrainingConfig
from golem_ray.heads import many
from golem_ray.heads.fit import fit, logits_of
from golem_ray.heads.many import inner_folds, unseen_logits
from tests.heads.training import blobs, examples, spec

HEADS = {
    "linear": HeadConfig(),
    "standardised": HeadConfig(standardize=True, weight_decay=0.01),
    "weighted": HeadConfig(class_weights=True, label_smoothing=0.1),
    "hidden": HeadConfig(hidden=(16, 8), layer_norm=True, standardize=True, activation="gelu"),
    "patient": HeadConfig(patience=3),
    "logistic": HeadConfig(kind="logistic"),
}


def overlapping(num_classes=5, per_class=9, width=12):
    """Blobs that overlap, far from zero, the last coordinate constant; one class has a single example."""
    embeddings, labels = blobs(num_classes, per_class, width)
    noise = np.random.default_rng(1).standard_normal(embeddings.shape)
    embeddings = (3 * embeddings + 5 * noise + 40).astype(np.float32)
    embeddings[:, -1] = 7.25
    kept = np.flatnonzero((labels != num_classes - 1) | (np.arange(len(labels)) < num_classes))
    return embeddings[kept], labels[kept]


@pytest.mark.parametrize("name", HEADS)
def test_heads_fitted_together_are_those_fitted_one_by_one(name):
    embeddings, labels = overlapping()
    given, wanted = examples(embeddings, labels), spec(6, HEADS[name], TrainingConfig(epochs=40))
    folds = wanted.target.folds(labels, 2, 0)
    found = unseen_logits(given, folds, wanted, rounds=2)
    assert len(found) == len(folds) > 2
    for (train, test), unseen in zip(folds, found, strict=True):
        alone = logits_of(fit(given.take(train), wanted), given.take(test).embeddings)
        exact = 1e-2 if name == "logistic" else 1e-4
        np.testing.assert_allclose(unseen.tested, alone, rtol=1e-4, atol=exact)
        assert (unseen.tested.argmax(axis=1) == alone.argmax(axis=1)).all()
        assert unseen.inner.shape == (2, len(train), 6)
        nested = inner_folds(given, train, wanted, 2)
        for number, (kept, left) in enumerate(nested):
            inner = unseen.inner[number * 2 // len(nested), left]
            assert np.isfinite(inner).all()
            if name != "logistic":  # which chooses its strength by these
                alone = logits_of(fit(given.take(train[kept]), wanted), given.take(train[left]).embeddings)
                np.testing.assert_allclose(inner, alone, rtol=1e-4, atol=1e-4)
        single = np.flatnonzero(labels[train] == 4)
        assert np.isnan(unseen.inner[:, single]).all()  # alone in its class: it is never tested


def test_batches_that_do_not_fit_at_once_make_no_difference(monkeypatch):
    embeddings, labels = overlapping()
    for name in ("linear", "hidden", "logistic"):
        given, wanted = examples(embeddings, labels), spec(5, HEADS[name])
        folds = wanted.target.folds(labels, 1, 0)
        together = unseen_logits(given, folds, wanted)
        done = []
        with monkeypatch.context() as patch:
            patch.setattr(many, "_AT_ONCE", 400)
            for found, expected in zip(unseen_logits(given, folds, wanted, done=done.append), together, strict=True):
                np.testing.assert_allclose(found.tested, expected.tested, rtol=1e-4, atol=1e-4)
        assert len(done) > 1
        assert sum(done) == len(folds)


def test_a_training_that_does_not_converge_is_known_by_infinite_logits():
    embeddings, labels = overlapping()
    wild = spec(5, None, TrainingConfig(learning_rate=1e30))
    found = unseen_logits(examples(1e6 * embeddings, labels), wild.target.folds(labels, 1, 0), wild)
    logits = np.concatenate([each.tested for each in found])
    assert not np.isnan(logits).any()
    assert np.isinf(logits).any()
