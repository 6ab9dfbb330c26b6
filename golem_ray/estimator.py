"""The classifier as an estimator of scikit-learn. Does not know how it is trained."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_consistent_length, check_is_fitted

import golem_ray
from golem_ray.classifier import TrainedClassifier
from golem_ray.config import NOUNS
from golem_ray.data.encode import clean_label
from golem_ray.errors import ConfigError
from golem_ray.heads.multi_label import MULTI_LABEL
from golem_ray.jobs.memory import probabilities


class Classifier(ClassifierMixin, BaseEstimator):
    """A frozen encoder with a head on it: Classifier(encoder="sample").fit(clips, labels).predict(others).

    Of clips, or with modality="text" of texts, in a list, an array or a column of a table. Clips are paths or URIs,
    audio files' bytes, or samples (T,) in [-1, 1] at `sampling_rate` Hz (by default the encoder's); a text is a string,
    or a Path of a file. The encoder is by default that of `golem_ray.train`.

    Works with scikit-learn's `clone`, `Pipeline`, `cross_val_score` and `GridSearchCV`; vectors are kept in memory, so
    that no example is embedded twice by the same encoder, layer and pooling.

    The parameters are those of the configuration's groups `model`, `head` and `training`; `config` has others, as a
    preset has them. Raises golem_ray.errors.UserError for what the caller can mend.
    """

    def __init__(
        self,
        encoder: str | None = None,
        *,
        modality: str = "speech",
        layer: int | str = "last",
        pooling: str = "mean",
        join_baseline: bool | str = False,
        kind: str = "gradient",
        hidden: Sequence[int] = (),
        layer_norm: bool = False,
        dropout: float | Sequence[float] = 0.0,
        standardize: bool = False,
        weight_decay: float = 0.0,
        class_weights: bool | str | Sequence[float] = False,
        epochs: int = 100,
        learning_rate: float = 0.01,
        seed: int = 0,
        sampling_rate: int | None = None,
        device: str = "auto",
        config: dict[str, Any] | None = None,
    ) -> None:
        self.encoder = encoder
        self.modality = modality
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
    """(K,) the labels, sorted; of a matrix the numbers of its columns, of a DataFrame their names."""
    trained_: TrainedClassifier
    """What `fit` trained: it can `save`."""

    def fit(self, X: Sequence[Any], y: Sequence[Any]) -> Classifier:
        """Train the head on clips or texts X, N of them, and their labels y: (N,), one for each.

        Where an example may have several labels, or none, y is a matrix (N, K) of 0 and 1, as scikit-learn has it, also
        one in nested lists. Or y has a list of names for each; `cross_val_score` then has to be given its folds.
        """
        if self.modality not in list(NOUNS):
            raise ConfigError(f"modality: expected 'speech' or 'text', got {self.modality!r}.")
        noun = NOUNS[self.modality]
        given: dict[str, Any] = {noun.many: _examples(X, self.modality), "sampling_rate": self.sampling_rate}
        labels = _labels(y, noun.one)
        classes = _classes(labels)
        named = labels if isinstance(labels, list) or labels.ndim > 1 else [str(label) for label in labels]
        self.trained_ = golem_ray.train(self._config(), labels=named, encoder=self.encoder, **given)
        self.classes_ = np.array(self.trained_.labels) if classes is None else classes
        return self

    def predict(self, X: Sequence[Any]) -> np.ndarray:
        """The likeliest label of each example, (N,); where there may be several, a matrix (N, K) of 0 and 1.

        That has a 1 where a label's probability reaches the threshold that was found for it in training, its columns in
        the order of `classes_`, also where `fit` was given lists. Raises DataError for an example that cannot be used.
        """
        found = self.predict_proba(X)
        if self._several:
            decisions: np.ndarray = self.trained_.artifact.answers(found).decisions.astype(np.int64)
            return decisions
        return self.classes_[found.argmax(axis=1)]

    def predict_proba(self, X: Sequence[Any]) -> np.ndarray:
        """The probability of each class, in the order of `classes_`: (N, K). Raises DataError as `predict` does.

        Those of an example add up to 1, but where it may have several labels.
        """
        check_is_fitted(self)
        trained, how = self.trained_, {} if self.sampling_rate is None else {"sampling_rate": self.sampling_rate}
        examples = _examples(X, trained.recipe.modality)
        found = probabilities(trained.artifact, trained.recipe, examples, self.device, how)
        return found[:, [trained.labels.index(clean_label(str(label))) for label in self.classes_]]

    def score(self, X: Sequence[Any], y: Sequence[Any], sample_weight: Sequence[float] | None = None) -> float:
        """The share of examples whose label is right; where there may be several, all of whose labels are."""
        check_is_fitted(self)
        labels = _labels(y, self.trained_.recipe.noun.one)
        if not (self._several and isinstance(labels, list)):
            return float(super().score(X, labels, sample_weight))
        names, found = self.trained_.labels, self.predict(X)
        check_consistent_length(found, labels)
        given = [{names[number] for number in np.flatnonzero(row)} for row in found]
        wanted = [{clean_label(str(name)) for name in each} - {""} for each in labels]
        right = [said == own for said, own in zip(given, wanted, strict=True)]
        return float(np.average(right, weights=sample_weight))

    @property
    def _several(self) -> bool:
        """Whether an example may have several labels."""
        return self.trained_.artifact.target == MULTI_LABEL

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        tags.input_tags.string = tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = self.modality != "text"  # rows may be the samples of clips
        return tags

    def _config(self) -> dict[str, Any]:
        """The configuration that the parameters describe; one round of cross-validation calibrates."""
        groups: dict[str, Any] = {name: dict(values) for name, values in (self.config or {}).items()}
        groups.setdefault("evaluation", {}).setdefault("repeats", 1)
        own: dict[str, dict[str, Any]] = {
            "device": {"backend": self.device},
            "model": {"layer": self.layer, "pooling": self.pooling, "join_baseline": self.join_baseline},
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


def _examples(X: Any, modality: str) -> list[Any]:
    """What X holds, in a list. Raises ConfigError for one example alone, and for a table or matrix that has none."""
    many, ndim = NOUNS[modality].many, getattr(X, "ndim", 1)
    is_table = hasattr(X, "columns") or ndim == 0 or (ndim > 1 and modality == "text")
    if is_table or isinstance(X, str | bytes | dict) or not isinstance(X, Iterable):
        shape = f" of shape {tuple(X.shape)}" if is_table and hasattr(X, "shape") else ""
        raise ConfigError(f"X: expected a list of {many}, or a column of them, found a {type(X).__name__}{shape}.")
    return list(X)


def _labels(y: Any, one: str) -> Any:
    """Labels: an array (N,) of one for each, a list of lists of names, or what has a matrix (N, K) of 0 and 1.

    Raises ConfigError for what is none of these. What is in a matrix is looked at where it is trained on.
    """
    y = y.toarray() if hasattr(y, "toarray") else y  # a sparse matrix
    ndim = getattr(y, "ndim", 1)
    if ndim == 0 or isinstance(y, str | bytes | dict) or not isinstance(y, Iterable):
        raise ConfigError(f"y: expected a label for each {one}, found a {type(y).__name__}.")
    if ndim > 1:
        return y
    each = [label.tolist() if isinstance(label, np.ndarray) else label for label in y]
    alone = [label for label in each if not isinstance(label, list | tuple | set | frozenset)]
    if len(alone) < len(each):
        if alone:
            raise ConfigError(f"y: expected a list of names for each, found a {type(alone[0]).__name__} beside lists.")
        return np.array(each) if _is_matrix(each) else each
    for number, label in enumerate(each):
        if not isinstance(label, str) and str(label) in ("None", "nan", "<NA>", "NaT"):
            raise ConfigError(f"y: expected a label for each {one}, found none for {one} {number}.")
    return np.asarray(y)


def _is_matrix(rows: list[Any]) -> bool:
    """Whether lists are rows of 0 and 1: as names they would give each example the same two labels, or one twice."""
    if not all(isinstance(row, list | tuple) and all(value in (0, 1) for value in row) for row in rows):
        return False
    return len({len(row) for row in rows}) == 1 and len(rows[0]) > 1


def _classes(labels: Any) -> np.ndarray | None:
    """(K,) what the labels are of; None for lists, of which training finds the names."""
    if isinstance(labels, list):
        return None
    if labels.ndim > 1:
        return np.asarray(getattr(labels, "columns", range(labels.shape[1])))
    try:
        return np.unique(labels)
    except TypeError:
        raise ConfigError("y: expected names or numbers, found labels that cannot be put in an order.") from None
