"""linear: map a range of this device onto a range of another one.  See linear.md."""

from collections.abc import Iterable
from dataclasses import dataclass

from fusedm.block import Bio
from fusedm.dm.arguments import Arguments
from fusedm.dm.target import ALWAYS, Action, Segment, Steady, Target, Word


def examples() -> list[str]:
    """Arguments the contract suite tries."""
    return ["d0 0", "d1 2048"]


@dataclass
class Linear(Target):
    """Moves bios, never touches their data."""

    name = "linear"
    version = (1, 5, 0)
    passes_crypto = True
    passes_zeroes = True

    sector_count: int
    segment: Segment

    @classmethod
    def make(cls, line: Arguments) -> "Linear":
        return cls(line.sector_count, line.segment())

    def params(self) -> list[Word]:
        return self.segment.params()

    def devices(self) -> Iterable[Segment]:
        return [self.segment]

    def map(self, bio: Bio) -> Action:
        return self.segment.remap(bio)

    def steady(self, sector: int) -> Steady:
        return ALWAYS
