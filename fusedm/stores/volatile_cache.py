"""A store with a volatile write cache, and the power to lose it.

A write is cached until a flush has written it to the inner store and flushed that. Until then a
power cut may leave in each logical block, on its own, what was there at the last flush or any of
the contents written since. The cache writes back in the order of offsets, not of arrival: a real
one promises no order either, and nobody can tell the difference before the flush ends.
"""

from collections.abc import Iterable, Iterator
from random import Random
from threading import Lock
from typing import Literal

from fusedm.block import Op
from fusedm.stores.base import Store
from fusedm.stores.geometry import check_writable

#: As much as a large drive's own cache; above it the oldest half is written back.
MAX_DIRTY_BYTES = 64 << 20

#: Longer ranges of zeros go through after a flush instead of filling the cache with zeros.
MAX_CACHED_ZEROS_BYTES = 1 << 20

_ZEROS = memoryview(bytes(MAX_CACHED_ZEROS_BYTES))


class VolatileCacheStore:
    """A store over another one.

    One lock guards the cache and is held while it is written back, so every call may block if
    any of the inner store's may.
    """

    def __init__(self, inner: Store, seed: int = 0, max_dirty_bytes: int = MAX_DIRTY_BYTES) -> None:
        self.inner = inner
        self.size = inner.size
        self.logical_block_size = inner.logical_block_size
        self.read_only = inner.read_only
        self._random = Random(seed)
        self._max_dirty_bytes = max_dirty_bytes
        self._dirty_bytes = 0
        # Every content written since the block was clean, by block; the oldest blocks come first.
        self._dirty: dict[int, list[bytes]] = {}
        self._lock = Lock()

    @property
    def allocated_bytes(self) -> int:
        """As much as the inner store, and what is cached."""
        return min(self.inner.allocated_bytes + self._dirty_bytes, self.size)

    def may_block(self, op: Op) -> bool:
        """Whether any operation of the inner store may."""
        return any(self.inner.may_block(each) for each in Op)

    def pread_into(self, offset: int, buffer: memoryview) -> None:
        """Fill the buffer with what was written last, cached or not."""
        block_size = self.logical_block_size
        with self._lock:
            self.inner.pread_into(offset, buffer)
            if not self._dirty:
                return
            for begin in range(0, len(buffer), block_size):
                versions = self._dirty.get((offset + begin) // block_size)
                if versions is not None:
                    buffer[begin : begin + block_size] = versions[-1]

    def pwrite(self, offset: int, data: memoryview, durably: bool = False) -> None:
        """Cache the write; where there is no room, the oldest half is written back before.

        What is written durably goes through the cache, and leaves nothing of its blocks there.
        """
        check_writable(self.read_only)
        block_size = self.logical_block_size
        with self._lock:
            if durably:
                self.inner.pwrite(offset, data, durably=True)
                for begin in range(offset, offset + len(data), block_size):
                    versions = self._dirty.pop(begin // block_size, [])
                    self._dirty_bytes -= len(versions) * block_size
                return
            excess = self._dirty_bytes + len(data) - self._max_dirty_bytes
            if excess > 0:
                self._write_back(self._oldest(max(excess, self._max_dirty_bytes // 2)))
            for begin in range(0, len(data), block_size):
                versions = self._dirty.setdefault((offset + begin) // block_size, [])
                versions.append(bytes(data[begin : begin + block_size]))
            self._dirty_bytes += len(data)

    def flush(self) -> None:
        """Write the cache back, newest contents only, and flush the inner store."""
        with self._lock:
            self._write_back(self._dirty)
        self.inner.flush()

    def discard(self, offset: int, length: int) -> None:
        """Cache zeros, or discard after a flush if there are many."""
        if length <= MAX_CACHED_ZEROS_BYTES:
            self.pwrite(offset, _ZEROS[:length])
        else:
            self.flush()
            self.inner.discard(offset, length)

    def write_zeroes(self, offset: int, length: int) -> None:
        """Cache zeros, or write them after a flush if there are many."""
        if length <= MAX_CACHED_ZEROS_BYTES:
            self.pwrite(offset, _ZEROS[:length])
        else:
            self.flush()
            self.inner.write_zeroes(offset, length)

    def seek_data(self, offset: int) -> int:
        """What the inner store says; while anything is cached, all is data."""
        return offset if self._dirty else self.inner.seek_data(offset)

    def seek_hole(self, offset: int) -> int:
        """What the inner store says; while anything is cached, nowhere."""
        return self.size if self._dirty else self.inner.seek_hole(offset)

    def direct_fd(self) -> None:
        """None: what is cached is not there yet."""

    def close(self) -> None:
        """Flush, as an orderly shutdown does, and close the inner store."""
        try:
            if not self.read_only:
                self.flush()
        finally:
            self.inner.close()

    def lose_power(self, keep: Literal["nothing", "random", "everything"] = "random") -> None:
        """Forget the cache, but first let some of it reach the medium as keep says.

        random is decided by the seed, for each block on its own: old, or any content written since.
        """
        with self._lock:
            for block, versions in self._dirty.items():
                survivors: list[bytes | None] = [None]
                if keep == "random":
                    survivors += versions
                elif keep == "everything":
                    survivors = [versions[-1]]
                survivor = self._random.choice(survivors)
                if survivor is not None:
                    self.inner.pwrite(block * self.logical_block_size, memoryview(survivor))
            self._dirty.clear()
            self._dirty_bytes = 0

    def _oldest(self, length: int) -> Iterator[int]:
        """The blocks that have been dirty longest, holding at least length bytes of the cache."""
        for block, versions in self._dirty.items():
            if length <= 0:
                return
            length -= len(versions) * self.logical_block_size
            yield block

    def _write_back(self, blocks: Iterable[int]) -> None:
        """Write the newest content of these blocks; each is clean once its write has succeeded."""
        for run in _runs(sorted(blocks)):
            data = b"".join(self._dirty[block][-1] for block in run)
            self.inner.pwrite(run[0] * self.logical_block_size, memoryview(data))
            for block in run:
                self._dirty_bytes -= len(self._dirty.pop(block)) * self.logical_block_size


def _runs(blocks: list[int]) -> Iterator[list[int]]:
    """Blocks that follow each other, together."""
    run: list[int] = []
    for block in blocks:
        if run and block != run[-1] + 1:
            yield run
            run = []
        run.append(block)
    if run:
        yield run
