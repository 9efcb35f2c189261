"""Writing what the kernel has cached for a block device, and hearing of what fails then."""

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)
_libc.sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)

#: Source: sync_file_range(2).
_WAIT_BEFORE = 1
_WRITE_AND_WAIT = 7
#: Where no device has pages.
_BEYOND = 1 << 62


def write_back(node: str) -> None:
    """Write what a node has cached and wait for it, without a flush: nobody has asked for that.

    An error of before, which nobody has been told of, is the first thing that who opens a device is
    told. It is asked for on its own, and forgotten: only what fails now is an error here.
    Raises: OSError.
    """
    descriptor = os.open(node, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _libc.sync_file_range(descriptor, _BEYOND, 1, _WAIT_BEFORE)
        if _libc.sync_file_range(descriptor, 0, 0, _WRITE_AND_WAIT):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), node)
    finally:
        os.close(descriptor)
