"""Examples that cannot be used: how they are named, and how many may be."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from golem_ray.config import Noun
from golem_ray.data.table import Source, example_name
from golem_ray.errors import DataError, without_credentials

log = logging.getLogger(__name__)

MAX_NAMED = 20
"""Examples that a message names at most."""


def check_unusable(records: Sequence[dict[str, Any]], num_examples: int, max_bad_fraction: float, noun: Noun) -> None:
    """Name the examples that cannot be used ({"example", "reason"}) of num_examples; DataError if they are too many."""
    if not records:
        return
    most = allowed(max_bad_fraction, num_examples)
    named = "; ".join(f"{record['clip']}: {record['reason']}" for record in records[:MAX_NAMED])
    more = f"; and {len(records) - MAX_NAMED} more" if len(records) > MAX_NAMED else ""
    if len(records) > most:
        raise DataError(
            f"processing.max_bad_fraction: expected at most {most} of {num_examples} {noun.many} to be unusable, "
            f"found {len(records)} or more ({named}{more}); mend or remove them, or allow a larger fraction."
        )
    log.warning("%s that cannot be used, %d of %d: %s%s", noun.many, len(records), num_examples, named, more)


def name_remarked(remarks: Mapping[int, str], name: Callable[[int], str], num_examples: int, noun: Noun) -> None:
    """Name the examples that can be used but that there is something to say of: row -> remark."""
    for remark in sorted(set(remarks.values())):
        rows = sorted(row for row, words in remarks.items() if words == remark)
        named = "; ".join(name(row) for row in rows[:MAX_NAMED])
        more = f"; and {len(rows) - MAX_NAMED} more" if len(rows) > MAX_NAMED else ""
        log.warning("%s that are %s, %d of %d: %s%s", noun.many, remark, len(rows), num_examples, named, more)


def allowed(max_bad_fraction: float, num_examples: int) -> int:
    """How many of num_examples may be unusable."""
    return int(max_bad_fraction * num_examples + 1e-9)  # 0.58 of 50 are 29


def example_at(source: Source, row: int | np.integer) -> str:
    """How an example of the source is named in messages and reports."""
    return example_name(int(row), shown_path(source.examples["path"][int(row)].as_py()), source.noun)


def shown_path(path: str | None) -> str | None:
    """The path as a reader would write it: from the working folder, if it lies below; nothing secret in a URI."""
    return without_credentials(path.removeprefix(f"{os.getcwd()}{os.sep}")) if path else path
