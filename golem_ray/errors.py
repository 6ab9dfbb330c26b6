"""What can go wrong in ways that the person who runs the job can mend. Anything else is a bug of ours."""


class UserError(Exception):
    """One line that says what was expected, what was found and what to do; exit status 2."""


class ConfigError(UserError):
    """A value of the configuration that cannot be used."""


class DataError(UserError):
    """A dataset, or its clips, that cannot be used."""


class ClipError(Exception):
    """The reason why one clip cannot be used; counted and reported, never fatal by itself."""
