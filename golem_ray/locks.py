"""Locks of local folders, between the processes of one machine.

The system lets go of a lock when its process ends, however it ends, so that none is ever left behind. Network
filesystems and URIs have none that could be relied on after a machine is lost: there nobody is kept out.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress


@contextmanager
def locked(folder: str, *, wait: bool) -> Iterator[bool]:
    """Hold the folder's lock, and make the folder if there is none; yields False if somebody else holds it.

    With `wait` only once nobody else does. Raises nothing: a folder that cannot be had is one without a lock, and what
    is done there next says why.
    """
    held = True
    with ExitStack() as opened:
        with suppress(OSError):
            if "://" not in folder:
                os.makedirs(folder, exist_ok=True)
                descriptor = os.open(folder, os.O_RDONLY)
                opened.callback(os.close, descriptor)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    held = False
        yield held
