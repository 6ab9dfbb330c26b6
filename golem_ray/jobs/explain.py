"""Which words moved a decision: each is left out in turn, and what that changes is noted (occlusion).

All variants of an example go through the encoder in one call, in this process. Knows no modality: what can be left out
it says. Words are the user's own text: they are in what is returned, and in no message.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from golem_ray.artifact import Artifact
from golem_ray.config import PredictConfig
from golem_ray.data import Source, read_content, with_contents
from golem_ray.embedding.loaded import Read, embedded, encoder_here, read_file
from golem_ray.embedding.modality import Modality, modality_named
from golem_ray.embedding.recipe import Recipe
from golem_ray.errors import ConfigError, ExampleError, printable, reading_example
from golem_ray.progress import ProgressBar

MOST_WORDS = 60
"""Words of an example, the first, that are left out in turn."""

MOST_EXPLAINED = 1000
"""Examples that a job explains, each of which takes as long as so many as it has words."""

_MOST_SHOWN, _LEAST_SHOWN = 5, 0.005
"""Words that a terminal shows for a label, and the least change of these."""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What an example's words did to the probabilities of its labels."""

    changes: dict[str, list[tuple[str, float]]]
    """Of each label: words as they are written, and how much likelier the label is with the word than without it; the
    largest change first, be it up or down."""
    num_tried: int
    """Words that were left out in turn."""
    num_words: int
    """All words of the example."""

    @property
    def remark(self) -> str:
        """Whether it is of the first words alone; '' if not."""
        cut = self.num_words > self.num_tried
        return f"explained by its first {self.num_tried} of {self.num_words} words" if cut else ""


def check_explained(modality: Modality, num_examples: int) -> None:
    """Raise ConfigError unless so many examples can be explained."""
    many = modality.content.noun.many
    if modality.occluded is None:
        raise ConfigError(
            f"explain: expected examples of which words can be left out, found {many}; leave --explain out."
        )
    if num_examples > MOST_EXPLAINED:
        raise ConfigError(
            f"explain: expected at most {MOST_EXPLAINED} {many}, each of which is embedded once for each of its words, "
            f"found {num_examples}; take fewer, or the first ones by --processing.max-samples {MOST_EXPLAINED}."
        )


def explain(
    saved: Artifact,
    recipe: Recipe,
    content: bytes,
    embed: Callable[[Sequence[Read]], np.ndarray],
    labels: Sequence[str] | None = None,
) -> Explanation:
    """What the words in a file did to the probabilities of these labels; by default of those that are given.

    Where none is given, of the likeliest. `embed`: N examples that were read -> (N, D). Raises ExampleError for an
    example that cannot be used.
    """
    modality = modality_named(recipe.modality)
    assert modality.occluded is not None, "see check_explained"
    with reading_example():
        whole = read_file(content, recipe)
        parts, num_rest = modality.occluded(content, MOST_WORDS)
        words, without = [], []
        for word, rest in parts:
            try:
                without.append(read_file(rest, recipe))
            except ExampleError:  # nothing is left
                continue
            words.append(word)
        vectors = embed([whole, *without])
    finite = np.isfinite(vectors).all(axis=1)
    if not finite[0]:
        raise ExampleError(f"the encoder's vector is not finite in {recipe.precision}")
    words = [word for word, good in zip(words, finite[1:], strict=True) if good]
    probabilities = saved.probabilities(vectors[finite])
    changes = (probabilities[0] - probabilities[1:]).round(6)
    return Explanation(
        changes={
            saved.labels[number]: [
                (words[at], float(changes[at, number]))
                for at in np.argsort(-np.abs(changes[:, number]), kind="stable").tolist()
            ]
            for number in _numbers(saved, probabilities[:1], labels)
        },
        num_tried=len(parts),
        num_words=len(parts) + num_rest,
    )


def _numbers(saved: Artifact, probabilities: np.ndarray, labels: Sequence[str] | None) -> list[int]:
    """The labels to explain, of an example with probabilities (1, K)."""
    if labels is None:
        numbers = saved.target.given(saved.answers(probabilities).decisions, probabilities)[0]
    else:
        numbers = [saved.labels.index(label) for label in labels]
    return numbers or saved.target.ranking(probabilities, 1)[0].tolist()


def explained(
    rows: Iterable[dict[str, Any]], saved: Artifact, source: Source, recipe: Recipe, config: PredictConfig
) -> Iterator[dict[str, Any]]:
    """Predictions of all of a source's examples, in order, each with `explanation`: JSON, {label: [[word, change]]}.

    They are all there, and the engine that made them is gone, before the first is explained in this process.
    """
    rows, what = list(rows), modality_named(recipe.modality).content.what
    encoder = encoder_here(recipe, "cpu" if config.device.backend == "cpu" else "auto", config.cluster)
    bar = ProgressBar("explaining", len(rows), source.noun.many)
    try:
        for number, row in enumerate(rows):
            if row["problem"]:
                yield {**row, "explanation": None}
                continue
            (fields,) = with_contents(source.examples.slice(number, 1)).to_pylist()
            given = row.get("labels")
            labels = [row.get("likeliest", row["label"])] if given is None else given
            try:
                content = read_content(fields["bytes"], fields["path"], what)
                found = explain(saved, recipe, content, lambda each: embedded(encoder, recipe, each), labels)
                remark, text = found.remark, json.dumps(found.changes, ensure_ascii=False)
            except ExampleError as error:
                remark, text = f"not explained: {error}", None
            bar.update(number + 1)
            yield {**row, "remark": "; ".join(filter(None, [row["remark"], remark])) or None, "explanation": text}
    finally:
        bar.close()


def explanation_line(explanation: str) -> str:
    """`    anger: hate +.41, not -.12; joy: ...`: the words that moved each label most, from the JSON."""
    labels = []
    for label, changes in json.loads(explanation).items():
        named = [f"{printable(word)} {_signed(change)}" for word, change in changes if abs(change) >= _LEAST_SHOWN]
        none = "no word moves it by .01" if changes else "no word can be left out"
        labels.append(f"{printable(label)}: {', '.join(named[:_MOST_SHOWN]) or none}")
    return f"    {'; '.join(labels)}"


def _signed(change: float) -> str:
    """`+.41`, `-1.00`."""
    return f"{change:+.2f}".replace("0.", ".", 1)
