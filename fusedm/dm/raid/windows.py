"""What the background does with parity as long as all can be read: a window at a time. Pure.

Of each member a window is read in one bio, and one compiled call makes the sums of all its stripes,
whatever their rows. What cannot be done so is done column by column (parity.py).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from fusedm.block.units import SECTOR_SIZE
from fusedm.dm.raid.changes import Regain, compare, regain
from fusedm.dm.raid.columns import FINE_SECTORS, Column, columns_of_members
from fusedm.dm.raid.gf import not_zero, sum_pieces
from fusedm.dm.raid.layouts import Row
from fusedm.dm.raid.scratch import Scratch
from fusedm.dm.raid.stripes import Part, Stripes
from fusedm.dm.turns import Steps

FINE_BYTES = FINE_SECTORS * SECTOR_SIZE


@dataclass(frozen=True, slots=True)
class Window:
    """A range of the members: its columns, what members have there, and sums of that.

    sources: those members. ways: of each column how the sums were made.
    """

    columns: list[Column]
    ways: list[Regain]
    sources: tuple[int, ...]
    read: list[memoryview]
    sums: list[memoryview]


class Windows:
    """What is done so. The frame holds the locks."""

    def __init__(self, stripes: Stripes) -> None:
        self._stripes = stripes

    def recover(
        self, begin: int, end: int, wanted: tuple[int, ...], scratch: Scratch
    ) -> Steps[bool]:
        """Write what members should have, by what the others have; whether that could be done so.

        Raises: BlockIOError if the array cannot go on.
        """
        lost = self._lost(end).union(wanted)
        window = yield from self._sums(
            begin, end, lost, lambda row: regain(row, lost, wanted), scratch
        )
        if window is None:
            return False
        parts = zip(wanted, [begin] * len(wanted), window.sums, strict=True)
        yield from self._stripes.write(parts, scratch)
        return True

    def check(self, begin: int, end: int, repair: bool, scratch: Scratch) -> Steps[int | None]:
        """How many sectors differ from what others tell, as md counts; None if that is not told.

        Raises: BlockIOError if the array cannot go on.
        """
        lost = self._lost(end)
        window = yield from self._sums(begin, end, lost, lambda row: compare(row, lost), scratch)
        if window is None:
            return None
        wrong = [set(not_zero(each, FINE_BYTES)) for each in window.sums]
        if repair and any(wrong):
            yield from self._stripes.write(_right(window, wrong, scratch), scratch)
        return FINE_SECTORS * len(set().union(*wrong))

    def _lost(self, end: int) -> frozenset[int]:
        return self._stripes.lost(Column(0, end, end))

    def _sums(
        self,
        begin: int,
        end: int,
        lost: frozenset[int],
        choose: Callable[[Row], Regain | None],
        scratch: Scratch,
    ) -> Steps[Window | None]:
        """Read a window of the members that are not lost, and make sums of it."""
        stripes = self._stripes
        columns = columns_of_members(stripes.geometry, begin, end)
        ways = [choose(stripes.geometry.row(column.stripe)) for column in columns]
        there = [way for way in ways if way is not None]
        if len(there) < len(ways):
            return None
        sources = tuple(m.index for m in stripes.array.members if m.index not in lost)
        read = yield from stripes.read_whole(begin, end, sources, scratch)
        if read is None:
            return None
        sums = [scratch.take(end - begin) for _ in there[0].targets]
        factors = (_spread(way, sources) for way in there)
        sum_pieces(sums, read, list(zip(map(_size, columns), factors, strict=True)))
        return Window(columns, there, sources, read, sums)


def _size(column: Column) -> int:
    return column.sector_count * SECTOR_SIZE


@lru_cache(maxsize=1 << 10)
def _spread(way: Regain, sources: tuple[int, ...]) -> bytes:
    """The factors of a way where more is read than it needs."""
    each = (dict(zip(way.reads, factors, strict=True)) for factors in way.factors)
    return bytes(of_it.get(member, 0) for of_it in each for member in sources)


@lru_cache(maxsize=1 << 10)
def _added(way: Regain, sources: tuple[int, ...]) -> bytes:
    """The factors by which a sum is added to what its target has, of all sums and all sources."""
    count = len(way.targets)
    rows = (
        [*(number == own for number in range(count)), *(member == target for member in sources)]
        for own, target in enumerate(way.targets)
    )
    return bytes(each for row in rows for each in row)


def _right(window: Window, wrong: list[set[int]], scratch: Scratch) -> list[Part]:
    """What is to be written of columns whose sums are not zero; wrong has where they are not."""
    sources = [*window.sums, *window.read]
    right = [scratch.take(len(each) // SECTOR_SIZE) for each in window.sums]
    pieces = [
        (_size(column), _added(way, window.sources))
        for column, way in zip(window.columns, window.ways, strict=True)
    ]
    sum_pieces(right, sources, pieces)
    parts: list[Part] = []
    at = 0
    for column, way in zip(window.columns, window.ways, strict=True):
        end = at + _size(column)
        for number, member in enumerate(way.targets):
            if not wrong[number].isdisjoint(range(at, end, FINE_BYTES)):
                parts.append((member, column.begin, right[number][at:end]))
        at = end
    return parts
