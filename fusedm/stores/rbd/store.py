"""The store over an image: requests wait as tasks, and one task of the system wakes them."""

import errno
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import trio

from fusedm.block.errors import StoreError
from fusedm.block.units import SECTOR_SIZE
from fusedm.stores.geometry import check_size, check_writable
from fusedm.stores.rbd.address import parse_address, prefixed_address
from fusedm.stores.rbd.extents import Extents
from fusedm.stores.rbd.image import Image, error_of
from fusedm.stores.rbd.library import load_library
from fusedm.stores.waiting import WaitingKind

#: Of longer ranges so much is zeroed at a time: a request of librbd's for each object of it, and
#: with a cache only some of them at once.
_ZERO_BYTES = 64 << 20
#: Beyond the timeout, for what librbd does after the last of its waits has ended.
_GRACE_SECONDS = 5
#: From when on requests are told of as late.
_LATE_SECONDS = 1.0


_TROUBLES = {
    errno.ETIMEDOUT: "the cluster does not answer in time",
    errno.ESHUTDOWN: "blocklisted: another client has taken the image",
    errno.EROFS: "the exclusive lock is lost",
    errno.ENOENT: "the image or its pool has been removed",
}


class _Request:
    """A request in flight: whose, since when, and what has come of it."""

    __slots__ = ("result", "since", "task")

    def __init__(self, task: trio.lowlevel.Task) -> None:
        self.task = task
        self.since = time.monotonic()
        self.result = 0


