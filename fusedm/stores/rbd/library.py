"""librbd and librados behind ctypes: found at run time, nothing to compile.

Functions that may wait are called without Python's lock; those called for every request, which do
not, with it: giving it away costs more than they do. Results below 0 are errno numbers, negated.
"""

import ctypes
import os
from collections.abc import Callable
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_ssize_t, c_uint8, c_uint64, c_void_p
from typing import Any

from fusedm.block.errors import StoreError

#: Names the library to load instead, for tests with another version and with none.
VARIABLE = "FUSEDM_LIBRBD"
_NAME = "librbd.so.1"
PACKAGE = "librbd1"

#: Called with an offset, a length, whether there are data, and nothing.
DiffCallback = ctypes.CFUNCTYPE(c_int, c_uint64, c_size_t, c_int, c_void_p)


class ImageInfo(ctypes.Structure):
    """rbd_image_info_t.  Source: rbd/librbd.h."""

    _fields_ = (
        ("size", c_uint64),
        ("object_size", c_uint64),
        ("object_count", c_uint64),
        ("order", c_int),
        ("block_name_prefix", ctypes.c_char * 24),
        ("parent_pool", ctypes.c_int64),
        ("parent_name", ctypes.c_char * 96),
    )


class ConfigOption(ctypes.Structure):
    """rbd_config_option_t.  Source: rbd/librbd.h."""

    _fields_ = (("name", c_char_p), ("value", c_char_p), ("source", c_int))


class Watcher(ctypes.Structure):
    """rbd_image_watcher_t.  Source: rbd/librbd.h."""

    _fields_ = (("address", c_char_p), ("id", ctypes.c_int64), ("cookie", c_uint64))


_WAITING: dict[str, tuple[Any, ...]] = {
    "rados_create": (POINTER(c_void_p), c_char_p),
    "rados_conf_read_file": (c_void_p, c_char_p),
    "rados_conf_set": (c_void_p, c_char_p, c_char_p),
    "rados_connect": (c_void_p,),
    "rados_shutdown": (c_void_p,),
    "rados_ioctx_create": (c_void_p, c_char_p, POINTER(c_void_p)),
    "rados_ioctx_set_namespace": (c_void_p, c_char_p),
    "rados_ioctx_destroy": (c_void_p,),
    "rbd_open": (c_void_p, c_char_p, POINTER(c_void_p), c_char_p),
    "rbd_open_read_only": (c_void_p, c_char_p, POINTER(c_void_p), c_char_p),
    "rbd_close": (c_void_p,),
    "rbd_stat": (c_void_p, POINTER(ImageInfo), c_size_t),
    "rbd_get_features": (c_void_p, POINTER(c_uint64)),
    "rbd_lock_acquire": (c_void_p, c_int),
    "rbd_lock_get_owners": (c_void_p, POINTER(c_int), POINTER(c_char_p), POINTER(c_size_t)),
    "rbd_lock_get_owners_cleanup": (POINTER(c_char_p), c_size_t),
    "rbd_watchers_list": (c_void_p, POINTER(Watcher), POINTER(c_size_t)),
    "rbd_watchers_list_cleanup": (POINTER(Watcher), c_size_t),
    "rbd_config_image_list": (c_void_p, POINTER(ConfigOption), POINTER(c_int)),
    "rbd_config_image_list_cleanup": (POINTER(ConfigOption), c_int),
    "rbd_set_image_notification": (c_void_p, c_int, c_int),
    "rbd_diff_iterate2": (
        *(c_void_p, c_char_p, c_uint64, c_uint64, c_uint8, c_uint8, DiffCallback, c_void_p),
    ),
    "rbd_aio_read": (c_void_p, c_uint64, c_size_t, c_void_p, c_void_p),
    "rbd_aio_write": (c_void_p, c_uint64, c_size_t, c_void_p, c_void_p),
    "rbd_aio_write_zeroes": (c_void_p, c_uint64, c_size_t, c_void_p, c_int, c_int),
    "rbd_aio_flush": (c_void_p, c_void_p),
}

_QUICK: dict[str, tuple[Any, ...]] = {
    "rbd_aio_create_completion": (c_void_p, c_void_p, POINTER(c_void_p)),
    "rbd_aio_get_return_value": (c_void_p,),
    "rbd_aio_release": (c_void_p,),
    "rbd_poll_io_events": (c_void_p, POINTER(c_void_p), c_int),
}


class Library:
    """The functions by their names."""

    def __getattr__(self, name: str) -> Callable[..., int]:
        """Only for names that load_library has not set."""
        raise AttributeError(name)


def load_library() -> Library:
    """The library of this machine.

    Raises: StoreError if there is none, or one too old.
    """
    name = os.environ.get(VARIABLE, _NAME)
    try:
        waiting, quick = ctypes.CDLL(name), ctypes.PyDLL(name)
    except OSError:
        text = f"rbd: {name} cannot be loaded: apt-get install {PACKAGE}"
        raise StoreError(text) from None
    library = Library()
    for dll, table in ((waiting, _WAITING), (quick, _QUICK)):
        for function_name, types in table.items():
            try:
                function = getattr(dll, function_name)
            except AttributeError:
                raise StoreError(f"rbd: {name} is too old: it has no {function_name}") from None
            function.argtypes = types
            function.restype = c_int
            setattr(library, function_name, function)
    library.rbd_aio_get_return_value.restype = c_ssize_t  # type: ignore[attr-defined]  # of ctypes
    return library


class Lent(ctypes.Structure):
    """A Py_buffer: memory of Python's that is lent, and stays where it is until it is given back.

    Source: Python's C API.
    """

    _fields_ = (
        ("address", c_void_p),
        ("owner", c_void_p),
        ("length", c_ssize_t),
        ("item_size", c_ssize_t),
        ("read_only", c_int),
        ("dimensions", c_int),
        ("format", c_void_p),
        ("shape", c_void_p),
        ("strides", c_void_p),
        ("suboffsets", c_void_p),
        ("internal", c_void_p),
    )

    def give_back(self) -> None:
        """Let the owner have it again."""
        _give_back(self)


_PyBUF_SIMPLE, _PyBUF_WRITABLE = 0, 1
_lend = ctypes.pythonapi.PyObject_GetBuffer
_lend.argtypes = (ctypes.py_object, POINTER(Lent), c_int)
_give_back = ctypes.pythonapi.PyBuffer_Release
_give_back.argtypes = (POINTER(Lent),)
_give_back.restype = None


def lend(data: memoryview, writable: bool) -> Lent:
    """Lend contiguous memory; BufferError for what cannot be lent so."""
    lent = Lent()
    _lend(data, lent, _PyBUF_WRITABLE if writable else _PyBUF_SIMPLE)
    return lent
