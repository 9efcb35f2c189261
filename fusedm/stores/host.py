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

# From the kernel's magic.h and the file systems' own headers.
_LOCAL_FILE_SYSTEMS = {
    0x0000EF53,  # ext2, ext3, ext4
    0x01021994,  # tmpfs
    0x2FC12FC1,  # zfs
    0x58465342,  # xfs
    0x794C7630,  # overlayfs
    0x858458F6,  # ramfs
    0x9123683E,  # btrfs
    0xCA451A4E,  # bcachefs
    0xF2F52010,  # f2fs
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


def is_on_local_file_system(fd: int) -> bool:
    """Whether the file is on a file system known to be neither remote nor served by a process."""
    # struct statfs is 120 bytes and begins with f_type, one machine word.
    statfs = (ctypes.c_long * 32)()
    if _libc.fstatfs(fd, statfs):
        return False
    return statfs[0] & 0xFFFFFFFF in _LOCAL_FILE_SYSTEMS


def logical_block_size(fd: int) -> int:
    """The logical block size of a block device, in bytes."""
    return int(struct.unpack("i", fcntl.ioctl(fd, _BLKSSZGET, bytes(4)))[0])