class RbdStore:
    """An image of Ceph RBD. Each request fails once it has taken the address's timeout.

    Owns: the image, and the task that listens to it.
    """

    logical_block_size = SECTOR_SIZE

    def __init__(self, image: Image, size: int) -> None:
        self.size = size
        self.read_only = image.read_only
        self.object_size = image.object_size
        self._image = image
        self._requests: dict[int, _Request] = {}
        self._idle = trio.Event()
        self._is_closed = False
        #: Whether nothing is told of any more.
        self._is_deaf = False
        self._trouble: str | None = None
        #: Whether that is only that answers have not come in time.
        self._is_late = False
        self._extents: Extents | None = None
        self._extents_are_old = True
        #: Where has been written while the extents are looked for.
        self._written: Extents | None = None
        self._looking = trio.Lock()
        self._listening = trio.CancelScope()
        trio.lowlevel.spawn_system_task(self._listen)

    @property
    def state(self) -> str:
        """Connected and how writes are cached, or what is wrong."""
        if self._trouble is not None:
            return self._trouble
        oldest = next(iter(self._requests.values()), None)
        if oldest is not None and (age := time.monotonic() - oldest.since) >= _LATE_SECONDS:
            return f"the cluster has not answered for {age:.0f} s, {len(self._requests)} wait"
        lock = "" if self.read_only or self._image.is_ours_alone else ", no exclusive lock"
        return f"connected, {self._image.cache}{lock}"

    @property
    def allocated_bytes(self) -> int:
        """What the image's objects take, as far as they were looked for."""
        return self.size if self._extents is None else min(self._extents.data_bytes, self.size)

    async def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill the buffer; EIO where the image has become shorter."""
        count = await self._carry_out(partial(self._image.read, offset, buffer))
        if count != len(buffer):
            raise await self._told(errno.EIO)

    async def write(self, offset: int, data: memoryview, durably: bool = False) -> None:
        """Write all of data; durably: and then flush, which is right with every cache."""
        check_writable(self.read_only)
        try:
            await self._carry_out(partial(self._image.write, offset, data))
        finally:
            # Also after an error: a write whose time is up may still happen.
            self._has_data(offset, len(data))
        if durably:
            await self.flush()

    async def flush(self) -> None:
        """Make durable what has been acknowledged."""
        await self._carry_out(self._image.flush)

    async def discard(self, offset: int, length: int) -> None:
        """Zero the range; librbd frees the objects that are whole in it."""
        await self.write_zeroes(offset, length)

    async def write_zeroes(self, offset: int, length: int) -> None:
        """Zero the range; librbd frees the objects that are whole in it."""
        check_writable(self.read_only)
        end = offset + length
        try:
            while offset < end:
                count, begun = min(_ZERO_BYTES, end - offset), time.monotonic()
                await self._carry_out(partial(self._image.write_zeroes, offset, count))
                offset += count
                # A cache says that all is well, until it is flushed.
                if time.monotonic() - begun > self._image.address.timeout:
                    raise await self._told(errno.ETIMEDOUT)
        finally:
            self._extents_are_old = True

    async def seek_data(self, offset: int) -> int:
        """Where an object begins, at offset or after it; the size if there are none."""
        return min((await self._current_extents()).seek_data(offset), self.size)

    async def seek_hole(self, offset: int) -> int:
        """Where an object is missing, at offset or after it; the size if nowhere."""
        return min((await self._current_extents()).seek_hole(offset), self.size)

    async def aclose(self) -> None:
        """Flush and close, in twice the timeout at most; what is in flight fails before.

        Raises: OSError if what was acknowledged may not be durable.
        """
        if self._is_closed:
            return
        failed: OSError | None = None
        with trio.CancelScope(shield=True):
            if not self.read_only:
                try:
                    await self.flush()
                except OSError as error:
                    failed = error
            self._is_closed = True
            seconds = self._image.address.timeout + _GRACE_SECONDS
            with trio.move_on_after(seconds):
                while self._requests:
                    self._idle = trio.Event()
                    await self._idle.wait()
            if self._requests:
                # Their buffers are still librbd's: neither they nor the image are let go.
                raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
            self._listening.cancel()
            self._trouble = "closed"
            with trio.move_on_after(seconds):
                await trio.to_thread.run_sync(self._image.close, abandon_on_cancel=True)
        if failed is not None:
            raise failed

    async def _carry_out(self, begin: Callable[[], int]) -> int:
        """Begin a request and wait until it has finished, cancelled or not."""
        if self._is_closed or self._is_deaf:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        number = begin()
        request = self._requests[number] = _Request(trio.lowlevel.current_task())
        await trio.lowlevel.wait_task_rescheduled(_stay)
        if request.result < 0:
            raise await self._told(error_of(request.result).errno or errno.EIO)
        if self._is_late:
            self._is_late, self._trouble = False, None
        return request.result

    async def _told(self, number: int) -> OSError:
        """The error of a request, once the state tells of it."""
        if number == errno.EIO:
            with trio.CancelScope(shield=True):
                await self._look_at_size()
        elif self._trouble is None or self._is_late:
            self._is_late = number == errno.ETIMEDOUT
            self._trouble = _TROUBLES.get(number, f"an error of the cluster: {os.strerror(number)}")
        return OSError(number, os.strerror(number))

    async def _look_at_size(self) -> None:
        with suppress(OSError):
            now = await trio.to_thread.run_sync(self._image.size_now)
            if now < self.size:
                self._is_late = False
                self._trouble = f"the image has been cut to {now} of {self.size} bytes"

    async def _listen(self) -> None:
        with self._listening:
            try:
                while True:
                    await trio.lowlevel.wait_readable(self._image.bell)
                    with suppress(BlockingIOError):
                        os.eventfd_read(self._image.bell)
                    self._wake()
            except OSError as error:
                # Nothing can be told of any more: what is in flight keeps its buffers.
                self._is_deaf = True
                self._trouble = f"librbd does not tell what has finished: {error.strerror}"

    def _wake(self) -> None:
        for number, result in self._image.finished():
            request = self._requests.pop(number)
            request.result = result
            trio.lowlevel.reschedule(request.task)
        if not self._requests:
            self._idle.set()

    async def _current_extents(self) -> Extents:
        async with self._looking:
            if self._extents is None or self._extents_are_old or not self._image.is_ours_alone:
                await self._look()
            assert self._extents is not None
            return self._extents

    async def _look(self) -> None:
        self._extents_are_old = False
        self._written = written = Extents(self._image.size, self.object_size)
        try:
            with trio.CancelScope(shield=True):
                extents = await trio.to_thread.run_sync(self._image.extents)
        except OSError as error:
            self._extents_are_old = True
            raise await self._told(error.errno or errno.EIO) from None
        finally:
            self._written = None
        extents.merge(written)
        self._extents = extents

    def _has_data(self, offset: int, length: int) -> None:
        if self._extents is not None:
            self._extents.add(offset, length)
        if self._written is not None:
            self._written.add(offset, length)


class _Opening:
    """An image being opened in a thread, whose caller may not wait for it to the end."""

    def __init__(self, image: Image) -> None:
        self.image = image
        self.given_up = threading.Event()
        self._lock = threading.Lock()
        self._is_open = False

    def run(self) -> None:
        """Open the image; nothing is left of it once it is given up."""
        self.image.open(self.given_up)
        with self._lock:
            self._is_open = not self.given_up.is_set()
        if not self._is_open:
            self.image.close()

    def give_up(self) -> bool:
        """Wait no longer; whether the image is open all the same."""
        with self._lock:
            self.given_up.set()
            return self._is_open


async def open_rbd(text: str, size: int | None, read_only: bool) -> RbdStore:
    """Open the first size bytes of the image or snapshot that a store's text names, or all of it.

    Raises: StoreError.
    """
    address = parse_address(text)
    image = Image(await trio.to_thread.run_sync(load_library), address, read_only)
    opening = _Opening(image)
    try:
        await trio.to_thread.run_sync(opening.run, abandon_on_cancel=True)
    except trio.Cancelled:
        if opening.give_up():
            await _close(image)
        raise
    try:
        if size is not None and image.size < size:
            raise StoreError(f"{address}: too small: has {image.size} bytes, needs {size}")
        check_size(str(address), image.size if size is None else size)
    except StoreError:
        await _close(image)
        raise
    store = RbdStore(image, image.size if size is None else size)
    if image.knows_extents:
        with trio.CancelScope(shield=True), suppress(OSError):
            await store.seek_data(0)
    return store


async def _close(image: Image) -> None:
    with trio.CancelScope(shield=True):
        await trio.to_thread.run_sync(image.close)


def _stay(_: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.FAILED


KIND = WaitingKind(open_rbd, prefixed_address)
