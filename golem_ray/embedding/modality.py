"""The seam between what is embedded and everything else: what a modality gives, and which modalities there are.

A modality's package imports nothing heavy until its functions are called: the driver asks, the workers do the work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, Protocol

import numpy as np

from golem_ray.config import ClusterConfig, DatasetConfig, ModelConfig, ProcessingConfig
from golem_ray.data.table import Content
from golem_ray.embedding.recipe import Recipe

MODALITIES = {"speech": "golem_ray.speech", "text": "golem_ray.text"}
"""Name of each modality -> its package, which has it as MODALITY."""


class Encoder(Protocol):
    """A frozen encoder on one device. An example's vector depends on that example alone, whatever runs beside it."""

    batch_cost: float | None
    """Most padded cost of a batch; None for one by one."""
    batch_fill: float | None
    """Of the last call's batches, the share of batch_cost that was no padding; None without batches."""

    def embed(self, examples: Sequence[np.ndarray]) -> np.ndarray:
        """N examples as `Modality.read` gives them -> (N, encoded_size) float32."""

    def stop(self) -> None:
        """End calls of other threads soon, by a KeyboardInterrupt."""


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """The plain vector that an encoder has to beat."""

    key: str
    """What its figures are kept under."""
    name: str
    """For a sentence: `log-mel statistics do as well`."""
    head: str
    """What its figures are of: `the same head on log-mel statistics`."""
    short: str
    """For a table's head."""
    size: int
    """Width of its vectors; 0 where they follow from the examples that are trained on (`Modality.terms`)."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a model card says of a modality."""

    task: str
    """The Hub's name of the task."""
    over: str
    """What a layer's frames follow one another in: averaged over ..."""
    tags: tuple[str, ...]
    examples: str
    """For a sentence: `a classifier of ...`."""
    made_for: Callable[[dict[str, Any]], str]
    """A sentence, from a sidecar's group `encoder`, that says what examples must be like."""
    shown: str = "clip.wav"
    """An example as a call of `predict` may name it."""


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A thing that there is to say of each example, before anything is trained."""

    key: str
    """What `Modality.describe` gives it under."""
    title: str
    """A noun for a number or a category; of a flag, what follows `clips that are`; of an identity, `that have`."""
    kind: Literal["number", "category", "flag", "identity", "counts"]
    """A number is summed up, a category counted, of a flag the examples are named; two examples of one identity are
    equal in what an encoder takes, though their files may differ; counts of what is in an example are added up."""
    unit: str = ""
    """Of a number or a category; of counts, what is counted: `characters`."""
    how: str = ""
    """How it is measured, for who reads the page; a threshold belongs here."""
    advice: str = ""
    """What to do about examples with the flag."""
    is_size: bool = False
    """Whether it says how large an example is: then it is summed, and given for each label."""


@dataclass(frozen=True, kw_only=True)
class Origins:
    """How a description speaks of whom, or of what, examples are."""

    columns: tuple[str, ...]
    """Those that are taken for the column of groups where none is named, the likeliest first."""
    heading: str
    """`Who speaks`."""
    unsaid: str
    """What no column says: `who speaks`."""
    guessed: str
    """What the values of such a column may be."""
    alike: str
    """What to do where a category, as of all recordings by one device, tells the label."""


@dataclass(frozen=True, kw_only=True)
class Modality:
    """How examples of one kind are read, what they cost, and who embeds them."""

    name: str
    unit: str
    """Of what examples cost, as a metric's name has it."""
    content: Content
    baseline: Baseline
    encoders: tuple[str, ...]
    """Names of well-known encoders to try."""
    poolings: tuple[str, ...]
    """Those to choose from where the choice is left to cross-validation."""
    card: Card
    shown: str
    """Head of a report's column that shows examples."""
    html: Callable[[bytes], str]
    """An HTML element that shows an example, from its file."""
    recipe: Callable[[ModelConfig, ProcessingConfig], Recipe]
    """How the configured embeddings are made; all layers where one is still to be chosen. Raises ConfigError."""
    provenance: Callable[[Recipe], dict[str, Any]]
    """What the sidecar's group `encoder` says of a recipe, as plain JSON values."""
    recorded_recipe: Callable[[dict[str, Any], str, str | None], Recipe]
    """The recipe that such a group records, with the encoder of that name and revision. Raises ConfigError."""
    fingerprint: Callable[[Recipe], dict[str, Any]]
    """Everything that a vector depends on besides the example and the device, as plain JSON values."""
    read: Callable[[bytes, Recipe], np.ndarray]
    """An example as its encoder takes it, from its file: (T,) of one type. Raises ExampleError."""
    given: Callable[..., np.ndarray]
    """The same of what a caller has in memory: (example, recipe, **how it is given). Raises ExampleError."""
    as_file: Callable[..., bytes]
    """A file of an example that is neither a path nor bytes, always the same of the same: as `given` takes it."""
    remark: Callable[[np.ndarray, Recipe], str]
    """What there is to say of an example that was read and can be used, in few words; '' for nothing."""
    facts: tuple[Fact, ...]
    """What `describe` says of an example, in the order in which it is shown."""
    describe: Callable[[bytes], dict[str, Any]]
    """The facts of an example by their keys, from its file, without an encoder: a number, a category's name, whether it
    has a flag, an identity's 16 bytes, a Counter. Raises ExampleError for what no encoder takes."""
    origins: Origins
    cost: Callable[[int, Recipe], float]
    """What an example of so many elements costs, in the modality's unit."""
    load_encoder: Callable[[Recipe, str, float | None], Encoder]
    """The encoder on a device, in batches of at most so much padded cost (None: one by one). Raises ConfigError."""
    note: Callable[[Recipe, str], str]
    """What there is to say about such a recipe on that device; '' for nothing."""
    too_large: Callable[[float], str]
    """Why an example of that cost cannot be used that does not fit into the memory alone."""
    gpu_batch: Callable[[ClusterConfig], float]
    """Padded cost that a GPU is given at once."""
    cpu_batch: float | None = None
    """The same of a CPU; None where one by one is as fast."""
    small: int = 1
    """Times as many examples as usual that a worker takes at a time: among many small ones, more are of like costs."""
    occluded: Callable[[bytes, int], tuple[list[tuple[str, bytes]], int]] | None = None
    """The first so many words of an example, each with the file without it, and how many words follow these, from its
    file; None where nothing can be left out. Raises ExampleError."""
    baseline_vector: Callable[[np.ndarray, Recipe], np.ndarray] | None = None
    """(T,) -> (F,) float32: the baseline's vector of an example that was read; None where it follows from `terms`."""
    libraries: tuple[str, ...] = ()
    """More libraries whose versions a sidecar records, where they are installed."""
    terms: Callable[[Sequence[bytes | None], Recipe], Any] | None = None
    """N files -> what the baseline counts in each, (N, V) in SciPy's CSR form, zeros where there is no file; None where
    an example's vector of the baseline follows from it alone."""


def modality_named(name: str) -> Modality:
    """The modality of that name, which is one of MODALITIES."""
    found = import_module(MODALITIES[name]).MODALITY
    assert isinstance(found, Modality)
    return found


def modality_of(dataset: DatasetConfig) -> Modality:
    """The modality of a dataset's examples."""
    return modality_named(dataset.modality)
