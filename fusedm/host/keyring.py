"""Keys of the kernel's keyrings.

By system calls, as no C library has functions for them, and the library that has (libkeyutils)
would be one more package for two calls.
"""

import ctypes
import errno
import os
import platform
import sys

#: Numbers of request_key and keyctl by machine.
_KEY_SYSCALLS = {"x86_64": (249, 250), "aarch64": (218, 219), "riscv64": (218, 219)}
_KEYCTL_READ = 11


def read_user_key(description: str, limit: int) -> bytearray:
    """The payload of a user key in the caller's keyrings, but no more than one byte above limit.

    Raises: OSError with the kernel's errno; EPERM for a logon key.
    """
    request_key, keyctl = _key_syscalls()
    name = os.fsencode(description)
    try:
        key = _syscall(request_key, b"user", name, None, 0)
    except OSError as error:
        if error.errno == errno.ENOKEY and _exists(request_key, b"logon", name):
            text = "it is a logon key, which user space cannot read: add it as a user key"
            raise OSError(errno.EPERM, text) from None
        if error.errno == errno.ENOKEY:
            text = "no user key of that description in the session, user or process keyrings"
            raise OSError(errno.ENOKEY, text) from None
        raise
    buffer = bytearray(limit + 1)
    into = (ctypes.c_char * len(buffer)).from_buffer(buffer)
    count = _syscall(keyctl, _KEYCTL_READ, key, into, len(buffer))
    return buffer[:count]


def _exists(request_key: int, kind: bytes, name: bytes) -> bool:
    try:
        _syscall(request_key, kind, name, None, 0)
    except OSError:
        return False
    return True


def _key_syscalls() -> tuple[int, int]:
    """The numbers of request_key and keyctl here; a 32-bit Python would need others."""
    numbers = _KEY_SYSCALLS.get(platform.machine()) if sys.maxsize > 1 << 32 else None
    if numbers is None:
        raise OSError(errno.ENOSYS, f"the keyring cannot be read on {platform.machine()}")
    return numbers


def _syscall(*arguments: int | bytes | ctypes.Array[ctypes.c_char] | None) -> int:
    """A system call; every argument as wide as a register."""
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    result: int = library.syscall(*words)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
