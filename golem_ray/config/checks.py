"""What several groups of the configuration check alike. Does not know the groups."""

from __future__ import annotations

from dataclasses import MISSING, fields
from urllib.parse import urlsplit

from golem_ray.errors import ConfigError


def default_of(config: object, key: str) -> object:
    """The default of a group's key."""
    field = next(each for each in fields(config) if each.name == key)  # type: ignore[arg-type]
    return field.default if field.default_factory is MISSING else field.default_factory()


def check_positive(key: str, value: object, word: str | None = None) -> None:
    """Raise ConfigError unless the value is a positive whole number, or this word."""
    if value != word and not (isinstance(value, int) and value > 0):
        wanted = "a positive number" + (f" or '{word}'" if word else "")
        raise ConfigError(f"{key}: expected {wanted}, got {value!r}.")


def refuse_credentials(key: str, value: str) -> None:
    """Raise ConfigError for a URI with a password or a token in it, which would end up in messages and sidecars."""
    if "\0" in value:
        raise ConfigError(f"{key}: expected a name without null characters.")
    if "://" not in value:
        return
    parts = urlsplit(value)
    if parts.password or (parts.scheme in ("http", "https") and (parts.username or parts.query)):
        raise ConfigError(
            f"{key}: expected a URI without a password, token or query (it would be kept and shown), found one; give "
            "credentials by environment variables."
        )


def separator(delimiter: str) -> str:
    """The character that a key's value means: `tab` and `\\t` are a tab, others themselves."""
    return "\t" if delimiter in ("tab", "\\t") else delimiter


def check_delimiter(key: str, value: str) -> None:
    """Raise ConfigError unless the value is a character that may stand between columns of a CSV."""
    character = separator(value)
    if len(character) != 1 or not character.isascii() or character.isalnum() or character in '"\r\n\0':
        raise ConfigError(f"{key}: expected one character, such as ';', or 'tab', got {value!r}.")


def check_encoding(key: str, value: str) -> None:
    """Raise ConfigError unless Python knows the encoding, and it is one of text."""
    try:
        "".encode(value)
    except (LookupError, ValueError):
        raise ConfigError(
            f"{key}: expected an encoding of text that Python knows, such as utf-8, cp1251 or utf-16, got {value!r}."
        ) from None
