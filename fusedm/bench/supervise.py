"""A run is two processes, so that one is left to clear after the other, whichever is killed.

The one that was started waits; a child of it, in a session of its own, does everything. A signal to
the one that waits is handed on, once, and the child undoes all on its way out. When the one that
waits is killed, the kernel signals the child, which does the same. When the child is killed, the
one that waits clears what is left in the folder.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

from fusedm.bench.place import Place, clear, wait_for_daemons
from fusedm.block.errors import StackError
from fusedm.host.interrupts import ENDING_SIGNALS, hold, interruptible, let_in
from fusedm.host.process import end_with
from fusedm.host.undoing import undone_by


@contextmanager
def supervised(place: Place) -> Iterator[None]:
    """Run the with block in a child of this process, and clear the folder after it.

    The signals must be held already. Only the child enters the block and returns; here the outcome
    becomes that of the child.
    Raises: in the child StackError if it was interrupted; here SystemExit, StackError if the child
            was killed.
    """
    parent = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        _wait_and_exit(child, place)
    os.setsid()
    end_with(parent)
    # What came to both of us before we had a session of our own is handed on to us as well.
    with undone_by(lambda: _clear(place)):
        try:
            with interruptible():
                yield
        except KeyboardInterrupt:
            raise StackError("the benchmark was interrupted") from None


def _clear(place: Place) -> None:
    said = clear(place)
    if said:
        with suppress(OSError):  # Who reads it may be gone.
            place.say.line(f"the daemon said: {said}")


def _wait_and_exit(child: int, place: Place) -> NoReturn:
    """Wait for the child, handing the first signal on to it, and exit as it did."""
    told: list[int] = []

    def hand_on(number: int, _: FrameType | None) -> None:
        if not told:
            told.append(number)
            os.kill(child, signal.SIGTERM)

    for number in ENDING_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, hand_on)
    let_in()
    _, status = os.waitpid(child, 0)
    hold()
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        wait_for_daemons(place)
        _clear(place)
        raise StackError(f"the benchmark was killed by signal {-code}; nothing of it is left")
    sys.exit(code)
