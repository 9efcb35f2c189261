"""librbd without a cluster: every function may fail, and everything that is opened is counted."""

import ctypes
import errno
import os
from collections.abc import Callable
from typing import Any

from fusedm.stores.rbd.library import ImageInfo

#: What ends each thing that is begun.
ENDS = {
    "rados_create": "rados_shutdown",
    "rados_ioctx_create": "rados_ioctx_destroy",
    "rbd_open": "rbd_close",
    "rbd_open_read_only": "rbd_close",
    "rbd_aio_create_completion": "rbd_aio_release",
}

OBJECT = 1 << 16
EXCLUSIVE_LOCK, FAST_DIFF = 4, 16


class FakeLibrbd:
    """The functions that the store calls, over an image in memory.

    failing has what the next calls of a function return instead, as errno numbers.
    """

    def __init__(self, size: int = 4 * OBJECT, features: int = EXCLUSIVE_LOCK | FAST_DIFF) -> None:
        self.medium = bytearray(size)
        self.features = features
        self.failing: dict[str, int] = {}
        #: What a request finishes with instead.
        self.results: dict[str, int] = {}
        self.calls: list[str] = []
        self.options: dict[str, str] = {"rbd_cache": "false"}
        #: Who has the lock, and who has the image open.
        self.owner = b""
        self.watchers: list[bytes] = []
        self.settings: dict[bytes, bytes] = {}
        self.is_answering = True
        self._open: dict[str, int] = {}
        self._finished: list[int] = []
        self._results: dict[int, int] = {}
        self._numbers = 0
        self._bell = -1

    def left_open(self) -> dict[str, int]:
        """What has been begun and not ended."""
        return {name: count for name, count in self._open.items() if count}

    def __getattr__(self, name: str) -> Callable[..., int]:
        def call(*arguments: Any) -> int:
            self.calls.append(name)
            if name in self.failing:
                return -self.failing[name]
            if name in ENDS:
                self._open[ENDS[name]] = self._open.get(ENDS[name], 0) + 1
            elif name in ENDS.values():
                self._open[name] -= 1
            return int(getattr(self, f"do_{name}", lambda *_: 0)(*arguments))

        if name.startswith("do_"):
            raise AttributeError(name)
        return call

    def do_rados_conf_set(self, _: object, name: bytes, value: bytes) -> int:
        self.settings[name] = value
        return 0

    def do_rbd_stat(self, _: object, info: ImageInfo, length: int) -> int:
        assert length == ctypes.sizeof(info)
        info.size, info.object_size = len(self.medium), OBJECT
        return 0

    def do_rbd_get_features(self, _: object, features: Any) -> int:
        features._obj.value = self.features
        return 0

    def do_rbd_lock_get_owners(self, _: object, mode: Any, owners: Any, count: Any) -> int:
        if not self.owner:
            return -errno.ENOENT
        owners[0], count._obj.value = self.owner, 1
        return 0

    def do_rbd_watchers_list(self, _: object, watchers: Any, count: Any) -> int:
        for watcher, address in zip(watchers, self.watchers, strict=False):
            watcher.address = address
        count._obj.value = len(self.watchers)
        return 0

    def do_rbd_config_image_list(self, _: object, options: Any, count: Any) -> int:
        for option, (name, value) in zip(options, self.options.items(), strict=False):
            option.name, option.value = name.encode(), value.encode()
        count._obj.value = len(self.options)
        return 0

    def do_rbd_set_image_notification(self, _: object, bell: int, kind: int) -> int:
        assert kind == 2
        self._bell = bell
        return 0

    def do_rbd_diff_iterate2(self, *arguments: Any) -> int:
        _, _, _, length, _, whole, found, _ = arguments
        assert whole
        for offset in range(0, length, OBJECT):
            found(offset, OBJECT, any(self.medium[offset : offset + OBJECT]), None)
        return 0

    def do_rbd_aio_create_completion(self, _: object, callback: None, completion: Any) -> int:
        self._numbers += 1
        completion.value = self._numbers
        return 0

    def do_rbd_aio_read(
        self, _: object, offset: int, length: int, address: int, completion: Any
    ) -> int:
        count = max(min(length, len(self.medium) - offset), 0)
        ctypes.memmove(address, bytes(self.medium[offset : offset + count]), count)
        return self._finish("read", completion, count or -errno.EINVAL)

    def do_rbd_aio_write(
        self, _: object, offset: int, length: int, address: int, completion: Any
    ) -> int:
        self.medium[offset : offset + length] = ctypes.string_at(address, length)
        return self._finish("write", completion)

    def do_rbd_aio_write_zeroes(
        self, _: object, offset: int, length: int, completion: Any, *flags: int
    ) -> int:
        assert flags == (0, 0)
        self.medium[offset : offset + length] = bytes(length)
        return self._finish("write_zeroes", completion)

    def do_rbd_aio_flush(self, _: object, completion: Any) -> int:
        return self._finish("flush", completion)

    def do_rbd_poll_io_events(self, _: object, found: Any, count: int) -> int:
        told, self._finished = self._finished[:count], self._finished[count:]
        found[: len(told)] = told
        return len(told)

    def do_rbd_aio_get_return_value(self, number: int) -> int:
        return self._results.pop(number)

    def _finish(self, what: str, completion: Any, result: int = 0) -> int:
        self._results[completion.value] = self.results.get(what, result)
        self._finished.append(completion.value)
        if self.is_answering:
            self.ring()
        return 0

    def ring(self) -> None:
        """Tell of what has finished."""
        os.eventfd_write(self._bell, 1)
