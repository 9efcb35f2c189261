"""A range of an array in columns: the same sectors of all members of one stripe. Pure.

Parity is of columns: a sector of P belongs to the same sector of each other member, and to nothing
else. So what a bio touches is cut where other chunks are touched than beside it, into at most three
columns a stripe.
"""

from collections.abc import Iterator
from dataclasses import field
from itertools import pairwise

from fusedm.block.value import value
from fusedm.dm.raid.layouts import Geometry

#: md's stripes are this high: what cannot be done as a whole is done in columns like these.
FINE_SECTORS = 8


@value
class Column:
    """A column of a stripe, and which of its chunks are meant.

    Units: begin and end are sectors of the members.
    """

    stripe: int
    begin: int
    end: int
    chunks: tuple[int, ...] = field(default=(), compare=False)

    @property
    def sector_count(self) -> int:
        """How high it is."""
        return self.end - self.begin


def columns_of(geometry: Geometry, begin: int, end: int) -> Iterator[Column]:
    """The columns of a range of the array; of the chunks of each all sectors are in the range."""
    size = geometry.stripe_sectors
    for stripe in range(begin // size, -(-end // size)):
        first = max(begin - stripe * size, 0)
        last = min(end - stripe * size, size)
        yield from _columns_of_stripe(stripe, first, last, geometry.chunk_sectors)


def _columns_of_stripe(stripe: int, begin: int, end: int, chunk: int) -> Iterator[Column]:
    first, top = divmod(begin, chunk)
    last, bottom = divmod(end - 1, chunk)
    bottom += 1
    cuts = (top, bottom) if first == last else sorted({0, top, bottom, chunk})
    for low, high in pairwise(cuts):
        chunks = range(first + (low < top), last + (high <= bottom))
        if chunks:
            yield Column(stripe, stripe * chunk + low, stripe * chunk + high, tuple(chunks))


def columns_of_members(geometry: Geometry, begin: int, end: int) -> list[Column]:
    """The columns of a range of the members, one a stripe."""
    chunk = geometry.chunk_sectors
    return [
        Column(stripe, max(begin, stripe * chunk), min(end, (stripe + 1) * chunk))
        for stripe in range(begin // chunk, -(-end // chunk))
    ]


def finer(geometry: Geometry, column: Column) -> list[Column]:
    """A column in several that are as high as md's stripes; it alone if it is no higher."""
    first = column.begin - column.begin % FINE_SECTORS
    cuts = [
        column.begin,
        *range(first + FINE_SECTORS, column.end, FINE_SECTORS),
        column.end,
    ]
    chunk = geometry.chunk_sectors
    return [Column(low // chunk, low, high, column.chunks) for low, high in pairwise(cuts)]
