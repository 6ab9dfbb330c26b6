"""A trained classifier in use, in the process that calls it. Any modality."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from golem_ray import artifact
from golem_ray.artifact.recipe import recipe_of
from golem_ray.embedding.loaded import loaded_encoder
from golem_ray.embedding.modality import Encoder, modality_named
from golem_ray.errors import ConfigError, DataError, ExampleError, ran_out_of_memory, reading_example

_BATCH_COST = 120.0
"""What a GPU is given at once: as cluster.batch_seconds by default."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a classifier says of one example."""

    label: str | None
    """The likeliest class; None for an example that cannot be used."""
    probability: float
    """That class's."""
    probabilities: dict[str, float]
    """Of every class, the likeliest first; they add up to 1."""
    unsure: bool = False
    """Whether the classifier was trained to reject such an example: its label had better not be believed."""
    problem: str = ""
    """Why the example cannot be used."""
    remark: str = ""
    """What else there is to say of it: that a clip is silent, say."""


class TrainedClassifier:
    """A head and its encoder, as `golem_ray.train(clips=...)` and `golem_ray.load` give it.

    The encoder is loaded with the first example. Raises ConfigError if it is not the one that the head was trained
    on. `encoder` says where that lies, if not where it did then; `device` is `cpu`, `cuda` or `auto`. What its modality
    knows of the encoder is an attribute too: of speech, `sampling_rate`.
    """

    def __init__(
        self,
        saved: artifact.Artifact,
        *,
        encoder: str | None = None,
        device: str = "auto",
        report: Callable[[], str] | None = None,
    ) -> None:
        if device not in ("auto", "cpu", "cuda"):
            raise ConfigError(f"device: expected 'auto', 'cpu' or 'cuda', got {device!r}.")
        self.artifact = saved
        self.recipe = recipe_of(saved, encoder)
        self.labels = saved.labels
        self._modality = modality_named(self.recipe.modality)
        self._device = device
        self._report = report
        self._encoder: Encoder | None = None

    def __repr__(self) -> str:
        """Its classes, and what it is made of."""
        named = ", ".join(self.labels[:5]) + (", ..." if len(self.labels) > 5 else "")
        return f"<{type(self).__name__} of {len(self.labels)} classes ({named}) with {self.recipe.encoder.name}>"

    def __getattr__(self, name: str) -> Any:
        """What its modality alone knows of the encoder."""
        recipe = self.__dict__.get("recipe")
        if recipe is None or not hasattr(recipe.encoder.traits, name):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(recipe.encoder.traits, name)

    @property
    def summary(self) -> str:
        """What it was trained on, and its figures beside chance, in words."""
        return str(self.artifact.document.get("summary", ""))

    @overload
    def predict(self, examples: list[Any] | tuple[Any, ...], **how: Any) -> list[Prediction]: ...

    @overload
    def predict(self, examples: Any, **how: Any) -> Prediction: ...

    def predict(self, examples: Any, **how: Any) -> Prediction | list[Prediction]:
        """What the classifier says of an example, or of each example in a list.

        A clip is a path or URI, an audio file's bytes, or samples (T,) in [-1, 1] at `sampling_rate` Hz (by default
        the encoder's own). One that cannot be used raises DataError; in a list it becomes a Prediction whose label
        is None and whose `problem` says why.
        """
        if isinstance(examples, list | tuple):
            read = [self._read(example, how) for example in examples]
            found = iter(self._predictions([each for each in read if not isinstance(each, str)]))
            return [_unusable(each) if isinstance(each, str) else next(found) for each in read]
        (found_one,) = self.predict([examples], **how)
        if found_one.problem:
            one = self.recipe.noun.one
            name = os.fspath(examples) if isinstance(examples, str | os.PathLike) else f"the {one}"
            raise DataError(f"{name}: expected a {one} that can be used, found {found_one.problem}.")
        return found_one

    def evaluate(
        self,
        examples: Sequence[Any],
        labels: Sequence[Any],
        *,
        groups: Sequence[Any] | None = None,
        include_trained: bool = False,
        **how: Any,
    ) -> dict[str, Any]:
        """How the classifier does on labelled examples: {"summary", "num_clips", "figures", ...}.

        `labels` and `groups` (who speaks, say) have one entry for each example. Those that were trained on, and others
        of a group that was, are left out, unless `include_trained`. Raises UserError as `golem-ray evaluate` does.
        """
        from golem_ray.jobs.memory import evaluate

        return evaluate(self.artifact, self.recipe, examples, labels, groups, include_trained, self._device, how)

    def save(self, place: str | os.PathLike[str]) -> str:
        """Save the artifact at a path or URI ending in .pth, with its .json, and report.html after a training.

        Returns where it is. Raises ConfigError where it cannot be written, an artifact that was there untouched.
        """
        from golem_ray.jobs.memory import save

        return save(self.artifact, os.fspath(place), self._report)

    def embed(self, examples: Sequence[np.ndarray]) -> np.ndarray:
        """Examples as their modality reads them (of speech: (T,) float32 at the encoder's rate) -> (N, D) float32."""
        vectors = self._loaded().embed(examples)
        if not self.recipe.joined:
            return vectors
        beside = [self._modality.baseline_vector(example, self.recipe) for example in examples]
        return np.concatenate([vectors, np.stack(beside)], axis=1)

    def _loaded(self) -> Encoder:
        if self._encoder is None:
            self._encoder = self._load_encoder()
        return self._encoder

    def _read(self, example: object, how: dict[str, Any]) -> np.ndarray | str:
        """The example as its modality reads it, or why that cannot be."""
        try:
            with reading_example():
                return self._modality.given(example, self.recipe, **how)
        except ExampleError as error:
            return str(error)

    def _predictions(self, examples: list[np.ndarray]) -> list[Prediction]:
        if not examples:
            return []
        self._loaded()
        try:
            vectors = self.embed(examples)
        except (MemoryError, RuntimeError) as error:
            if not ran_out_of_memory(error):
                raise
            vectors = None  # what follows is done outside, where nothing holds on to the failed pass's tensors
        if vectors is None:
            if len(examples) == 1:
                return [_unusable(self._modality.too_large(self._modality.cost(len(examples[0]), self.recipe)))]
            return [self._predictions([example])[0] for example in examples]
        finite = np.isfinite(vectors).all(axis=1)
        found = predictions(self.artifact, np.where(finite[:, None], vectors, 0))
        problem = f"the encoder's vector is not finite in {self.recipe.precision}"
        remarks = [self._modality.remark(example, self.recipe) for example in examples]
        return [
            dataclasses.replace(each, remark=remark) if good else _unusable(problem)
            for each, remark, good in zip(found, remarks, finite, strict=True)
        ]

    def _load_encoder(self) -> Encoder:
        import torch

        usable = torch.cuda.is_available()
        if self._device == "cuda" and not usable:
            raise ConfigError(
                "device: expected a GPU that PyTorch can use for 'cuda', found none; use 'cpu' or 'auto'."
            )
        gpu = usable and self._device != "cpu"
        batched = gpu and self.recipe.encoder.exact_in_batches
        return loaded_encoder(self.recipe, "cuda" if gpu else "cpu", _BATCH_COST if batched else None)


def predictions(saved: artifact.Artifact, embeddings: np.ndarray) -> list[Prediction]:
    """What the artifact says of embeddings (N, D) float32."""
    probabilities = saved.probabilities(embeddings)
    unsure = saved.unsure(embeddings, probabilities)
    rejected = np.zeros(len(embeddings), dtype=bool) if unsure is None else unsure
    found = []
    for row, order, is_unsure in zip(probabilities, saved.target.ranking(probabilities), rejected, strict=True):
        found.append(
            Prediction(
                label=saved.labels[order[0]],
                probability=float(row[order[0]]),
                probabilities={saved.labels[number]: float(row[number]) for number in order},
                unsure=bool(is_unsure),
            )
        )
    return found


def _unusable(problem: str) -> Prediction:
    return Prediction(label=None, probability=0.0, probabilities={}, problem=problem)
