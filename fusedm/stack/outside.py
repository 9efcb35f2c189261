"""Block devices and files of this machine that tables name: a disk for each, while one holds it.

Where a word leads is found out in a worker thread, since it asks the machine: to a device of this
stack, by its name, its number, a path in the mount or the loop device over that; or to a block
device or regular file, which is opened as a disk then. Parsing a table waits for nothing, so the
devices that it names are found before.
"""

import errno
import hashlib
import logging
import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from fusedm.block import BlockDevice
from fusedm.block.errors import FusedmError, StackError
from fusedm.host import loop, nodes
from fusedm.host.loop_control import FileId
from fusedm.host.mounts import lies_under
from fusedm.stack.spec import DiskSpec
from fusedm.system import MINOR_LIMIT
from fusedm.tables import devices_named

if TYPE_CHECKING:
    from fusedm.stack.stack import Stack

log = logging.getLogger(__name__)

#: The kernel keeps 12 bits of a major number.
MAJOR_LIMIT = 1 << 12

_NUMBER = re.compile(r"(\d{1,10}):(\d{1,10})", re.ASCII)


#: Where in the mount the devices are that a table may name.
FOLDERS = ("mapper", "disks")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a word leads: to a name of this stack, or to a file or block device at a path."""

    name: str = ""
    path: str = ""
    number: tuple[int, int] | None = None
    file: FileId | None = None


class OutsideDevices:
    """The disks that were opened for tables.

    Owns: those disks; it closes one when no table holds it any more.
    """

    def __init__(self, stack: "Stack", mount_point: Path | None) -> None:
        self._stack = stack
        self._mount_point = str(mount_point or "")
        self._names: set[str] = set()
        # A disk that was just opened has no holder yet: nothing may be swept before it has.
        self._lock = trio.Lock()

    async def load(self, name: str, text: str, read_only: bool, folder: str = "/") -> None:
        """Load the inactive table of a mapped device, whatever devices it names.

        folder is where relative paths begin.

        Raises: TableError with the errno of a lookup that failed; as System.load_opened.
        """
        async with self._lock:
            try:
                words = await trio.to_thread.run_sync(devices_named, text)
                found = {word: await self._find(word, read_only, folder) for word in words}
                lookup = partial(_look_up, found)
                await self._stack.system.load_opened(name, text, read_only, lookup)
            finally:
                await self._close_unused()

    async def close_unused(self) -> None:
        """Close the disks that no table holds any more."""
        async with self._lock:
            await self._close_unused()

    async def _find(self, word: str, read_only: bool, folder: str) -> BlockDevice | FusedmError:
        """The device a word leads to, opened if need be, or why there is none."""
        try:
            return self._stack.system.device(word)
        except StackError as error:
            unknown = StackError(str(error), errno.ENOENT)
        try:
            find = partial(find_place, word, self._mount_point, folder)
            return await self._device_at(await trio.to_thread.run_sync(find), read_only)
        except FusedmError as error:
            # A name was meant, unless there is a file of that name.
            return unknown if error.errno == errno.ENOENT and "/" not in word else error

    async def _device_at(self, place: Place, read_only: bool) -> BlockDevice:
        """The device of this stack at a place, or a disk opened there."""
        name = place.name
        if place.number is not None:
            name = "{}:{}".format(*place.number)
        elif place.path:
            name = f"file-{hashlib.sha256(repr(place.file).encode()).hexdigest()[:12]}"
        try:
            return self._stack.system.device(name)
        except StackError as error:
            if place.name:
                raise StackError(str(error), errno.ENOENT) from None
        return await self._open(name, place, read_only)

    async def _open(self, name: str, place: Place, read_only: bool) -> BlockDevice:
        """Open a disk; one that may not be written will do for a table that is read-only."""
        spec = DiskSpec(name, None, f"file:{place.path}")
        try:
            disk = await self._stack.add_disk(spec)
        except FusedmError as error:
            if not read_only or error.errno not in (errno.EACCES, errno.EROFS, errno.EPERM):
                raise
            spec = DiskSpec(name, None, f"file:{place.path}", read_only=True)
            disk = await self._stack.add_disk(spec)
        self._names.add(name)
        if place.number is not None:
            self._stack.system.numbers.show(disk, place.number)
        return disk

    async def _close_unused(self) -> None:
        for name in sorted(self._names):
            try:
                await self._stack.remove_disk(name)
                self._names.discard(name)
            except FusedmError as error:
                if error.errno != errno.EBUSY:
                    log.warning("%s", error)


def _look_up(found: dict[str, BlockDevice | FusedmError], word: str) -> BlockDevice:
    # What a table does not name is looked up only by one that is refused.
    device = found.get(word, StackError(f"{word}: {os.strerror(errno.ENOENT)}", errno.ENOENT))
    if isinstance(device, FusedmError):
        raise device
    return device


def find_place(word: str, mount_point: str, folder: str = "/") -> Place:
    """Where a word of a table leads; it asks the machine, so not for a thread that serves.

    folder is where relative paths begin.
    Raises: StackError with the errno the kernel would give: ENOENT, ENOTBLK, ENXIO, EACCES,
            EOVERFLOW.
    """
    number = _NUMBER.fullmatch(word)
    if number is not None:
        return _place_of_number(int(number[1]), int(number[2]), mount_point)
    word = os.path.join(folder, word)
    inside = _inside(os.path.normpath(word), mount_point)
    if inside:
        return Place(name=inside)
    folder, name = os.path.split(os.path.normpath(word))
    try:
        info = os.stat(word)
    except OSError as error:
        if folder == os.path.join(nodes.dev_dir(), "mapper"):
            return Place(name=name)  # Without root there is no node, but the device may be there.
        raise StackError(f"{word}: {error.strerror}", error.errno) from None
    if stat.S_ISBLK(info.st_mode):
        own = os.major(info.st_rdev), os.minor(info.st_rdev)
        return _over_ours(own, mount_point) or Place(path=os.path.realpath(word), number=own)
    if not stat.S_ISREG(info.st_mode):
        raise StackError(f"{word}: {os.strerror(errno.ENOTBLK)}", errno.ENOTBLK)
    path = os.path.realpath(word)
    inside = _inside(path, mount_point)
    # A path may be another file's by the next time it is named.
    return Place(name=inside) if inside else Place(path=path, file=FileId(info.st_dev, info.st_ino))


def _place_of_number(major: int, minor: int, mount_point: str) -> Place:
    own = (major, minor)
    if major >= MAJOR_LIMIT or minor >= MINOR_LIMIT:
        raise StackError(f"{major}:{minor}: is no device number", errno.EOVERFLOW)
    ours = _over_ours(own, mount_point)
    if ours is not None:
        return ours
    names = [f"/dev/block/{major}:{minor}"]
    with suppress(OSError):
        names.append("/dev/" + os.path.basename(os.readlink(f"/sys/dev/block/{major}:{minor}")))
    for path in names:
        with suppress(OSError):
            info = os.stat(path)
            if stat.S_ISBLK(info.st_mode) and info.st_rdev == os.makedev(major, minor):
                return Place(path=os.path.realpath(path), number=own)
    raise StackError(f"{major}:{minor}: {os.strerror(errno.ENXIO)}", errno.ENXIO)


def _over_ours(number: tuple[int, int], mount_point: str) -> Place | None:
    """The device below a loop device over one of our files: its I/O need not go through the kernel.

    One that shows a part of the file only is another device.
    """
    with suppress(OSError):
        device = Path(f"/sys/dev/block/{number[0]}:{number[1]}").resolve()
        told = os.fsdecode((device / "loop/backing_file").read_bytes())
        # Whichever mount shows it to whoever attached it, its name within ours ends it.
        folder, name = told.rstrip("\n").removesuffix(" (deleted)").split("/")[-2:]
        if folder in FOLDERS and mount_point:
            found = loop.attached_to([os.path.join(mount_point, folder, name)])
            if any(one.node == f"/dev/{device.name}" and one.is_whole for one in found):
                return Place(name=name)
    return None


def _inside(path: str, mount_point: str) -> str:
    """The name of the device at a path in the mount; empty for one elsewhere."""
    if not mount_point or not lies_under(path, mount_point):
        return ""
    folder, _, name = path[len(mount_point) :].strip("/").partition("/")
    return name if folder in FOLDERS else ""
