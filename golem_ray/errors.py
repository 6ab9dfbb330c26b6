"""What can go wrong in ways that the person who runs the job can mend. Anything else is a bug of ours.

Also how text that others wrote is put into messages: without credentials, and without what a terminal would obey.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

_USER = re.compile(r"(https?://)[^\s/?#'\"<>]*@|(://)[^\s/?#'\"<>]*:[^\s/?#'\"<>]*@")
_END = r"""[^\s'"<>)]*?(?=[:;,.]*(?:[\s'"<>)]|$))"""  # a sentence's own punctuation stays
_QUERY = re.compile(rf"(https?://[^\s?#'\"<>]*)\?{_END}|\?[\w.~%+-]+={_END}")

_ALONE = re.compile(r"https?://\S+")

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""Control characters, and those that change lines or the direction of the text around them."""


def without_credentials(text: str) -> str:
    """The text, the URIs in it without user, password and query: `http://host/x.wav` of a signed one."""
    if "://" not in text:
        return text
    if _ALONE.fullmatch(text):
        text = re.split("[?#]", text, maxsplit=1)[0]
    return _QUERY.sub(r"\1", _USER.sub(r"\1\2", text))


def printable(text: str) -> str:
    """The text as it is shown, control characters escaped: `\\x1b`, `\\n`, `\\u202e`."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class UserError(Exception):
    """One line that says what was expected, what was found and what to do; exit status 2."""

    def __init__(self, message: str) -> None:
        super().__init__(without_credentials(message))


class ConfigError(UserError):
    """A value of the configuration that cannot be used."""


class DataError(UserError):
    """A dataset, or its examples, that cannot be used."""


class ExampleError(Exception):
    """The reason why one example cannot be used; counted and reported, never fatal by itself."""

    def __init__(self, reason: str) -> None:
        super().__init__(without_credentials(reason))


def ran_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out: Python's and NumPy's exception, or PyTorch's, for which there is none on a CPU."""
    said = str(error) if isinstance(error, RuntimeError) else ""
    return isinstance(error, MemoryError) or "out of memory" in said or "can't allocate memory" in said


@contextmanager
def reading_example() -> Iterator[None]:
    """Turn want of memory inside into an ExampleError: other examples may be smaller."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not ran_out_of_memory(error):
            raise
        raise ExampleError("more samples than fit into the memory") from None


class StorageError(OSError):
    """What a filesystem said, in one line, whichever it is: each has exceptions of its own."""

    def __init__(self, reason: str, *, kind: str = "", missing: bool = False) -> None:
        super().__init__(reason)
        self.kind = kind
        """Name of the filesystem's own exception."""
        self.missing = missing
        """Whether there is no such file or folder."""


def one_line(error: BaseException) -> str:
    """An exception's message, fit for the end of a one-line error: 300 characters at most."""
    return without_credentials(" ".join(str(error).split()))[:300]


class _MissingError(StorageError, FileNotFoundError):
    """The StorageError for what is not there. Its cause is why it was not found, where the filesystem says that."""


@contextmanager
def as_storage_errors() -> Iterator[None]:
    """Turn whatever exception a filesystem raises inside into a StorageError; UserError and ExampleError pass."""
    try:
        yield
    except (StorageError, UserError, ExampleError):
        raise
    except FileNotFoundError as error:
        raise _described(_MissingError(one_line(error), missing=True), error) from error.__cause__
    except Exception as error:  # every filesystem has its own
        raise _described(StorageError(one_line(error)), error) from error


def _described(found: StorageError, error: Exception) -> StorageError:
    found.kind = type(error).__name__
    found.strerror = getattr(error, "strerror", None)
    return found
