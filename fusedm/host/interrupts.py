"""What the signals that ask a command to end do to it.

A command that makes several things holds the signals, makes them one by one in context managers
that undo them, and lets signals in only inside the innermost (interruptible). So no signal comes
between making a thing and being ready to undo it, nor into the undoing. What has been done whole
never lets them in again: the process ends with them held, and says that it is done.
"""

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

#: Sent by a person, a service manager and a closing terminal.
ENDING_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

#: When another one may interrupt once more: Python loses those that come while it calls back.
AGAIN_SECONDS = 2.0


@contextmanager
def interruptible() -> Iterator[None]:
    """Let them in, and have them raise KeyboardInterrupt; afterwards they are held.

    Another one soon after the first does nothing, so it cannot come between that and the undoing.
    """
    came = -math.inf

    def interrupt(number: int, _: FrameType | None) -> None:
        nonlocal came
        if time.monotonic() >= came + AGAIN_SECONDS:
            came = time.monotonic()
            raise KeyboardInterrupt(number)

    # What is ignored already, as under nohup, stays so.
    heard = [n for n in ENDING_SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in heard}
    try:
        let_in()
        yield
    finally:
        hold()
        for number, old in before.items():
            signal.signal(number, old)


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """What a shell says of a command that a signal has ended: 130 if it was Ctrl-C."""
    return 128 + int(interrupt.args[0] if interrupt.args else signal.SIGINT)


def hold() -> None:
    """Let none of them come until they are let in again; a child begins like that too.

    Only for a process with one thread: another thread would take them.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)


def let_in() -> None:
    """Let them come, and first those that came meanwhile."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)


@contextmanager
def held() -> Iterator[None]:
    """Hold them for the time of a with block; those that came meanwhile come at its end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def restore_defaults() -> None:
    """Have each of them end this process, as in one that has just been started."""
    for number in ENDING_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
