"""The contract of a store: bytes at offsets. No sectors, no crypto, no waiting of its own.

Calls are synchronous. Where may_block says that an operation may block its thread, the disk runs it
in a worker thread, so calls on one store may come from several threads at once. Every failure is a
BlockIOError-to-be: stores raise OSError, and its errno reaches the writer as it is.
"""

from typing import Protocol

from fusedm.block import Op


class Store(Protocol):
    """A medium of a fixed size.

    Units: offsets and lengths in bytes; a range always lies within size (the disk has checked).
    """

    @property
    def size(self) -> int:
        """Bytes; a whole number of 512-byte sectors; never changes while the store is open."""

    @property
    def logical_block_size(self) -> int:
        """Bytes; what offsets and lengths must be multiples of: 512 or more, a power of two."""

    @property
    def read_only(self) -> bool:
        """Whether the medium refuses change."""

    @property
    def allocated_bytes(self) -> int:
        """How much of the medium is taken, at most its size, as far as is known without waiting."""

    def may_block(self, op: Op) -> bool:
        """Whether this operation may block its thread for long."""

    def pread_into(self, offset: int, buffer: memoryview) -> None:
        """Fill the whole buffer from offset; what was never written reads as zeros."""

    def pwrite(self, offset: int, data: memoryview, durably: bool = False) -> None:
        """Write all of data at offset, or raise OSError; durably: as if it were flushed, too."""

    def flush(self) -> None:
        """Make everything durable whose pwrite, discard or write_zeroes had returned before."""

    def discard(self, offset: int, length: int) -> None:
        """Give the range up; it reads as zeros afterwards."""

    def write_zeroes(self, offset: int, length: int) -> None:
        """Make the range read as zeros."""

    def seek_data(self, offset: int) -> int:
        """Where data begin, at offset or after it; the size if there are none.

        What is no data reads as zeros; a store that cannot tell says that all is data.
        """

    def seek_hole(self, offset: int) -> int:
        """Where something that is no data begins, at offset or after it; the size if nowhere."""

    def direct_fd(self) -> int | None:
        """A descriptor to be read, written and flushed instead of this store; None if none may be.

        Only where nothing but the bytes matters: no fault, no cache, no count of the store's own.
        Whether that may keep a thread waiting is said by may_block; offsets, lengths and buffers
        are multiples of the logical block size.
        """

    def close(self) -> None:
        """Release what the store holds; it is not used afterwards."""
