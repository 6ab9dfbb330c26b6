"""A command line from a dataclass: a flag for each field, `--group.key` for those of nested ones.

Knows types, docstrings and argparse. Does not know what any flag means, nor which commands there are.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from golem_ray.config.meanings import meanings
from golem_ray.config.presets import coerce, type_name
from golem_ray.errors import ConfigError

POSITIONAL: dict[str, Any] = {"positional": True}
"""Metadata of a field that takes what stands on the command line without a flag."""

FLAT: dict[str, Any] = {"flat": True}
"""Metadata of a dataclass among the fields whose own fields are those of the command, without its name before them."""

HIDDEN: dict[str, Any] = {"hidden": True}
"""Metadata of a field that no flag sets."""

Command = TypeVar("Command")


@dataclass(frozen=True)
class Parsed(Generic[Command]):
    """What a command line says."""

    command: Command
    given: frozenset[str]
    """The keys that it names, as `group.key` in snake_case."""


@dataclass(frozen=True, kw_only=True)
class _Flag:
    """One field, and where it is."""

    path: tuple[str, ...]
    """The fields to go through from the command to it."""
    key: str
    """What it is called: `group.key`."""
    hint: Any
    default: Any
    meaning: str
    positional: bool

    @property
    def option(self) -> str:
        """`--group.key-word`."""
        return f"--{self.key.replace('_', '-')}"

    @property
    def negated(self) -> str:
        """`--group.no-key-word`."""
        group, _, name = self.option.removeprefix("--").rpartition(".")
        return f"--{group}.no-{name}" if group else f"--no-{name}"


def parse(
    default: Command, argv: Sequence[str], *, usage: str, description: str, meant: Mapping[str, str] | None = None
) -> Parsed[Command]:
    """`default` with what the arguments say; a boolean's flag is `--group.key`, or `--group.no-key` for false.

    --help prints a page and ends the process. `meant` has flags that people try -> those that there are. Raises
    ConfigError for a flag that there is not, naming the nearest, for one without its value, and for a value that does
    not fit.
    """
    flags = list(_flags(default))
    parser = _parser(flags, default, usage, description)
    found, left = parser.parse_known_intermixed_args([_with_dashes(argument) for argument in argv])
    if left:
        raise _unknown(left[0], flags, meant or {})
    texts = {key: value for key, value in vars(found).items() if value is not None and value != []}
    values = {flag: _value(flag, texts[flag.key]) for flag in flags if flag.key in texts}
    command = _replaced(default, {flag.path: value for flag, value in values.items()})
    return Parsed(command, frozenset(flag.key for flag in values))


def _flags(value: Any, path: tuple[str, ...] = (), prefix: str = "") -> Iterator[_Flag]:
    """The flags of a dataclass and of those inside it."""
    hints, said = get_type_hints(type(value)), meanings(value.__class__)
    for field in dataclasses.fields(value):
        if field.metadata.get("hidden"):
            continue
        inner, here = getattr(value, field.name), (*path, field.name)
        if dataclasses.is_dataclass(inner):
            yield from _flags(inner, here, prefix if field.metadata.get("flat") else f"{prefix}{field.name}.")
            continue
        yield _Flag(
            path=here,
            key=prefix + field.name,
            hint=hints[field.name],
            default=inner,
            meaning=said.get(field.name, ""),
            positional=bool(field.metadata.get("positional")),
        )


class _Parser(argparse.ArgumentParser):
    """argparse, with errors like all others."""

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError."""
        found = re.match(r"argument ([^:]+): expected (?:one|at least one) argument", message)
        if found:
            raise ConfigError(f"{found[1]}: expected a value after it, found none; give one, or leave the flag out.")
        found = re.match(r"argument ([^:]+): ignored explicit argument (.+)", message)
        if found:
            raise ConfigError(f"{found[1]}: expected no value, found {found[2]}; the flag alone says yes.")
        raise ConfigError(f"the command line: expected what --help says, but {message}.")


def _parser(flags: Sequence[_Flag], default: Any, usage: str, description: str) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=usage.split(" [")[0],
        usage=usage,
        description=description,
        add_help=False,
        allow_abbrev=False,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=32, width=110),
    )
    general = parser.add_argument_group("flags")
    general.add_argument("-h", "--help", action="help", help="Show this page and exit.")
    groups = {"": general}
    for flag in flags:
        if flag.positional:
            nargs = "*" if get_origin(flag.hint) is tuple else "?"
            parser.add_argument(flag.key, nargs=nargs, metavar=flag.key.upper(), help=_escaped(flag.meaning))
            continue
        name = flag.key.rpartition(".")[0]
        if name not in groups:
            groups[name] = parser.add_argument_group(name, _group_doc(default, flag.path[:-1]))
        _add(groups[name], flag)
    return parser


