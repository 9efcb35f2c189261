"""delay: like linear, some milliseconds later.  See delay.md."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial

from fusedm.block import Bio, Op
from fusedm.dm.arguments import Arguments
from fusedm.dm.target import (
    ALWAYS,
    Action,
    Defer,
    Many,
    Segment,
    Steady,
    Target,
    Word,
)

#: Which of the three ways an operation takes; a DISCARD is a write.
_WAY = {Op.READ: 0, Op.WRITE: 1, Op.DISCARD: 1, Op.FLUSH: 2}


def examples() -> list[str]:
    """Arguments the contract suite tries."""
    return ["d0 0 0", "d0 0 10 d1 2048 20", "d0 0 10 d1 2048 0 d2 0 500"]


@dataclass
class Delay(Target):
    """Holds bios back, each on one of up to three ways: a range and a time."""

    name = "delay"
    version = (1, 5, 0)
    passes_crypto = False

    sector_count: int
    ways: tuple[tuple[Segment, int], ...]
    #: How many reads, writes and flushes wait, and what counts each of them.
    waiting: list[int] = field(default_factory=lambda: [0, 0, 0], compare=False)

    def __post_init__(self) -> None:
        self.notes = [partial(self._count, way) for way in range(3)]

    @classmethod
    def make(cls, line: Arguments) -> "Delay":
        ways = zip(line.segments(), line.numbers("ms"), strict=True)
        return cls(line.sector_count, tuple(ways))

    def params(self) -> list[Word]:
        return [word for segment, ms in self.ways for word in (*segment.params(), str(ms))]

    def status(self) -> list[Word]:
        return [str(count) for count in self.waiting]

    def devices(self) -> Iterable[Segment]:
        return [segment for segment, _ in self.ways]

    def map(self, bio: Bio) -> Action:
        segment, delay_ms = self._way(bio.op)
        action: Action = segment.remap(bio)
        written, _ = self._way(Op.WRITE)
        if bio.op is Op.FLUSH and segment.device is not written.device:
            # A flush of some other device would not make the writes durable.
            action = Many((written.remap(bio), action))
        if not delay_ms:
            return action
        return Defer(delay_ms / 1000, action, self.notes[_WAY[bio.op]])

    def steady(self, sector: int) -> Steady:
        return ALWAYS

    def _count(self, way: int, change: int) -> None:
        self.waiting[way] += change

    def _way(self, op: Op) -> tuple[Segment, int]:
        return self.ways[min(_WAY[op], len(self.ways) - 1)]
