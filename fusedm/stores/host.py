"""The Linux calls that Python's os module lacks: hole punching and the type of a file system."""

import ctypes
import errno
import fcntl
import os
import struct

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_libc.fstatfs.argtypes = (ctypes.c_int, ctypes.c_void_p)

_FALLOC_FL_KEEP_SIZE = 0x01
_FALLOC_FL_PUNCH_HOLE = 0x02
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
