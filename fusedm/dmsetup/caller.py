"""Who hands a call of dmsetup over, as the kernel tells of it, and becoming like that.

What is told by the caller itself is only its descriptors: all else is in /proc, under the number of
the process at the other end of the socket, which waits for its answer and so cannot be another one.
"""

import fcntl
import io
import os
import resource
import select
import signal
import socket
import struct
import sys
from array import array
from contextlib import suppress
from dataclasses import dataclass
from typing import TextIO

from fusedm.host.streams import open_closed_descriptors

#: The kernel's SCM_MAX_FD: so many descriptors one message may carry.
MAX_DESCRIPTORS = 253

#: Lines of /proc/PID/status in which a caller has to be like the server.
_RIGHTS = (b"Uid:", b"Gid:", b"Groups:", b"Cap", b"NoNewPrivs:", b"Seccomp")
_SPACES = ("mnt", "user", "pid", "net", "ipc", "uts", "cgroup", "time")

_LIMITS = [value for name, value in vars(resource).items() if name.startswith("RLIMIT_")]

#: Source: fcntl(2), and struct ucred in unix(7).
_F_SETSIG = 10
_UCRED = struct.Struct("3i")


@dataclass(frozen=True, slots=True)
class Kind:
    """In what a caller has to be like the server: it could do more, or see other things, else."""

    rights: tuple[bytes, ...]
    label: bytes
    spaces: tuple[str, ...]
    root: tuple[int, int]

    @classmethod
    def of(cls, process: str) -> "Kind":
        """That of a process, given by its folder in /proc.

        Raises: OSError.
        """
        lines = _read(f"{process}/status").splitlines()
        label = b""
        with suppress(OSError):  # Where no security module has labels.
            label = _read(f"{process}/attr/current")
        root = os.stat(f"{process}/root")
        return cls(
            tuple(line for line in lines if line.startswith(_RIGHTS)),
            label,
            tuple(_target(f"{process}/ns/{space}") for space in _SPACES),
            (root.st_dev, root.st_ino),
        )


class Caller:
    """A caller that this process has become like, in all that a command has from who starts it.

    Raises: OSError, ValueError if it is not of this kind, or cannot be looked at.
    """

    def __init__(self, connection: socket.socket, kind: Kind) -> None:
        size = _UCRED.size
        pid = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))[0]
        process = f"/proc/{pid}"
        if not pid or Kind.of(process) != kind:
            raise ValueError("another kind of process")
        self.connection = _take_descriptors(connection)
        open_closed_descriptors()
        for limit in _LIMITS:
            told = resource.prlimit(pid, limit)
            if resource.getrlimit(limit) != told:
                resource.setrlimit(limit, told)
        os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, pid))
        os.sched_setaffinity(0, os.sched_getaffinity(pid))
        status = _read(f"{process}/status")
        os.umask(int(status.partition(b"Umask:")[2].split()[0], 8))
        folder = os.open(f"{process}/cwd", os.O_PATH | os.O_CLOEXEC)
        os.fchdir(folder)
        os.close(folder)
        self.environ = _environ(_read(f"{process}/environ"))
        # The interpreter of the script, and the script, come before the words.
        _, script, *words = _read(f"{process}/cmdline").split(b"\0")[:-1]
        self.words = [os.fsdecode(word) for word in words]
        os.environ.clear()
        os.environ.update(self.environ | _exports(os.fsdecode(script)))
        sys.stdin, sys.stdout, sys.stderr = _stream(0, "r"), _stream(1, "w"), _stream(2, "w")

    def listen(self) -> None:
        """Have SIGINT sent to this process as soon as the caller says something or hangs up."""
        fcntl.fcntl(self.connection, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(self.connection, _F_SETSIG, signal.SIGINT)
        flags = fcntl.fcntl(self.connection, fcntl.F_GETFL)
        fcntl.fcntl(self.connection, fcntl.F_SETFL, flags | os.O_ASYNC)
        if select.select([self.connection], [], [], 0)[0]:
            raise KeyboardInterrupt


def _take_descriptors(connection: socket.socket) -> socket.socket:
    """Have the descriptors of the caller under the numbers they have there, and no others.

    The connection gets a number above them all.
    """
    size = struct.calcsize("i")
    message, control, _, _ = connection.recvmsg(
        MAX_DESCRIPTORS * size, socket.CMSG_LEN(MAX_DESCRIPTORS * size)
    )
    numbers, received = array("i"), array("i")
    for _, _, data in control:
        received.frombytes(data)
        numbers.frombytes(message)
    if len(numbers) != len(received):
        raise ValueError("descriptors are missing")
    above = max([2, *numbers, *received, connection.fileno()]) + 1
    moved = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for fd in received]
    own = socket.socket(fileno=fcntl.fcntl(connection, fcntl.F_DUPFD_CLOEXEC, above))
    os.closerange(0, above)
    for fd, number in zip(moved, numbers, strict=True):
        os.dup2(fd, number)
        os.close(fd)
    return own


def _stream(number: int, mode: str) -> TextIO:
    """A standard stream as Python makes it in its UTF-8 mode."""
    try:
        raw = io.FileIO(number, mode, closefd=False)
    except OSError:  # A folder, as in `< .`.
        raw = io.FileIO(os.devnull, mode)
    errors = "backslashreplace" if number == 2 else "surrogateescape"
    is_line = number == 2 or raw.isatty()
    buffer = io.BufferedReader(raw) if mode == "r" else io.BufferedWriter(raw)
    return io.TextIOWrapper(buffer, "utf-8", errors, line_buffering=is_line)


def _environ(block: bytes) -> dict[str, str]:
    """An environment; of a variable that is there twice the first counts, as for getenv(3)."""
    found: dict[str, str] = {}
    for entry in block.split(b"\0"):
        name, equals, value = entry.partition(b"=")
        if equals and name:
            found.setdefault(os.fsdecode(name), os.fsdecode(value))
    return found


def _exports(script: str) -> dict[str, str]:
    """What the script would add to the environment."""
    lines = _read(script).decode().splitlines()
    added = [line.removeprefix("export ") for line in lines if line.startswith("export ")]
    return dict(line.split("=", 1) for line in added)


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.readall()


def _target(link: str) -> str:
    """Where a link leads; nowhere, if the kernel has no such kind of namespace."""
    try:
        return os.readlink(link)
    except FileNotFoundError:
        return ""
