"""Reading and writing columns of stripes, whatever member fails on the way.

All here are steps of scripts; who writes has locked the columns. What is to be read of a member is
read in as few bios as lie together, whatever columns it belongs to. A member that cannot be read in
a column counts as lost there, and what is done is thought out anew without it; where that leaves
too little, the column is done in finer ones, since other sectors of a bad chunk may be good.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from fusedm.block import Bio
from fusedm.block.errors import BlockIOError, Status
from fusedm.block.units import SECTOR_SIZE
from fusedm.dm.raid.array import errors_of
from fusedm.dm.raid.changes import Regain, regain
from fusedm.dm.raid.columns import Column, finer
from fusedm.dm.raid.gf import sum_products
from fusedm.dm.raid.layouts import Geometry
from fusedm.dm.raid.personality import ArrayView
from fusedm.dm.raid.scratch import Scratch, Scratches
from fusedm.dm.signal import Signal
from fusedm.dm.target import Each, Remap, Wait
from fusedm.dm.turns import Steps

#: A column of a member.
Spot = tuple[Column, int]

#: Writes of less than this are put together with their neighbours, by a copy, which takes less time
#: than another bio.
COPIED_BYTES = 1 << 17

#: Data for sectors of a member.
Part = tuple[int, int, memoryview]


class Way(Protocol):
    """A way to do something to a column, after some members have been read."""

    @property
    def reads(self) -> tuple[int, ...]:
        """Those members."""


T = TypeVar("T")
W = TypeVar("W", bound=Way)


@dataclass(slots=True)
class Job(Generic[W]):
    """A column, how it is done, and what the way's reads have found, in their order."""

    column: Column
    way: W
    old: list[memoryview]


@dataclass(slots=True, eq=False)
class Look:
    """A range of the members that somebody reads without a lock; is_disturbed: it was written."""

    begin: int
    end: int
    is_disturbed: bool = False


@dataclass(slots=True)
class Run:
    """A range of a member, of one spot after the other."""

    member: int
    begin: int
    end: int
    spots: list[Spot]


