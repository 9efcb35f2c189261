"""Locks on files that are somebody's disk, in the words of QEMU: who does what, and minds what.

A user of an image locks a byte for each thing it does and a byte for each that it bears in nobody
else, all of them shared, and then looks whether anybody minds what it does, or does what it minds.
So two of our stores keep out of one file, QEMU and we keep out of each other's, and nothing else is
in anybody's way: cryptsetup and flock(1) lock files whole, by flock(2), which does not see these.

Source: raw_apply_lock_bytes and raw_check_lock_bytes in QEMU's block/file-posix.c.
"""

import errno
import fcntl
import os
import struct

#: What one may do with an image; its number is added to the first byte of either kind.
_READ, _WRITE, _RESIZE = 0, 1, 3
_DOING = 100
_MINDING = 200
#: struct flock.  Source: fcntl_locking(2).
_FLOCK = struct.Struct("hhqqi4x")


def lock_image(fd: int, read_only: bool) -> None:
    """Lock a file for as long as this description of it is open.

    Raises: OSError: EBUSY if somebody writes to it, or, to one who will write, if anybody uses it.
    """
    for byte in _bytes(read_only):
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, byte, 1, 0))
    check_image(fd, read_only)


def check_image(fd: int, read_only: bool) -> None:
    """Refuse what lock_image would, without a lock.

    Raises: OSError(EBUSY).
    """
    for byte in _bytes(read_only):
        other = byte - _DOING + _MINDING if byte < _MINDING else byte - _MINDING + _DOING
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, other, 1, 0)
        kind, *_ = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked))
        if kind != fcntl.F_UNLCK:
            raise OSError(errno.EBUSY, "in use by another store or by QEMU")


def _bytes(read_only: bool) -> list[int]:
    does = [_READ] if read_only else [_READ, _WRITE]
    return [*(_DOING + what for what in does), _MINDING + _WRITE, _MINDING + _RESIZE]
