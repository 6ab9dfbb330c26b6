"""Write docs/reference/configuration.md and command-line.md from the configuration's classes and the commands' flags.

    python tools/reference.py

A test fails while they differ from what this writes.
"""

from __future__ import annotations

import dataclasses
import sys
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a checkout runs without being installed

from golem_ray.cli import flags  # noqa: E402
from golem_ray.cli.commands import COMMANDS  # noqa: E402
from golem_ray.config import GridConfig, TrainConfig  # noqa: E402
from golem_ray.config.meanings import meanings  # noqa: E402
from golem_ray.config.presets import bundled_presets  # noqa: E402

WRITTEN = "<!-- Written by `python tools/reference.py` from the docstrings in golem_ray/: change those. -->\n"


def configuration() -> str:
    """The page of all keys of a preset."""
    parts = [
        "# Configuration\n",
        WRITTEN,
        "A preset is a TOML file with these groups (JSON too, whose keys may be in camelCase: `maxSamples`). "
        "`golem-ray train PRESET` and `golem-ray compare PRESET` take one: a file, a URI, `-` for standard input, an "
        f"artifact's `.json`, or the name of a bundled one: {', '.join(f'`{name}`' for name in bundled_presets())}. "
        "Every key is a flag too, with dashes: `--processing.max-samples all`; flags win. In Python, "
        '`golem_ray.train({"processing": {"max_samples": "all"}})` takes the same.\n',
    ]
    for field in dataclasses.fields(TrainConfig):
        parts += _group(field.name, getattr(TrainConfig(), field.name))
    parts += _group("grid", GridConfig(), "Of `golem-ray compare` alone, and without flags.")
    return "\n".join(parts)


def command_line() -> str:
    """The page of all commands."""
    parts = [
        "# Command line\n",
        WRITTEN,
        "`golem-ray COMMAND ...`, or `python -m golem_ray COMMAND ...`. `golem-ray COMMAND --help` says all flags of "
        "one; those of the groups are in [configuration.md](configuration.md). A yes-or-no key is `--group.key`, or "
        "`--group.no-key` for no.\n",
        "Exit status: 0; 2 after one line that says what was expected, what was found and what to do; 130 when it was "
        "stopped (Ctrl-C, SIGTERM); 1 with a traceback for a bug of ours.\n",
    ]
    for name, run in COMMANDS.items():
        does, _, usage = (run.__doc__ or "").partition(": ")
        own, groups = _own(flags.DEFAULTS[name])
        parts += [f"## golem-ray {name} {usage}\n", f"{does}.\n"]
        if own:
            parts += ["| | default | meaning |", "| --- | --- | --- |", *own, ""]
        if groups:
            parts.append(f"Groups: {', '.join(f'`{group}`' for group in groups)}.\n")
    return "\n".join(parts)


def _group(name: str, group: Any, note: str = "") -> list[str]:
    said = meanings(group.__class__)
    lines = [f"## {name}\n", (group.__class__.__doc__ or "").split("\n")[0] + (f" {note}" if note else "") + "\n"]
    lines += ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    hints = get_type_hints(type(group))
    for field in dataclasses.fields(group):
        kind, default = _type(hints[field.name]), _shown(getattr(group, field.name))
        lines.append(f"| `{name}.{field.name}` | {kind} | {default} | {said[field.name]} |")
    return [*lines, ""]


def _own(default: Any) -> tuple[list[str], list[str]]:
    """Rows of a command's own flags, and the groups of keys that it takes."""
    rows: list[str] = []
    groups: list[str] = []
    said = meanings(default.__class__)
    for field in dataclasses.fields(default):
        value = getattr(default, field.name)
        if field.metadata.get("hidden"):
            continue
        if field.metadata.get("flat"):
            inner, names = _own(value)
            rows, groups = rows + inner, groups + names
        elif dataclasses.is_dataclass(value):
            groups.append(field.name)
        elif field.metadata.get("positional"):
            rows.append(f"| `{field.name.upper()}` | | {said[field.name]} |")
        else:
            rows.append(f"| `--{field.name.replace('_', '-')}` | {_shown(value)} | {said[field.name]} |")
    return rows, groups


def _type(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(hint))
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_type(part) for part in get_args(hint) if part is not type(None))
    if get_origin(hint) is tuple:
        return f"list of {_type(get_args(hint)[0])}"
    return {int: "number", float: "number", str: "text", bool: "yes or no"}.get(hint, "tables")


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return ", ".join(value)
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value) or "''"


def pages() -> dict[Path, str]:
    """Where each page goes, and what it says."""
    folder = ROOT / "docs" / "reference"
    return {folder / "configuration.md": configuration(), folder / "command-line.md": command_line()}


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text)
        print(path.relative_to(ROOT))