class Stripes:
    """The members of an array as stripes.

    name: what errors call it, where more is lost than can be told by what is there.
    """

    def __init__(self, geometry: Geometry, array: ArrayView, name: str) -> None:
        self.geometry = geometry
        self.array = array
        self.name = name
        self.scratches = Scratches()
        self._looks: list[Look] = []
        self._writing: list[tuple[int, int]] = []
        self._written = Signal()

    def lost(self, column: Column, bad: Collection[Spot] = ()) -> frozenset[int]:
        """The members that do not have what they should in a column, or cannot be read there."""
        return frozenset(
            member.index
            for member in self.array.members
            if not member.holds(column.end) or (column, member.index) in bad
        )

    def place(self, member: int, bio: Bio) -> Remap:
        """A bio at sectors of a member."""
        return self.array.members[member].place.remap(bio)

    # Reading.

    def read(self, views: Mapping[Spot, memoryview]) -> Steps[dict[Spot, BlockIOError]]:
        """Read spots, each on its own; returns those that cannot be read."""
        reads = [
            self.place(member, Bio.read(column.begin, view))
            for (column, member), view in views.items()
        ]
        outcomes = (yield Each(tuple(reads))) if reads else []
        return {
            spot: error for spot, error in zip(views, outcomes, strict=True) if error is not None
        }

    def read_whole(
        self, begin: int, end: int, members: Iterable[int], scratch: Scratch
    ) -> Steps[list[memoryview] | None]:
        """What members have in a range, each in one bio; None if one of them cannot be read."""
        column = Column(0, begin, end)
        views = {(column, member): scratch.take(end - begin) for member in members}
        return None if (yield from self.read(views)) else list(views.values())

    def gather(
        self,
        columns: Iterable[Column],
        choose: Callable[[Column, frozenset[int]], W | None],
        bad: dict[Spot, BlockIOError],
        scratch: Scratch,
        known: Mapping[Spot, memoryview] | None = None,
    ) -> Steps[list[Job[W]]]:
        """Read for each column what the way needs that is chosen for it, of what is not known.

        choose is told which members are lost, and answers None where these are too many.
        bad: what has been found to be so before, and what is found now.
        Raises: BlockIOError of what cannot be read, or told by what can.
        """
        views = dict(known or {})
        columns = list(columns)
        while True:
            ways = self._ways(columns, choose, bad)
            wanted = [
                (column, member)
                for column, way in ways
                for member in way.reads
                if (column, member) not in views
            ]
            found, errors = yield from self._read_runs(wanted, scratch)
            views.update(found)
            if not errors:
                break
            bad.update(errors)
            columns = [column for column, _ in ways]
        return [
            Job(column, way, [views[column, member] for member in way.reads])
            for column, way in ways
        ]

    def _ways(
        self,
        columns: Iterable[Column],
        choose: Callable[[Column, frozenset[int]], W | None],
        bad: dict[Spot, BlockIOError],
    ) -> list[tuple[Column, W]]:
        ways: list[tuple[Column, W]] = []
        for column in columns:
            way = choose(column, self.lost(column, bad))
            if way is not None:
                ways.append((column, way))
                continue
            errors = [bad.pop(spot) for spot in list(bad) if spot[0] == column]
            parts = finer(self.geometry, column)
            if not errors or len(parts) == 1:
                text = f"stripe {column.stripe}: more members are lost than parity makes up for"
                raise errors[0] if errors else BlockIOError(Status.IOERR, self.name, text)
            ways += self._ways(parts, choose, bad)
        return ways

    def _read_runs(
        self, wanted: Iterable[Spot], scratch: Scratch
    ) -> Steps[tuple[dict[Spot, memoryview], dict[Spot, BlockIOError]]]:
        """Read spots in runs; what a bio that fails was for is read again, each on its own."""
        views: dict[Spot, memoryview] = {}
        runs = list(_runs(wanted))
        reads = []
        for run in runs:
            data = scratch.take(run.end - run.begin)
            reads.append(self.place(run.member, Bio.read(run.begin, data)))
            for column, member in run.spots:
                at = (column.begin - run.begin) * SECTOR_SIZE
                views[column, member] = data[at : at + column.sector_count * SECTOR_SIZE]
        outcomes = (yield Each(tuple(reads))) if reads else []
        errors: dict[Spot, BlockIOError] = {}
        again: dict[Spot, memoryview] = {}
        for run, error in zip(runs, outcomes, strict=True):
            if error is not None and len(run.spots) > 1:
                again.update((spot, views[spot]) for spot in run.spots)
            elif error is not None:
                errors[run.spots[0]] = error
        errors.update((yield from self.read(again)))
        for spot in errors:
            del views[spot]
        return views, errors

    # What is lost.

    def regain(
        self,
        wanted: Mapping[Spot, memoryview],
        bad: dict[Spot, BlockIOError],
        scratch: Scratch,
        known: Mapping[Spot, memoryview],
    ) -> Steps[None]:
        """Fill in what members of columns should have, by what the others have.

        Raises: BlockIOError where those are too few.
        """
        members: dict[Column, tuple[int, ...]] = {}
        for column, member in wanted:
            members[column] = (*members.get(column, ()), member)

        def choose(column: Column, lost: frozenset[int]) -> Regain | None:
            row = self.geometry.row(column.stripe)
            of_it = members[_around(column, members)]
            return regain(row, lost.union(of_it), of_it)

        for job in (yield from self.gather(members, choose, bad, scratch, known)):
            outer = _around(job.column, members)
            at = (job.column.begin - outer.begin) * SECTOR_SIZE
            size = job.column.sector_count * SECTOR_SIZE
            targets = [wanted[outer, member][at : at + size] for member in job.way.targets]
            sum_products(targets, job.old, job.way.factors)

    def mend(self, bad: Iterable[Spot]) -> None:
        """Have it written anew what could not be read."""
        members = self.array.members
        for column, member in (spot for spot in bad if members[spot[1]].holds(spot[0].end)):
            self.array.repair_read(member, column.begin, column.end)

    # Reading without a lock.

    def undisturbed(self, begin: int, end: int, make: Callable[[], Steps[T]]) -> Steps[T]:
        """Carry out steps that read columns; once more if these were written meanwhile.

        For bios that cannot take a lock: one may be part of another bio, which has it.
        """
        while True:
            while any(begin < e and b < end for b, e in self._writing):
                yield Wait(self._written)
            look = Look(begin, end)
            self._looks.append(look)
            try:
                result = yield from make()
            finally:
                self._looks.remove(look)
            if not look.is_disturbed:
                return result

    @contextmanager
    def _disturbing(self, begin: int, end: int) -> Iterator[None]:
        for look in self._looks:
            look.is_disturbed |= begin < look.end and look.begin < end
        extent = (begin, end)
        self._writing.append(extent)
        try:
            yield
        finally:
            self._writing.remove(extent)
            self._written.notify()

    # Writing.

    def write(self, parts: Iterable[Part], scratch: Scratch, flags: int = 0) -> Steps[None]:
        """Write all at once; a member that cannot take what is for it has failed.

        What members that are gone should get is left out.
        Raises: BlockIOError if the array cannot go on.
        """
        there = [part for part in parts if self.array.members[part[0]].writable]
        writes = list(_joined(sorted(there, key=lambda part: part[:2]), scratch))
        if not writes:
            return
        begin = min(sector for _, sector, _ in writes)
        end = max(sector + len(data) // SECTOR_SIZE for _, sector, data in writes)
        with self._disturbing(begin, end):
            outcomes = yield Each(
                tuple(
                    self.place(member, Bio.write(sector, data, flags=flags))
                    for member, sector, data in writes
                )
            )
        errors = errors_of([self.array.members[member] for member, _, _ in writes], outcomes)
        if errors:
            yield from self.array.fail(errors)


def _around(column: Column, columns: Iterable[Column]) -> Column:
    """That of some columns which a column is, or is a part of."""
    return next(
        each
        for each in columns
        if each.stripe == column.stripe and each.begin <= column.begin < each.end
    )


def _runs(spots: Iterable[Spot]) -> Iterator[Run]:
    """Spots put together where they lie together."""
    run: Run | None = None
    for column, member in sorted(set(spots), key=lambda spot: (spot[1], spot[0].begin)):
        if run is None or run.member != member or run.end != column.begin:
            if run is not None:
                yield run
            run = Run(member, column.begin, column.begin, [])
        run.spots.append((column, member))
        run.end = column.end
    if run is not None:
        yield run


def _joined(parts: Iterable[Part], scratch: Scratch) -> Iterator[Part]:
    """Writes in order, of which small ones are put together where they lie together."""
    group: list[Part] = []
    for part in parts:
        if group and not _may_join(group[-1], part):
            yield _one(group, scratch)
            group = []
        group.append(part)
    if group:
        yield _one(group, scratch)


def _may_join(part: Part, after: Part) -> bool:
    member, sector, data = part
    small = max(len(data), len(after[2])) < COPIED_BYTES
    return small and after[:2] == (member, sector + len(data) // SECTOR_SIZE)


def _one(group: list[Part], scratch: Scratch) -> Part:
    member, sector, data = group[0]
    if len(group) > 1:
        at = 0
        data = scratch.take(sum(len(part) for _, _, part in group) // SECTOR_SIZE)
        for _, _, part in group:
            data[at : at + len(part)] = part
            at += len(part)
    return member, sector, data
