"""Which encoding a text is in that is not in the one that was said: a mark at its beginning, or a likely guess.

A guess needs no more than a word. It is a suggestion to a person, who is shown the word; nothing is read by it. Knows
nothing of tables.
"""

from __future__ import annotations

import codecs
import re
import unicodedata

MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before that of UTF-16, which it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""What may stand at a text's beginning to say its encoding."""

_CANDIDATES = ("utf-8", "cp1251", "cp1252", "cp1250", "koi8-r", "cp866", "cp1253", "shift_jis", "gb18030")
"""Those that are tried; of equals, the first."""

_BY_FREQUENCY = {
    "CYRILLIC": "оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфъёіїєґў",
    "GREEK": "αοιετσνηυρπκμλωςγδχθφβξζψάέίήόύώ",
}
"""Letters of an alphabet, those that texts have most of first: bytes of one Cyrillic encoding are letters in another
too, but rarer ones."""

_ENOUGH = 0.4

_NEUTRAL = "\u00a0\u2013\u2014\u2018\u2019\u201a\u201c\u201d\u201e\u2022\u2026\u2116€«»°"
"""What stands in texts of any alphabet."""


def canonical(encoding: str) -> str:
    """The encoding's name, one for all spellings: utf8, UTF-8 and utf_8 are utf-8."""
    return codecs.lookup(encoding).name


def marked(head: bytes) -> str | None:
    """The encoding that the beginning of a text says itself: by its mark, or by the null bytes that UTF-16 has."""
    for mark, name in MARKS:
        if head.startswith(mark):
            return name
    head = head[:1000]
    nulls = [place for place, byte in enumerate(head) if byte == 0]
    if 4 * len(nulls) <= len(head):
        return None
    odd = sum(place % 2 for place in nulls)
    return "utf-16-le" if odd == len(nulls) else "utf-16-be" if odd == 0 else None


def likely_encoding(sample: bytes) -> tuple[str, str] | None:
    """The encoding in which the bytes look most like a text, and their first word that is not ASCII in it.

    Each character beyond ASCII counts: 1 in a Latin word, more the more frequent it is in an alphabet of its own, 0
    outside words, in words of two alphabets, and where capitals stand within a word. None if the average is low in all
    that are tried.
    """
    best, found = _ENOUGH, None
    for encoding in _CANDIDATES:
        text = _decoded(sample, encoding)
        words = [word for word in re.findall(r"[^\W\d_]+", text or "") if not word.isascii()]
        marks = sum(not (each.isascii() or each.isalpha() or each in _NEUTRAL) for each in text or "")
        scores = [_score(word) for word in words]
        counts = [sum(not each.isascii() for each in word) for word in words]
        if not counts:
            continue
        mean = sum(score * count for score, count in zip(scores, counts, strict=True)) / (sum(counts) + marks)
        if mean > best:
            best, found = mean, (encoding, words[0])
        if encoding == "utf-8":
            break  # no other text happens to be valid UTF-8
    return found


def _decoded(sample: bytes, encoding: str) -> str | None:
    """The sample's text, but for a character that its end cuts; None if it has other bytes."""
    try:
        return codecs.getincrementaldecoder(encoding)().decode(sample)
    except UnicodeDecodeError:
        return None


def _score(word: str) -> float:
    """How much a word with letters beyond ASCII looks like one, from 0 to 1."""
    alphabets = {unicodedata.name(letter, "?").split()[0] for letter in word}
    if alphabets <= {"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"}:
        return 0.9 if len(alphabets - {"CJK"}) else 0.6  # ideographs are what other bytes, taken in pairs, become
    if len(alphabets) > 1 or word not in (word.lower(), word.upper(), word.capitalize()):
        return 0.0
    (alphabet,) = alphabets
    if alphabet == "LATIN":
        return float(any(letter.isascii() for letter in word))
    letters = _BY_FREQUENCY.get(alphabet, "")
    ranks = [1 - letters.find(each) / len(letters) if each in letters else 0.0 for each in word.lower()]
    return sum(ranks) / len(ranks)
