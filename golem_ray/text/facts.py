"""What there is to say of a text before anything is trained: its length, its script, what is odd about it.

Knows no encoder and no other text.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from functools import lru_cache
from html.entities import html5
from typing import Any

from golem_ray.embedding.modality import Fact
from golem_ray.text.garbled import is_garbled
from golem_ray.text.read import decode

_LONG = 350
"""Words of a text that has some 512 tokens. In Russian, WordPiece of 30,000 to 83,000 tokens, made from novels or from
posts, has 1.4 to 1.8 tokens a word in other posts, their signs included."""

_SHOUTED = 6
"""Letters from which a text in capitals alone is one, and no abbreviation."""

_STRESS = "\u0300\u0301"
"""Marks of stress; where they are part of a letter, as in French, NFKC has them in it."""

_SCRIPTS = {
    "Cjk": "Han",
    "Hiragana": "Japanese",
    "Katakana": "Japanese",
    "Katakana-hiragana": "Japanese",
    "Ideographic": "Han",
    "Modifier": "",
}
"""Names of scripts that differ from the first word of their letters' names."""

FACTS = (
    Fact(key="characters", title="characters", kind="number", is_size=True),
    Fact(
        key="words",
        title="words",
        kind="number",
        is_size=True,
        how="Runs of letters and digits. A tokenizer makes one token or more of each, and of signs and emoji too.",
    ),
    Fact(
        key="script",
        title="script",
        kind="category",
        how="Of the letters; mixed where a tenth of them or more are of another script than most.",
    ),
    Fact(
        key="no_letters",
        title="without a letter",
        kind="flag",
        advice="leave them out, or name their emoji by --processing.emoji-language",
    ),
    Fact(
        key="long",
        title=f"longer than {_LONG} words (some 512 tokens)",
        kind="flag",
        how="Most encoders read the first 512 tokens. How many these are a tokenizer says, and none is asked here.",
        advice="cut them into parts that can be labelled; what is beyond --processing.max-tokens is not read",
    ),
    Fact(
        key="markup",
        title="marked up in HTML",
        kind="flag",
        how="They have a tag or an entity (&amp;, &#39;).",
        advice="take the markup out, which an encoder reads as words",
    ),
    Fact(
        key="capitals",
        title="in capitals alone",
        kind="flag",
        how=f"Those of {_SHOUTED} letters or more.",
        advice="write them small where capitals mean nothing; encoders know few words in capitals",
    ),
    Fact(
        key="lost",
        title="short of characters that were lost in decoding (U+FFFD)",
        kind="flag",
        advice="make the table again from its original, decoded in its own encoding (--dataset.encoding)",
    ),
    Fact(
        key="garbled",
        title="garbled",
        kind="flag",
        how="Parts of them are UTF-8 that was read as cp1251, cp1252 or latin-1.",
        advice="make the table again from its original, read as UTF-8; no encoder knows such words",
    ),
    Fact(
        key="letters",
        title="alphabet",
        kind="counts",
        unit="characters",
        how="Each as it is written, capitals apart; an emoji may be of several.",
    ),
    Fact(
        key="same_words",
        title="the same words",
        kind="identity",
        how="Capitals, ё for е, stress marks, signs and spaces do not count; emoji do.",
    ),
)

_TAGS = (
    "a|abbr|article|b|blockquote|body|br|button|center|cite|code|dd|del|div|dl|dt|em|figure|font|footer|form|h[1-6]|head|"
    "header|hr|html|i|iframe|img|input|ins|label|li|link|main|meta|nav|ol|p|pre|q|s|script|section|small|span|strike|"
    "strong|style|sub|sup|svg|table|tbody|td|th|thead|title|tr|u|ul|video"
)

_TAG = re.compile(rf"</?(?:{_TAGS})(?:\s[^<>]{{0,500}})?/?>|<!--|<!doctype\b", re.IGNORECASE)

_ENTITY = re.compile(r"&(?:#(?:\d{1,7}|[xX][0-9a-fA-F]{1,6})|([A-Za-z][A-Za-z0-9]{1,31}));")


def describe(content: bytes) -> dict[str, Any]:
    """The facts of a text, from its file. Raises ExampleError for one that no encoder takes."""
    text = decode(content)
    words = plain_words(text)
    num_words = sum(not _is_emoji(word[0]) for word in words)
    num_letters = sum(map(str.isalpha, text))
    same = " ".join(words) or "".join(unicodedata.normalize("NFKC", text).split())
    return {
        "characters": len(text),
        "words": num_words,
        "script": script_of(text),
        "no_letters": not num_letters,
        "long": num_words > _LONG,
        "markup": _is_marked_up(text),
        "capitals": num_letters >= _SHOUTED and text.isupper(),
        "lost": "\ufffd" in text,
        "garbled": is_garbled(text),
        "letters": Counter(text),
        "same_words": hashlib.blake2b(same.encode(), digest_size=16).digest(),
    }


def plain_words(text: str) -> list[str]:
    """Words and emoji of a text, each word in one form however it is written: `Её́` and `ее` are the same."""
    return "".join(map(_plain, unicodedata.normalize("NFKC", text).casefold())).split()


@lru_cache(maxsize=10_000)
def _plain(character: str) -> str:
    """What stands for a character where words alone count: a space for a sign, nothing for what is not to be seen."""
    kind = unicodedata.category(character)
    if character in _STRESS or kind == "Cf" or "\ufe00" <= character <= "\ufe0f":  # which choose how an emoji looks
        return ""
    if character == "ё":
        return "е"
    if kind[0] in "LNM":
        return character
    return f" {character} " if _is_emoji(character) else " "


def _is_emoji(character: str) -> bool:
    """Whether it is an emoji, or a like symbol; the colour of a skin is none."""
    return unicodedata.category(character) == "So"


def script_of(text: str) -> str:
    """The script of nine tenths of a text's letters, or more: `Cyrillic`; `mixed`, `none`."""
    scripts = Counter(_script(letter) for letter in unicodedata.normalize("NFKC", text) if letter.isalpha())
    del scripts[""]
    if "Japanese" in scripts:
        scripts["Japanese"] += scripts.pop("Han", 0)
    if not scripts:
        return "none"
    name, count = scripts.most_common(1)[0]
    return name if count > 0.9 * scripts.total() else "mixed"


@lru_cache(maxsize=10_000)
def _script(letter: str) -> str:
    """What the letter's Unicode name begins with, '' for one of any script, such as an apostrophe that is a letter."""
    name = unicodedata.name(letter, "other").split()[0].capitalize()
    return _SCRIPTS.get(name, name)


def _is_marked_up(text: str) -> bool:
    """Whether there is a tag of HTML in the text, a comment, or an entity that HTML knows."""
    if _TAG.search(text):
        return True
    return any(found[1] is None or f"{found[1]};" in html5 for found in _ENTITY.finditer(text))
