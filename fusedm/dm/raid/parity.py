"""raid4, raid5 and raid6: chunks of data and their parity, on members in turn.

A write holds its columns of the stripes (columns.py) from the first thing it reads to the last that
it writes, so parity is always that of the data in between. It marks them in the bitmap first: where
the power is cut between data and parity, they are made to agree again. While members are missing
that is too late for what they had, as in md without a journal (the "write hole").

A read of what is there goes to one member a chunk. What is lost, or cannot be read, is a sum of the
rest of its column, which is read again if it was written meanwhile.
"""

from collections.abc import Collection, Iterator, Set
from functools import partial

from fusedm.block import Bio, Op
from fusedm.block.errors import BlockIOError
from fusedm.block.range_locks import Extent
from fusedm.block.units import SECTOR_SIZE
from fusedm.dm.raid.changes import Change, Regain, change, compare, regain
from fusedm.dm.raid.columns import (
    FINE_SECTORS,
    Column,
    columns_of,
    columns_of_members,
    finer,
)
from fusedm.dm.raid.gf import not_zero, sum_products
from fusedm.dm.raid.layouts import LAYOUTS, Geometry
from fusedm.dm.raid.personality import ArrayView, Personality, Shape
from fusedm.dm.raid.scratch import Scratch
from fusedm.dm.raid.stripes import Job, Part, Spot, Stripes
from fusedm.dm.raid.windows import FINE_BYTES, Windows
from fusedm.dm.target import Action, Each, Script, Steady
from fusedm.dm.turns import Steps

#: About how much is done at once: of a bio, which is split at whole stripes, and of each member in
#: the background. What a step there reads of a few members stays in the processor's cache.
WORK_SECTORS = 2048


