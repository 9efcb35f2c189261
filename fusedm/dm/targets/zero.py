"""zero: reads give zeros, writes vanish.  See zero.md."""

from collections.abc import Iterable
from dataclasses import dataclass

from fusedm.block import Bio
from fusedm.dm.arguments import Arguments
from fusedm.dm.target import ALWAYS, Action, Complete, Segment, Steady, Target, Word


def examples() -> list[str]:
    """Arguments the contract suite tries."""
    return [""]


@dataclass
class Zero(Target):
    """No device below that could decrypt the zeros, so contexts do not pass."""

    name = "zero"
    version = (1, 2, 0)
    passes_crypto = False
    discards_end_here = True

    sector_count: int

    @classmethod
    def make(cls, line: Arguments) -> "Zero":
        return cls(line.sector_count)

    def params(self) -> list[Word]:
        return []

    def devices(self) -> Iterable[Segment]:
        return []

    def map(self, bio: Bio) -> Action:
        return Complete()

    def steady(self, sector: int) -> Steady:
        return ALWAYS
