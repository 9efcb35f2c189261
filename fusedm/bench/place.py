"""The folder of a run: on a tmpfs, with all that the run makes in it, and cleared in any case.

What is to lie on a disk has a second folder, with stores in it and nothing else.

What is there is found by its name below the folder, never remembered, so that a process that knows
nothing of a killed one's doings can clear after it.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from fusedm.bench.processes import Children
from fusedm.block.errors import FusedmError, StackError
from fusedm.block.units import format_size
from fusedm.control import bring_down, log_path, reap, stack_at
from fusedm.host import loop, mounts

DEFAULT_FOLDER = "/dev/shm"
#: Where a folder on a disk is looked for, if none is named.
DISK_FOLDERS = ("/var/tmp", ".")
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
    disk_folder: Path | None = None
    children: Children = field(default_factory=Children)

    @property
    def mount_point(self) -> Path:
        """Where our stack is mounted."""
        return self.folder / "mnt"

    @property
    def second_mount_point(self) -> Path:
        """Where a stack is mounted that a store of ours may lie on."""
        return self.folder / "mnt2"

    @property
    def mount_points(self) -> tuple[Path, Path]:
        """Both, in the order in which they can go."""
        return self.mount_point, self.second_mount_point

    def store_folder(self, on_disk: bool) -> Path:
        """Where stores lie."""
        if not on_disk:
            return self.folder
        assert self.disk_folder is not None, "who lies on a disk is missing where there is none"
        return self.disk_folder


def check_parent(parent: str, any_medium: bool, needed: int) -> None:
    """Refuse a folder to work in that is not on a tmpfs, or has too little room.

    Raises: StackError naming it and the numbers.
    """
    kind = mounts.mount_over(parent).fs_type
    problem = (
        f"is on {kind}, not tmpfs: a medium would be measured and not the stacks; "
        "--any-medium does it all the same"
    )
    fits = kind == "tmpfs" or any_medium
    _check_folder(f"--folder {parent}", parent, None if fits else problem, needed)


def disk_parent(named: str | None, any_medium: bool, needed: int) -> str:
    """A folder on a disk with enough room: the one that was named, or the first that is found.

    Raises: StackError saying what is wrong with each.
    """
    if named is not None:
        _check_disk(f"--disk-folder {named}", named, any_medium, needed)
        return named
    wrong = []
    for path in map(os.path.abspath, DISK_FOLDERS):
        try:
            _check_disk(path, path, any_medium, needed)
        except StackError as error:
            wrong.append(str(error))
        else:
            return path
    raise StackError(f"{'; '.join(wrong)}; --disk-folder DIR names another")


def _check_disk(what: str, parent: str, any_medium: bool, needed: int) -> None:
    """Refuse a folder that lies on no block device, as far as the mount table tells."""
    mount = mounts.mount_over(os.path.realpath(parent))
    on_disk = mount.source.startswith("/dev/") and not mounts.is_remote(mount)
    problem = None if on_disk or any_medium else f"is on {mount.fs_type}, not on a disk"
    _check_folder(what, parent, problem, needed)


def _check_folder(what: str, parent: str, problem: str | None, needed: int) -> None:
    """Refuse what is no folder, then what has a problem, then what has too little room."""
    try:
        status = os.statvfs(parent)
    except OSError as error:
        raise StackError(f"{what}: {error.strerror}") from None
    free = status.f_bavail * status.f_frsize
    if not os.path.isdir(parent):
        problem = "is no folder"
    elif problem is None and free < needed:
        problem = f"{format_size(free)} are free, {format_size(needed)} are needed"
    if problem is not None:
        raise StackError(f"{what}: {problem}")


def make_place(place: Place, parent: str, disk: str | None) -> Place:
    """The same place with a new folder for one run, with empty mount points in it, and one on disk.

    Raises: StackError.
    """
    folder = _make_folder("--folder", parent)
    for mount_point in replace(place, folder=folder).mount_points:
        mount_point.mkdir()
    if disk is None:
        return replace(place, folder=folder)
    try:
        return replace(place, folder=folder, disk_folder=_make_folder("--disk-folder", disk))
    except StackError:
        shutil.rmtree(folder)
        raise


def _make_folder(option: str, parent: str) -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix="fusedm-bench-", dir=parent)).resolve()
    except OSError as error:
        raise StackError(f"{option} {parent}: {error.strerror}") from None


def clear(place: Place) -> str:
    """Undo all that was made at a place, in order, and look for what may be left.

    Returns what the daemons had logged. A step may fail on what another process undoes at the same
    time; only what is left counts.
    Raises: StackError for what is left, with the first thing that went wrong.
    """
    steps: tuple[Callable[[], object], ...] = (
        lambda: _end_stack(place.mount_point),
        lambda: _end_stack(place.second_mount_point),
        lambda: _release_loops(place.folder),
        place.children.end_all,
        lambda: _unmount_rest(place.folder),
    )
    first = ""
    for step in steps:
        try:
            step()
        except (FusedmError, OSError) as error:
            first = first or f" ({error})"
    deadline = time.monotonic() + GONE_SECONDS
    while left := _left(place):
        if time.monotonic() >= deadline:
            raise StackError(f"left behind: {', '.join(left)}{first}")
        time.sleep(POLL_SECONDS)
    for folder in filter(None, (place.folder, place.disk_folder)):
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            raise StackError(f"left behind: {folder}{first}")
    return "\n".join(filter(None, map(_taken_log, place.mount_points)))


def wait_for_daemons(place: Place) -> None:
    """Wait until the daemons that were told to end have done so, if there are any.

    One releases its loop devices itself, and two that do so at once are in each other's way.
    """
    deadline = time.monotonic() + DAEMON_SECONDS
    while any(map(_is_up, place.mount_points)) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def _is_up(mount_point: Path) -> bool:
    running = stack_at(str(mount_point))
    return running is not None and running.is_alive


def _taken_log(mount_point: Path) -> str:
    """What a daemon has logged, which nobody would look for when its stack is gone."""
    log = log_path(str(mount_point))
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


def _end_stack(mount_point: Path) -> None:
    running = stack_at(str(mount_point))
    if running is not None or mounts.mount_at(str(mount_point)) is not None:
        try:
            bring_down(str(mount_point), force=True)
        finally:
            if running is not None:
                reap(running.pid)


def _unmount_rest(folder: Path) -> None:
    for mount in _mounts_below(folder):
        mounts.unmount(mount.mount_point, lazy=True)


def _left(place: Place) -> list[str]:
    """What still lies over the folder; it must not be removed before."""
    left = [f"mount {mount.mount_point}" for mount in _mounts_below(place.folder)]
    left += [f"loop device {device.node}" for device in loop.attached(str(place.folder))]
    return left + [f"daemon of {point}" for point in place.mount_points if _is_up(point)]


def _mounts_below(folder: Path) -> list[mounts.Mount]:
    """The mounts below a folder, the last one first."""
    found = [m for m in mounts.read_mounts() if mounts.lies_under(m.mount_point, str(folder))]
    return found[::-1]
