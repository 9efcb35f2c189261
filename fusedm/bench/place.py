"""The folder of a run: on a tmpfs, with all that the run makes in it, and cleared in any case.

What is there is found by its name below the folder, never remembered, so that a process that knows
nothing of a killed one's doings can clear after it.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from fusedm.bench.processes import Children
from fusedm.block.errors import FusedmError, StackError
from fusedm.block.units import format_size
from fusedm.control import bring_down, log_path, reap, stack_at
from fusedm.host import loop, mounts

DEFAULT_FOLDER = "/dev/shm"
MIB = 1 << 20

#: How long what was told to go may take to be gone.
GONE_SECONDS = 10.0
POLL_SECONDS = 0.02
#: How long a daemon may take to release what lies over it.
DAEMON_SECONDS = 60.0


class Teller(Protocol):
    """Who tells a person how far the run is."""

    def line(self, text: str) -> None:
        """A line that stays."""

    def moving(self, text: str, done: int, total: int) -> None:
        """How much of a total is done."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run does its work; sizes in bytes, of every device and of every file system."""

    folder: Path
    say: Teller
    size: int = 128 * MIB
    file_system_size: int = 256 * MIB
    tree_size: int = 16 * MIB
    children: Children = field(default_factory=Children)

    @property
    def mount_point(self) -> Path:
        """Where our stack is mounted."""
        return self.folder / "mnt"


def check_parent(parent: str, any_medium: bool, needed: int) -> None:
    """Refuse a folder to work in that is not on a tmpfs, or has too little room.

    Raises: StackError naming it and the numbers.
    """
    try:
        status = os.statvfs(parent)
    except OSError as error:
        raise StackError(f"--folder {parent}: {error.strerror}") from None
    if not os.path.isdir(parent):
        raise StackError(f"--folder {parent}: is no folder")
    kind = mounts.mount_over(parent).fs_type
    if kind != "tmpfs" and not any_medium:
        raise StackError(
            f"--folder {parent}: is on {kind}, not tmpfs: a medium would be measured and not the "
            "stacks; --any-medium does it all the same"
        )
    free = status.f_bavail * status.f_frsize
    if free < needed:
        raise StackError(
            f"--folder {parent}: {format_size(free)} are free, {format_size(needed)} are needed"
        )


def make_folder(parent: str) -> Path:
    """A new folder for one run, with an empty mount point in it.

    Raises: StackError.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix="fusedm-bench-", dir=parent)).resolve()
    except OSError as error:
        raise StackError(f"--folder {parent}: {error.strerror}") from None
    (folder / "mnt").mkdir()
    return folder


def clear(folder: Path, children: Children) -> str:
    """Undo all that was made below a folder, in order, and look for what may be left.

    Returns what the daemon had logged. A step may fail on what another process undoes at the same
    time; only what is left counts.
    Raises: StackError for what is left, with the first thing that went wrong.
    """
    steps: tuple[Callable[[], object], ...] = (
        lambda: _end_stack(folder),
        lambda: _release_loops(folder),
        children.end_all,
        lambda: _unmount_rest(folder),
    )
    first = ""
    for step in steps:
        try:
            step()
        except (FusedmError, OSError) as error:
            first = first or f" ({error})"
    deadline = time.monotonic() + GONE_SECONDS
    while left := _left(folder):
        if time.monotonic() >= deadline:
            raise StackError(f"left behind: {', '.join(left)}{first}")
        time.sleep(POLL_SECONDS)
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        raise StackError(f"left behind: {folder}{first}")
    return _taken_log(folder)


def wait_for_daemon(folder: Path) -> None:
    """Wait until a daemon that was told to end has done so, if there is one.

    It releases its loop devices itself, and two that do so at once are in each other's way.
    """
    deadline = time.monotonic() + DAEMON_SECONDS
    while time.monotonic() < deadline:
        running = stack_at(str(folder / "mnt"))
        if running is None or not running.is_alive:
            return
        time.sleep(POLL_SECONDS)


def _taken_log(folder: Path) -> str:
    """What the daemon has logged, which nobody would look for when its stack is gone."""
    log = log_path(str(folder / "mnt"))
    try:
        said = log.read_text(errors="replace").strip()
        log.unlink()
    except FileNotFoundError:
        return ""
    return said


def _release_loops(folder: Path) -> None:
    loop.release_all(str(folder), force=True)
    # Over a server that has died a loop device has lost its name; what is mounted still tells.
    for mount in _mounts_below(folder):
        device = loop.loop_device(mount.source) if "/loop" in mount.source else None
        if device is not None:
            mounts.unmount(mount.mount_point, lazy=True)
            loop.detach(device, force=True)


def _end_stack(folder: Path) -> None:
    mount_point = str(folder / "mnt")
    running = stack_at(mount_point)
    if running is not None or mounts.mount_at(mount_point) is not None:
        try:
            bring_down(mount_point, force=True)
        finally:
            if running is not None:
                reap(running.pid)


def _unmount_rest(folder: Path) -> None:
    for mount in _mounts_below(folder):
        mounts.unmount(mount.mount_point, lazy=True)


def _left(folder: Path) -> list[str]:
    """What still lies over the folder; it must not be removed before."""
    running = stack_at(str(folder / "mnt"))
    left = [f"mount {mount.mount_point}" for mount in _mounts_below(folder)]
    left += [f"loop device {device.node}" for device in loop.attached(str(folder))]
    return left + ([f"daemon {running.pid}"] if running is not None and running.is_alive else [])


def _mounts_below(folder: Path) -> list[mounts.Mount]:
    """The mounts below a folder, the last one first."""
    found = [m for m in mounts.read_mounts() if mounts.lies_under(m.mount_point, str(folder))]
    return found[::-1]
