"""The devices of an array, and how far what each of them holds can be relied on. Pure."""

from dataclasses import dataclass

from fusedm.block.units import MAX_SECTORS
from fusedm.dm.target import Segment

#: The recovery offset of a member that is in sync.
IN_SYNC = MAX_SECTORS


@dataclass(eq=False)
class Member:
    """One position of an array: a device for data and perhaps one for metadata, or neither.

    Units:  recovery_offset in sectors of the member: up to there it holds what it should, and up to
    durable_offset that is known to be durable.
    """

    index: int
    data: Segment | None
    meta: Segment | None = None
    recovery_offset: int = IN_SYNC
    durable_offset: int = IN_SYNC
    is_failed: bool = False
    #: Whether reads go to others while they can.
    is_write_mostly: bool = False
    #: Whether it has missed only what the bitmap tells of.
    by_bitmap: bool = False

    @property
    def writable(self) -> bool:
        """Whether writes go to it, as they do to one that is being rebuilt."""
        return self.data is not None and not self.is_failed

    @property
    def in_sync(self) -> bool:
        """Whether all it holds is good."""
        return self.writable and self.recovery_offset == IN_SYNC

    @property
    def is_recovering(self) -> bool:
        """Whether it is to be rebuilt, or is being."""
        return self.writable and self.recovery_offset < IN_SYNC

    def holds(self, end_sector: int) -> bool:
        """Whether what it holds below a sector is good."""
        return self.writable and end_sector <= self.recovery_offset

    @property
    def place(self) -> Segment:
        """Where its data lie."""
        assert self.data is not None, "nobody reads or writes what is missing"
        return self.data
