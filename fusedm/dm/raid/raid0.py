"""raid0: chunks go to the members in turn, and nothing is kept twice. Pure."""

from collections.abc import Set

from fusedm.block import Bio, Op
from fusedm.dm.raid.personality import ArrayView, Personality, Shape
from fusedm.dm.target import Action, Many, Remap, Steady
from fusedm.dm.turns import Steps


class Raid0(Personality):
    """Chunk c lies in member c % n at chunk c // n; data are moved, never touched."""

    level = 0
    layout = 0
    passes_crypto = True
    is_redundant = False

    def __init__(self, shape: Shape, array: ArrayView) -> None:
        self.count = shape.device_count
        self.max_io_sectors = self.chunk = shape.chunk_sectors
        if shape.array_sectors % (self.count * self.chunk):
            raise ValueError(
                f"length {shape.array_sectors} is not a multiple of "
                f"{self.count} devices * {self.chunk} sectors"
            )
        self.array = array
        self.member_sectors = self.sync_sectors = shape.array_sectors // self.count

    def survives(self, failed: Set[int]) -> bool:
        return not failed

    def map(self, bio: Bio) -> Action:
        if bio.op is Op.FLUSH:
            members = self.array.members
            return Many(tuple(Remap(member.place.device, bio) for member in members))
        if bio.op.has_data:
            return self._at(bio.sector // self.chunk % self.count, bio)
        parts = []
        for index in range(self.count):
            begin, end = self._before(bio.sector, index), self._before(bio.end_sector, index)
            if begin < end:
                place = self.array.members[index].place
                parts.append(place.remap(Bio(bio.op, begin, end - begin)))
        return Many(tuple(parts))

    def _at(self, index: int, bio: Bio) -> Remap:
        place = self.array.members[index].place
        return place.remap(bio.remap(self._before(bio.sector, index)))

    def _before(self, sector: int, index: int) -> int:
        """How many sectors of a member lie before a sector of the array."""
        row, rest = divmod(sector, self.chunk * self.count)
        return row * self.chunk + min(max(rest - index * self.chunk, 0), self.chunk)

    def steady(self, sector: int) -> Steady:
        return Steady(stripes=self.count)

    def resync(self, begin: int, end: int) -> Steps[None]:
        raise AssertionError("there is nothing to be made alike")

    def recover(self, begin: int, end: int, indices: Set[int]) -> Steps[None]:
        raise AssertionError("there is nothing to rebuild from")

    def check(self, begin: int, end: int, repair: bool) -> Steps[int]:
        raise AssertionError("there is nothing to compare")
