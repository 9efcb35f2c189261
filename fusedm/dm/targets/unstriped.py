"""unstriped: one stripe of a striped device, as if it were alone.  See unstriped.md."""

from collections.abc import Iterable
from dataclasses import dataclass

from fusedm.block import Bio
from fusedm.dm.arguments import Arguments
from fusedm.dm.target import Action, Segment, Steady, Target, Word


def examples() -> list[str]:
    """Arguments the contract suite tries."""
    return ["1 8 0 d0 0", "2 16 1 d0 0", "3 3 0 d1 2048"]


@dataclass
class Unstriped(Target):
    """Chunk c lies at chunk c * stripes + index of the device; data are moved, never touched."""

    name = "unstriped"
    version = (1, 1, 0)
    passes_crypto = False  # Nor does the kernel's, though it could.

    sector_count: int
    stripe_count: int
    chunk_sectors: int
    index: int
    segment: Segment

    def __post_init__(self) -> None:
        self.max_io_sectors = self.chunk_sectors
        self.takes_discards = False

    @classmethod
    def make(cls, line: Arguments) -> "Unstriped":
        stripes, chunk, index = (line.number(name) for name in ("stripes", "chunk", "index"))
        # From the first chunk of the stripe to the end of its last one.
        rows = line.sector_count // chunk
        spread = ((rows - 1) * stripes + 1) * chunk
        segment = Segment(line.device(), line.number("offset") + index * chunk, spread)
        return cls(line.sector_count, stripes, chunk, index, segment)

    def params(self) -> list[Word]:
        numbers = (self.stripe_count, self.chunk_sectors, self.index)
        start = self.segment.start_sector - self.index * self.chunk_sectors
        return [*map(str, numbers), self.segment.device, str(start)]

    def devices(self) -> Iterable[Segment]:
        return [self.segment]

    def map(self, bio: Bio) -> Action:
        row, rest = divmod(bio.sector, self.chunk_sectors)
        place = row * self.stripe_count * self.chunk_sectors + rest
        return self.segment.remap(bio.remap(place) if bio.op.has_data else bio)

    def steady(self, sector: int) -> Steady:
        begin = sector - sector % self.chunk_sectors
        return Steady(begin, begin + self.chunk_sectors)
