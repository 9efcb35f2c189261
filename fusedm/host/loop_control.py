"""What the loop driver is asked and told, by ioctl: who lies where, attaching, clearing.

Nothing here takes a name's word for anything. A loop device that is open stays attached to what it
is attached to, so what is found out and what is done about it go through one descriptor.
"""

import errno
import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fusedm.block.errors import StackError, UsageError

SYS_BLOCK = Path("/sys/block")
CONTROL = "/dev/loop-control"

#: Source: include/uapi/linux/loop.h and fs.h. What BLKRASET is given is in sectors.
LOOP_CLR_FD = 0x4C01
LOOP_SET_STATUS64 = 0x4C04
LOOP_GET_STATUS64 = 0x4C05
LOOP_SET_CAPACITY = 0x4C07
LOOP_CONFIGURE = 0x4C0A
LOOP_CTL_GET_FREE = 0x4C82
BLKRASET = 0x1262

READ_ONLY = 1
PARTSCAN = 8
DIRECT_IO = 16

#: struct loop_info64: device, inode, rdevice, offset, sizelimit; number, two that are no more,
#: flags; the name of the file, one that is no more, a key, two numbers.
_INFO = struct.Struct("=5Q4I64s64s32s2Q")
#: struct loop_config: the file, the block size, an info, and what is reserved.
_CONFIG = struct.Struct(f"=2I{_INFO.size}s64x")
_NAME_BYTES = 63

#: How often a free device may be taken by somebody else before it is ours.
TRIES = 64


@dataclass(frozen=True, slots=True)
class FileId:
    """Which file of this machine: the number of its file system, and its inode there.

    A path means another file in each mount namespace; this does not.
    """

    device: int
    inode: int

    @classmethod
    def of(cls, path: str) -> "FileId":
        """The file a path leads to here. Raises: OSError."""
        info = os.stat(path)
        return cls(info.st_dev, info.st_ino)


@dataclass(frozen=True, slots=True)
class LoopStatus:
    """What the driver says: over which file and which part of it, in bytes; flags."""

    file: FileId
    offset: int
    size_limit: int
    flags: int


def status(descriptor: int) -> LoopStatus:
    """What a loop device lies over; the file system of that is asked, and may hang or be dead.

    Raises: OSError: ENXIO if it is free, ENOTCONN if its file is of a FUSE daemon that has died.
    """
    info = bytearray(_INFO.size)
    fcntl.ioctl(descriptor, LOOP_GET_STATUS64, info)
    device, inode, _, offset, size_limit, _, _, _, flags, *_ = _INFO.unpack(info)
    # The kernel packs the number as stat(2) does.
    return LoopStatus(FileId(device, inode), offset, size_limit, flags)


@contextmanager
def opened(node: str, flags: int = os.O_RDONLY) -> Iterator[int]:
    """A descriptor on a node for the time of a with block."""
    descriptor = os.open(node, flags | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def configured(path: str, file: int, size: int, flags: int) -> Iterator[tuple[str, int]]:
    """A free loop device that has just been attached to a file: its node, and a descriptor on it.

    An error lets it go again.
    Units:  size is the logical block size, in bytes.
    Raises: UsageError where there is none to be had; OSError for what the driver refuses.
    """
    name = os.fsencode(path)[:_NAME_BYTES]
    info = _INFO.pack(*[0] * 8, flags, name, b"", b"", 0, 0)
    config = _CONFIG.pack(file, size, info)
    for _ in range(TRIES):
        node = _free_node()
        descriptor = _attached(node, config)
        if descriptor is None:
            continue
        try:
            yield node, descriptor
        except BaseException:
            clear(descriptor)
            raise
        finally:
            os.close(descriptor)
        return
    raise UsageError(f"no free loop device: {TRIES} were taken by others just then", errno.EBUSY)


def clear(descriptor: int) -> None:
    """Have a loop device let go of its file; one that others have open too does so after them."""
    fcntl.ioctl(descriptor, LOOP_CLR_FD)


def keep(node: str, descriptor: int) -> None:
    """Take back a clear that waits for others to close: the device stays attached after them.

    The driver would ask the file system below, which may be dead; sysfs tells what it is to keep.
    """
    told = SYS_BLOCK / os.path.basename(node) / "loop"
    offset, limit = (int((told / name).read_text()) for name in ("offset", "sizelimit"))
    flags = PARTSCAN if (told / "partscan").read_text() == "1\n" else 0
    name = (told / "backing_file").read_bytes().removesuffix(b"\n")[:_NAME_BYTES]
    info = _INFO.pack(0, 0, 0, offset, limit, 0, 0, 0, flags, name, b"", b"", 0, 0)
    fcntl.ioctl(descriptor, LOOP_SET_STATUS64, info)


def is_being_cleared(node: str) -> bool:
    """Whether a loop device is just letting go of its file: nobody can open it then."""
    try:
        with opened(node):
            return False
    except OSError as error:
        return error.errno == errno.ENXIO


def make_missing_node(node: str, numbers_file: str, kind: int) -> None:
    """Make a device node that /dev lacks, as in a container, from the numbers sysfs shows.

    Raises: UsageError if there is no such device or it may not be made.
    """
    if os.path.exists(node):
        return
    try:
        major, minor = Path(numbers_file).read_text().split(":")
        os.mknod(node, kind | 0o600, os.makedev(int(major), int(minor)))
    except FileExistsError:
        pass
    except FileNotFoundError:
        raise UsageError(
            f"{node} is missing and so is {numbers_file}: try modprobe loop", errno.ENODEV
        ) from None
    except OSError as error:
        raise UsageError(
            f"{node} is missing and cannot be made: {error.strerror}", error.errno
        ) from None


def make_missing_loop_node(name: str) -> str:
    """The node of a loop device, made if /dev lacks it. Raises: UsageError."""
    node = f"/dev/{name}"
    make_missing_node(node, f"{SYS_BLOCK}/{name}/dev", stat.S_IFBLK)
    return node


def _free_node() -> str:
    make_missing_node(CONTROL, "/sys/class/misc/loop-control/dev", stat.S_IFCHR)
    try:
        with opened(CONTROL) as descriptor:
            number = fcntl.ioctl(descriptor, LOOP_CTL_GET_FREE)
    except OSError as error:
        raise UsageError(f"no free loop device: {CONTROL}: {error.strerror}", error.errno) from None
    return make_missing_loop_node(f"loop{number}")


def _attached(node: str, config: bytes) -> int | None:
    """A descriptor on a device that has been attached; None if it is another's just now."""
    try:
        descriptor = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        if error.errno != errno.ENXIO:  # So it is while somebody's is cleared.
            raise
        return None
    try:
        fcntl.ioctl(descriptor, LOOP_CONFIGURE, config)
    except OSError as error:
        os.close(descriptor)
        if error.errno != errno.EBUSY:
            raise
        return None
    return descriptor


def refused(path: str, size: int, error: OSError) -> StackError:
    """Why the driver would not attach a file, with the numbers."""
    page = os.sysconf("SC_PAGE_SIZE")
    if size > page:
        text = (
            f"{path}: loop devices here do not take a logical block size of {size}: "
            f"more than a page of {page}"
        )
    else:
        text = f"{path}: loop device with a logical block size of {size}: {error.strerror}"
    return StackError(text, error.errno)
