"""ebs: blocks that are smaller than those of the device below.  See ebs.md."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from fusedm.block import Bio, Limits, Op, RangeLocks
from fusedm.block.units import SECTOR_SIZE, sectors_to_bytes
from fusedm.dm.arguments import Arguments
from fusedm.dm.target import (
    ALWAYS,
    Action,
    Complete,
    Many,
    Remap,
    Script,
    Segment,
    Steady,
    Target,
    Word,
)
from fusedm.dm.turns import Steps


def examples() -> list[str]:
    """Arguments the contract suite tries."""
    return ["d0 0 1", "d0 8 1 8", "d1 16 2 4", "d2 8 8 1"]


@dataclass
class Ebs(Target):
    """What is less than a block below is read, changed and written back.

    That is one bio after the other where they share a block, and the others wait for no one. It
    stores parts of blocks with parts that it has read, so it must not see them in clear.
    """

    name = "ebs"
    version = (1, 0, 1)
    passes_crypto = False
    hides_blocks = True

    sector_count: int
    #: Up to the end of the last block below that the target is a part of.
    segment: Segment
    emulated_sectors: int
    underlying_sectors: int
    is_underlying_given: bool
    locks: RangeLocks = field(default_factory=RangeLocks, compare=False)

    @classmethod
    def make(cls, line: Arguments) -> "Ebs":
        device, start = line.device(), line.number("offset")
        least = device.limits.logical_block_size // SECTOR_SIZE
        underlying = line.number("underlying", least)
        if underlying < least:
            text = f"{underlying} is less than {least} sectors, the block of {device.name}"
            line.refuse("underlying", text)
        if start % underlying:
            text = f"{start} is not a multiple of the underlying block of {underlying} sectors"
            line.refuse("offset", text)
        segment = line.segment(-(-line.sector_count // underlying) * underlying)
        is_given = line.number("underlying") > 0
        return cls(line.sector_count, segment, line.number("emulated"), underlying, is_given)

    def params(self) -> list[Word]:
        blocks = (self.emulated_sectors, self.underlying_sectors)
        return [*self.segment.params(), *map(str, blocks[: 1 + self.is_underlying_given])]

    def devices(self) -> Iterable[Segment]:
        return [self.segment]

    def limits(self) -> Limits:
        return Limits(
            logical_block_size=sectors_to_bytes(self.emulated_sectors),
            io_min_bytes=sectors_to_bytes(max(self.emulated_sectors, self.underlying_sectors)),
        )

    @property
    def _fits(self) -> bool:
        """Whether every bio is of whole blocks below."""
        return self.emulated_sectors >= self.underlying_sectors

    def map(self, bio: Bio) -> Action:
        if bio.op is Op.FLUSH or self._fits:
            return self.segment.remap(bio)
        if bio.op is Op.DISCARD:
            return self._discard(bio)
        steps = self._read if bio.op is Op.READ else self._write
        begin, end = self._blocks(bio)
        return Script(lambda: steps(bio), ((self.locks, begin, end),))

    def steady(self, sector: int) -> Steady:
        return ALWAYS if self._fits else Steady(ops=frozenset({Op.FLUSH}))

    def _blocks(self, bio: Bio) -> tuple[int, int]:
        """Begin and end of the blocks below that a bio touches, in sectors of the target."""
        size = self.underlying_sectors
        return bio.sector - bio.sector % size, -(-bio.end_sector // size) * size

    def _inner(self, bio: Bio) -> tuple[int, int]:
        """Begin and end of the blocks below that are all its; not begin < end if there is none."""
        size = self.underlying_sectors
        return -(-bio.sector // size) * size, bio.end_sector - bio.end_sector % size

    def _discard(self, bio: Bio) -> Action:
        """Parts of blocks are kept."""
        begin, end = self._inner(bio)
        if begin >= end:
            return Complete()
        step = self.segment.remap(Bio(bio.op, begin, end - begin))
        return Script(lambda: _one_step(step), ((self.locks, begin, end),))

    def _parts(self, bio: Bio) -> list[int]:
        """Where the blocks begin that are only partly the bio's: none, one or two."""
        size = self.underlying_sectors
        first, end = self._blocks(bio)
        edges = [first] if bio.sector % size else []
        if bio.end_sector % size and end - size not in edges:
            edges.append(end - size)
        return edges

    def _buffers(self, bio: Bio) -> dict[int, memoryview]:
        size = sectors_to_bytes(self.underlying_sectors)
        return {at: memoryview(bytearray(size)) for at in self._parts(bio)}

    def _whole(self, bio: Bio) -> list[Remap]:
        """The bio's own part of whole blocks."""
        begin, end = self._inner(bio)
        if begin >= end:
            return []
        return [self.segment.remap(bio.slice(begin - bio.sector, end - bio.sector))]

    def _shared(self, bio: Bio, at: int, block: memoryview) -> tuple[memoryview, memoryview]:
        """What a bio and a block have in common: in the bio's data and in the block's."""
        begin = max(at, bio.sector)
        end = min(at + self.underlying_sectors, bio.end_sector)
        of_bio, of_block = (
            slice(sectors_to_bytes(begin - start), sectors_to_bytes(end - start))
            for start in (bio.sector, at)
        )
        return bio.data[of_bio], block[of_block]

    def _read(self, bio: Bio) -> Steps[None]:
        blocks = self._buffers(bio)
        reads = [self.segment.remap(Bio.read(at, block)) for at, block in blocks.items()]
        yield Many((*reads, *self._whole(bio)))
        for at, block in blocks.items():
            wanted, found = self._shared(bio, at, block)
            wanted[:] = found

    def _write(self, bio: Bio) -> Steps[None]:
        blocks = self._buffers(bio)
        if blocks:
            yield Many(
                tuple(self.segment.remap(Bio.read(at, block)) for at, block in blocks.items())
            )
        for at, block in blocks.items():
            new, old = self._shared(bio, at, block)
            old[:] = new
        writes = [
            self.segment.remap(Bio.write(at, block, flags=bio.flags))
            for at, block in blocks.items()
        ]
        yield Many((*writes, *self._whole(bio)))


def _one_step(step: Remap) -> Steps[None]:
    """A script of one step."""
    yield step
