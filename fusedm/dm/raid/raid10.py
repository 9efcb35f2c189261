"""raid10 with its near layout: the copies of a chunk lie side by side. Pure.

All copies are counted through, k of chunk 0, then k of chunk 1; copy v lies in member v % n at
chunk v // n.
"""

from collections.abc import Set

from fusedm.block import Bio, Op
from fusedm.dm.raid.copies import Copy, Place
from fusedm.dm.raid.members import Member
from fusedm.dm.raid.mirrored import Mirrored
from fusedm.dm.raid.personality import ArrayView, Shape
from fusedm.dm.target import NEVER, Steady

READS = frozenset({Op.READ})


class Raid10(Mirrored):
    """Any number of members from the number of copies on, also one that copies do not divide."""

    level = 10

    def __init__(self, shape: Shape, array: ArrayView) -> None:
        super().__init__(shape, array)
        self.count, self.copies, self.chunk = shape.device_count, shape.copies, shape.chunk_sectors
        #: near copies and one far copy, as md packs them.
        self.layout = 1 << 8 | self.copies
        if not 2 <= self.copies <= self.count:
            raise ValueError(f"raid10_copies {self.copies} is not in 2..{self.count}")
        whole = shape.array_sectors * self.copies
        if whole % (self.count * self.chunk):
            raise ValueError(
                f"length {shape.array_sectors} in {self.copies} copies is not a multiple of "
                f"{self.count} devices * {self.chunk} sectors"
            )
        self.member_sectors = whole // self.count
        self.max_io_sectors = self.chunk

    def survives(self, failed: Set[int]) -> bool:
        # Which members have copies of a chunk repeats itself after as many chunks as members.
        return not any(
            {(chunk * self.copies + copy) % self.count for copy in range(self.copies)} <= failed
            for chunk in range(self.count)
        )

    def places(self, begin: int, end: int) -> list[Place]:
        places = []
        while begin < end:
            chunk, offset = divmod(begin, self.chunk)
            stop = min(end, begin - offset + self.chunk)
            places.append(self._place(chunk, offset, stop - begin))
            begin = stop
        return places

    def _place(self, chunk: int, offset: int, sector_count: int) -> Place:
        first = chunk * self.copies
        copies = (
            Copy(copy % self.count, copy // self.count * self.chunk + offset)
            for copy in range(first, first + self.copies)
        )
        return Place(chunk * self.chunk + offset, sector_count, tuple(copies))

    def places_of(self, index: int, begin: int, end: int) -> list[Place]:
        places = []
        while begin < end:
            row, offset = divmod(begin, self.chunk)
            stop = min(end, begin - offset + self.chunk)
            chunk = (row * self.count + index) // self.copies
            places.append(self._place(chunk, offset, stop - begin))
            begin = stop
        return places

    def locked_by(self, begin: int, end: int) -> tuple[int, int]:
        first = begin // self.chunk * self.count // self.copies
        last = -(-(-(-end // self.chunk) * self.count) // self.copies)
        return first * self.chunk, min(last * self.chunk, self.sync_sectors)

    def discards(self, bio: Bio) -> list[tuple[Member, Bio]]:
        parts: list[tuple[Member, Bio]] = []
        first, last = -(-bio.sector // self.chunk), bio.end_sector // self.chunk
        if first < last:
            head = self.places(bio.sector, first * self.chunk)
            tail = self.places(last * self.chunk, bio.end_sector)
            parts = self._whole_chunks(bio, first, last)
        else:
            head, tail = self.places(bio.sector, bio.end_sector), []
        for place in (*head, *tail):
            for copy in place.copies:
                member = self.array.members[copy.index]
                parts.append((member, Bio(bio.op, copy.sector, place.sector_count)))
        return [(member, part) for member, part in parts if member.writable]

    def _whole_chunks(self, bio: Bio, first: int, last: int) -> list[tuple[Member, Bio]]:
        """Chunks that follow each other are one range of each member."""
        parts = []
        for member in self.array.members:
            begin, end = (
                -(-(chunk * self.copies - member.index) // self.count) * self.chunk
                for chunk in (first, last)
            )
            if begin < end:
                parts.append((member, Bio(bio.op, begin, end - begin)))
        return parts

    def turn(self, sector: int) -> int:
        # Of chunks whose copies lie in the same members all are read from the same one, so that
        # reads go on through stripes.
        return 0 if self.is_striped else sector // self.chunk

    @property
    def is_striped(self) -> bool:
        """Whether first copies lie in every so many members in turn."""
        return self.count % self.copies == 0

    def steady(self, sector: int) -> Steady:
        if self.is_striped and self._is_whole:
            return Steady(ops=READS, stripes=self.count // self.copies)
        begin = sector - sector % self.chunk
        end = begin + self.chunk
        return Steady(begin, end, READS) if self.array.is_synced(begin, end) else NEVER

    @property
    def _is_whole(self) -> bool:
        members = self.array.members
        return self.array.is_synced(0, self.sync_sectors) and all(
            one.in_sync and not one.is_write_mostly for one in members
        )
