"""Memory for what is read on the way, which is used again. Pure.

To get megabytes anew for every step of a rebuild takes longer than to fill them.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from fusedm.block.errors import BlockIOError
from fusedm.block.units import SECTOR_SIZE

#: How many are kept for the next users, as many as work at once, and of which size in bytes at
#: most. A step of a rebuild with 16 members takes 32 MiB.
MAX_KEPT = 4
MAX_KEPT_BYTES = 1 << 25


class Scratch:
    """Buffers for one user, all given back together; what is in them is what was there before."""

    def __init__(self) -> None:
        self._memory = memoryview(bytearray())
        self._taken = 0

    def take(self, sector_count: int) -> memoryview:
        """A buffer of so many sectors."""
        begin, self._taken = self._taken, self._taken + sector_count * SECTOR_SIZE
        if self._taken <= len(self._memory):
            return self._memory[begin : self._taken]
        return memoryview(bytearray(sector_count * SECTOR_SIZE))

    def give_back(self) -> None:
        """Nobody uses the buffers any more; the next time there will be room for as many."""
        if len(self._memory) < self._taken <= MAX_KEPT_BYTES:
            self._memory = memoryview(bytearray(self._taken))
        self._taken = 0


class Scratches:
    """Those that nobody uses now."""

    def __init__(self) -> None:
        self._idle: list[Scratch] = []

    @contextmanager
    def one(self) -> Iterator[Scratch]:
        """Use one; it is not kept if it may be that something is still read into it."""
        scratch = self._idle.pop() if self._idle else Scratch()
        try:
            yield scratch
        except BlockIOError:
            self._keep(scratch)
            raise
        self._keep(scratch)

    def _keep(self, scratch: Scratch) -> None:
        scratch.give_back()
        if len(self._idle) < MAX_KEPT:
            self._idle.append(scratch)
