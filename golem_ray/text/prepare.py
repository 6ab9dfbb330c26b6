"""What is done to a text before an encoder's tokenizer gets it: one form for what is written in several.

Knows no encoder, dataset or file. Importing this loads nothing heavy.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from golem_ray import storage
from golem_ray.config import ProcessingConfig
from golem_ray.errors import ConfigError, StorageError, one_line

MAX_REPLACEMENTS = 10_000
"""Words in a table of replacements at most: an artifact's sidecar keeps them all."""

_KEY = "processing.replacements"

_SKIN_TONES = re.compile("[\U0001f3fb-\U0001f3ff]")

_WORD = re.compile(r"\w+(?:['’-]\w+)*")

_SHORT_I = re.compile(r"(?<=[ыо])и\b|(?<=[гкхжшщч]и)и\b|(?<=\bсредни)и\b|(?<=\bсини)и\b")
"""Where the Russian names of `emoji` have и for й at the end of an adjective."""

_NAMES = {
    "джоистик": "джойстик",
    "лаинер": "лайнер",
    "полицеиск": "полицейск",
    "поцелуи": "поцелуй",
    "слаидер": "слайдер",
    "строика": "стройка",
    "студиин": "студийн",
    "супергерои": "супергерой",
    "суперзлодеи": "суперзлодей",
    "таимер": "таймер",
}
"""The same of other words, or their beginnings."""


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """What is done to texts, so that whoever uses a classifier does the same."""

    emoji: str | None = None
    """Language whose words stand for emoji; None leaves them as they are."""
    replacements: tuple[tuple[str, str], ...] = ()
    """Words and what stands for each, in lower case."""
    max_tokens: int | None = None
    """Tokens that are kept of a text, those that the encoder adds included; None for what it takes."""


def configured_preparation(processing: ProcessingConfig) -> Preparation:
    """What the configuration says. Raises ConfigError if `emoji` is not installed, or a table cannot be read."""
    if processing.emoji_language is not None:
        _names_of_emoji(processing.emoji_language)
    table = processing.replacements
    return Preparation(
        emoji=processing.emoji_language,
        replacements=() if table is None else read_replacements(table),
        max_tokens=processing.max_tokens,
    )


def prepared(text: str, preparation: Preparation) -> str:
    """The text in Unicode's form NFKC, single spaces in it, with emoji and words replaced as it is to be done."""
    text = unicodedata.normalize("NFKC", text)
    if preparation.emoji is not None and not text.isascii():
        text = _names_of_emoji(preparation.emoji)(text)
    if preparation.replacements:
        text = _replace(text, _table(preparation.replacements))
    return " ".join(text.split())


def read_replacements(place: str) -> tuple[tuple[str, str], ...]:
    """The words in a CSV at a path or URI, with columns `from` and `to`: each and what stands for it, sorted.

    Raises ConfigError if it cannot be read, or holds something else than single words, each once.
    """
    try:
        text = storage.read(place).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{_KEY}: expected {place} in UTF-8, found other bytes; save it so.") from None
    except StorageError as error:
        raise ConfigError(f"{_KEY}: expected to be able to read {place}, but {one_line(error)}.") from None
    try:
        rows = list(csv.reader(io.StringIO(text, newline=None)))
    except csv.Error as error:
        raise ConfigError(f"{_KEY}: expected a CSV at {place}, but {one_line(error)}.") from None
    if not rows or [name.strip() for name in rows[0]] != ["from", "to"]:
        raise ConfigError(f"{_KEY}: expected the columns from,to in the first line of {place}, found others.")
    found: dict[str, str] = {}
    for number, row in enumerate(rows[1:], 2):
        if not row:
            continue
        word, other = (_form(cell) for cell in (row if len(row) == 2 else ("", "")))
        if not _WORD.fullmatch(word) or found.get(word, other) != other:
            what = "a word and what stands for it" if not _WORD.fullmatch(word) else "each word once"
            raise ConfigError(f"{_KEY}: expected {what} in line {number} of {place}, found something else.")
        found[word] = other
    if len(found) > MAX_REPLACEMENTS:
        raise ConfigError(f"{_KEY}: expected at most {MAX_REPLACEMENTS} words in {place}, found {len(found)}.")
    return tuple(sorted(found.items()))


def _form(cell: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", cell).lower().split())


@lru_cache(maxsize=4)
def _table(replacements: tuple[tuple[str, str], ...]) -> dict[str, str]:
    return dict(replacements)


def _replace(text: str, table: dict[str, str]) -> str:
    """The text with whole words replaced; what stands for one in capitals, or with one, is written so too."""

    def other(found: re.Match[str]) -> str:
        word = found[0]
        new = table.get(word.lower())
        if new is None:
            parts = re.split(r"(['’-])", word)
            return word if len(parts) == 1 else "".join(_cased(part, table.get(part.lower(), part)) for part in parts)
        return _cased(word, new)

    return _WORD.sub(other, text)


def _cased(word: str, new: str) -> str:
    if new == word:
        return word
    if len(word) > 1 and word.isupper():
        return new.upper()
    return new[:1].upper() + new[1:] if word[:1].isupper() else new


@lru_cache(maxsize=4)
def _names_of_emoji(language: str) -> Callable[[str], str]:
    """What writes emoji out in words of a language. Raises ConfigError if the library is not installed."""
    try:
        import emoji
    except ModuleNotFoundError:
        raise ConfigError(
            "processing.emoji_language: expected the library emoji to name them by, found none; "
            "`pip install golem_ray[emoji]`, or leave the key out."
        ) from None

    def named(found: str, _: object) -> str:
        name = emoji.demojize(found, language=language, delimiters=("", "")).replace("_", " ").replace(":", " ")
        return f" {_mended(name) if language == 'ru' else name} "

    return lambda text: emoji.replace_emoji(_SKIN_TONES.sub("", text), named)


def _mended(name: str) -> str:
    """A Russian name with й where the library has и."""
    for wrong, right in _NAMES.items():
        name = name.replace(wrong, right)
    return _SHORT_I.sub("й", name)