class Parity(Personality):
    """One layout of layouts.py at work."""

    # Parity is of what lies on the members, whichever way data come there: see the page.
    passes_crypto = False
    takes_discards = False

    def __init__(self, shape: Shape, array: ArrayView) -> None:
        self.array = array
        layout = LAYOUTS[shape.type]
        self.level = 4 + layout.parities
        self.layout = layout.number
        self.parities = layout.parities
        geometry = self.geometry = Geometry(layout, shape.device_count, shape.chunk_sectors)
        self.member_sectors = shape.array_sectors // geometry.data_members
        self.sync_sectors = self.member_sectors
        in_a_bio = max(WORK_SECTORS // geometry.stripe_sectors, 1)
        self.max_io_sectors = in_a_bio * geometry.stripe_sectors
        self.step_sectors = max(WORK_SECTORS, shape.chunk_sectors)
        self.stripes = Stripes(geometry, array, shape.type)
        self.windows = Windows(self.stripes)

    def survives(self, failed: Set[int]) -> bool:
        """Whether data are all there without some members."""
        return len(failed) <= self.parities

    # Bios.

    def map(self, bio: Bio) -> Action:
        """What should happen to a bio of the array."""
        if bio.op is Op.FLUSH:
            return self.array.flush_all()
        if bio.op is Op.WRITE:
            return Script(partial(self._write, bio), self._locks(bio))
        chunks = list(self._chunks(bio))
        members = self.array.members
        if not all(members[member].holds(part.end_sector) for member, part in chunks):
            return Script(partial(self._read, bio))
        reads = tuple(self.stripes.place(member, part) for member, part in chunks)
        return Each(reads, partial(self._after_read, bio))

    def steady(self, sector: int) -> Steady:
        """A READ within a chunk goes to its member, while that has it."""
        place, size = self.geometry.place(sector), self.geometry.chunk_sectors
        there = self.array.members[place.member].holds(place.sector + size)
        begin = sector - sector % size
        return Steady(begin, begin + size, frozenset({Op.READ} if there else ()))

    def _chunks(self, bio: Bio) -> Iterator[tuple[int, Bio]]:
        """A bio by chunks: the member of each, and the bio at that member's sectors."""
        size = self.geometry.chunk_sectors
        at = bio.sector
        while at < bio.end_sector:
            end = min(at - at % size + size, bio.end_sector)
            place = self.geometry.place(at)
            part = bio.slice(at - bio.sector, end - bio.sector)
            yield place.member, part.remap(place.sector + at % size)
            at = end

    def _columns(self, bio: Bio) -> list[Column]:
        return list(columns_of(self.geometry, bio.sector, bio.end_sector))

    def _extent(self, bio: Bio) -> tuple[int, int]:
        """The sectors of members between which its columns lie."""
        columns = self._columns(bio)
        return min(column.begin for column in columns), max(column.end for column in columns)

    def _locks(self, bio: Bio) -> tuple[Extent, ...]:
        return ((self.array.locks, *self._extent(bio)),)

    def _view(self, bio: Bio, column: Column, chunk: int) -> memoryview:
        """The part of its data for one chunk of a column."""
        member = self.geometry.row(column.stripe).data[chunk]
        sector = self.geometry.array_sector(member, column.begin)
        assert sector is not None, "a chunk of data is in the array"
        at = (sector - bio.sector) * SECTOR_SIZE
        return bio.data[at : at + column.sector_count * SECTOR_SIZE]

    # Reading.

    def _after_read(self, bio: Bio, outcomes: list[BlockIOError | None]) -> Steps[None] | None:
        return self._read(bio) if any(outcomes) else None

    def _read(self, bio: Bio) -> Steps[None]:
        """Read what can be read, and make the rest of the others.

        Without a lock: the bio may be the READ of a write that has it already.
        """
        yield from self.stripes.undisturbed(*self._extent(bio), partial(self._read_all, bio))

    def _read_all(self, bio: Bio) -> Steps[None]:
        """A chunk that cannot be read is tried in fine columns: no more is lost than is bad."""
        columns = self._columns(bio)
        views = self._views(bio, columns)
        there, bad = yield from self._read_there(views)
        if bad:
            failed = {column for column, _ in bad}
            columns = [c for column in columns for c in self._parts(column, column in failed)]
            views = self._views(bio, columns)
            again = {spot: view for spot, view in views.items() if spot not in there}
            more, bad = yield from self._read_there(again)
            there.update(more)
        wanted = {spot: view for spot, view in views.items() if spot not in there}
        with self.stripes.scratches.one() as scratch:
            yield from self.stripes.regain(wanted, bad, scratch, there)
        self.stripes.mend(bad)

    def _read_there(
        self, views: dict[Spot, memoryview]
    ) -> Steps[tuple[dict[Spot, memoryview], dict[Spot, BlockIOError]]]:
        """Read what members have now: which those were, and which of the others failed."""
        there = {
            (column, member): view
            for (column, member), view in views.items()
            if self.array.members[member].holds(column.end)
        }
        errors = yield from self.stripes.read(there)
        return {spot: view for spot, view in there.items() if spot not in errors}, errors

    def _parts(self, column: Column, is_finer: bool) -> list[Column]:
        return finer(self.geometry, column) if is_finer else [column]

    def _views(self, bio: Bio, columns: Collection[Column]) -> dict[Spot, memoryview]:
        """Where the data of each spot go."""
        return {
            (column, self.geometry.row(column.stripe).data[chunk]): self._view(bio, column, chunk)
            for column in columns
            for chunk in column.chunks
        }

    # Writing.

    def _write(self, bio: Bio) -> Steps[None]:
        begin, end = self._extent(bio)
        try:
            yield from self.array.begin_write(begin, end)
            with self.stripes.scratches.one() as scratch:
                yield from self._write_all(bio, scratch)
        except BlockIOError:
            self.array.need(begin, end)
            raise
        finally:
            self.array.end_write(begin, end)

    def _write_all(self, bio: Bio, scratch: Scratch) -> Steps[None]:
        bad: dict[Spot, BlockIOError] = {}
        jobs = yield from self.stripes.gather(self._columns(bio), self._change, bad, scratch)
        parts = [(member, part.sector, part.data) for member, part in self._chunks(bio)]
        for job in jobs:
            parts += self._parity(bio, job, scratch)
        yield from self.stripes.write(parts, scratch, bio.flags)
        self.stripes.mend(bad)

    def _change(self, column: Column, lost: frozenset[int]) -> Change | None:
        row = self.geometry.row(column.stripe)
        written = tuple(row.data[chunk] for chunk in column.chunks)
        targets = tuple(one for one in row.parities if self.array.members[one].writable)
        trusted = self.array.is_synced(column.begin, column.end)
        return change(row, lost, written, targets, trusted)

    def _parity(self, bio: Bio, job: Job[Change], scratch: Scratch) -> list[Part]:
        """The new parity of a column."""
        column, way = job.column, job.way
        new = [self._view(bio, column, chunk) for chunk in column.chunks]
        made = [scratch.take(column.sector_count) for _ in way.targets]
        sum_products(made, [*new, *job.old], way.factors)
        return [
            (target, column.begin, data) for target, data in zip(way.targets, made, strict=True)
        ]

    # In the background. The frame holds the columns.

    def resync(self, begin: int, end: int) -> Steps[None]:
        """Make parity that of the data; while data are lost, as much of it as is not needed."""
        yield from self.check(begin, end, repair=True)

    def check(self, begin: int, end: int, repair: bool) -> Steps[int]:
        """Compare parity with the data; returns how many sectors differ, counted as md does."""
        with self.stripes.scratches.one() as scratch:
            count = yield from self.windows.check(begin, end, repair, scratch)
            if count is None:
                count = yield from self._check(begin, end, repair, scratch)
            return count

    def _check(self, begin: int, end: int, repair: bool, scratch: Scratch) -> Steps[int]:
        bad: dict[Spot, BlockIOError] = {}

        def choose(column: Column, lost: frozenset[int]) -> Regain:
            return compare(self.geometry.row(column.stripe), lost)

        columns = columns_of_members(self.geometry, begin, end)
        count = 0
        parts: list[Part] = []
        for job in (yield from self.stripes.gather(columns, choose, bad, scratch)):
            different, right = _differences(job, scratch)
            count += different
            parts += right
        if repair:
            yield from self.stripes.write(parts, scratch)
        self.stripes.mend(bad)
        return count

    def recover(self, begin: int, end: int, indices: Set[int]) -> Steps[None]:
        """Write what members should have, by what the others have."""
        wanted = tuple(sorted(indices))
        with self.stripes.scratches.one() as scratch:
            if not (yield from self.windows.recover(begin, end, wanted, scratch)):
                yield from self._recover(begin, end, wanted, scratch)

    def _recover(
        self, begin: int, end: int, wanted: tuple[int, ...], scratch: Scratch
    ) -> Steps[None]:
        bad: dict[Spot, BlockIOError] = {}
        made = {member: scratch.take(end - begin) for member in wanted}

        def choose(column: Column, lost: frozenset[int]) -> Regain | None:
            return regain(self.geometry.row(column.stripe), lost.union(wanted), wanted)

        columns = columns_of_members(self.geometry, begin, end)
        for job in (yield from self.stripes.gather(columns, choose, bad, scratch)):
            at = (job.column.begin - begin) * SECTOR_SIZE
            size = job.column.sector_count * SECTOR_SIZE
            targets = [made[member][at : at + size] for member in job.way.targets]
            sum_products(targets, job.old, job.way.factors)
        parts = [(member, begin, data) for member, data in made.items()]
        yield from self.stripes.write(parts, scratch)
        self.stripes.mend(bad)


def _differences(job: Job[Regain], scratch: Scratch) -> tuple[int, list[Part]]:
    """How many sectors of a column differ from what the others tell, and what is right."""
    count = job.column.sector_count
    sums = [scratch.take(count) for _ in job.way.targets]
    sum_products(sums, job.old, job.way.factors)
    wrong: set[int] = set()
    parts: list[Part] = []
    for member, each in zip(job.way.targets, sums, strict=True):
        differs = not_zero(each, FINE_BYTES)
        if not differs:
            continue
        wrong.update(differs)
        right = scratch.take(count)
        sum_products([right], [job.old[job.way.reads.index(member)], each], [b"\x01\x01"])
        parts.append((member, job.column.begin, right))
    return FINE_SECTORS * len(wrong), parts
