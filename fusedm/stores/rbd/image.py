"""An open image of librbd: what may wait for long, and requests that are begun and found finished.

Everything but begin and finished may wait and belongs in worker threads. No thread of librbd ever
calls us: it makes a descriptor readable when requests have finished.
"""

import ctypes
import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ctypes import byref, c_char_p, c_int, c_size_t, c_uint64, c_void_p

from fusedm.block.errors import StoreError
from fusedm.stores.rbd.address import Address
from fusedm.stores.rbd.extents import Extents
from fusedm.stores.rbd.library import (
    ConfigOption,
    DiffCallback,
    ImageInfo,
    Lent,
    Library,
    Watcher,
    lend,
)

#: RBD_FEATURE_EXCLUSIVE_LOCK, RBD_FEATURE_FAST_DIFF, RBD_LOCK_MODE_EXCLUSIVE, EVENT_TYPE_EVENTFD.
#: Source: rbd/features.h, rbd/librbd.h.
_EXCLUSIVE_LOCK, _FAST_DIFF = 1 << 2, 1 << 4
_LOCK_EXCLUSIVE = 0
_EVENTFD = 2
#: How many finished requests are asked for at a time.
_FINISHED_AT_A_TIME = 64
#: What librbd has more than a hundred of; with this many there is room for those of later versions.
_CONFIG_OPTIONS = 512

#: Each client with the image open is one.
_MAX_WATCHERS = 1024

#: Nothing goes to the terminal, and data are copied as they are begun: without that a write whose
#: time is up would keep the caller's memory until the connection it was meant for has ended.
_SETTINGS = {
    "log_to_stderr": "false",
    "err_to_stderr": "false",
    "rbd_disable_zero_copy_writes": "true",
}
#: Each is one that without it waits for ever.
_TIMEOUTS = ("client_mount_timeout", "rados_mon_op_timeout", "rados_osd_op_timeout")


