"""A store that waits, in memory: its answers can be held back, and every call leaves a note."""

import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from fusedm.stores import MemoryStore


class WaitingMemory:
    """What a server would be, without one; in flight are the calls that have not been answered."""

    def __init__(self, size: int, block: int = 512, read_only: bool = False) -> None:
        self.inner = MemoryStore(size, block, read_only=read_only)
        self.size = size
        self.logical_block_size = block
        self.read_only = read_only
        self.state = "connected"
        self.in_flight = 0
        self.most_in_flight = 0
        self.calls: list[str] = []
        #: What the next calls of a name fail with.
        self.failing: dict[str, int] = {}
        self.is_closed = False
        self._answers = trio.Event()
        self._answers.set()

    def hold(self) -> None:
        """Answer nothing until released."""
        self._answers = trio.Event()

    def release(self) -> None:
        """Answer what waits, and everything after."""
        self._answers.set()

    @property
    def allocated_bytes(self) -> int:
        return self.inner.allocated_bytes

    async def read_into(self, offset: int, buffer: memoryview) -> None:
        async with self._call("read"):
            self.inner.pread_into(offset, buffer)

    async def write(self, offset: int, data: memoryview, durably: bool = False) -> None:
        async with self._call("write durably" if durably else "write"):
            self.inner.pwrite(offset, data)

    async def flush(self) -> None:
        async with self._call("flush"):
            self.inner.flush()

    async def discard(self, offset: int, length: int) -> None:
        async with self._call("discard"):
            self.inner.discard(offset, length)

    async def write_zeroes(self, offset: int, length: int) -> None:
        async with self._call("write_zeroes"):
            self.inner.write_zeroes(offset, length)

    async def seek_data(self, offset: int) -> int:
        async with self._call("seek"):
            return self.inner.seek_data(offset)

    async def seek_hole(self, offset: int) -> int:
        async with self._call("seek"):
            return self.inner.seek_hole(offset)

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
        self.is_closed = True
        if "aclose" in self.failing:
            raise OSError(self.failing["aclose"], "Closing failed")

    @asynccontextmanager
    async def _call(self, name: str) -> AsyncIterator[None]:
        self.calls.append(name)
        self.in_flight += 1
        self.most_in_flight = max(self.in_flight, self.most_in_flight)
        try:
            await trio.lowlevel.checkpoint()
            await self._answers.wait()
            if name in self.failing:
                raise OSError(self.failing[name], errno.errorcode[self.failing[name]])
            yield
        finally:
            self.in_flight -= 1
