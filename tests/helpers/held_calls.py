"""System calls on one descriptor that wait until a test lets them go, in threads of this process.

The kernel asks us (seccomp, a filter with a listener) before threads that were started under the
filter make such a call; it needs no privilege, and other threads are none of its business.
"""

import ctypes
import errno
import fcntl
import os
import platform
import select
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Thread
from time import monotonic
from typing import Any, Literal

Call = Literal["read", "write", "flush", "watch"]

#: pread64, pwrite64, fdatasync, clock_nanosleep; preadv2 and seccomp.
_NUMBERS, _PREADV2, _SECCOMP = {
    "x86_64": ((17, 18, 75, 230), 327, 317),
    "aarch64": ((67, 68, 83, 115), 286, 277),
}[platform.machine()]
_CALLS: dict[int, Call] = dict(zip(_NUMBERS, ("read", "write", "flush", "watch"), strict=True))

# linux/bpf_common.h, linux/seccomp.h, linux/prctl.h
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_NUMBER_AT, _FIRST_ARGUMENT_AT = 0, 16
_ALLOW, _NOTIFY, _FAIL = 0x7FFF0000, 0x7FC00000, 0x00050000
_SET_FILTER, _NEW_LISTENER, _NO_NEW_PRIVS = 1, 8, 38
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_CONTINUE = 1

PATIENCE_SECONDS = 10.0


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


class HeldCalls:
    """Calls on a descriptor by threads that begin under run; each waits for let_go.

    Calls that could be made without waiting say that they would have to wait. Under "watch" it is
    no descriptor's: sleeping for a time.
    """

    def __init__(self, fd: int, *calls: Call) -> None:
        self._waiting: list[tuple[Call, int]] = []
        self._threads = ThreadPoolExecutor(1)
        self._listener = self.run(self._install, fd, calls)

    def run(self, work: Callable[..., Any], *arguments: object) -> Any:
        """Do something in the thread of the filter, and wait for it."""
        return self._threads.submit(work, *arguments).result(PATIENCE_SECONDS)

    def waiting(self) -> list[Call]:
        """What waits now, in the order in which it began."""
        while select.select([self._listener], [], [], 0)[0]:
            told = bytearray(80)
            fcntl.ioctl(self._listener, _RECEIVE, told, True)
            identity, _, _, number = struct.unpack_from("=QIIi", told)
            self._waiting.append((_CALLS[number], identity))
        return [call for call, _ in self._waiting if call != "watch"]

    def wait_for(self, *calls: Call) -> None:
        """Wait until exactly these wait."""
        give_up = monotonic() + PATIENCE_SECONDS
        while self.waiting() != list(calls):
            assert monotonic() < give_up, f"{self.waiting()} instead of {calls}"

    def let_go(self, error: int = 0, watch: bool = True) -> None:
        """Let everything that waits be done, or fail with an errno; the watch only if asked to."""
        self.waiting()
        kept = [each for each in self._waiting if each[0] == "watch" and not watch]
        for call, identity in self._waiting:
            if (call, identity) not in kept:
                answer = struct.pack("=QqiI", identity, 0, -error, 0 if error else _CONTINUE)
                fcntl.ioctl(self._listener, _SEND, answer)
        self._waiting = kept

    @property
    def threads(self) -> set[Thread]:
        """The thread of the filter."""
        return set(self._threads._threads)

    def close(self) -> None:
        """Hold nothing any more; calls that still wait fail."""
        os.close(self._listener)
        self._threads.shutdown()

    def _install(self, fd: int, calls: tuple[Call, ...]) -> int:
        program = []
        for number, call in _CALLS.items():
            if call in calls:
                program += _answer_to(number, None if call == "watch" else fd, _NOTIFY)
        program += [*_answer_to(_PREADV2, fd, _FAIL | errno.EAGAIN), (_RETURN, 0, 0, _ALLOW)]
        text = b"".join(struct.pack("=HBBI", *each) for each in program)
        instructions = ctypes.create_string_buffer(text)
        compiled = _Program(len(program), ctypes.addressof(instructions))
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
        listener: int = libc.syscall(_SECCOMP, _SET_FILTER, _NEW_LISTENER, ctypes.byref(compiled))
        assert listener >= 0, os.strerror(ctypes.get_errno())
        return listener


def _answer_to(number: int, fd: int | None, answer: int) -> list[tuple[int, int, int, int]]:
    """Instructions that answer a call, on a descriptor if one is given, and leave others alone."""
    checks = [(_LOAD, 0, 0, _NUMBER_AT), (_JUMP_IF_EQUAL, 0, 1 if fd is None else 3, number)]
    if fd is not None:
        checks += [(_LOAD, 0, 0, _FIRST_ARGUMENT_AT), (_JUMP_IF_EQUAL, 0, 1, fd)]
    return [*checks, (_RETURN, 0, 0, answer)]
