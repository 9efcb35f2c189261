"""snapshot-origin: snapshots keep what is about to be changed.  See snapshot_origin.md."""

from collections.abc import Iterable
from dataclasses import dataclass

from fusedm.block import Bio, Op
from fusedm.dm.cow import Copy, copy_all, locks_for, origin_of
from fusedm.dm.target import Action, Params, Script, Segment, Steps, Target, Word


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
        origin = origin_of(self.segment.device)
        copies = tuple(origin.copies)
        if bio.op is not Op.WRITE or not copies:
            return self.segment.remap(bio)
        return Script(lambda: self._write(copies, bio), locks_for(origin, copies, bio))

    def _write(self, copies: tuple[Copy, ...], bio: Bio) -> Steps[None]:
        yield from copy_all(copies, bio)
        yield self.segment.remap(bio)
