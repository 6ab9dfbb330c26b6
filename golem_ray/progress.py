"""How far the work is, as a bar on a terminal and as log lines elsewhere; and how long each stage took.

Does not know what the work is.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tqdm import tqdm

log = logging.getLogger(__name__)

LINE_EVERY_S = 5.0
"""Least seconds between two log lines of one stage."""


_SHOWN_AFTER_S = 0.5
"""A stage that is done sooner shows no bar."""


@contextmanager
def waiting_for(what: str, after_s: float = 1.0) -> Iterator[None]:
    """Say what is being waited for, in a log line, if what is done inside takes longer than a second."""
    timer = threading.Timer(after_s, log.info, ("waiting for %s", what))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a stage is: `done` of `total` units, with a note such as the loss."""

    stage: str
    done: int
    total: int
    unit: str
    note: str = ""


class ProgressBar:
    """Shows `done` of `total` under a title: as tqdm's bar on a terminal, else in a log line every few seconds."""

    def __init__(self, title: str, total: int, unit: str) -> None:
        self.title, self.total, self.unit = title, total, unit
        shown = {"desc": title, "unit": unit, "dynamic_ncols": True, "delay": _SHOWN_AFTER_S}
        self.bar = tqdm(total=total, **shown) if sys.stderr.isatty() else None
        self.began = self.last_line = time.monotonic()
        self.first: tuple[float, int] | None = (
            None  # when the first units were done, and how many: starting up does not count
        )
        self.done = 0

    def update(self, done: int, note: str = "") -> None:
        """Show that `done` units are done, with a note such as the loss."""
        if self.first is None and done:
            self.first = time.monotonic(), done
        if self.bar is not None:
            self.bar.set_postfix_str(note, refresh=False)
            self.bar.update(done - self.done)
        elif done == self.total or time.monotonic() - self.last_line >= LINE_EVERY_S:
            beside = "".join(f", {words}" for words in (note, self._pace(done)) if words)
            log.info("%s: %d of %d %s%s", self.title, done, self.total, self.unit, beside)
            self.last_line = time.monotonic()
        self.done = done

    def _pace(self, done: int) -> str:
        """Units a second since the first were done, and the time that is left; at the end, how long all took."""
        now = time.monotonic()
        if done == self.total:
            return f"in {_duration(now - self.began)}"
        if self.first is None or done == self.first[1] or now == self.first[0]:
            return ""
        each = (now - self.first[0]) / (done - self.first[1])
        return f"{1 / each:.3g} a second, {_duration(each * (self.total - done))} to go"

    def close(self) -> None:
        """End the bar; it stays on the terminal as it is."""
        if self.bar is not None:
            self.bar.close()


class StageBars:
    """A bar for each stage of some work, one after another."""

    def __init__(self) -> None:
        self._bar: ProgressBar | None = None

    def __enter__(self) -> StageBars:
        return self

    def __exit__(self, *problem: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, progress: Progress) -> None:
        """Show where a stage stands; the first of a new stage ends the bar before it."""
        if self._bar is None or self._bar.title != progress.stage:
            if self._bar is not None:
                self._bar.close()
            self._bar = ProgressBar(progress.stage, progress.total, progress.unit)
        self._bar.update(progress.done, progress.note)


class Stopwatch:
    """Measures how long each stage takes, one after another."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.monotonic()

    def lap(self, stage: str) -> None:
        """Add the time since the last lap to this stage."""
        now = time.monotonic()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._since
        self._since = now


def _duration(seconds: float) -> str:
    """`35 s`, `12 min` or `3.4 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
