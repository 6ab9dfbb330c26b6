"""A trained classifier in use, in the process that calls it. Any modality."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from golem_ray import artifact
from golem_ray.artifact.recipe import recipe_of
from golem_ray.embedding.loaded import Read, embedded, encoder_here, read_given
from golem_ray.embedding.modality import Encoder, Modality, modality_named
from golem_ray.errors import ConfigError, DataError, ExampleError, ran_out_of_memory, reading_example
from golem_ray.heads.target import NOTHING

if TYPE_CHECKING:
    from golem_ray.jobs.explain import Explanation


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a classifier says of one example."""

    label: str | None
    """The likeliest class; of several labels the likeliest that is given, or `none`. None for an example that cannot be
    used."""
    probability: float
    """That one's; 0 for none."""
    probabilities: dict[str, float]
    """Of every class, the likeliest first; they add up to 1 where an example has one."""
    labels: tuple[str, ...] = ()
    """All that are given, the likeliest first: one, or any number where there may be several."""
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
        self._device = device
        self._report = report
        self._encoder: Encoder | None = None

    def __getstate__(self) -> dict[str, Any]:
        """What a copy in another process needs: not the loaded encoder, nor what makes the training's report."""
        return {**self.__dict__, "_encoder": None, "_report": None}

    @property
    def _modality(self) -> Modality:
        return modality_named(self.recipe.modality)

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

        A clip is a path or URI, an audio file's bytes, or samples (T,) in [-1, 1] at `sampling_rate` Hz (by default the
        encoder's own); a text is a string, or a Path of a file. One that cannot be used raises DataError; in a list it
        becomes a Prediction whose label is None and whose `problem` says why.
        """
        if isinstance(examples, list | tuple):
            read = [self._read(example, how) for example in examples]
            found = iter(self._predictions([each for each in read if not isinstance(each, str)]))
            return [_unusable(each) if isinstance(each, str) else next(found) for each in read]
        (found_one,) = self.predict([examples], **how)
        if found_one.problem:
            raise self._refused(examples, found_one.problem)
        return found_one

    def _refused(self, example: Any, problem: str) -> DataError:
        """The error for an example that cannot be used."""
        one, text_is_path = self.recipe.noun.one, not self._modality.content.inline
        is_path = isinstance(example, os.PathLike) or (isinstance(example, str) and text_is_path)
        name = os.fspath(example) if is_path else f"the {one}"
        return DataError(f"{name}: expected a {one} that can be used, found {problem}.")

    def explain(self, example: Any, **how: Any) -> Explanation:
        """Which words of a text moved the decision, and by how much: each of the first 60 is left out in turn.

        Of each label that is given, or of the likeliest where none is. An example is given as to `predict`. Raises
        DataError for one that cannot be used, ConfigError for clips, of which no word can be left out.
        """
        from golem_ray.jobs.explain import check_explained, explain

        check_explained(self._modality, 1)
        try:
            return explain(self.artifact, self.recipe, self._modality.as_file(example, self.recipe, **how), self.embed)
        except ExampleError as error:
            raise self._refused(example, str(error)) from None

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

        `labels` are as `golem_ray.train` takes them, and `groups` (who speaks, say) has one entry for each example.
        Those that were trained on, and others of a group that was, are left out, unless `include_trained`. Raises
        UserError as `golem-ray evaluate` does.
        """
        from golem_ray.jobs.memory import evaluate

        return evaluate(self.artifact, self.recipe, examples, labels, groups, include_trained, self._device, how)

    def save(self, place: str | os.PathLike[str]) -> str:
        """Save the artifact at a path or URI ending in .pth, with its .json, and report.html after a training.

        Returns where it is. Raises ConfigError where it cannot be written, an artifact that was there untouched.
        """
        from golem_ray.jobs.memory import save

        return save(self.artifact, os.fspath(place), self._report)

    def embed(self, examples: Sequence[Read]) -> np.ndarray:
        """Examples as `read_given` or `read_file` of embedding/loaded.py gives them -> (N, D) float32."""
        return embedded(self._loaded(), self.recipe, examples)

    def _loaded(self) -> Encoder:
        if self._encoder is None:
            self._encoder = encoder_here(self.recipe, self._device)
        return self._encoder

    def _read(self, example: object, how: dict[str, Any]) -> Read | str:
        """The example as its modality reads it, or why that cannot be."""
        try:
            with reading_example():
                return read_given(example, self.recipe, how)
        except ExampleError as error:
            return str(error)

    def _predictions(self, examples: list[Read]) -> list[Prediction]:
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
                return [_unusable(self._modality.too_large(self._modality.cost(len(examples[0].data), self.recipe)))]
            return [self._predictions([example])[0] for example in examples]
        finite = np.isfinite(vectors).all(axis=1)
        found = predictions(self.artifact, np.where(finite[:, None], vectors, 0))
        problem = f"the encoder's vector is not finite in {self.recipe.precision}"
        remarks = [self._modality.remark(example.data, self.recipe) for example in examples]
        return [
            dataclasses.replace(each, remark=remark) if good else _unusable(problem)
            for each, remark, good in zip(found, remarks, finite, strict=True)
        ]


def predictions(saved: artifact.Artifact, embeddings: np.ndarray) -> list[Prediction]:
    """What the artifact says of embeddings (N, D) float32."""
    probabilities = saved.probabilities(embeddings)
    unsure = saved.unsure(embeddings, probabilities)
    rejected = np.zeros(len(embeddings), dtype=bool) if unsure is None else unsure
    given = saved.target.given(saved.answers(probabilities).decisions, probabilities)
    found = []
    for row, order, numbers, is_unsure in zip(
        probabilities, saved.target.ranking(probabilities), given, rejected, strict=True
    ):
        found.append(
            Prediction(
                label=saved.labels[numbers[0]] if numbers else NOTHING,
                probability=float(row[numbers[0]]) if numbers else 0.0,
                probabilities={saved.labels[number]: float(row[number]) for number in order},
                labels=tuple(saved.labels[number] for number in numbers),
                unsure=bool(is_unsure),
            )
        )
    return found


def _unusable(problem: str) -> Prediction:
    return Prediction(label=None, probability=0.0, probabilities={}, problem=problem)
