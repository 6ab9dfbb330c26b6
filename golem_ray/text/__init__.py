"""Text: how texts are read, which encoders embed them, and the plain baseline that an encoder has to beat.

Knows nothing of heads, jobs or Ray. Importing this loads neither PyTorch nor a tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from golem_ray.config import NOUNS
from golem_ray.data.table import Content
from golem_ray.embedding.modality import Baseline, Card, Encoder, Modality, Origins
from golem_ray.embedding.recipe import Recipe
from golem_ray.text.facts import FACTS, describe
from golem_ray.text.inspect import configured_recipe, fingerprint, provenance, recorded_recipe
from golem_ray.text.traits import traits_of


def _read(content: bytes, recipe: Recipe) -> np.ndarray:
    """The text in a file as its encoder takes it: (T,) int32."""
    from golem_ray.text.read import tokens_of

    return tokens_of(content, recipe)


def _given(example: object, recipe: Recipe) -> np.ndarray:
    """The same of a text that a caller gives."""
    from golem_ray.text.read import as_bytes, tokens_of

    return tokens_of(as_bytes(example), recipe)


def _as_file(example: object, recipe: Recipe) -> bytes:
    """A file with the text that a caller gives."""
    from golem_ray.text.read import as_bytes

    return as_bytes(example)


def _remark(tokens: np.ndarray, recipe: Recipe) -> str:
    """Whether the encoder takes the beginning alone."""
    from golem_ray.text.read import is_truncated, longest_of

    return f"read up to {longest_of(recipe)} tokens" if is_truncated(tokens, recipe) else ""


def _occluded(content: bytes, most: int) -> tuple[list[tuple[str, bytes]], int]:
    """The text without each of its first words."""
    from golem_ray.text.occlude import occluded

    return occluded(content, most)


def _terms(contents: Sequence[bytes | None], recipe: Recipe) -> Any:
    """What the baseline counts in texts."""
    from golem_ray.text.baseline import count_terms

    return count_terms(contents, recipe)


def _cost(length: int, recipe: Recipe) -> float:
    from golem_ray.text.read import longest_of

    return float(min(length, longest_of(recipe) or length))


def _load_encoder(recipe: Recipe, device: str, batch_cost: float | None) -> Encoder:
    from golem_ray.text.encoders import NgramEncoder, TextEncoder

    return TextEncoder(recipe, device, batch_tokens=batch_cost) if traits_of(recipe).tokenizes else NgramEncoder(recipe)


def _html(content: bytes) -> str:
    """A text in a table's cell; a long one can be scrolled."""
    text = escape(content.decode("utf-8", "replace"))
    return f'<div class="text">{text}</div>'


def _made_for(record: dict[str, Any]) -> str:
    longest = record.get("max_tokens")
    return f"It reads the first {longest} tokens of a text." if isinstance(longest, int) else "It reads whole texts."


def _note(recipe: Recipe, device: str) -> str:
    from golem_ray.embedding.loading import precision_note

    return precision_note(recipe.precision, device)


MODALITY = Modality(
    name="text",
    unit="tokens",
    content=Content(key="dataset.text_column", suffixes=(".txt",), what="text", inline=True, noun=NOUNS["text"]),
    baseline=Baseline(
        key="tf_idf", name="pieces of words (TF-IDF)", head="a logistic regression on TF-IDF", short="TF-IDF", size=0
    ),
    encoders=("cointegrated/rubert-tiny2", "DeepPavlov/rubert-base-cased"),
    poolings=("mean", "cls"),
    card=Card(
        task="text-classification",
        over="its tokens",
        tags=("text-classification", "linear-probe"),
        examples="texts",
        made_for=_made_for,
        shown="It rained.",
    ),
    shown="What it says",
    html=_html,
    recipe=configured_recipe,
    recorded_recipe=recorded_recipe,
    provenance=provenance,
    fingerprint=fingerprint,
    read=_read,
    given=_given,
    as_file=_as_file,
    remark=_remark,
    facts=FACTS,
    describe=describe,
    origins=Origins(
        columns=("author", "author_id", "user", "user_id", "username", "speaker", "source"),
        heading="Origin",
        unsaid="which author or source a text is of",
        guessed="authors or sources",
        alike="take the texts of all labels from like authors and sources",
    ),
    cost=_cost,
    load_encoder=_load_encoder,
    note=_note,
    too_large=lambda cost: f"its {cost:.0f} tokens do not fit into the memory: see processing.max_tokens",
    gpu_batch=lambda cluster: cluster.batch_tokens,
    cpu_batch=1024.0,
    small=16,
    libraries=("tokenizers", "scikit-learn", "emoji"),
    occluded=_occluded,
    terms=_terms,
)
