"""What the signals that ask a command to end do to it."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

#: Sent by a person, a service manager and a closing terminal.
ENDING_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@contextmanager
def interruptible(once: bool = False) -> Iterator[None]:
    """Let each of them raise KeyboardInterrupt, so that all is undone on the way out.

    once lets only the first do so: a second cannot come between that and the teardown.
    """
    came: list[int] = []

    def interrupt(number: int, _: FrameType | None) -> None:
        came.append(number)
        if len(came) == 1 or not once:
            raise KeyboardInterrupt(number)

    with _handled_by(interrupt):
        yield


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """What a shell says of a command that a signal has ended: 130 if it was Ctrl-C."""
    return 128 + int(interrupt.args[0] if interrupt.args else signal.SIGINT)


@contextmanager
def uninterruptible() -> Iterator[None]:
    """Let none of them interrupt a teardown."""
    with _handled_by(signal.SIG_IGN):
        yield


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
    hold()
    try:
        yield
    finally:
        let_in()


def restore_defaults() -> None:
    """Let each of them end this process, as in one that has just been started."""
    for number in ENDING_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    let_in()


@contextmanager
def _handled_by(handler: "signal._HANDLER") -> Iterator[None]:
    # What is ignored already, as under nohup, stays so.
    heard = [n for n in ENDING_SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heard}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
