"""How a command ends that is stopped, by itself, so that Ray is left and files are put in order, if not, by force; and
what is said of one that is ended without a word.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

STOPPED = 130
"""Exit status of a command that was stopped."""

END_WITHIN_S = 5.0
"""How long it may take to end by itself."""


@contextmanager
def not_silent(words: str) -> Iterator[Callable[[str], None]]:
    """Have these words said if this process is ended inside: killed, or by Ray's core, which ends a process at once and
    without a word where its Ray is lost.

    A small shell says them, which waits for the end of this process; without one they are not said. Yields what puts
    other words in their place; '' for an end that has words of its own.
    """
    if not os.path.exists("/bin/sh"):  # in an image that has nothing but Python
        yield lambda words: None
        return
    heard = 'trap "" HUP INT TERM; words=$1; while read -r other; do words=$other; done'
    last = heard + '; [ -z "$words" ] || printf "%s\\n" "$words" >&2'
    with subprocess.Popen(
        ["/bin/sh", "-c", last, "sh", words],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        bufsize=0,
    ) as speaker:
        stdin, at_once = speaker.stdin, threading.Lock()
        assert stdin is not None

        def instead(words: str) -> None:
            with at_once, suppress(OSError):  # it was killed
                if not stdin.closed:
                    stdin.write(f"{words}\n".encode())

        try:
            yield instead
        finally:
            with at_once, suppress(OSError), stdin:
                stdin.write(b"\n")


@contextmanager
def stopped_in_time(words: str, last_words: Callable[[str], None]) -> Iterator[None]:
    """Ctrl-C and SIGTERM (`ray job stop`, Kubernetes, systemd) raise KeyboardInterrupt inside, the first one alone.

    Where the process has not ended END_WITHIN_S later (its Ray got the signal too and answers nobody, or it is inside
    a library that does not return), it is ended, with these words. They are its last_words from the signal on: a Ray
    that got the signal too may end it first.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    numbers = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN]
    came: list[int] = []
    chosen = {number: signal.signal(number, lambda number, _: _stop(number, numbers, came)) for number in numbers}
    before = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)  # written to whatever Python is doing
    rest = (set(numbers), words, last_words)
    threading.Thread(target=_end, args=(receiver, sender, *rest), daemon=True).start()
    try:
        yield
    finally:
        if not came:  # else the thread waits for the end of the process
            signal.set_wakeup_fd(before)
            for number, handler in chosen.items():
                signal.signal(number, handler or signal.SIG_DFL)  # None: one that Python did not set
            sender.close()


def _stop(came_now: int, numbers: list[signal.Signals], came: list[int]) -> None:
    """End like Ctrl-C does; what comes after that is not heeded."""
    if came:
        return
    came.append(came_now)
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)
    # In a callback, which can raise nothing, it is lost: Python is not to print it, and the thread ends the process.
    shown = sys.unraisablehook
    sys.unraisablehook = lambda lost: None if lost.exc_type is KeyboardInterrupt else shown(lost)
    raise KeyboardInterrupt


def _end(
    receiver: socket.socket, sender: socket.socket, numbers: set[int], words: str, last_words: Callable[[str], None]
) -> None:
    """Runs in a thread: ends the process where a signal has not. Returns once the sender, kept open here, is closed."""
    while came := receiver.recv(1):
        if came[0] in numbers:
            break
    else:
        return
    signal.alarm(0)  # of the handler of Ray's core, which is the first one while Ray connects: it aborts after three s
    last_words(words)
    threading.Event().wait(END_WITHIN_S)
    last_words("")
    print(words, file=sys.stderr, flush=True)
    os._exit(STOPPED)
