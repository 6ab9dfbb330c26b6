"""Which words moved a decision: each is left out in turn, and what that changes is noted (occlusion).

All variants of an example go through the encoder in one call, in this process. Knows no modality: what can be left out
it says. Words are the user's own text: they are in what is returned, and in no message.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from golem_ray.artifact import Artifact
from golem_ray.config import EvaluateConfig, PredictConfig
from golem_ray.data import Source, read_content, with_contents
from golem_ray.embedding.loaded import Read, embedded, encoder_here, read_file
from golem_ray.embedding.modality import Modality, modality_named
from golem_ray.embedding.recipe import Recipe
from golem_ray.errors import ConfigError, ExampleError, UserError, printable, reading_example
from golem_ray.progress import ProgressBar
from golem_ray.report.judged import Column, Judged, moved_html, moving_words, signed

log = logging.getLogger(__name__)

MOST_WORDS = 60
"""Words of an example, the first, that are left out in turn."""

MOST_EXPLAINED = 1000
"""Examples that a job explains, each of which takes as long as so many as it has words."""

_MOST_LABELS = 3
"""Labels of one mistake that are missed and explained, and as many that are wrong."""


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
    rows, wanted = list(rows), []
    for number, row in enumerate(rows):
        given = row.get("labels")
        if not row["problem"]:
            wanted.append((number, [row.get("likeliest", row["label"])] if given is None else given))
    with closing(_explanations(wanted, saved, source, recipe, config)) as explanations:
        for row in rows:
            if row["problem"]:
                yield {**row, "explanation": None}
                continue
            found = next(explanations)
            if isinstance(found, str):
                remark, text = f"not explained: {found}", None
            else:
                remark, text = found.remark, json.dumps(found.changes, ensure_ascii=False)
            yield {**row, "remark": "; ".join(filter(None, [row["remark"], remark])) or None, "explanation": text}


def _explanations(
    wanted: Sequence[tuple[int, Sequence[str]]],
    saved: Artifact,
    source: Source,
    recipe: Recipe,
    config: PredictConfig | EvaluateConfig,
) -> Generator[Explanation | str, None, None]:
    """Of rows of a source, each with the labels to explain, what `explain` finds; or why it cannot be explained."""
    if not wanted:
        return
    what = modality_named(recipe.modality).content.what
    encoder = encoder_here(recipe, "cpu" if config.device.backend == "cpu" else "auto", config.cluster)
    bar = ProgressBar("explaining", len(wanted), source.noun.many)
    try:
        for done, (row, labels) in enumerate(wanted, 1):
            (fields,) = with_contents(source.examples.slice(row, 1)).to_pylist()
            found: Explanation | str
            try:
                if fields.get("problem"):
                    raise ExampleError(fields["problem"])
                content = read_content(fields["bytes"], fields["path"], what)
                found = explain(saved, recipe, content, lambda each: embedded(encoder, recipe, each), labels)
            except ExampleError as error:
                found = str(error)
            bar.update(done)
            yield found
    finally:
        bar.close()


def words_column(
    judged: Judged,
    worst: Sequence[int],
    rows: np.ndarray,
    saved: Artifact,
    source: Source,
    recipe: Recipe,
    config: EvaluateConfig,
) -> Column:
    """The report's column of the words that moved the labels that are missed and wrong, in the worst mistakes.

    `worst` are indices of judged examples, which are the rows (M,) of the source. They are explained in this process.
    """
    labels = {index: _mistaken(judged, index) for index in worst}
    known = [index for index in worst if labels[index]]
    wanted = [(int(rows[index]), list(labels[index])) for index in known]
    found: dict[int, Explanation | str] = {}
    try:
        found = dict(zip(known, _explanations(wanted, saved, source, recipe, config), strict=True))
    except UserError as error:  # no encoder in this process: the figures are worth their report all the same
        log.warning("the worst mistakes are not explained: %s", error)
        found = dict.fromkeys(known, str(error))

    def html(index: int) -> str:
        each = found.get(index, "it knows no label that differs")
        if isinstance(each, str):
            return moved_html({}, {}, f"not explained: {each}")
        return moved_html(each.changes, labels[index], each.remark)

    return Column(
        title="Words that moved it",
        html=html,
        note=(
            f"Each of the first {MOST_WORDS} words of a {source.noun.one} was left out in turn: a number says how much "
            "likelier the label is with the word than without it. Shown are the words that change most, of the labels "
            f"that are missed and of those that are wrong, {_MOST_LABELS} of each at most."
        ),
    )


def _mistaken(judged: Judged, index: int) -> dict[str, str]:
    """The labels to explain of a judged example, the worst first: each with `missed` or `wrong`."""
    chances, (missed, wrong) = judged.answers.probabilities[index], judged.differing(index)
    known = [label for label in missed if label < judged.answers.num_classes]
    known, wrong = sorted(known, key=lambda label: chances[label]), sorted(wrong, key=lambda label: -chances[label])
    named = {judged.names[label]: "missed" for label in known[:_MOST_LABELS]}
    return named | {judged.names[label]: "wrong" for label in wrong[:_MOST_LABELS]}


def explanation_line(explanation: str) -> str:
    """`    anger: hate +.41, not -.12; joy: ...`: the words that moved each label most, from the JSON."""
    labels = []
    for label, changes in json.loads(explanation).items():
        words, none = moving_words(changes)
        named = ", ".join(f"{printable(word)} {signed(change)}" for word, change in words)
        labels.append(f"{printable(label)}: {named or none}")
    return f"    {'; '.join(labels)}"
