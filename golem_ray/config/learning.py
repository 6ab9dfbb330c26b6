"""The contract's groups of what is trained on embeddings, how, and how that is judged: keys, defaults and checks."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from golem_ray.config.checks import check_positive, default_of
from golem_ray.errors import ConfigError

ClassWeights = bool | Literal["none", "sqrt", "inverse"] | tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """What is trained on the embeddings: a linear layer, one with hidden layers before it, or a logistic regression."""

    kind: Literal["gradient", "logistic", "auto"] = "gradient"
    """`gradient` is trained by Adam; `logistic` is a regularised logistic regression, its strength cross-validated;
    `auto` chooses by cross-validation: gradient, with a hidden layer or without, or logistic."""
    hidden: tuple[int, ...] = ()
    """Widths of hidden layers; none for a linear head."""
    activation: Literal["relu", "gelu", "tanh"] = "relu"
    """What follows each hidden layer."""
    layer_norm: bool = False
    """Normalise each hidden layer's output, before its activation."""
    dropout: float | tuple[float, ...] = 0.0
    """Share of each hidden layer's outputs that a training step leaves out; a list has one for each layer."""
    standardize: bool = False
    """Bring the embeddings to zero mean and unit variance first; folded into the weights. `logistic` always does."""
    weight_decay: float = 0.0
    """Decoupled weight decay (AdamW); 0 is plain Adam."""
    normalization: Literal["none", "layer", "batch"] = "none"
    """What each hidden layer's output is normalised by, before its activation: by the layer's other outputs, or by
    those of the other examples of a step."""
    class_weights: ClassWeights = False
    """Have rare classes count for more: `inverse` (or true) by one over their examples, `sqrt` by the root of that;
    numbers are weights in the labels' order. False is `none`, but `sqrt` where an example may have several labels, and
    there it is what weighs an example that has the label, 10 at most."""
    threshold: float | Literal["tuned"] = "tuned"
    """Where an example may have several labels: the probability from which on it has one; `tuned` finds one for each
    label by cross-validation, so that its F1 is best."""
    at_least_one: bool = False
    """Where an example may have several labels: name the likeliest where none is likely enough."""
    label_smoothing: float = 0.0
    """Share of each label that is spread over all classes in the loss."""
    patience: int | None = None
    """Stop when the loss on a fifth of the examples, kept for that, has not fallen for so many epochs."""

    def __post_init__(self) -> None:
        if any(width <= 0 for width in self.hidden):
            raise ConfigError(f"head.hidden: expected positive widths, got {list(self.hidden)}.")
        for name, values in (("dropout", self.dropouts), ("label_smoothing", (self.label_smoothing,))):
            if not all(0 <= value < 1 for value in values):
                raise ConfigError(f"head.{name}: expected 0 to less than 1, got {getattr(self, name)!r}.")
        if isinstance(self.dropout, tuple) and len(self.dropout) != len(self.hidden):
            raise ConfigError(
                f"head.dropout: expected one for each of the {len(self.hidden)} hidden layers, got "
                f"{list(self.dropout)}."
            )
        if isinstance(self.class_weights, tuple) and not all(0 <= weight < math.inf for weight in self.class_weights):
            raise ConfigError(f"head.class_weights: expected 0 or more, got {list(self.class_weights)}.")
        if self.threshold != "tuned" and not 0 < self.threshold < 1:
            raise ConfigError(f"head.threshold: expected a probability, 0 to 1, or 'tuned', got {self.threshold!r}.")
        if self.layer_norm and self.normalization == "batch":
            raise ConfigError(
                "head.layer_norm: expected none beside head.normalization 'batch', got both; leave it out."
            )
        if not 0 <= self.weight_decay < math.inf:
            raise ConfigError(f"head.weight_decay: expected 0 or more, got {self.weight_decay!r}.")
        if self.patience is not None and self.patience < 1:
            raise ConfigError(f"head.patience: expected 1 or more, got {self.patience!r}; leave it out for none.")
        for_any = ("kind", "threshold", "at_least_one")
        unused = [key for key, value in vars(self).items() if key not in for_any and value != default_of(self, key)]
        if self.kind != "gradient" and unused:
            raise ConfigError(
                f"head.{unused[0]}: expected nothing but head.kind for {self.kind!r}, got "
                f"{getattr(self, unused[0])!r}; leave it out, or use 'gradient'."
            )
        used = {"dropout": any(self.dropouts), "layer_norm": self.layer_norm, "normalization": self.norm != "none"}
        lone = [key for key, value in used.items() if value and not self.hidden]
        if lone:
            raise ConfigError(f"head.{lone[0]}: expected hidden layers to use it on, found none; set head.hidden.")

    def deciding_as(self, other: HeadConfig) -> HeadConfig:
        """This head, deciding between labels as the other one where it is not said how."""
        keys = ("threshold", "at_least_one")
        return replace(
            self, **{key: getattr(other, key) for key in keys if getattr(self, key) == default_of(self, key)}
        )

    @property
    def norm(self) -> str:
        """What hidden layers are normalised by; `layer_norm` is the older name of one way."""
        return "layer" if self.layer_norm else self.normalization

    @property
    def dropouts(self) -> tuple[float, ...]:
        """The share that is left out of each hidden layer."""
        return self.dropout if isinstance(self.dropout, tuple) else (self.dropout,) * max(1, len(self.hidden))


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How the head is trained: Adam on cross-entropy."""

    epochs: int = 100
    """Passes over all embeddings."""
    batch_size: int | None = None
    """Examples of a step of Adam, in an order shuffled by the seed; all of them, one step an epoch, if not given."""
    learning_rate: float = 0.01
    """The optimizer's learning rate."""
    optimizer: Literal["adam", "adamw", "sgd"] | None = None
    """What takes the steps; if not given, Adam, or AdamW where weights decay. `sgd` has a momentum of 0.9."""
    seed: int = 0
    """Seed of the head's initial weights, of the order of batches and of the cross-validation folds."""

    def __post_init__(self) -> None:
        check_positive("training.epochs", self.epochs)
        if not 0 < self.learning_rate <= 1e30:
            raise ConfigError(f"training.learning_rate: expected a number above 0, got {self.learning_rate!r}.")
        if not 0 <= self.seed < 2**32:
            raise ConfigError(f"training.seed: expected 0 to 2**32 - 1, got {self.seed!r}.")


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How the trained head is judged."""

    repeats: int = 5
    """Rounds of stratified cross-validation, each with folds of its own; 0 for no cross-validation. Where something is
    left to `auto`, or a text's baseline is joined, many examples get fewer."""
    split: str | None = None
    """A split of the same dataset, all of whose examples the trained head is tested on; none if not given."""
    holdout: int | float | None = None
    """Examples, or a share of them between 0 and 1, that are kept from training and tested on; none if not given."""
    group_column: str | None = None
    """Column, such as the speaker, whose values are never on both sides of a fold or of the holdout."""
    reject: float | Literal["unlike"] | None = None
    """Which examples the classifier calls `unsure`: a precision, 0 to 1, has cross-validation find where labels are
    right that often; `unlike` means examples that are unlike all classes; none if not given."""

    def __post_init__(self) -> None:
        if self.holdout is not None and self.split is not None:
            raise ConfigError(
                "evaluation.holdout: expected either a holdout or evaluation.split, found both; leave one out."
            )
        if self.group_column == "":
            raise ConfigError("evaluation.group_column: expected a column, found ''; leave it out for none.")
        if self.split == "":
            raise ConfigError("evaluation.split: expected a name, found ''; leave it out for none.")
        if self.repeats < 0:
            raise ConfigError(f"evaluation.repeats: expected 0 or more, got {self.repeats!r}.")
        if isinstance(self.reject, float | int) and not 0 < self.reject < 1:
            raise ConfigError(
                f"evaluation.reject: expected a precision between 0 and 1, such as 0.9, or 'unlike', got "
                f"{self.reject!r}."
            )
        if self.reject is not None and not self.repeats:
            raise ConfigError(
                "evaluation.reject: expected rounds of cross-validation, by which it is found, got evaluation.repeats "
                "0; leave one of the two out."
            )
