"""The Linux calls that Python's os module lacks: hole punching and the type of a file system."""

import ctypes
import errno
import fcntl
import os
import stat
import struct

from fusedm.block.units import SECTOR_SIZE

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_libc.statx.argtypes = (
    ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p,
)  # fmt: skip
_libc.fstatfs.argtypes = (ctypes.c_int, ctypes.c_void_p)

_FALLOC_FL_KEEP_SIZE = 0x01
_FALLOC_FL_PUNCH_HOLE = 0x02
_AT_EMPTY_PATH = 0x1000
_AT_STATX_DONT_SYNC = 0x4000
_STATX_TYPE = 0x01
_STATX_BLOCKS = 0x400
_BLKSSZGET = 0x1268

# From the kernel's magic.h.
_MEMORY_FILE_SYSTEMS = {
    0x01021994,  # tmpfs
    0x858458F6,  # ramfs
}


def punch_hole(fd: int, offset: int, length: int) -> None:
    """Free a range, which reads as zeros afterwards: of a file, and of a block device too.

    Raises: OSError; EOPNOTSUPP where the host cannot, and then nothing has changed.
    Source: fallocate(2); blkdev_fallocate zeroes for this mode, while BLKDISCARD promises nothing.
    """
    while _libc.fallocate(fd, _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE, offset, length):
        number = ctypes.get_errno()
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))


def allocated_bytes(fd: int, size: int) -> int:
    """How much a file takes, as the host remembers it, which asks no server and so never waits.

    It is size where the host cannot tell, and for a block device.
    Source: statx(2); in struct statx stx_mask is first, stx_mode at 28 and stx_blocks at 48.
    """
    statx = (ctypes.c_uint8 * 256)()
    if _libc.statx(
        fd, b"", _AT_EMPTY_PATH | _AT_STATX_DONT_SYNC, _STATX_TYPE | _STATX_BLOCKS, statx
    ):
        return size
    mask, mode = struct.unpack_from("I", statx)[0], struct.unpack_from("H", statx, 28)[0]
    if not mask & _STATX_BLOCKS or not stat.S_ISREG(mode):
        return size
    return int(struct.unpack_from("Q", statx, 48)[0]) * SECTOR_SIZE


def is_in_memory(fd: int) -> bool:
    """Whether the file is on a file system that has no medium to wait for."""
    # struct statfs is 120 bytes and begins with f_type, one machine word.
    statfs = (ctypes.c_long * 32)()
    if _libc.fstatfs(fd, statfs):
        return False
    return statfs[0] & 0xFFFFFFFF in _MEMORY_FILE_SYSTEMS


def logical_block_size(fd: int) -> int:
    """The logical block size of a block device, in bytes."""
    return int(struct.unpack("i", fcntl.ioctl(fd, _BLKSSZGET, bytes(4)))[0])
