"""Key bytes from where a stack file says they are: a file, the environment, an fd, the keyring.

Messages name the source and numbers of bytes, never a byte of a key.
"""

import errno
import os
import re
from binascii import unhexlify
from contextlib import suppress
from pathlib import Path

from fusedm.block.errors import CryptoError, StackError
from fusedm.crypto import SECRET_SIZE
from fusedm.host.keyring import read_user_key
from fusedm.stack.engine_spec import check_source

_HEX = re.compile(rb"[0-9A-Fa-f]+")


def load_key(source: str, size: int, base_dir: Path) -> bytearray:
    """The key of size bytes that a source holds, raw or in hexadecimal; env holds hexadecimal only.

    Units:  bytes; a relative file: path is relative to base_dir.
    Raises: StackError with the errno of a source that cannot be read, CryptoError for wrong bytes.
    Await:  never, but it blocks its thread until fd: or a pipe ends.
    """
    check_source(source)
    scheme = source.partition(":")[0]
    if scheme == "random":
        return bytearray(os.urandom(size))
    # Hexadecimal may end in a newline; what is longer than that is no key and is not read on.
    data = _read_source(source, 2 * size + 2, base_dir)
    if scheme == "env":
        return _parse_hex(source, data, size, "")
    if len(data) != size:
        return _parse_hex(source, data, size, f"{size} bytes or ")
    _check_not_digits(source, data)
    return data


def load_bytes(source: str, most: int, base_dir: Path) -> bytearray:
    """All that a source holds, such as a wrapped key: raw, from env in hexadecimal.

    Units:  bytes.
    Raises: StackError with the errno of a source that cannot be read, CryptoError for more than
            most bytes, or what is not hexadecimal.
    Await:  never, but it blocks its thread until fd: or a pipe ends.
    """
    check_source(source)
    scheme = source.partition(":")[0]
    if scheme == "random":
        raise StackError("a wrapped key or a raw one to be wrapped does not come from random")
    data = _read_source(source, 2 * most + 2 if scheme == "env" else most, base_dir)
    if scheme == "env":
        return _parse_hex(source, data, min(len(data.rstrip()) // 2, most), "")
    if len(data) > most:
        raise CryptoError(f"key source {source!r}: it holds more than {most} bytes")
    return data


def load_engine_secret(path: Path, make: bool) -> bytearray | None:
    """The secret in a file of mode 0600; if there is none, make puts a new one there, else None.

    Raises: StackError with the errno of a file that cannot be read or made.
    """
    if not path.exists():
        if not make:
            return None
        _make_secret(path)
    return load_key(f"file:{path}", SECRET_SIZE, path.parent)


def _make_secret(path: Path) -> None:
    # A name of its own first, so that a second daemon never reads half of it.
    making = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        fd = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, os.urandom(SECRET_SIZE))
            os.fsync(fd)
            with suppress(FileExistsError):
                os.link(making, path)
        finally:
            os.close(fd)
            making.unlink()
    except OSError as error:
        text = f"the engine's secret {str(path)!r} cannot be made: {error.strerror}"
        raise StackError(text, error.errno) from None


def _read_source(source: str, limit: int, base_dir: Path) -> bytearray:
    """What a source holds, but no more than one byte above the limit."""
    scheme, _, rest = source.partition(":")
    try:
        if scheme == "env":
            return _environment(rest)
        if scheme == "keyring":
            return read_user_key(rest, limit)
        if scheme == "fd":
            return _read(int(rest), limit)
        return _read_file(base_dir / rest, limit)
    except OSError as error:
        text = f"key source {source!r}: {error.strerror}"
        raise StackError(text, error.errno) from None


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
