"""Splitting bios: at the ends of targets and chunks, never within a data unit. Pure.

A data unit that a boundary would cut is a straddling piece of its own: it has to be transformed as
a whole above the split. All other pieces lie within one target and one chunk, and are whole data
units if the bio has a context. Thus only the units on a boundary pay for it, not the whole bio.
"""

from collections.abc import Iterator

from fusedm.block import Bio
from fusedm.block.units import SECTOR_SIZE
from fusedm.block.value import value
from fusedm.dm.table import Table, TableEntry


@value
class Piece:
    """A part of a bio: for one entry, or straddling from there on over a boundary."""

    entry: TableEntry
    bio: Bio
    straddles: bool = False


def split_bio(table: Table, bio: Bio) -> Iterator[Piece]:
    """The pieces of a bio in order; together they are the bio.

    Source: __split_and_process_bio in the kernel's drivers/md/dm.c, which cuts data units.
    """
    if bio.crypt is None:
        for entry, begin, end in _extents(table, bio):
            yield Piece(entry, _slice(bio, begin, end))
        return
    unit = bio.crypt.key.config.data_unit_size // SECTOR_SIZE
    done = 0
    straddle: tuple[TableEntry, int] | None = None
    for entry, begin, end in _extents(table, bio):
        first, last = max(begin, done), end - end % unit
        if first < last:
            if straddle is not None:
                yield Piece(straddle[0], _slice(bio, straddle[1], first), straddles=True)
                straddle = None
            yield Piece(entry, _slice(bio, first, last))
        if end % unit and done < end:
            straddle = straddle or (entry, last)
            done = last + unit
    if straddle is not None:
        yield Piece(straddle[0], _slice(bio, straddle[1], bio.sector_count), straddles=True)


def _slice(bio: Bio, begin: int, end: int) -> Bio:
    """The part of the bio; the bio itself where that is all of it, as nearly always."""
    return bio if end - begin == bio.sector_count else bio.slice(begin, end)


def _extents(table: Table, bio: Bio) -> Iterator[tuple[TableEntry, int, int]]:
    """Each entry the bio touches, chunk by chunk, with the range relative to the bio."""
    sector = bio.sector
    while sector < bio.end_sector:
        entry = table.find(sector)
        end = min(entry.end_sector, bio.end_sector)
        chunk = entry.target.max_io_sectors
        if chunk is not None and bio.op.has_data:
            end = min(end, sector + chunk - (sector - entry.start_sector) % chunk)
        yield entry, sector - bio.sector, end - bio.sector
        sector = end
