"""snapshot: a device as its origin was, and what has been written to it since.  See snapshot.md."""

from collections.abc import Sequence
from dataclasses import dataclass

from fusedm.block import Bio, Op
from fusedm.block.errors import BlockIOError, Status
from fusedm.block.units import SECTOR_SIZE
from fusedm.dm.snapshot.sharing import OnCow, alike
from fusedm.dm.target import ALWAYS, Action, Fail, Remap, Script, Steady
from fusedm.dm.turns import Steps


def examples() -> list[str]:
    """Arguments the contract suite tries."""
    return ["d0 d1 P 8", "d0 d1 N 16", "d2 d1 PO 0 1 discard_zeroes_cow"]


@dataclass
class Snapshot(OnCow):
    """Reads what has been copied from the copy, the rest from the origin; writes to copies only.

    It stores data and reads them back under other numbers, so it must not see them in clear.
    """

    name = "snapshot"
    version = (1, 16, 0)
    passes_crypto = False

    def map(self, bio: Bio) -> Action:
        copy = self.copy
        if bio.op is Op.FLUSH:
            return Remap(self.cow, bio)
        if self.is_lost or (copy.is_full and bio.op is not Op.READ):
            return Fail(Status.IOERR)
        if bio.op.has_data and copy.holds(bio.sector, bio.sector_count):
            return copy.place(bio)
        steps = {Op.READ: self._read, Op.WRITE: self._write, Op.DISCARD: self._discard}[bio.op]
        return Script(lambda: steps(bio), (copy.lock(bio.sector, bio.sector_count),))

    def steady(self, sector: int) -> Steady:
        """Where chunks have been copied to is known, until the copy is lost or full.

        Of others only a FLUSH is: a READ holds a lock, without which a write to the origin could
        copy the chunk and change it there while the READ is still on its way.
        """
        size = self.copy.chunk_sectors
        run = alike(sector // size, self.copy.distance)
        is_known = self.copy.distance(run.start) is not None
        ops = ALWAYS.ops if is_known else frozenset({Op.FLUSH})
        return Steady(run.start * size, run.stop * size, ops)

    def _read(self, bio: Bio) -> Steps[None]:
        yield self.copy.place(bio)

    def _write(self, bio: Bio) -> Steps[None]:
        copy = self.copy
        missing = copy.missing(bio.sector, bio.sector_count)
        if missing and not (copy.is_valid and (yield from self._copy_with(missing, bio))):
            text = f"{bio}: the snapshot has no room for it"
            raise BlockIOError(Status.IOERR, self.cow.name, text)
        if len(missing) < len(copy.chunks(bio.sector, bio.sector_count)):
            yield copy.place(bio)

    def _copy_with(self, chunks: Sequence[int], bio: Bio) -> Steps[bool]:
        """Copy chunks with a write to them; a snapshot that cannot be extended is given up."""
        copy = self.copy
        if (yield from copy.copy(chunks, bio)):
            return True
        if self.kind != "PO":
            yield from copy.invalidate()
        elif not copy.is_full:
            copy.is_full = True
            self.announce()
            self.raise_event()
        return False

    def _discard(self, bio: Bio) -> Steps[None]:
        """Chunks that were copied are zeroed where they are; of the others nothing is kept."""
        chunk_sectors = self.copy.chunk_sectors
        for chunk in self.copy.chunks(bio.sector, bio.sector_count):
            begin = max(bio.sector, chunk * chunk_sectors)
            end = min(bio.end_sector, (chunk + 1) * chunk_sectors)
            part = bio.slice(begin - bio.sector, end - bio.sector)
            if chunk not in self.copy.store.chunks:
                continue
            if part.sector_count == chunk_sectors:
                zeros = memoryview(bytes(chunk_sectors * SECTOR_SIZE))
                yield self.copy.place(Bio.write(begin, zeros))
            elif self.cow.limits.discard:
                yield self.copy.place(part)
        if "discard_passdown_origin" in self.features:
            yield Remap(self.origin, bio)
