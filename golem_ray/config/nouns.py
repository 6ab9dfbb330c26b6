"""What messages call an example: a clip or a text. Does not know what either is."""

from __future__ import annotations

from typing import Any, NamedTuple


class Noun(NamedTuple):
    """A word for one example, and for several."""

    one: str
    many: str


NOUNS = {"speech": Noun("clip", "clips"), "text": Noun("text", "texts")}
"""What messages call an example of each modality."""


def noun_of(document: dict[str, Any]) -> Noun:
    """What an artifact's sidecar is about; one without a modality is of a time when there were clips alone."""
    return NOUNS[document.get("modality", "speech")]
