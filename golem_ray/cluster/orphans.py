"""Ends what a Ray of this process's own leaves behind, also where this process is killed and can do nothing any more.

Ray's processes end with the one that started them, but for its agents, which go on for a minute. A small process of its
own, this file as a script, waits for that moment. Needs /proc; where there is none, nothing is done.
"""

import os
import re
import signal
import stat
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

MARK = "GOLEM_RAY_STARTED_BY"
"""The variable in the environment of Ray's processes, which they hand on, that says whose they are."""

_GRACE_S, _LATE_S, _MOST_S = 1.0, 3.0, 4.0
"""Seconds for them to end by themselves; in which one that was just being started may appear; after which nothing more
is tried.
"""


@contextmanager
def swept() -> Iterator[dict[str, str]]:
    """Yields a variable: what is started with it in its environment ends with this block, or with this process."""
    mark = uuid.uuid4().hex
    command = [sys.executable, "-I", "-S", __file__, mark, str(os.getpid())]
    silent: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}  # not to be waited for
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, **silent) as sweeper:
        try:
            yield {MARK: mark}
        finally:
            sweeper.communicate(b"in order")


def _marked(mark: str, driver: int) -> list[int]:
    """Ids of the others that carry the mark, or write to a log of the session of a Ray that `driver` started.

    A process that gives itself a name, as Ray's do, may write it over its environment. The driver's own log may be open
    in what it has forked.
    """
    session = re.compile(rf"/session_[^/]+_{driver}/logs/(?!python-core-driver)")
    found = []
    for name in set(filter(str.isdigit, os.listdir("/proc"))) - {str(driver)}:
        with suppress(OSError):  # it ended, or is another user's
            with open(f"/proc/{name}/environ", "rb") as file:
                marked = f"{MARK}={mark}".encode() in file.read().split(b"\0")
            files = os.listdir(f"/proc/{name}/fd") if not marked else []
            if marked or any(session.search(_written(f"/proc/{name}/fd/{number}")) for number in files):
                found.append(int(name))
    return found


def _written(descriptor: str) -> str:
    """The file that is open for writing there; '' if none is."""
    try:
        return os.readlink(descriptor) if os.lstat(descriptor).st_mode & stat.S_IWUSR else ""
    except OSError:  # closed meanwhile
        return ""


def _sweep(mark: str, driver: int) -> None:
    """Wait until nobody holds the other end of stdin, then end what carries the mark."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # which come to a whole group, when this process is needed
    in_order = sys.stdin.buffer.read()
    ended = time.monotonic()
    while time.monotonic() < ended + _MOST_S:
        left = _marked(mark, driver)
        if not left and (in_order or time.monotonic() > ended + _LATE_S):
            return
        if time.monotonic() > ended + _GRACE_S:
            for process in left:
                with suppress(OSError):
                    os.kill(process, signal.SIGKILL)
        time.sleep(0.05)


if __name__ == "__main__" and os.path.isdir("/proc"):
    _sweep(sys.argv[1], int(sys.argv[2]))
