"""Every exception fusedm raises on purpose, and the errno each carries.

A FusedmError is something a user can act on: one line of text and one errno. It never carries key
bytes. Bugs are assertions and reach the user as tracebacks. WouldBlock is not an error but an
answer: the bio has something to wait for.
"""

import errno
import os
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Protocol


class Status(Enum):
    """The kernel's block status names with the errno each is seen as (blk_errors in blk-core.c)."""

    IOERR = errno.EIO
    INVAL = errno.EINVAL
    NOTSUPP = errno.EOPNOTSUPP
    NOSPC = errno.ENOSPC
    TARGET = errno.EREMOTEIO
    MEDIUM = errno.ENODATA
    PROTECTION = errno.EILSEQ
    TIMEOUT = errno.ETIMEDOUT
    AGAIN = errno.EAGAIN
    OFFLINE = errno.ENODEV


class FusedmError(Exception):
    """Base of all: one line of text for a person and an errno for a program."""

    errno: int = errno.EINVAL

    def __init__(self, text: str, number: int | None = None) -> None:
        super().__init__(text)
        if number is not None:
            self.errno = number


class BlockIOError(FusedmError):
    """A bio that failed.

    The errno is the status's, or the one a store gave: it is passed on as it came.
    """

    def __init__(self, status: Status | int, device: str, text: str) -> None:
        number = status.value if isinstance(status, Status) else status
        super().__init__(f"{device}: {text}: {os.strerror(number)}", number)


class CryptoError(FusedmError):
    """A config, key or context that cannot be: EINVAL, EOPNOTSUPP, or ENOPKG (no software)."""


class KeyBusy(FusedmError):
    """A key cannot be evicted while a bio uses it."""

    errno = errno.EBUSY


class TableError(FusedmError):
    """A table that cannot be loaded: says the line, the target and the argument.

    line is counted from 1 within the table text; 0 where the whole table is meant.
    """

    def __init__(self, line: int, target: str, text: str, number: int = errno.EINVAL) -> None:
        where = f"table line {line}: " if line else "table: "
        super().__init__(where + (f"{target}: " if target else "") + text, number)
        self.line = line
        self.target = target
        self.text = text


class StoreError(FusedmError):
    """A store that cannot be opened or used; the errno is the host's where it had one."""


class StackError(FusedmError):
    """A name or change the stack refuses: unknown, taken, in use or illegal."""


class SpecError(FusedmError):
    """A stack file that cannot be used: file, line (from 1), and the source line with a caret."""

    def __init__(self, file: str, line: int, text: str, source: str = "", column: int = 0) -> None:
        where = f"{file}:{line}: " if line else f"{file}: "
        caret = f"\n    {source}\n    {' ' * column}^" if source else ""
        super().__init__(where + text + caret)
        self.file = file
        self.line = line
        self.text = text


class ControlError(FusedmError):
    """A control message that is malformed, too long or of another version, or no daemon there."""


class UsageError(FusedmError):
    """A command asked for wrongly, or on a machine that lacks what it needs (exit code 2)."""


class WouldBlock(Exception):
    """The bio has something to wait for, found out before any effect: what NOWAIT answers."""

    errno = errno.EAGAIN


class DeviceSuspended(WouldBlock):
    """A device on the way is suspended; wait is called to wait until planning is worth a try."""

    def __init__(self, wait: Callable[[], Awaitable[None]]) -> None:
        super().__init__()
        self.wait = wait


class Requeue(WouldBlock):
    """Raised by a script: give it up, and plan the whole bio anew when signal is notified.

    Without a signal, once the device has been resumed: only for one that a suspend finds waiting;
    else the bio fails with EIO.
    Source: DM_MAPIO_REQUEUE.
    """

    def __init__(self, signal: "Notifies | None" = None) -> None:
        super().__init__()
        self.signal = signal


class Notifies(Protocol):
    """What tells of something that is waited for."""

    def call(self, wake: Callable[[], None]) -> None:
        """Have wake called once, at the next time."""
