"""A saved classifier in use, in the process that calls it: no Ray, no cluster."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from golem_ray import artifact
from golem_ray.config import ModelConfig
from golem_ray.data.table import read_content
from golem_ray.embedding.recipe import Recipe
from golem_ray.errors import ConfigError, DataError, ExampleError
from golem_ray.heads.target import softmax
from golem_ray.speech.inspect import recipe_for

if TYPE_CHECKING:
    import torch

if TYPE_CHECKING:
    Clip = str | os.PathLike[str] | bytes | np.ndarray | torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a classifier says of one clip."""

    label: str | None
    """The likeliest class; None for a clip that cannot be used."""
    probability: float
    """That class's."""
    probabilities: dict[str, float]
    """Of every class, the likeliest first; they add up to 1."""
    problem: str = ""
    """Why the clip cannot be used."""


class Classifier:
    """A head and its encoder. The encoder is loaded with the first clip.

    Raises ConfigError if the encoder is not the one that the head was trained on. `encoder` says where that lies, if
    not where it did then; `device` is `cpu`, `cuda` or `auto`.
    """

    def __init__(self, saved: artifact.Artifact, *, encoder: str | None = None, device: str = "auto") -> None:
        if device not in ("auto", "cpu", "cuda"):
            raise ConfigError(f"device: expected 'auto', 'cpu' or 'cuda', got {device!r}.")
        self.artifact = saved
        self.recipe = recipe_of(saved, encoder)
        self.labels = saved.labels
        self.sampling_rate = self.recipe.encoder.sampling_rate
        self._device = device
        self._encoder: Any = None

    @overload
    def predict(self, clips: Clip, *, sampling_rate: int | None = None) -> Prediction: ...

    @overload
    def predict(
        self, clips: list[Clip] | tuple[Clip, ...], *, sampling_rate: int | None = None
    ) -> list[Prediction]: ...

    def predict(
        self, clips: Clip | list[Clip] | tuple[Clip, ...], *, sampling_rate: int | None = None
    ) -> Prediction | list[Prediction]:
        """What the classifier says of a clip, or of each clip in a list.

        A clip is a path or URI, an audio file's bytes, or a waveform (T,) in [-1, 1] at sampling_rate Hz (by default
        the encoder's own). One that cannot be used raises DataError; in a list it becomes a Prediction whose label
        is None and whose `problem` says why.
        """
        if sampling_rate is not None and not (isinstance(sampling_rate, int) and sampling_rate > 0):
            raise ConfigError(f"sampling_rate: expected a positive number of Hz, got {sampling_rate!r}.")
        if isinstance(clips, list | tuple):
            waveforms = [self._waveform(clip, sampling_rate) for clip in clips]
            good = [waveform for waveform in waveforms if not isinstance(waveform, str)]
            found = iter(self._predictions(good))
            return [_unusable(each) if isinstance(each, str) else next(found) for each in waveforms]
        (found_one,) = self.predict([clips], sampling_rate=sampling_rate)
        if found_one.problem:
            raise DataError(f"{_name(clips)}: expected a clip that can be used, found {found_one.problem}.")
        return found_one

    def embed(self, waveforms: Sequence[np.ndarray]) -> np.ndarray:
        """Waveforms (T,) float32 at the encoder's rate -> (N, D) float32."""
        if self._encoder is None:
            self._encoder = _load_encoder(self.recipe, self._device)
        vectors = self._encoder.embed(waveforms)
        assert isinstance(vectors, np.ndarray)
        return vectors

    def _predictions(self, waveforms: list[np.ndarray]) -> list[Prediction]:
        if not waveforms:
            return []
        vectors = self.embed(waveforms)
        finite = np.isfinite(vectors).all(axis=1)
        found = predictions(self.artifact, np.where(finite[:, None], vectors, 0))
        problem = f"the encoder's vector is not finite in {self.recipe.precision}"
        return [each if good else _unusable(problem) for each, good in zip(found, finite, strict=True)]

    def _waveform(self, clip: Clip, sampling_rate: int | None) -> np.ndarray | str:
        """(T,) float32 at the encoder's rate, or why there is none."""
        from golem_ray.speech.read import check_waveform, load_clip, resample

        try:
            if isinstance(clip, bytes | bytearray | memoryview):
                return load_clip(bytes(clip), self.sampling_rate)
            if isinstance(clip, str | os.PathLike):
                return load_clip(read_content(None, _located(clip)), self.sampling_rate)
            samples = _samples(clip)
            if samples.ndim != 1:
                raise ExampleError(f"samples of shape {samples.shape}, not (T,): average the channels first")
            rate = sampling_rate or self.sampling_rate
            check_waveform(samples, rate)
            return resample(np.ascontiguousarray(samples), rate, self.sampling_rate)
        except ExampleError as error:
            return str(error)