def _add(group: Any, flag: _Flag) -> None:
    if flag.hint is bool:
        shown = f"{flag.meaning} (default: {f'yes; {flag.negated} says no' if flag.default else 'no'})"
        group.add_argument(flag.option, dest=flag.key, action="store_const", const=True, help=_escaped(shown))
        group.add_argument(flag.negated, dest=flag.key, action="store_const", const=False, help=argparse.SUPPRESS)
        return
    several, alone = get_origin(flag.hint) is tuple, bool in get_args(flag.hint)  # alone it says yes
    group.add_argument(
        flag.option,
        dest=flag.key,
        nargs="*" if several else "?" if alone else None,
        action=_Listed if several else "store",
        **({"const": "true"} if alone else {}),
        metavar=_metavar(flag.hint),
        help=_escaped(f"{flag.meaning} (default: {_shown(flag.default)})"),
    )


class _Listed(argparse.Action):
    """Keeps a list also where it is empty, as something given."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        setattr(namespace, self.dest, tuple(values))


def _value(flag: _Flag, given: Any) -> Any:
    """What the texts of a flag stand for."""
    if isinstance(given, bool):
        return given
    if isinstance(given, list | tuple):
        (kind, _) = get_args(flag.hint)
        return tuple(from_text(flag.key, text, kind) for text in given)
    return from_text(flag.key, given, flag.hint)


_WORDS = {"true": True, "yes": True, "false": False, "no": False}


def from_text(key: str, text: str, hint: Any) -> Any:
    """The value of that type that the text stands for; `none` is None where that is allowed. Raises ConfigError."""
    candidates: list[Any] = [None] if text.lower() == "none" else []
    candidates += [_WORDS[text.lower()]] if text.lower() in _WORDS else []
    for kind in (int, float):
        try:
            candidates.append(kind(text))
        except ValueError:
            continue
    if any(get_origin(kind) is tuple for kind in get_args(hint)) and "," in text:
        with suppress(ValueError):
            candidates.append([float(part) for part in text.split(",")])
    for candidate in (*candidates, text):
        try:
            return coerce(key, candidate, hint)
        except ConfigError:
            continue
    raise ConfigError(f"{key}: expected {type_name(hint)}, got {text!r}.")


def _replaced(value: Any, changes: dict[tuple[str, ...], Any]) -> Any:
    """The dataclass with what the paths name in its place; each class's checks run once."""
    own = {path[0]: new for path, new in changes.items() if len(path) == 1}
    for name in dict.fromkeys(path[0] for path in changes if len(path) > 1):
        inner = {path[1:]: new for path, new in changes.items() if len(path) > 1 and path[0] == name}
        own[name] = _replaced(getattr(value, name), inner)
    return dataclasses.replace(value, **own) if own else value


def _unknown(argument: str, flags: Sequence[_Flag], meant: Mapping[str, str]) -> ConfigError:
    """The error for an argument that nothing takes."""
    if not argument.startswith("-"):
        return ConfigError(
            f"the command line: expected flags (--group.key value) here, found {argument!r}; --help says what there is."
        )
    name = argument.split("=")[0]
    options = [flag.option for flag in flags if not flag.positional]
    spellings = {option.rpartition(".")[2]: option for option in options} | {option: option for option in options}
    near = (
        [meant[name]] if meant.get(name) in spellings else difflib.get_close_matches(name, spellings, n=1, cutoff=0.6)
    )
    near = near or difflib.get_close_matches(name.lstrip("-").rpartition(".")[2], spellings, n=1, cutoff=0.7)
    hint = f"did you mean {spellings[near[0]]}?" if near else "--help says what there is."
    return ConfigError(f"{name}: expected a flag of this command, found none of that name; {hint}")


def _with_dashes(argument: str) -> str:
    """The flag as it is spelled: `--group.some_key=x_y` -> `--group.some-key=x_y`."""
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value if name.startswith("--") else argument


def _group_doc(value: Any, path: tuple[str, ...]) -> str | None:
    for name in path:
        value = getattr(value, name)
    return (type(value).__doc__ or "").split("\n")[0] or None


def _metavar(hint: Any) -> str:
    """What stands for the value in --help: `NUMBER`, `TEXT`, `a|b`."""
    if get_origin(hint) is Literal:
        return "|".join(str(value) for value in get_args(hint))
    if get_origin(hint) in (Union, types.UnionType):
        return "|".join(dict.fromkeys(_metavar(part) for part in get_args(hint) if part is not type(None)))
    if get_origin(hint) is tuple:
        return _metavar(get_args(hint)[0])
    return {int: "NUMBER", float: "NUMBER", str: "TEXT", bool: "true|false"}[hint]


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    return {None: "none", "": "''"}.get(value, str(value))


def _escaped(text: str) -> str:
    return text.replace("%", "%%")
