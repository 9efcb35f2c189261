"""snapshot-merge: an origin that becomes what a snapshot of it was.  See snapshot_merge.md."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial

from fusedm.block import Bio, Op
from fusedm.block.errors import BlockIOError, StackError
from fusedm.dm.signal import Signal
from fusedm.dm.snapshot.copy import Copy, copy_all
from fusedm.dm.snapshot.merging import merge_run, next_run
from fusedm.dm.snapshot.sharing import OnCow, alike, lacking
from fusedm.dm.target import ALWAYS, Action, Complete, Many, Remap, Script, Steady, Wait, Word
from fusedm.dm.turns import Steps

log = logging.getLogger(__name__)


def examples() -> list[str]:
    """Arguments the contract suite tries."""
    return ["d0 d1 P 8", "d2 d1 PO 16 1 discard_zeroes_cow"]


@dataclass
class SnapshotMerge(OnCow):
    """Reads as the snapshot does; what was copied goes back to the origin in the background.

    Writes go to the copy where there still is one, else to the origin; those to chunks that are
    just being merged wait for a lock. It stores data under other numbers, as the snapshot.
    """

    name = "snapshot-merge"
    version = (1, 5, 0)
    passes_crypto = False
    keeps_changes = False

    has_failed: bool = field(default=False, compare=False)
    _again: Signal = field(default_factory=Signal, compare=False)

    def status(self) -> list[Word]:
        return ["Merge", "failed"] if self.has_failed and not self.is_lost else super().status()

    def map(self, bio: Bio) -> Action:
        if bio.op is Op.FLUSH:
            return Many((Remap(self.origin, bio), Remap(self.cow, bio)))
        if bio.op is Op.DISCARD:
            return Complete()
        if bio.op is Op.READ:
            return self._place(bio)
        sector, count = bio.sector, bio.sector_count
        copies = lacking(self.copies(), sector, count)
        locked = [*copies, self.copy] if self._is_left(sector, count) else copies
        if not locked:
            return Remap(self.origin, bio)
        return Script(
            lambda: self._write(copies, bio), tuple(copy.lock(sector, count) for copy in locked)
        )

    def steady(self, sector: int) -> Steady:
        """READs go one way until something has been merged, WRITEs where all has been."""
        copies = self.copies()
        size = min(copy.chunk_sectors for copy in (self.copy, *copies))

        def told(chunk: int) -> tuple[int | None, bool]:
            at = chunk * size
            left = None if self.is_lost else self.copy.distance(at // self.copy.chunk_sectors)
            return left, left is None and not lacking(copies, at, size)

        run = alike(sector // size, told)
        ops = ALWAYS.ops if told(run.start)[1] else ALWAYS.ops - {Op.WRITE}
        return Steady(run.start * size, run.stop * size, ops)

    def _is_left(self, sector: int, sector_count: int) -> bool:
        """Whether some of a range has still to be merged."""
        return not self.is_lost and self.copy.holds_some(sector, sector_count)

    def _place(self, bio: Bio) -> Remap | Many:
        return Remap(self.origin, bio) if self.is_lost else self.copy.place(bio)

    def _write(self, copies: list[Copy], bio: Bio) -> Steps[None]:
        """Some of it may have been merged since, before the locks were had."""
        for part in [] if self.is_lost else self.copy.parts(bio):
            if part.device is self.origin:
                yield from copy_all(copies, part.bio.sector, part.bio.sector_count)
        yield self._place(bio)

    # Turns.

    def start(self) -> None:
        source = self.source()
        if source is None:
            return
        if source.kind == "N":
            raise StackError(f"the snapshot on {self.cow.name} is not persistent (P or PO)")
        if any(isinstance(other, SnapshotMerge) for other in self.kin()):
            raise StackError(f"a snapshot of {self.origin.name} is being merged already")

    def resumed(self) -> None:
        super().resumed()
        self._again.notify()

    def background(self) -> Iterable[Steps[None]]:
        yield self._merge()

    def _merge(self) -> Steps[None]:
        """Merge everything; after an error try again with the next resume, as the kernel."""
        while True:
            try:
                yield from self._merge_runs()
                return
            except BlockIOError as error:
                log.warning("%s: the merge into %s: %s", self.host.name, self.origin.name, error)
                self.has_failed = True
                self.raise_event()
            yield Wait(self._again)

    def _merge_runs(self) -> Steps[None]:
        while not self.is_lost and (run := next_run(self.copy)) is not None:
            copies = self.copies()
            locks = tuple(copy.lock(run.sector, run.sector_count) for copy in (self.copy, *copies))
            yield Script(partial(merge_run, self.copy, run, copies), locks)
            if next_run(self.copy) is None:
                self.raise_event()
