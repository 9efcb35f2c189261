"""What a process tells the kernel about itself (prctl)."""

import ctypes
import os
import resource
import signal
import threading
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_IO_FLUSHER = 57
_CLONE_FS = 0x200

# Loaded at import: the process that will call it may be a fork, where loading is not safe.
_libc = ctypes.CDLL(None)


def end_with(parent: int) -> None:
    """Have the kernel send SIGTERM to this process when its parent dies; too late is at once.

    parent is the pid this process expects to have as its parent.
    """
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def mark_io_flusher() -> bool:
    """Say that this process may be needed to write dirty pages; whether that is permitted.

    Without it, memory reclaim could wait for the daemon while the daemon waits for memory.
    """
    return bool(_libc.prctl(_PR_SET_IO_FLUSHER, 1, 0, 0, 0) == 0)


def allow_many_files() -> int:
    """Raise the limit on open descriptors as far as this process may; what it is now.

    Each disk in use has one, and the usual limit of 1024 is kept low for the sake of select().
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def read_from_root(root: str, file: Path) -> bytes | None:
    """What a file of the kernel's holds for a process whose root is a folder; None if it has none.

    A path that the kernel prints is shorter by that folder then, if it leads through it: through
    this very mount of it, and not through one of the same name in another mount namespace. One
    thread has that root, and ends with it.
    """
    found: list[bytes] = []

    def read() -> None:
        if _libc.unshare(_CLONE_FS) == 0:
            with suppress(OSError), open(file, "rb") as kernels:
                os.chroot(root)
                found.append(kernels.read())

    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    return found[0] if found else None


def start_time(pid: int) -> int:
    """When a process was started, in the kernel's ticks: with the pid, no other ever has it.

    Raises: OSError if there is none.
    """
    # The name of the program stands in brackets, and may have blanks in it.
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def send_signal(pid: int, started: int, number: signal.Signals) -> None:
    """Send a process a signal, if it is the one that was started then, and not another by now."""
    with suppress(OSError):
        descriptor = os.pidfd_open(pid)
        try:
            if start_time(pid) == started:
                signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)
