"""Examples that cannot be used: how they are named, and how many may be."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from golem_ray.data.table import Source, clip_name
from golem_ray.errors import DataError

log = logging.getLogger(__name__)

MAX_NAMED_CLIPS = 20
"""Clips that a message names at most."""


def check_bad_clips(records: Sequence[dict[str, Any]], num_clips: int, max_bad_fraction: float) -> None:
    """Name the clips that cannot be used ({"clip", "reason"}) of num_clips; DataError if they are too many."""
    if not records:
        return
    most = allowed(max_bad_fraction, num_clips)
    named = "; ".join(f"{record['clip']}: {record['reason']}" for record in records[:MAX_NAMED_CLIPS])
    more = f"; and {len(records) - MAX_NAMED_CLIPS} more" if len(records) > MAX_NAMED_CLIPS else ""
    if len(records) > most:
        raise DataError(
            f"processing.max_bad_fraction: expected at most {most} of {num_clips} clips to be unusable, found "
            f"{len(records)} or more ({named}{more}); mend or remove them, or allow a larger fraction."
        )
    log.warning("clips that cannot be used, %d of %d: %s%s", len(records), num_clips, named, more)


def allowed(max_bad_fraction: float, num_clips: int) -> int:
    """How many of num_clips may be unusable."""
    return int(max_bad_fraction * num_clips + 1e-9)  # 0.58 of 50 are 29


def clip_at(source: Source, row: int | np.integer) -> str:
    """How a clip of the source is named in messages and reports."""
    return clip_name(int(row), shown_path(source.clips["path"][int(row)].as_py()))


def shown_path(path: str | None) -> str | None:
    """The path as a reader would write it: from the working folder, if it lies below."""
    return path.removeprefix(f"{os.getcwd()}{os.sep}") if path else path
