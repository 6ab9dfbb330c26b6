"""Locks of local folders, between the processes of one machine.

The system lets go of a lock when its process ends, however it ends, so that none is ever left behind. Network
filesystems and URIs have none that could be relied on after a machine is lost: there nobody is kept out.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

log = logging.getLogger(__name__)

WAIT_S = 60.0
"""How long a lock is waited for: who holds it may stand still."""


@contextmanager
def locked(folder: str, *, wait: bool) -> Iterator[bool]:
    """Hold the folder's lock, and make the folder if there is none; yields False if somebody else holds it.

    With `wait` once nobody else does, if that is within a minute. Raises nothing: a folder that cannot be had is one
    without a lock, and what is done there next says why.
    """
    held = True
    with ExitStack() as opened:
        with suppress(OSError):
            if "://" not in folder:
                os.makedirs(folder, exist_ok=True)
                descriptor = os.open(folder, os.O_RDONLY)
                opened.callback(os.close, descriptor)
                held = _taken(descriptor, WAIT_S if wait else 0.0, folder)
        yield held


def _taken(descriptor: int, wait_s: float, folder: str) -> bool:
    deadline, said = time.monotonic() + wait_s, False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
        if not said:
            log.info("waiting for another process to let go of %s, a minute at most", folder)
            said = True
        time.sleep(0.05)
