"""The command line: main() runs a command, prints its lines and returns its exit status; golem_ray() finds the command.

Knows logging and exit statuses. Does not know what a command does (commands.py), nor its flags (flags.py).
"""

from __future__ import annotations

import difflib
import logging
import os
import sys
from collections.abc import Sequence

from golem_ray.cli.stopping import STOPPED, not_silent, stopped_in_time
from golem_ray.errors import UserError, printable, without_credentials

_ENDED = (
    "error: expected to come to an end by itself, found this process killed, or its Ray lost (a head or a machine that "
    "went, a full /dev/shm, no memory left)"
)


def golem_ray() -> int:
    """Run the command that this process's arguments name; returns its exit status.

    `golem-ray`, and `python -m golem_ray`; each script in `jobs/` runs its one command.
    """
    from golem_ray import __version__
    from golem_ray.cli.commands import COMMANDS

    name, *argv = sys.argv[1:] or ["--help"]
    if name in COMMANDS:
        return main(name, argv)
    if name in ("-h", "--help", "--version"):
        print(f"golem-ray {__version__}" if name == "--version" else _page())
        return 0
    near = difflib.get_close_matches(name, COMMANDS, n=1)
    hint = f"did you mean {near[0]}?" if near else "golem-ray --help says what each does."
    print(f"error: {printable(name)}: expected a command ({', '.join(COMMANDS)}); {hint}", file=sys.stderr)
    return 2


def _page() -> str:
    """What --help prints: the commands."""
    from golem_ray.cli.commands import COMMANDS
    from golem_ray.config.presets import bundled_presets

    lines = [(run.__doc__ or "").partition(": ") for run in COMMANDS.values()]
    commands = [f"  {f'{name} {usage}':<28} {does}" for name, (does, _, usage) in zip(COMMANDS, lines, strict=True)]
    return "\n".join(
        [
            "usage: golem-ray COMMAND ...",
            "",
            "A handful of labelled clips or texts in, a working classifier out.",
            "",
            *commands,
            "",
            f"Bundled presets: {', '.join(bundled_presets())}. `golem-ray COMMAND --help` says all flags of one.",
        ]
    )


def main(command: str, argv: Sequence[str]) -> int:
    """Run the command of that name; returns 0, or 2 after an error that the user can mend, or 130 when stopped.

    Prints each line of the output as it comes. A bug of ours is a traceback, with which Python ends with status 1,
    and so does Ray where it ends this process, of which a line is said then.
    """
    from golem_ray.cli.commands import COMMANDS

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("golem_ray").setLevel(logging.INFO)
    kept = "; a run with paths.run_dir keeps what it has embedded: go on with --resume" if command == "train" else ""
    try:
        with not_silent(f"{_ENDED}{kept}") as last_words, stopped_in_time(f"stopped{kept}", last_words):
            for line in COMMANDS[command](argv):
                if not _print(line):
                    break
    except UserError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"stopped{kept}", file=sys.stderr)
        return STOPPED
    return 0


class _OneLine(logging.Formatter):
    """Shows names in log lines, which may be anybody's, as `printable` does, and URIs without credentials."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line; a traceback comes after it."""
        return printable(without_credentials(super().formatMessage(record)))


def _print(line: str) -> bool:
    """Print a line (or several); whether somebody still reads. What was to be saved is saved by then."""
    shown, encoding = "\n".join(map(printable, line.split("\n"))), sys.stdout.encoding or "utf-8"
    try:
        print(shown.encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True
