"""error: every I/O fails.  See error.md."""

from collections.abc import Iterable
from dataclasses import dataclass

from fusedm.block import Bio, Op
from fusedm.block.errors import Status
from fusedm.dm.arguments import Arguments
from fusedm.dm.target import ALWAYS, Action, Complete, Fail, Segment, Steady, Target, Word


def examples() -> list[str]:
    """Arguments the contract suite tries."""
    return ["", "d0 2048", "any words at all"]


@dataclass
class Error(Target):
    """Takes the place of a device, for its limits and size, but never sends it a bio."""

    name = "error"
    version = (1, 7, 0)
    passes_crypto = False
    discards_end_here = True

    sector_count: int
    words: list[Word]
    segments: list[Segment]

    @classmethod
    def make(cls, line: Arguments) -> "Error":
        segments = line.segments()
        words = [word for segment in segments for word in segment.params()]
        return cls(line.sector_count, words or [*line.texts("word")], segments)

    def params(self) -> list[Word]:
        return self.words

    def devices(self) -> Iterable[Segment]:
        return self.segments

    def map(self, bio: Bio) -> Action:
        return Complete() if bio.op is Op.FLUSH else Fail(Status.IOERR)

    def steady(self, sector: int) -> Steady:
        return ALWAYS
