"""The classifier as an estimator of scikit-learn. Does not know how it is trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

import golem_ray
from golem_ray.classifier import TrainedClassifier
from golem_ray.data.encode import clean_label
from golem_ray.jobs.memory import probabilities


class Classifier(ClassifierMixin, BaseEstimator):
    """A frozen encoder with a head on it: Classifier(encoder="sample").fit(clips, labels).predict(others).

    Clips are paths or URIs, audio files' bytes, or samples (T,) in [-1, 1] at `sampling_rate` Hz (by default the
    encoder's), in a list. Works with scikit-learn's `clone`, `Pipeline`, `cross_val_score` and `GridSearchCV`; vectors
    are kept in memory, so that no clip is embedded twice by the same encoder, layer and pooling.

    The parameters are those of the configuration's groups `model`, `head` and `training`; `config` has others, as a
    preset has them. Raises golem_ray.errors.UserError for what the caller can mend.
    """

    def __init__(
        self,
        encoder: str = "facebook/wav2vec2-base",
        *,
        layer: int | str = "last",
        pooling: str = "mean",
        join_baseline: bool | str = False,
        kind: str = "gradient",
        hidden: Sequence[int] = (),
        layer_norm: bool = False,
        dropout: float = 0.0,
        standardize: bool = False,
        weight_decay: float = 0.0,
        class_weights: bool = False,
        epochs: int = 100,
        learning_rate: float = 0.01,
        seed: int = 0,
        sampling_rate: int | None = None,
        device: str = "auto",
        config: dict[str, Any] | None = None,
    ) -> None:
        self.encoder = encoder
        self.layer = layer
        self.pooling = pooling
        self.join_baseline = join_baseline
        self.kind = kind
        self.hidden = hidden
        self.layer_norm = layer_norm
        self.dropout = dropout
        self.standardize = standardize
        self.weight_decay = weight_decay
        self.class_weights = class_weights
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.seed = seed
        self.sampling_rate = sampling_rate
        self.device = device
        self.config = config

    classes_: np.ndarray
    """(K,) the labels, sorted."""
    trained_: TrainedClassifier
    """What `fit` trained: it can `save`."""

    def fit(self, X: Sequence[Any], y: Sequence[Any]) -> Classifier:
        """Train the head on clips X, N of them, and their labels y (N,)."""
        self.classes_ = np.unique(np.asarray(y))
        self.trained_ = golem_ray.train(
            self._config(), clips=list(X), labels=[str(label) for label in y], sampling_rate=self.sampling_rate
        )
        return self

    def predict(self, X: Sequence[Any]) -> np.ndarray:
        """The likeliest label of each clip, (N,). Raises DataError for a clip that cannot be used."""
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    def predict_proba(self, X: Sequence[Any]) -> np.ndarray:
        """The probability of each class, in the order of `classes_`: (N, K). Raises DataError as `predict` does."""
        check_is_fitted(self)
        how = {} if self.sampling_rate is None else {"sampling_rate": self.sampling_rate}
        found = probabilities(self.trained_.artifact, self.trained_.recipe, list(X), self.device, how)
        return found[:, [self.trained_.labels.index(clean_label(str(label))) for label in self.classes_]]

    def _config(self) -> dict[str, Any]:
        """The configuration that the parameters describe; one round of cross-validation calibrates."""
        groups: dict[str, Any] = {name: dict(values) for name, values in (self.config or {}).items()}
        groups.setdefault("evaluation", {}).setdefault("repeats", 1)
        own: dict[str, dict[str, Any]] = {
            "device": {"backend": self.device},
            "model": {
                "feature_extractor_model": self.encoder,
                "layer": self.layer,
                "pooling": self.pooling,
                "join_baseline": self.join_baseline,
            },
            "head": {
                "kind": self.kind,
                "hidden": list(self.hidden),
                "layer_norm": self.layer_norm,
                "dropout": self.dropout,
                "standardize": self.standardize,
                "weight_decay": self.weight_decay,
                "class_weights": self.class_weights,
            },
            "training": {"epochs": self.epochs, "learning_rate": self.learning_rate, "seed": self.seed},
        }
        for name, values in own.items():
            groups[name] = {**groups.get(name, {}), **values}
        return groups