def recipe_of(saved: artifact.Artifact, encoder: str | None = None) -> Recipe:
    """How the artifact's embeddings are made. `encoder` says where its encoder lies, if not where the sidecar says.

    Raises ConfigError if the encoder cannot be had, or is not the one that the head was trained on.
    """
    recorded = saved.document["encoder"]
    encoder = os.path.expanduser(encoder) if encoder is not None else None
    name = encoder or str(recorded.get("name"))
    revision = None if os.path.isdir(name) else recorded.get("revision")
    try:
        recipe = recipe_for(_model(recorded, name, revision), recorded.get("max_seconds"))
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


def _model(recorded: dict[str, Any], name: str, revision: str | None) -> ModelConfig:
    """The configuration under which the encoder of that name makes embeddings as the sidecar says."""
    kept = {key: recorded[key] for key in ("precision", "layer", "pooling") if key in recorded}
    return ModelConfig(feature_extractor_model=name, revision=revision, **kept)


def predictions(saved: artifact.Artifact, embeddings: np.ndarray) -> list[Prediction]:
    """What the artifact says of embeddings (N, D) float32."""
    found = []
    for row in softmax(saved.logits(embeddings), saved.temperature):
        order = np.argsort(-row, kind="stable")
        ranked = {saved.labels[number]: float(row[number]) for number in order}
        found.append(Prediction(label=saved.labels[order[0]], probability=float(row[order[0]]), probabilities=ranked))
    return found


def _unusable(problem: str) -> Prediction:
    return Prediction(label=None, probability=0.0, probabilities={}, problem=problem)


def _located(path: str | os.PathLike[str]) -> str:
    path = os.fspath(path)
    return path if "://" in path else os.path.expanduser(path)


def _samples(clip: object) -> np.ndarray:
    """A waveform as float32. Raises ExampleError for what is none."""
    import torch

    if isinstance(clip, torch.Tensor):
        clip = clip.detach().cpu()
        clip = (clip.float() if clip.is_floating_point() else clip).numpy()
    if not isinstance(clip, np.ndarray) or clip.dtype.kind not in "fiu":
        raise ExampleError(f"a {type(clip).__name__}, which is no path, bytes, array or tensor of samples")
    if clip.dtype.kind != "f":
        raise ExampleError(f"samples of {clip.dtype}: scale them to [-1, 1] first")
    return clip.astype(np.float32)


def _name(clip: object) -> str:
    return os.fspath(clip) if isinstance(clip, str | os.PathLike) else "the clip"


def _load_encoder(recipe: Recipe, device: str) -> Any:
    import torch

    from golem_ray.speech.encoders import SpeechEncoder

    usable = torch.cuda.is_available()
    if device == "cuda" and not usable:
        raise ConfigError("device: expected a GPU that PyTorch can use for 'cuda', found none; use 'cpu' or 'auto'.")
    gpu = usable and device != "cpu"
    batched = gpu and recipe.encoder.exact_in_batches
    return SpeechEncoder(recipe, "cuda" if gpu else "cpu", batch_seconds=120.0 if batched else None)