class Image:
    """An open image.

    Owns: the connection to the cluster, the exclusive lock where the image has one, and the
    descriptor that is readable when requests have finished.
    """

    size: int
    object_size: int
    #: How writes are acknowledged, in words.
    cache: str
    #: Whether nobody else can change the image meanwhile.
    is_ours_alone: bool
    #: The descriptor.
    bell: int

    def __init__(self, library: Library, address: Address, read_only: bool) -> None:
        self.address = address
        self.read_only = read_only or bool(address.snapshot)
        self._library = library
        self._owned = ExitStack()
        self._image = c_void_p()
        self._found = (c_void_p * _FINISHED_AT_A_TIME)()
        self._lent: dict[int, Lent] = {}
        self._features = 0

    def open(self, given_up: threading.Event) -> None:
        """Connect and open; nothing is left of it on an error, or when it is given up.

        Raises: StoreError.
        """
        with ExitStack() as self._owned:
            for step in (self._connect, self._open_image, self._lock, self._listen):
                step()
                if given_up.is_set():
                    raise StoreError(f"{self.address}: was given up while it was opened")
            self._owned = self._owned.pop_all()

    def close(self) -> None:
        """Give up the lock and the connection; all requests have ended."""
        self._owned.close()

    def _connect(self) -> None:
        library, address = self._library, self.address
        cluster, pool = c_void_p(), c_void_p()
        self._check(library.rados_create(byref(cluster), address.user.encode()), "librados")
        self._owned.callback(library.rados_shutdown, cluster)
        conf = None if address.conf is None else os.fsencode(address.conf)
        where = address.conf or "no conf=PATH, and the usual places"
        self._check(library.rados_conf_read_file(cluster, conf), f"{where}: cannot be read")
        settings = _SETTINGS | dict.fromkeys(_TIMEOUTS, str(address.timeout))
        for name, value in settings.items():
            result = library.rados_conf_set(cluster, name.encode(), value.encode())
            self._check(result, f"{name} cannot be set")
        who = f"client.{address.user}: the cluster cannot be reached, or refuses its key"
        self._check(library.rados_connect(cluster), who)
        result = library.rados_ioctx_create(cluster, address.pool.encode(), byref(pool))
        self._check(result, f"pool {address.pool} cannot be opened")
        self._owned.callback(library.rados_ioctx_destroy, pool)
        library.rados_ioctx_set_namespace(pool, address.namespace.encode())
        self._pool = pool

    def _open_image(self) -> None:
        library, address = self._library, self.address
        snapshot = address.snapshot.encode() or None
        # Opened for writing an image is watched: it is not removed below us, and its size is known.
        open_first = library.rbd_open_read_only if snapshot else library.rbd_open
        result = self._open_by(open_first)
        if self.read_only and -result in (errno.EPERM, errno.EACCES, errno.EROFS):
            result = self._open_by(library.rbd_open_read_only)
        what = "image or snapshot" if snapshot else "image"
        self._check(result, f"the {what} cannot be opened")
        self._owned.callback(library.rbd_close, self._image)
        info, features = ImageInfo(), c_uint64()
        result = library.rbd_stat(self._image, info, ctypes.sizeof(info))
        self._check(result, "its size cannot be read")
        result = library.rbd_get_features(self._image, byref(features))
        self._check(result, "its features cannot be read")
        self.size, self.object_size = info.size, info.object_size
        self._features = features.value
        self.cache = self._cache_mode()

    def _open_by(self, function: Callable[..., int]) -> int:
        name, snapshot = self.address.image.encode(), self.address.snapshot.encode() or None
        return function(self._pool, name, byref(self._image), snapshot)

    def _lock(self) -> None:
        has_lock = bool(self._features & _EXCLUSIVE_LOCK)
        if has_lock and not self.read_only:
            result = -errno.EROFS
            # Who holds it without having asked for it would give it up, and write no more.
            if not self._is_used_by_another():
                result = self._library.rbd_lock_acquire(self._image, _LOCK_EXCLUSIVE)
            if result == -errno.EROFS:
                text = f"{self.address}: is in use: another client has its exclusive lock"
                raise StoreError(text, errno.EBUSY)
            self._check(result, "its exclusive lock cannot be had")
        self.is_ours_alone = bool(self.address.snapshot) or (has_lock and not self.read_only)

    def _is_used_by_another(self) -> bool:
        """Whether a client that lives has the lock: one that watches the image, too."""
        library, image = self._library, self._image
        mode, count = c_int(), c_size_t(1)
        owners = (c_char_p * 1)()
        result = library.rbd_lock_get_owners(image, byref(mode), owners, byref(count))
        if result == -errno.ENOENT:
            return False
        self._check(result, "who has its exclusive lock cannot be found out")
        owner = owners[0]
        library.rbd_lock_get_owners_cleanup(owners, count)
        watchers, count = (Watcher * _MAX_WATCHERS)(), c_size_t(_MAX_WATCHERS)
        result = library.rbd_watchers_list(image, watchers, byref(count))
        self._check(result, "who has it open cannot be found out")
        addresses = [watcher.address for watcher in watchers[: count.value]]
        library.rbd_watchers_list_cleanup(watchers, count)
        return owner in addresses

    def _listen(self) -> None:
        self.bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        # Closed after the image, which rings it.
        below = self._owned.pop_all()
        self._owned.callback(os.close, self.bell)
        self._owned.push(below)
        result = self._library.rbd_set_image_notification(self._image, self.bell, _EVENTFD)
        self._check(result, "librbd cannot tell of what has finished")

    def _cache_mode(self) -> str:
        options, count = (ConfigOption * _CONFIG_OPTIONS)(), c_int(_CONFIG_OPTIONS)
        if self._library.rbd_config_image_list(self._image, options, byref(count)) < 0:
            return "cache unknown"
        found = {o.name.decode(): o.value.decode() for o in options[: count.value]}
        self._library.rbd_config_image_list_cleanup(options, count)
        if found.get("rbd_cache") != "true" or self.read_only:
            return "no write cache"
        policy = found.get("rbd_cache_policy", "writeback")
        if policy == "writethrough" or found.get("rbd_cache_max_dirty") == "0":
            return "no write cache"
        waits = found.get("rbd_cache_writethrough_until_flush") == "true"
        return f"{policy} cache" + (" from the first flush on" if waits else "")

    def read(self, offset: int, buffer: memoryview) -> int:
        """Begin to read; the buffer is librbd's until the request has finished.

        Of each that is begun the number is given, by which it is found finished.
        Raises: OSError.
        """
        begin, image, lent = self._library.rbd_aio_read, self._image, lend(buffer, writable=True)
        return self._begin(lent, lambda it: begin(image, offset, lent.length, lent.address, it))

    def write(self, offset: int, data: memoryview) -> int:
        """Begin to write."""
        begin, image, lent = self._library.rbd_aio_write, self._image, lend(data, writable=False)
        return self._begin(lent, lambda it: begin(image, offset, lent.length, lent.address, it))

    def write_zeroes(self, offset: int, length: int) -> int:
        """Begin to make a range read as zeros, and to give up what room it can.

        Not a discard: of that librbd leaves out what is short or not aligned.
        """
        begin, image = self._library.rbd_aio_write_zeroes, self._image
        return self._begin(None, lambda it: begin(image, offset, length, it, 0, 0))

    def flush(self) -> int:
        """Begin to make durable what has finished before."""
        begin, image = self._library.rbd_aio_flush, self._image
        return self._begin(None, lambda it: begin(image, it))

    def _begin(self, lent: Lent | None, begin: Callable[[c_void_p], int]) -> int:
        completion = c_void_p()
        result = self._library.rbd_aio_create_completion(None, None, completion)
        if result >= 0:
            result = begin(completion)
            if result < 0:
                self._library.rbd_aio_release(completion)
        if result < 0:
            if lent is not None:
                lent.give_back()
            raise error_of(result)
        number = completion.value
        assert number is not None, "librbd gave a completion"
        if lent is not None:
            self._lent[number] = lent
        return number

    def finished(self) -> Iterator[tuple[int, int]]:
        """The requests that have finished since, by their numbers, and what came of each.

        Their buffers have been given back.
        Raises: OSError.
        """
        count = _FINISHED_AT_A_TIME
        while count == _FINISHED_AT_A_TIME:
            count = self._library.rbd_poll_io_events(self._image, self._found, count)
            if count < 0:
                raise error_of(count)
            for number in self._found[:count]:
                assert number is not None, "librbd tells of completions"
                result = self._library.rbd_aio_get_return_value(number)
                self._library.rbd_aio_release(number)
                lent = self._lent.pop(number, None)
                if lent is not None:
                    lent.give_back()
                yield number, result

    def extents(self) -> Extents:
        """Where there are data now.

        Raises: OSError.
        """
        extents = Extents(self.size, self.object_size)

        def found(offset: int, length: int, exists: int, _: object) -> int:
            if exists:
                extents.add(offset, length)
            return 0

        # With the parent of a clone; whole objects, which fast-diff knows without asking for each.
        result = self._library.rbd_diff_iterate2(
            self._image, None, 0, self.size, 1, 1, DiffCallback(found), None
        )
        if result < 0:
            raise error_of(result)
        return extents

    @property
    def knows_extents(self) -> bool:
        """Whether extents is quick, as of an image with a map of its objects."""
        return bool(self._features & _FAST_DIFF)

    def size_now(self) -> int:
        """The size the image has by now.

        Raises: OSError.
        """
        info = ImageInfo()
        result = self._library.rbd_stat(self._image, info, ctypes.sizeof(info))
        if result < 0:
            raise error_of(result)
        return int(info.size)

    def _check(self, result: int, text: str) -> None:
        if result < 0:
            raise StoreError(f"{self.address}: {text}: {os.strerror(-result)}", -result)


def error_of(result: int) -> OSError:
    """The error that a negative result stands for; beyond the end of the image EIO."""
    number = errno.EIO if result == -errno.EINVAL else -result
    return OSError(number, os.strerror(number))
