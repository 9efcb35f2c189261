"""Key bytes from where a stack file says they are: a file, the environment, an fd, the keyring.

Messages name the source and numbers of bytes, never a byte of a key.
"""

import ctypes
import errno
import os
import platform
import re
import sys
from binascii import unhexlify
from contextlib import suppress
from pathlib import Path

from fusedm.block.errors import CryptoError, StackError
from fusedm.stack.spec import check_source

#: Numbers of request_key and keyctl by machine, as no C library has functions for them.
_KEY_SYSCALLS = {"x86_64": (249, 250), "aarch64": (218, 219), "riscv64": (218, 219)}
_KEYCTL_READ = 11

_HEX = re.compile(rb"[0-9A-Fa-f]+")


def load_key(source: str, size: int, base_dir: Path) -> bytearray:
    """The key of size bytes that a source holds, raw or in hexadecimal; env holds hexadecimal only.

    Units:  bytes; a relative file: path is relative to base_dir.
    Raises: StackError with the errno of a source that cannot be read, CryptoError for wrong bytes.
    Await:  never, but it blocks its thread until fd: or a pipe ends.
    """
    check_source(source)
    scheme, _, rest = source.partition(":")
    if scheme == "random":
        return bytearray(os.urandom(size))
    # Hexadecimal may end in a newline; what is longer than that is no key and is not read on.
    limit = 2 * size + 2
    try:
        if scheme == "env":
            return _parse_hex(source, _environment(rest), size, "")
        if scheme == "keyring":
            data = _read_keyring(rest, limit)
        elif scheme == "fd":
            data = _read(int(rest), limit)
        else:
            data = _read_file(base_dir / rest, limit)
    except OSError as error:
        text = f"key source {source!r}: {error.strerror}"
        raise StackError(text, error.errno) from None
    if len(data) != size:
        return _parse_hex(source, data, size, f"{size} bytes or ")
    _check_not_digits(source, data)
    return data


def _check_not_digits(source: str, data: bytearray) -> None:
    """Refuse digits of a key half the size (of another mode, then): by chance no key looks so."""
    size = len(data)
    if _HEX.fullmatch(data):
        raise CryptoError(
            f"key source {source!r}: it holds {size} hexadecimal digits, which are {size // 2} "
            f"bytes: not {size} bytes or {2 * size} hexadecimal digits"
        )


def _parse_hex(source: str, data: bytearray, size: int, or_else: str) -> bytearray:
    """The key that data are in hexadecimal; or_else is what they could have been instead."""
    digits = data.removesuffix(b"\n").removesuffix(b"\r")
    if len(digits) == 2 * size:
        with suppress(ValueError):
            return bytearray(unhexlify(digits))
    limit = 2 * size + 2
    held = f"more than {limit} bytes" if len(data) > limit else f"{len(data)} bytes"
    raise CryptoError(
        f"key source {source!r}: it holds {held}, not {or_else}{2 * size} hexadecimal digits"
    )


def _environment(name: str) -> bytearray:
    value = os.environb.get(os.fsencode(name))
    if value is None:
        raise OSError(errno.ENOENT, "no such environment variable")
    return bytearray(value)


def _read_file(path: Path, limit: int) -> bytearray:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        mode = os.fstat(fd).st_mode & 0o777
        if mode & 0o007:
            raise OSError(errno.EACCES, f"its mode {mode:o} lets everyone at the key, chmod 600 it")
        return _read(fd, limit)
    finally:
        os.close(fd)


def _read(fd: int, limit: int) -> bytearray:
    """All that an fd holds, but no more than one byte above the limit."""
    buffer = bytearray(limit + 1)
    have = 0
    while count := os.readv(fd, [memoryview(buffer)[have:]]):
        have += count
    return buffer[:have]


def _read_keyring(description: str, limit: int) -> bytearray:
    """The payload of a user key in the caller's keyrings, or that many bytes of it that fit."""
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
