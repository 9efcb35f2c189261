"""striped: spread chunks over several devices in turn, as RAID 0.  See striped.md."""

import errno
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from fusedm.block import Bio, Limits, Op
from fusedm.block.errors import BlockIOError
from fusedm.block.units import sectors_to_bytes
from fusedm.dm.arguments import Arguments
from fusedm.dm.target import Action, Many, Segment, Steady, Target, Word

#: The first so many errors of a stripe are events, as in the kernel.
MAX_EVENTS = 14


def examples() -> list[str]:
    """Arguments the contract suite tries."""
    return ["1 8 d0 0", "2 32 d0 0 d1 2048", "3 8 d0 0 d1 0 d0 2048"]


@dataclass
class Striped(Target):
    """Chunk c lies in stripe c % n at chunk c // n; data are moved, never touched."""

    name = "striped"
    version = (1, 7, 0)
    passes_crypto = True
    passes_zeroes = True

    sector_count: int
    chunk_sectors: int
    stripes: tuple[Segment, ...]
    errors: Counter[int] = field(default_factory=Counter, compare=False)

    def __post_init__(self) -> None:
        self.max_io_sectors = self.chunk_sectors

    @classmethod
    def make(cls, line: Arguments) -> "Striped":
        stripes = line.segments(line.sector_count // line.number("stripes"))
        return cls(line.sector_count, line.number("chunk"), tuple(stripes))

    def params(self) -> list[Word]:
        stripes = [word for stripe in self.stripes for word in stripe.params()]
        return [str(len(self.stripes)), str(self.chunk_sectors), *stripes]

    def devices(self) -> Iterable[Segment]:
        return self.stripes

    def limits(self) -> Limits:
        chunk_bytes = sectors_to_bytes(self.chunk_sectors)
        return Limits(io_min_bytes=chunk_bytes, io_opt_bytes=chunk_bytes * len(self.stripes))

    def map(self, bio: Bio) -> Action:
        if bio.op.has_data:
            index = self._stripe_of(bio.sector)
            return self.stripes[index].remap(bio.remap(self._before(bio.sector, index)))
        if bio.op is Op.FLUSH:
            return Many(tuple(stripe.remap(bio) for stripe in self.stripes))
        return Many(tuple(self._map_range(bio)))

    def _map_range(self, bio: Bio) -> Iterable[Action]:
        for index, stripe in enumerate(self.stripes):
            begin, end = self._before(bio.sector, index), self._before(bio.end_sector, index)
            if begin < end:
                yield stripe.remap(Bio(bio.op, begin, end - begin))

    def _stripe_of(self, sector: int) -> int:
        return sector // self.chunk_sectors % len(self.stripes)

    def _before(self, sector: int, index: int) -> int:
        """How many sectors of a stripe lie before a sector of the target."""
        row, rest = divmod(sector, self.chunk_sectors * len(self.stripes))
        in_row = min(max(rest - index * self.chunk_sectors, 0), self.chunk_sectors)
        return row * self.chunk_sectors + in_row

    def steady(self, sector: int) -> Steady:
        return Steady(stripes=len(self.stripes))

    def end_io(self, bio: Bio, error: BlockIOError | None) -> BlockIOError | None:
        # Of a bio for several stripes it is not known here which one failed.
        if error is not None and bio.op.has_data and error.errno != errno.EOPNOTSUPP:
            index = self._stripe_of(bio.sector)
            self.errors[index] += 1
            if self.errors[index] <= MAX_EVENTS:
                self.raise_event()
        return error

    def status(self) -> list[Word]:
        devices = [stripe.device for stripe in self.stripes]
        health = "".join("D" if index in self.errors else "A" for index in range(len(devices)))
        return [str(len(devices)), *devices, "1", health]
