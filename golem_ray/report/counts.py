"""What is in the examples, and how often: an alphabet, say, in lines for a terminal and as a table of a page.

A thing of one character is named where it cannot be seen, or would be taken for another. Knows no modality.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import islice
from typing import Any

from golem_ray.errors import printable
from golem_ray.report.html import cell, escape, number, table

_MOST_ROWS = 1000

_FEW = 8
"""Of the most frequent, and of the rarest, that a terminal shows."""

_BLANK = "\u115f\u1160\u2800\u3164\uffa0"
"""Letters and a symbol that leave no mark: fillers of Hangul, and Braille without a dot."""

_USUAL = " \n"
"""Of those that cannot be seen, what any text may have."""

_NAMELESS = {"Cc": "control character", "Co": "for private use", "Cn": "not assigned", "Cs": "half of a character"}


def count_lines(fact: dict[str, Any]) -> list[str]:
    """How many different things there are, the most frequent and the rarest, and those that nobody sees."""
    things = list(fact["counts"])
    what = f"different {fact['unit']}".rstrip()
    lines = [f"{fact['title']:24} {len(things)} {what}{_rest(fact)}"]
    if len(things) <= 2 * _FEW:
        return [*lines, _line("", things, fact)]
    lines += [_line("most frequent", things[:_FEW], fact), _line("rarest", things[: -_FEW - 1 : -1], fact)]
    unseen = [thing for thing in things if len(thing) == 1 and thing not in _USUAL and _is_unseen(thing)]
    return [*lines, _line("invisible", unseen[:_FEW], fact, len(unseen) - _FEW)] if unseen else lines


def count_table(fact: dict[str, Any]) -> str:
    """A heading and a table of all things, the most frequent first; with Unicode's names if they are characters."""
    counts = fact["counts"]
    characters = all(len(thing) == 1 for thing in counts)
    title = fact["title"][:1].upper() + fact["title"][1:]
    note = f"{len(counts)} different {fact['unit']}".rstrip() + f"{_rest(fact)}. {fact['how']}"
    more = len(counts) - _MOST_ROWS
    rows = islice(counts.items(), _MOST_ROWS)
    if characters:
        cells = [[cell(_seen(thing)), cell(_code(thing)), cell(_name(thing)), _number(count)] for thing, count in rows]
        shown = table(["", "Code", "Name", "Count"], cells)
    else:
        shown = table(["", "Count"], [[cell(thing), _number(count)] for thing, count in rows])
    below = f"<p>And {more} rarer ones, which --json lists.</p>" if more > 0 else ""
    return f'<h2>{escape(title)}</h2>\n<p class="note">{escape(note.rstrip())}</p>\n{shown}{below}'


def _rest(fact: dict[str, Any]) -> str:
    return f", and others that occur {fact['rest']} times in all" if fact["rest"] else ""


def _line(head: str, things: Sequence[str], fact: dict[str, Any], more: int = 0) -> str:
    listed = ", ".join(f"{_shown(thing)} ({fact['counts'][thing]})" for thing in things)
    return f"{'  ' + head:24} {listed}{f' and {more} more' if more > 0 else ''}"


def _number(count: int) -> str:
    return number(str(count))


def _shown(thing: str) -> str:
    """What a terminal shows of it: itself, Unicode's name of what cannot be seen alone, an escape of what has none."""
    if len(thing) != 1 or not (_is_unseen(thing) or _is_mark(thing)):
        return printable(thing)
    return unicodedata.name(thing, "") or thing.encode("unicode_escape").decode()


def _seen(character: str) -> str:
    """What a page shows of it: a mark on the circle that stands for any letter; nothing of what cannot be seen."""
    if _is_unseen(character):
        return ""
    return f"\u25cc{character}" if _is_mark(character) else character


def _is_unseen(character: str) -> bool:
    """Whether there is nothing to look at: of a space, a control character, what chooses how another looks."""
    if unicodedata.category(character)[0] in "CZ" or character in _BLANK:
        return True
    return "\ufe00" <= character <= "\ufe0f"


def _is_mark(character: str) -> bool:
    """Whether it stands on, or below, the character before it."""
    return unicodedata.category(character).startswith("M")


def _code(character: str) -> str:
    return f"U+{ord(character):04X}"


def _name(character: str) -> str:
    return unicodedata.name(character, "") or _NAMELESS.get(unicodedata.category(character), "")
