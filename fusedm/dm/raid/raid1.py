"""raid1: every member holds everything. Pure."""

from collections.abc import Set

from fusedm.block import Bio, Op
from fusedm.dm.raid.copies import Copy, Place
from fusedm.dm.raid.members import Member
from fusedm.dm.raid.mirrored import Mirrored
from fusedm.dm.raid.personality import ArrayView, Shape
from fusedm.dm.target import NEVER, Steady

#: Members are read in turn, each for so many sectors: long enough for reads that follow each other.
TURN_SECTORS = 1 << 15

READS = frozenset({Op.READ})


class Raid1(Mirrored):
    """As many copies as members."""

    level = 1
    layout = 0

    def __init__(self, shape: Shape, array: ArrayView) -> None:
        super().__init__(shape, array)
        self.member_sectors = shape.array_sectors
        self.max_io_sectors = None

    def survives(self, failed: Set[int]) -> bool:
        return len(failed) < self.shape.device_count

    def places(self, begin: int, end: int) -> list[Place]:
        copies = tuple(Copy(index, begin) for index in range(self.shape.device_count))
        return [Place(begin, end - begin, copies)]

    def places_of(self, index: int, begin: int, end: int) -> list[Place]:
        return self.places(begin, end)

    def discards(self, bio: Bio) -> list[tuple[Member, Bio]]:
        return [(member, bio) for member in self.array.members if member.writable]

    def turn(self, sector: int) -> int:
        return sector // TURN_SECTORS

    def steady(self, sector: int) -> Steady:
        begin = sector - sector % TURN_SECTORS
        end = min(begin + TURN_SECTORS, self.sync_sectors)
        if not self.array.is_synced(begin, end):
            return NEVER
        return Steady(begin, end, READS)
