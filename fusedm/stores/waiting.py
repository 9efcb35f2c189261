"""The contract of a store that waits without threads: one that speaks to a server.

Beside base.Store, for media that answer later by nature. Calls are asynchronous; a disk makes at
most MAX_STORE_REQUESTS of them at a time. Data are lent to the store until its call returns, and a
call that has begun is not cancelled: so every such store has a timeout, after which it ends its
connection, fails what is in flight with ETIMEDOUT, and touches no data of that any more. Every
failure is a BlockIOError-to-be: stores raise OSError, and its errno reaches the writer as it is.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable


@runtime_checkable
class WaitingStore(Protocol):
    """A medium of a fixed size; the words and the promises are those of base.Store."""

    @property
    def size(self) -> int:
        """Bytes; a whole number of 512-byte sectors; never changes while the store is open."""

    @property
    def logical_block_size(self) -> int:
        """Bytes; what offsets and lengths are multiples of: 512 or more, a power of two."""

    @property
    def read_only(self) -> bool:
        """Whether the medium refuses change."""

    @property
    def allocated_bytes(self) -> int:
        """How much of the medium is taken, at most its size, as far as is known without waiting."""

    @property
    def state(self) -> str:
        """How it is, in a line without secrets: connected, or since when and why it is not."""

    async def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill the whole buffer from offset; what was never written reads as zeros."""

    async def write(self, offset: int, data: memoryview, durably: bool = False) -> None:
        """Write all of data at offset, or raise OSError; durably: as if it were flushed, too."""

    async def flush(self) -> None:
        """Make everything durable whose write, discard or write_zeroes had returned before."""

    async def discard(self, offset: int, length: int) -> None:
        """Give the range up; it reads as zeros afterwards."""

    async def write_zeroes(self, offset: int, length: int) -> None:
        """Make the range read as zeros."""

    async def seek_data(self, offset: int) -> int:
        """Where data begin, at offset or after it; the size if there are none."""

    async def seek_hole(self, offset: int) -> int:
        """Where something that is no data begins, at offset or after it; the size if nowhere."""

    async def aclose(self) -> None:
        """Flush, and release what the store holds; after its timeout without the flush.

        What is in flight fails. Raises: OSError if what was acknowledged may not be durable.
        """


class Lines(Protocol):
    """Connections of a store on which workers do without Python what they can.

    What goes wrong on one ends it, and its request comes to the store, as if it had not been there.
    """

    @property
    def missing(self) -> int:
        """How many more there may be."""

    def add(self, fd: int) -> None:
        """Use a connection; the descriptor is theirs."""

    def drop(self) -> None:
        """End all; nothing that comes on them from now on counts."""

    def taken(self) -> list[tuple[int, bytes]]:
        """The writes that were acknowledged since the last time, in order."""


#: Makes lines: their timeout in seconds, the most bytes of a request, whether writes are kept.
MakeLines = Callable[[float, int, bool], Lines]


@runtime_checkable
class LinedStore(Protocol):
    """A store that can have lines."""

    @property
    def has_lines(self) -> bool:
        """Whether its server lets it have some."""

    def lines(self, make: MakeLines) -> Lines:
        """Its lines, made the first time."""


@dataclass(frozen=True)
class WaitingKind:
    """What a word before the colon of a store's text stands for.

    open opens the store of a text whose paths are absolute: of the size given in bytes, or of its
    own, and perhaps read only. prefixed puts a folder in front of the relative paths in a text.
    Both raise StoreError for a text that cannot be.
    """

    open: Callable[[str, int | None, bool], Awaitable[WaitingStore]]
    prefixed: Callable[[str, Path], str]
