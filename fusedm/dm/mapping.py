"""Splitting bios: at the ends of targets and chunks, never within a data unit. Pure.

A data unit that a boundary would cut is a straddling piece of its own: it has to be transformed as
a whole above the split. All other pieces lie within one target and one chunk, and are whole data
units if the bio has a context. Thus only the units on a boundary pay for it, not the whole bio.
"""

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


def split_bio(table: Table, bio: Bio) -> list[Piece]:
    """The pieces of a bio in order; together they are the bio.

    Source: __split_and_process_bio in the kernel's drivers/md/dm.c, which cuts data units.
    """
    extents = _extents(table, bio)
    if bio.crypt is None:
        return [Piece(entry, _slice(bio, begin, end)) for entry, begin, end in extents]
    unit = bio.crypt.key.config.data_unit_size // SECTOR_SIZE
    pieces = []
    done = 0
    straddle: tuple[TableEntry, int] | None = None
    for entry, begin, end in extents:
        first, last = max(begin, done), end - end % unit
        if first < last:
            if straddle is not None:
                pieces.append(Piece(straddle[0], _slice(bio, straddle[1], first), straddles=True))
                straddle = None
            pieces.append(Piece(entry, _slice(bio, first, last)))
        if end % unit and done < end:
            straddle = straddle or (entry, last)
            done = last + unit
    if straddle is not None:
        part = _slice(bio, straddle[1], bio.sector_count)
        pieces.append(Piece(straddle[0], part, straddles=True))
    return pieces


def _slice(bio: Bio, begin: int, end: int) -> Bio:
    """The part of the bio; the bio itself where that is all of it, as nearly always."""
    return bio if end - begin == bio.sector_count else bio.slice(begin, end)


def _extents(table: Table, bio: Bio) -> list[tuple[TableEntry, int, int]]:
    """Each entry the bio touches, chunk by chunk, with the range relative to the bio."""
    extents = []
    begin, sector, last = bio.sector, bio.sector, bio.end_sector
    while sector < last:
        entry = table.find(sector)
        end = min(entry.end_sector, last)
        chunk = entry.target.max_io_sectors
        if chunk is not None and bio.op.has_data:
            end = min(end, sector + chunk - (sector - entry.start_sector) % chunk)
        extents.append((entry, sector - begin, end - begin))
        sector = end
    return extents
