"""Texts in UTF-8 that something read as cp1251, cp1252 or latin-1: `РїСЂ`, `Ð¿Ñ€` for `пр`, `â€™` for an apostrophe.

What is looked for are pairs and triples of characters that no language writes so; single pairs of letters some do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable


def is_garbled(text: str) -> bool:
    """Whether a part of the text is so: two Cyrillic letters, a Latin one with its accent, a dash, an emoji."""
    return not text.isascii() and _GARBLED.search(text) is not None


def _shown(encoding: str, codes: Iterable[int]) -> str:
    """A class of a regular expression: what bytes are shown as, those that the encoding lacks as control characters."""
    found = set()
    for code in codes:
        try:
            found.add(bytes([code]).decode(encoding))
        except UnicodeDecodeError:
            found.add(chr(code))
        if encoding == "cp1252":
            found.add(chr(code))  # and as latin-1 shows it
    return f"[{''.join(map(re.escape, sorted(found)))}]"


def _pattern() -> re.Pattern[str]:
    after_d0 = [0x81, 0x84, 0x86, 0x87, *range(0x90, 0xC0)]  # Ё Є І Ї, А to п
    after_d1 = [*range(0x80, 0x90), 0x91, 0x94, 0x96, 0x97]  # р to я, ё є і ї
    parts = []
    for encoding in ("cp1251", "cp1252"):
        any_of = _shown(encoding, range(0x80, 0xC0))
        d0, d1, e2, f0 = (_shown(encoding, [code]) for code in (0xD0, 0xD1, 0xE2, 0xF0))
        letter = f"(?:{d0}{_shown(encoding, after_d0)}|{d1}{_shown(encoding, after_d1)})"
        parts.append(letter * 2)
        parts.append(f"{e2}{_shown(encoding, [0x80])}{any_of}")  # dashes, quotes, the ellipsis
        parts.append(f"{f0}{_shown(encoding, [0x9F])}{any_of}{{2}}")  # emoji
    quotes = {0x85, *range(0x91, 0x98), 0xA0, 0xBB}  # which may well stand behind a capital
    c2, c3 = (_shown("cp1252", [code]) for code in (0xC2, 0xC3))
    parts.append(f"{c2}{_shown('cp1252', {*range(0xA1, 0xC0)} - quotes)}|{c2}\xa0")
    parts.append(f"{c3}{_shown('cp1252', {*range(0x80, 0xC0)} - quotes)}")
    return re.compile("|".join(parts))


_GARBLED = _pattern()
