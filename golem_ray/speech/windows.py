"""The parts that a long clip is split into. Knows no encoder."""

from __future__ import annotations

from typing import NamedTuple


class Window(NamedTuple):
    """A part of a clip, from sample `start` to before `stop`; nearly always all of it."""

    row: int
    start: int
    stop: int


def split(row: int, length: int, size: int, least: float) -> list[Window]:
    """Windows of `size` samples of a clip of `length`, in order; a last one of fewer than `least` goes to the one
    before it.
    """
    starts = list(range(0, length, size))
    if len(starts) > 1 and length - starts[-1] < least:
        starts.pop()
    return [Window(row, start, stop) for start, stop in zip(starts, [*starts[1:], length], strict=True)]
