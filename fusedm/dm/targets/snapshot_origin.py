"""snapshot-origin: snapshots keep what is about to be changed.  See snapshot_origin.md."""

from collections.abc import Iterable
from dataclasses import dataclass

from fusedm.block import Bio, BlockDevice, Op
from fusedm.dm.arguments import Arguments
from fusedm.dm.snapshot.copy import Copy, copy_all
from fusedm.dm.snapshot.sharing import OverOrigin, alike, lacking
from fusedm.dm.target import ALWAYS, Action, Script, Segment, Steady, Word
from fusedm.dm.turns import Steps


def examples() -> list[str]:
    """Arguments the contract suite tries."""
    return ["d0", "d2"]


@dataclass
class SnapshotOrigin(OverOrigin):
    """Copies chunks to every snapshot before they change, so it must see every write as it is."""

    name = "snapshot-origin"
    version = (1, 9, 0)
    passes_crypto = False
    takes_discards = False

    sector_count: int
    origin: BlockDevice

    def __post_init__(self) -> None:
        self.segment = Segment(self.origin, 0, self.sector_count)

    @classmethod
    def make(cls, line: Arguments) -> "SnapshotOrigin":
        return cls(line.sector_count, line.device("origin"))

    def params(self) -> list[Word]:
        return [self.origin]

    def devices(self) -> Iterable[Segment]:
        return [self.segment]

    def map(self, bio: Bio) -> Action:
        copies = self.copies() if bio.op is Op.WRITE else []
        copies = lacking(copies, bio.sector, bio.sector_count)
        if not copies:
            return self.segment.remap(bio)
        locks = tuple(copy.lock(bio.sector, bio.sector_count) for copy in copies)
        return Script(lambda: self._write(copies, bio), locks)

    def steady(self, sector: int) -> Steady:
        """READs always go down, WRITEs to what every snapshot has copied too."""
        copies = self.copies()
        if not copies:
            return ALWAYS
        size = min(copy.chunk_sectors for copy in copies)
        run = alike(sector // size, lambda chunk: not lacking(copies, chunk * size, size))
        return Steady(run.start * size, run.stop * size)

    def _write(self, copies: list[Copy], bio: Bio) -> Steps[None]:
        yield from copy_all(copies, bio.sector, bio.sector_count)
        yield self.segment.remap(bio)
