"""Merging: what a snapshot has copied goes back to its origin, the last first.

A run of chunks is written to the origin and flushed there, and only then are its entries cleared on
the COW device. So a power cut costs at most that a run is merged once more.
Source: snapshot_merge_next_chunks in dm-snap.c, persistent_commit_merge in dm-snap-persistent.c.
"""

from fusedm.block import FLUSH, FUA, Bio
from fusedm.block.units import SECTOR_SIZE
from fusedm.block.value import value
from fusedm.dm.snapshot.copy import Copy, copy_all
from fusedm.dm.snapshot.exception_store import PersistentStore
from fusedm.dm.target import Remap
from fusedm.dm.turns import Steps

#: What is merged in one go, unless a chunk is larger: so much is in memory, and locked.
MAX_RUN_BYTES = 1 << 20


@value
class MergeRun:
    """Chunks that lie next to each other in the origin and on the COW device.

    Units: sector, of the origin, and cow_sector begin the chunks; sector_count is that of chunks.
    """

    sector: int
    cow_sector: int
    sector_count: int
    chunk_count: int


def next_run(copy: Copy) -> MergeRun | None:
    """What is to be merged next; None if all has been."""
    store = _store(copy)
    old, new, count = store.last_run(max(MAX_RUN_BYTES // store.chunk_bytes, 1))
    size = store.chunk_sectors
    return MergeRun(old * size, new * size, count * size, count) if count else None


def merge_run(copy: Copy, run: MergeRun, others: list[Copy]) -> Steps[None]:
    """Copy a run to the origin, of which other snapshots keep what they need before.

    Raises: BlockIOError; then it is still to be merged.
    """
    yield from copy_all(others, run.sector, run.sector_count)
    # The last chunk may be larger than what is left of the origin.
    sectors = min(run.sector_count, copy.origin.sector_count - run.sector)
    data = memoryview(bytearray(sectors * SECTOR_SIZE))
    yield Remap(copy.device, Bio.read(run.cow_sector, data))
    yield Remap(copy.origin, Bio.write(run.sector, data))
    yield Remap(copy.origin, FLUSH)
    store = _store(copy)
    sector, area = store.without_last(run.chunk_count)
    yield Remap(copy.device, Bio.write(sector, memoryview(area), flags=FUA))
    store.remove_last(run.chunk_count)
    copy.on_change()


def _store(copy: Copy) -> PersistentStore:
    assert isinstance(copy.store, PersistentStore), "no other is merged"
    return copy.store
