"""snapshot-origin: snapshots keep what is about to be changed.  See snapshot_origin.md."""

from collections.abc import Iterable
from dataclasses import dataclass

from fusedm.block import Bio, Op
from fusedm.dm.cow import Copy, Origin, alike, copy_all, locks_for, origin_of
from fusedm.dm.target import Action, Params, Script, Segment, Steady, Target, Word
from fusedm.dm.turns import Steps


def examples() -> list[str]:
    """Arguments the contract suite tries."""
    return ["d0", "d2"]


@dataclass
class SnapshotOrigin(Target):
    """Copies chunks to every snapshot before they change, so it must see every write as it is."""

    name = "snapshot-origin"
    version = (1, 9, 0)
    passes_crypto = False
    takes_discards = False
    usage = "origin"

    sector_count: int
    segment: Segment

    @classmethod
    def parse(cls, params: Params) -> "SnapshotOrigin":
        device = params.device("origin")
        return cls(params.sector_count, Segment(device, 0, params.sector_count))

    def params(self) -> list[Word]:
        return [self.segment.device]

    def devices(self) -> Iterable[Segment]:
        return [self.segment]

    def map(self, bio: Bio) -> Action:
        copies = tuple(self._origin.copies)
        if bio.op is not Op.WRITE or self._is_kept(bio.sector, bio.sector_count):
            return self.segment.remap(bio)
        return Script(lambda: self._write(copies, bio), locks_for(self._origin, copies, bio))

    def steady(self, sector: int) -> Steady:
        """READs always go down, WRITEs to what every snapshot has copied too."""
        changes = (self._origin.changes,)
        if not self._valid:
            return Steady(changes=changes)
        size = min(copy.chunk_sectors for copy in self._valid)
        run = alike(sector // size, lambda chunk: self._is_kept(chunk * size, size))
        return Steady(run.start * size, run.stop * size, changes=changes)

    @property
    def _origin(self) -> Origin:
        return origin_of(self.segment.device)

    @property
    def _valid(self) -> list[Copy]:
        return [copy for copy in self._origin.copies if copy.is_valid]

    def _is_kept(self, sector: int, sector_count: int) -> bool:
        """Whether a change of a range is none of the snapshots' business."""
        return all(copy.holds(sector, sector_count) for copy in self._valid)

    def _write(self, copies: tuple[Copy, ...], bio: Bio) -> Steps[None]:
        yield from copy_all(copies, bio)
        yield self.segment.remap(bio)
