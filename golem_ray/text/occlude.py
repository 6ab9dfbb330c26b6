"""A text without each of its words, so that what a word does to a classifier's answer can be seen. Knows no encoder."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from golem_ray.text.read import decode

_WORD = re.compile("w[wx]*(?:-w[wx]*)*|e[ex]*")
"""A word, or a run of emoji, in the kinds of a text's characters: see `_kind`."""


_CHANGING = "\u200c\u200d\ufe0e\ufe0f"
"""Joiners, and what chooses how an emoji looks."""


_SIGNS = "\u2190"
"""Symbols before this are no emoji: a degree, a trade mark, a number sign."""


def occluded(content: bytes, most: int) -> tuple[list[tuple[str, bytes]], int]:
    """The first words of the text in a file, each with a file of the text without it, and how many words follow them.

    A word is a run of letters and digits, in it single hyphens and apostrophes; emoji next to each other are one. It is
    written as in the text, and left out there alone where it stands. Raises ExampleError as `decode` does.
    """
    text = decode(content)
    spans = [found.span() for found in _WORD.finditer("".join(map(_kind, text)))]
    parts = [(text[start:end], (text[:start] + text[end:]).encode()) for start, end in spans[:most]]
    return parts, max(0, len(spans) - most)


@lru_cache(maxsize=10_000)
def _kind(character: str) -> str:
    """w: in a word; e: an emoji or a like symbol; x: changes the one before; -: joins a word's parts; else a space."""
    if character in _CHANGING or "\U0001f3fb" <= character <= "\U0001f3ff":  # skin tones
        return "x"
    if character in "-\u2010\u2011'\u2019":
        return "-"
    kind = unicodedata.category(character)
    return "w" if kind[0] in "LNM" else "e" if kind == "So" and character > _SIGNS else " "
