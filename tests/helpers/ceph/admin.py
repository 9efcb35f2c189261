"""Commands to a monitor, through librados: ceph(8) wants Python modules of the distribution."""

import ctypes
import json
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path

#: Seconds to wait for a monitor.
TIMEOUT = "5"


class CephError(Exception):
    """Something of Ceph did not do what it was told."""


@cache
def _librados() -> ctypes.CDLL:
    return ctypes.CDLL("librados.so.2")


def mon_command(conf: Path, command: Mapping[str, object]) -> bytes:
    """What the monitor answers.

    Raises: CephError.
    """
    lib = _librados()
    handle = ctypes.c_void_p()
    _check(lib.rados_create(ctypes.byref(handle), b"admin"), "rados_create")
    try:
        _check(lib.rados_conf_read_file(handle, os.fsencode(conf)), str(conf))
        for option in (b"client_mount_timeout", b"rados_mon_op_timeout"):
            lib.rados_conf_set(handle, option, TIMEOUT.encode())
        _check(lib.rados_connect(handle), "connecting")
        return _ask(lib, handle, json.dumps(command).encode())
    finally:
        lib.rados_shutdown(handle)


def _ask(lib: ctypes.CDLL, handle: ctypes.c_void_p, text: bytes) -> bytes:
    words = (ctypes.c_char_p * 1)(text)
    out, status = ctypes.c_void_p(), ctypes.c_void_p()
    length, status_length = ctypes.c_size_t(), ctypes.c_size_t()
    result = lib.rados_mon_command(
        *(handle, words, ctypes.c_size_t(1), b"", ctypes.c_size_t(0)),
        *(ctypes.byref(out), ctypes.byref(length)),
        *(ctypes.byref(status), ctypes.byref(status_length)),
    )
    answer = ctypes.string_at(out, length.value) if out else b""
    said = ctypes.string_at(status, status_length.value).decode() if status else ""
    for buffer in (out, status):
        if buffer:
            lib.rados_buffer_free(buffer)
    _check(result, f"{text.decode()}: {said}")
    return answer


def _check(result: int, what: str) -> None:
    if result < 0:
        raise CephError(f"{what}: {os.strerror(-result)}")
