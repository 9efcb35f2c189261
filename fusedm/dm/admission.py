"""Whether bios are let into a device, and the wait until none is in flight any more."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from fusedm.block import Generation, IoStats
from fusedm.block.errors import DeviceSuspended, Notifies


class Admission:
    """The entrance of a mapped device.

    Closed, no new bio is planned; those that come wait until it opens. Hurrying, delayed bios go on
    at once, and none is delayed.
    """

    def __init__(self, stats: IoStats, generation: Generation) -> None:
        self._stats = stats
        self._generation = generation
        self._closed = False
        self._opened = trio.Event()
        self._hurrying = trio.Event()

    @property
    def is_closed(self) -> bool:
        """Whether no new bio is let in."""
        return self._closed

    @property
    def is_hurrying(self) -> bool:
        """Whether no bio is delayed."""
        return self._hurrying.is_set()

    def check(self) -> None:
        """Let a bio in.

        Raises: DeviceSuspended, with the wait for the opening.
        """
        if self._closed:
            raise self.refusal()

    def refusal(self) -> DeviceSuspended:
        """What a bio is told that has to wait for the opening."""
        return DeviceSuspended(self._opened.wait)

    def until(self, signal: Notifies) -> DeviceSuspended:
        """What a bio is told that has to wait for a signal, from now on."""
        called = trio.Event()
        signal.call(called.set)
        return DeviceSuspended(called.wait)

    def hurry(self) -> None:
        """Let delayed bios go on, and delay none; what cannot go on may wait for the opening."""
        if not self._closed:
            self._opened = trio.Event()
        self._hurrying.set()

    def delay_again(self) -> None:
        """Delay bios as before. Those in flight wait for the event, which has woken them then."""
        self._hurrying = trio.Event()
        if not self._closed:
            self._opened.set()

    async def wait_hurrying(self) -> None:
        """Wait until there is a hurry."""
        await self._hurrying.wait()

    async def close(self) -> None:
        """Let no new bio in, and wait for those in flight; cancelled, the caller is to open it."""
        if not self._closed and not self.is_hurrying:
            self._opened = trio.Event()
        self._closed = True
        self._generation.advance()
        try:
            if self._stats.in_flight:
                drained = trio.Event()
                self._stats.on_idle = drained.set
                await drained.wait()
        finally:
            self._stats.on_idle = None

    def open(self) -> None:
        """Let bios in."""
        self._closed = False
        self._generation.advance()
        self._opened.set()

    @asynccontextmanager
    async def closed(self) -> AsyncIterator[None]:
        """A moment in which nothing is in flight; nothing happens if it is closed already."""
        was_closed = self._closed
        try:
            await self.close()
            yield
        finally:
            if not was_closed:
                self.open()
