"""How long work is shown: a bar on a terminal, plain lines where there is none."""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import dataclass

from tqdm import tqdm

log = logging.getLogger(__name__)

LINE_EVERY_S = 5.0
"""Least seconds between two plain lines of one piece of work."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a stage stands: `done` of `total` units, and a few words beside them."""

    stage: str
    done: int
    total: int
    unit: str
    note: str = ""


class ProgressBar:
    """Shows `done` of `total` under a title: tqdm's bar on a terminal, else log lines now and then."""

    def __init__(self, title: str, total: int, unit: str) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.bar = tqdm(total=total, desc=title, unit=unit, dynamic_ncols=True) if sys.stderr.isatty() else None
        self.last_line = time.monotonic()
        self.done = 0

    def update(self, done: int, note: str = "") -> None:
        """Show that `done` units are done, with a few words beside them."""
        if self.bar is not None:
            self.bar.set_postfix_str(note, refresh=False)
            self.bar.update(done - self.done)
        elif done == self.total or time.monotonic() - self.last_line >= LINE_EVERY_S:
            log.info("%s: %d of %d %s%s", self.title, done, self.total, self.unit, f", {note}" if note else "")
            self.last_line = time.monotonic()
        self.done = done

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self.bar is not None:
            self.bar.close()
