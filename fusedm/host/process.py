"""What a process tells the kernel about itself (prctl)."""

import ctypes
import os
import resource
import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_IO_FLUSHER = 57

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
