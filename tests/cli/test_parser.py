"""A command line from a dataclass, and what is said of one that does not fit."""

from dataclasses import dataclass, field
from typing import Literal

import pytest

from golem_ray.cli.parser import FLAT, HIDDEN, POSITIONAL, parse
from golem_ray.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Inner:
    """Widths and the like."""

    widths: tuple[int, ...] = (3,)
    """How wide, 100 %."""
    most: int | Literal["all"] = 50
    """How many."""
    share: int | float | None = None
    """A number, or a share."""
    least: float = 0.0
    """The least."""
    trusted: bool = True
    """Whether it is."""


@dataclass(frozen=True, kw_only=True)
class Whole:
    """Groups, and a key of its own."""

    inner: Inner = field(default_factory=Inner)
    some_name: str | None = None
    """Who."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """A command."""

    place: str = field(default="", metadata=POSITIONAL)
    """Where."""
    files: tuple[str, ...] = field(default=(), metadata=POSITIONAL)
    """Which."""
    whole: Whole = field(default_factory=Whole, metadata=FLAT)
    loud: bool = False
    """Whether it shouts."""
    found: int = field(default=0, metadata=HIDDEN)


def parsed(*argv, default=None):
    return parse(default or Example(), argv, usage="golem-ray example PLACE", description="An example.")


@pytest.mark.parametrize(
    ("argv", "expected", "given"),
    [
        ((), Example(), set()),
        (("a",), Example(place="a"), {"place"}),
        (("a", "b", "--loud", "c"), Example(place="a", files=("b", "c"), loud=True), {"place", "files", "loud"}),
        (("--inner.widths", "1", "2"), Example(whole=Whole(inner=Inner(widths=(1, 2)))), {"inner.widths"}),
        (
            ("--inner.widths", "--loud"),
            Example(whole=Whole(inner=Inner(widths=())), loud=True),
            {"inner.widths", "loud"},
        ),
        (("--inner.most", "all"), Example(whole=Whole(inner=Inner(most="all"))), {"inner.most"}),
        (("--inner.share=0.5",), Example(whole=Whole(inner=Inner(share=0.5))), {"inner.share"}),
        (("--inner.share", "2"), Example(whole=Whole(inner=Inner(share=2))), {"inner.share"}),
        (("--inner.no-trusted",), Example(whole=Whole(inner=Inner(trusted=False))), {"inner.trusted"}),
        (("--some_name", "none"), Example(), {"some_name"}),
        (("--some-name=a_b=c",), Example(whole=Whole(some_name="a_b=c")), {"some_name"}),
        (("--some-name", "7"), Example(whole=Whole(some_name="7")), {"some_name"}),
    ],
)
def test_flags_change_the_default_and_say_which_they_were(argv, expected, given):
    found = parsed(*argv)
    assert found.command == expected
    assert found.given == given


def test_what_no_flag_names_stays_as_it_was():
    default = Example(whole=Whole(inner=Inner(most=7), some_name="x"), found=5)
    expected = Example(whole=Whole(inner=Inner(most=7, share=1), some_name="x"), found=5)
    assert parsed("--inner.share", "1", default=default).command == expected


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--inner.most", "ten"], "inner.most: expected a whole number or 'all', got 'ten'."),
        (["--inner.widths", "1", "x"], "inner.widths: expected a whole number, got 'x'."),
        (
            ["--inner.mots", "1"],
            "--inner.mots: expected a flag of this command, found none of that name; did you mean --inner.most?",
        ),
        (["--most=1"], "--most: expected a flag of this command, found none of that name; did you mean --inner.most?"),
        (["--zzz"], "--zzz: expected a flag of this command, found none of that name; --help says what there is."),
        (
            ["--found=3"],
            "--found: expected a flag of this command, found none of that name; did you mean --loud?",
        ),
        (["--inner.most"], "--inner.most: expected a value after it, found none; give one, or leave the flag out."),
        (["--loud=yes"], "--loud: expected no value, found 'yes'; the flag alone says yes."),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(argv, words):
    with pytest.raises(ConfigError) as error:
        parsed(*argv)
    assert str(error.value) == words


def test_help_shows_each_flag_with_its_meaning_and_default(capsys):
    with pytest.raises(SystemExit, match="0"):
        parsed("--help")
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith("usage: golem-ray example PLACE An example.")
    assert "--inner.widths [NUMBER ...] How wide, 100 %. (default: 3)" in said
    assert "--inner.most NUMBER|all How many. (default: 50)" in said
    assert "--inner.least NUMBER The least. (default: 0.0)" in said
    assert "inner: Widths and the like." in said
    assert "--inner.trusted Whether it is. (default: yes; --inner.no-trusted says no)" in said
    assert "found" not in said
