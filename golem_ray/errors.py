"""What can go wrong in ways that the person who runs the job can mend. Anything else is a bug of ours."""


class UserError(Exception):
    """One line that says what was expected, what was found and what to do; exit status 2."""


class ConfigError(UserError):
    """A value of the configuration that cannot be used."""


class DataError(UserError):
    """A dataset, or its examples, that cannot be used."""


class ExampleError(Exception):
    """The reason why one example cannot be used; counted and reported, never fatal by itself."""


class StorageError(Exception):
    """What a filesystem said, in one line, whichever it is: each has exceptions of its own."""

    def __init__(self, reason: str, *, kind: str = "", missing: bool = False) -> None:
        super().__init__(reason)
        self.kind = kind
        """Name of the filesystem's own exception."""
        self.missing = missing
        """Whether there is no such file or folder."""


def one_line(error: BaseException) -> str:
    """An exception's message, fit for the end of a one-line error: 300 characters at most."""
    return " ".join(str(error).split())[:300]
