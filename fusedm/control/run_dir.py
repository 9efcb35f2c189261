"""Where running stacks are found: one lock file and one socket each, in the run folders of a user.

A daemon holds a lock on its file for as long as it lives, so a file without a lock is what a killed
daemon has left behind, whatever process has its number now.
"""

import fcntl
import hashlib
import json
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

from fusedm.block.errors import ControlError, UsageError
from fusedm.host import nodes
from fusedm.host.process import start_time
from fusedm.host.run_folder import folders_of_users, run_folder, run_folders

#: How what is said of a stack's file begins where dmsetup started it: the folder of nodes follows.
DMSETUP = "dmsetup:"

#: struct flock: a write lock on everything.  Source: fcntl_locking(2).
_WHOLE_FILE = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class RunningStack:
    """A stack as its lock file tells of it; a pid means something in its own namespace only."""

    mount_point: str
    pid: int
    stack_file: str
    is_alive: bool = True
    started: int = 0
    #: Without a mount, mount_point is the NBD socket that it was brought up with.
    has_mount: bool = True


def socket_path(mount_point: str) -> Path:
    """Where the daemon of a mount point listens."""
    return _path(mount_point, "sock")


def find_socket(mount_point: str) -> Path:
    """The control socket of the stack at a mount point; root finds other users' too."""
    return _find(mount_point, "sock")


def stack_at(mount_point: str) -> RunningStack | None:
    """The stack at a mount point, alive or not; root finds other users' too."""
    with suppress(OSError, ValueError, TypeError, UsageError):
        return _read(_find(mount_point, "json"))
    return None


def log_path(mount_point: str) -> Path:
    """What a detached daemon has to say."""
    return _path(mount_point, "log")


class RunFile:
    """The lock of a daemon on its mount point.

    Owns: the lock, until released. Raises: ControlError if another daemon has it.
    """

    def __init__(self, mount_point: str, stack_file: str, has_mount: bool = True) -> None:
        self._mount_point = mount_point
        fd = None
        while fd is None:
            fd = _open_locked(_path(mount_point, "json"), mount_point)
        self._fd = fd
        pid = os.getpid()
        stack = RunningStack(
            mount_point, pid, stack_file, started=start_time(pid), has_mount=has_mount
        )
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, json.dumps(asdict(stack)).encode(), 0)

    def release(self) -> None:
        """Remove the file and give the lock back."""
        forget(self._mount_point)
        os.close(self._fd)


@contextmanager
def claimed(mount_point: str) -> Iterator[None]:
    """Hold the lock of a daemon that has died: nobody starts or clears there meanwhile.

    Raises: ControlError if somebody has it.
    """
    fd = None
    while fd is None:
        fd = _open_locked(_find(mount_point, "json"), mount_point)
    try:
        yield
    finally:
        os.close(fd)


def forget(mount_point: str) -> None:
    """Remove what a stack has left in the folder; its log stays if there is something in it."""
    folder = _folder_of(mount_point)
    for ending in ("json", "sock"):
        (folder / _name(mount_point, ending)).unlink(missing_ok=True)
    log = folder / _name(mount_point, "log")
    with suppress(FileNotFoundError):
        if not log.stat().st_size:
            log.unlink()


def lock_path(mount_point: str) -> Path:
    """What is locked while a daemon is started or ended that others may start or end too."""
    return Path(f"{mount_point}.lock")


def forget_mount_point(mount_point: str) -> None:
    """Remove the mount point of a stack that has ended, if it is one of a run folder."""
    if os.path.dirname(mount_point) in map(os.path.realpath, run_folders()):
        with suppress(OSError):
            os.rmdir(mount_point)
            lock_path(mount_point).unlink(missing_ok=True)


def running_stacks() -> Iterator[RunningStack]:
    """Every stack of this user, those of killed daemons included (is_alive false)."""
    for folder in run_folders():
        for path in sorted(folder.glob("*.json")):
            with suppress(OSError, ValueError, TypeError):
                yield _read(path)


def clear_stale_nodes() -> list[str]:
    """Remove nodes that killed daemons and their loop devices have left; what was done."""
    return [line for folder in run_folders() for line in nodes.clear_stale(folder)]


def _read(path: Path) -> RunningStack:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        told = json.loads(os.pread(fd, 1 << 16, 0))
        return RunningStack(**{**told, "is_alive": _is_locked(fd)})
    finally:
        os.close(fd)


def _open_locked(path: Path, mount_point: str) -> int | None:
    """The file, made if need be and locked; None if the daemon before us removed it just then."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _WHOLE_FILE)
        if os.path.samestat(os.fstat(fd), os.stat(path)):
            return fd
    except BlockingIOError:
        os.close(fd)
        raise ControlError(f"{mount_point}: another fusedm daemon is there already") from None
    except FileNotFoundError:
        pass
    os.close(fd)
    return None


def _is_locked(fd: int) -> bool:
    """Whether a daemon holds the lock; it is not taken to find out, or a start would meet it."""
    lock = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _WHOLE_FILE)
    return bool(struct.unpack_from("h", lock)[0] != fcntl.F_UNLCK)


def _name(mount_point: str, ending: str) -> str:
    return f"{hashlib.sha256(os.fsencode(mount_point)).hexdigest()[:16]}.{ending}"


def _path(mount_point: str, ending: str) -> Path:
    return run_folder() / _name(mount_point, ending)


def _folder_of(mount_point: str) -> Path:
    """Where a stack is told of, by a living daemon before a killed one; root finds others' too."""
    found = []
    for folder in chain(run_folders(), folders_of_users() if os.geteuid() == 0 else ()):
        with suppress(OSError, ValueError, TypeError):
            if _read(folder / _name(mount_point, "json")).is_alive:
                return folder
            found.append(folder)
    return found[0] if found else run_folder()


def _find(mount_point: str, ending: str) -> Path:
    return _folder_of(mount_point) / _name(mount_point, ending)
