"""What a description says more where an example may have several labels, or none: in lines, and as parts of a page.

Names of labels are other people's text.
"""

from __future__ import annotations

from typing import Any

from golem_ray.config import Noun
from golem_ray.errors import printable
from golem_ray.heads.target import NOTHING
from golem_ray.report.distributions import MAX_COUNTED, draw_together
from golem_ray.report.html import cell, number, section, table

_MOST_LINES = 5
"""Pairs that a terminal shows."""


def labels_in_words(found: dict[str, Any], noun: Noun) -> str:
    """`28, of which a text has 1.18 on average (0 to 4)`."""
    per_example = found["several"]["per_example"]
    numbers = [number for number, count in enumerate(per_example) if count]
    if not numbers:
        return f"{len(found['labels'])}"
    mean = sum(number * per_example[number] for number in numbers) / sum(per_example)
    return f"{len(found['labels'])}, of which a {noun.one} has {mean:.2f} on average ({numbers[0]} to {numbers[-1]})"


def label_numbers(several: dict[str, Any]) -> str:
    """`none (12), 1 (2261), 2 (421)`: how many examples have so many labels."""
    counted = enumerate(several["per_example"])
    return ", ".join(f"{number or NOTHING} ({count})" for number, count in counted if count or not number)


def sets_in_words(sets: list[list[str]]) -> str:
    """`anger, joy / anger / none`: the labels of examples whose labels differ."""
    return " / ".join(", ".join(names) or NOTHING for names in sets)


def pair_lines(several: dict[str, Any], noun: Noun) -> list[str]:
    """A table of the pairs of labels of most examples, beside what chance would give."""
    if not several["pairs"]:
        return []
    lines = ["", f"{'labels that come together':40} {noun.many:>8} {'by chance':>10} {'times as many':>14}"]
    for pair in several["pairs"][:_MOST_LINES]:
        names = " + ".join(printable(name) for name in pair["labels"])
        lines.append(f"{names:40.40} {pair['num_clips']:8} {pair['by_chance']:10.1f} {pair['lift']:14.2f}")
    more = several["num_pairs"] - _MOST_LINES
    return [*lines, f"and {more} more pairs"] if more > 0 else lines


def together_parts(found: dict[str, Any], drawings: dict[str, dict[str, Any]], noun: Noun) -> list[str]:
    """A drawing of how often each label comes with each, and a table of the pairs of most examples."""
    several = found["several"]
    counts, total = several["counts"], sum(several["per_example"])
    drawings["together"] = draw_together(counts["together"], counts["labels"], total, noun)
    shown = len(counts["labels"])
    which = (
        f" The {shown} labels of most {noun.many}, of {len(found['labels'])}." if shown < len(found["labels"]) else ""
    )
    numbers = f"Numbers are {noun.many} with both labels, on the diagonal all of a label; shades" * (
        shown <= MAX_COUNTED
    )
    words = (
        f"{noun.many.capitalize()} by their number of labels: {label_numbers(several)}.{which} {numbers or 'Shades'} "
        f"are shares of the row's {noun.many}. The lift is how many times as many have both as chance would give."
    )
    rows = [
        [
            cell(" + ".join(pair["labels"])),
            *(number(text) for text in (str(pair["num_clips"]), f"{pair['by_chance']:.1f}", f"{pair['lift']:.2f}")),
        ]
        for pair in several["pairs"]
    ]
    head = ["Labels", noun.many.capitalize(), "By chance", "Lift"]
    more = several["num_pairs"] - len(rows)
    below = [f"<p>And {more} more pairs.</p>"] if more > 0 else []
    return [section("Labels that come together", words, "together"), *([table(head, rows), *below] if rows else [])]
