"""A saved classifier in use, in the process that calls it: no engine, no cluster. Any modality."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from golem_ray import artifact
from golem_ray.embedding.modality import Encoder, modality_named
from golem_ray.embedding.recipe import Recipe
from golem_ray.errors import ConfigError, DataError, ExampleError, ran_out_of_memory, reading_example

_BATCH_COST = 120.0
"""What a GPU is given at once: as cluster.batch_seconds by default."""

_LOADING = threading.Lock()
"""One encoder at a time: transformers sets defaults of the whole process while it loads one."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a classifier says of one example."""

    label: str | None
    """The likeliest class; None for an example that cannot be used."""
    probability: float
    """That class's."""
    probabilities: dict[str, float]
    """Of every class, the likeliest first; they add up to 1."""
    problem: str = ""
    """Why the example cannot be used."""
    remark: str = ""
    """What else there is to say of it: that a clip is silent, say."""


class Classifier:
    """A head and its encoder. The encoder is loaded with the first example.

    Raises ConfigError if the encoder is not the one that the head was trained on. `encoder` says where that lies, if
    not where it did then; `device` is `cpu`, `cuda` or `auto`. What its modality knows of the encoder is an attribute
    too: of speech, `sampling_rate`.
    """

    def __init__(self, saved: artifact.Artifact, *, encoder: str | None = None, device: str = "auto") -> None:
        if device not in ("auto", "cpu", "cuda"):
            raise ConfigError(f"device: expected 'auto', 'cpu' or 'cuda', got {device!r}.")
        self.artifact = saved
        self.recipe = recipe_of(saved, encoder)
        self.labels = saved.labels
        self._modality = modality_named(self.recipe.modality)
        self._device = device
        self._encoder: Encoder | None = None

    def __getattr__(self, name: str) -> Any:
        """What its modality alone knows of the encoder."""
        recipe = self.__dict__.get("recipe")
        if recipe is None or not hasattr(recipe.encoder.traits, name):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(recipe.encoder.traits, name)

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
            raise DataError(f"{_name(examples)}: expected a clip that can be used, found {found_one.problem}.")
        return found_one

    def embed(self, examples: Sequence[np.ndarray]) -> np.ndarray:
        """Examples as their modality reads them (of speech: (T,) float32 at the encoder's rate) -> (N, D) float32."""
        return self._loaded().embed(examples)

    def _loaded(self) -> Encoder:
        with _LOADING:
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
        return self._modality.load_encoder(self.recipe, "cuda" if gpu else "cpu", _BATCH_COST if batched else None)


def recipe_of(saved: artifact.Artifact, encoder: str | None = None) -> Recipe:
    """How the artifact's embeddings are made. `encoder` says where its encoder lies, if not where the sidecar says.

    Raises ConfigError if the encoder cannot be had, or is not the one that the head was trained on.
    """
    recorded = saved.document["encoder"]
    encoder = os.path.expanduser(encoder) if encoder is not None else None
    name = encoder or str(recorded.get("name"))
    revision = None if os.path.isdir(name) else recorded.get("revision")
    try:
        recipe = modality_named(saved.modality).recorded_recipe(recorded, name, revision)
    except ConfigError as error:
        raise ConfigError(
            f"{error} It is the encoder of {saved.place}: if it lies elsewhere, say where (encoder)."
        ) from None
    info = recipe.encoder
    found = {"sha256": info.sha256, "revision": info.revision, "embedding_size": recipe.vector_size}
    wanted = {**recorded, "embedding_size": saved.document["head"]["in_features"]}
    for key, value in found.items():
        if value != wanted.get(key):
            raise ConfigError(
                f"the encoder: expected the one that {saved.place} was trained on ({key} {wanted.get(key)}), found "
                f"{value} in {name}; say where that one lies (encoder), or train again."
            )
    return recipe


def predictions(saved: artifact.Artifact, embeddings: np.ndarray) -> list[Prediction]:
    """What the artifact says of embeddings (N, D) float32."""
    probabilities = saved.probabilities(embeddings)
    found = []
    for row, order in zip(probabilities, saved.target.ranking(probabilities), strict=True):
        ranked = {saved.labels[number]: float(row[number]) for number in order}
        found.append(Prediction(label=saved.labels[order[0]], probability=float(row[order[0]]), probabilities=ranked))
    return found


def _unusable(problem: str) -> Prediction:
    return Prediction(label=None, probability=0.0, probabilities={}, problem=problem)


def _name(example: object) -> str:
    return os.fspath(example) if isinstance(example, str | os.PathLike) else "the clip"
