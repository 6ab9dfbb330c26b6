"""Ends what a Ray of this process's own leaves behind, also where this process is killed and can do nothing any more.

Ray's processes end with the one that started them, but for its agents, which go on for a minute. A small process of its
own, this file as a script, waits for that moment. Needs /proc; where there is none, nothing is done.
"""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

MARK = "GOLEM_RAY_STARTED_BY"
"""The variable in the environment of Ray's processes, which they hand on, that says whose they are."""

_GRACE_S, _LATE_S, _MOST_S = 1.5, 5.0, 10.0
"""Seconds for them to end by themselves; in which one that was just being started may appear; after which nothing more
is tried.
"""


@contextmanager
def swept() -> Iterator[dict[str, str]]:
    """Yields a variable: what is started with it in its environment ends with this block, or with this process."""
    mark = uuid.uuid4().hex
    command = [sys.executable, "-I", "-S", __file__, mark]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as sweeper:
        try:
            yield {MARK: mark}
        finally:
            sweeper.communicate(b"in order")


def _marked(mark: str) -> list[int]:
    """Ids of the processes that carry the mark."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError), open(f"/proc/{name}/environ", "rb") as file:  # it ended, or is another user's
            if f"{MARK}={mark}".encode() in file.read().split(b"\0"):
                found.append(int(name))
    return found


def _sweep(mark: str) -> None:
    """Wait until nobody holds the other end of stdin, then end what carries the mark."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # which come to a whole group, when this process is needed
    in_order = sys.stdin.buffer.read()
    ended = time.monotonic()
    while time.monotonic() < ended + _MOST_S:
        left = _marked(mark)
        if not left and (in_order or time.monotonic() > ended + _LATE_S):
            return
        if time.monotonic() > ended + _GRACE_S:
            for process in left:
                with suppress(OSError):
                    os.kill(process, signal.SIGKILL)
        time.sleep(0.05)


if __name__ == "__main__" and os.path.isdir("/proc"):
    _sweep(sys.argv[1])
