"""Where the data and the holes of a file are (SEEK_DATA, SEEK_HOLE), as the stores below say.

What READs of a span do not go to a leaf for is data: so is everything, to be safe, that nobody can
tell, and what a target encrypts, unless it leaves zeros as they are.
A data unit is a hole only as a whole, since a part of its ciphertext decrypts to nothing of use. To
a view that decrypts zeros, as in strict mode, nothing is a hole.
"""

import errno

from fusedm.block import Op, Span
from fusedm.block.errors import BlockIOError, DeviceSuspended
from fusedm.block.units import SECTOR_SHIFT
from fusedm.system import View

#: Spans, or blocks that are holes in part, looked at for one answer; what lies beyond is called
#: data. A striped device of 1 TiB has millions, and calling a hole data is always allowed.
MAX_SPANS = 1024


async def seek(view: View, offset: int, for_data: bool) -> int:
    """The first byte at offset or after it that is data, or that is none; the end is none.

    Raises: BlockIOError(ENXIO) beyond the end, and if no data follow.
    """
    if offset >= view.size:
        raise BlockIOError(errno.ENXIO, view.name, f"{offset} is past the end at {view.size}")
    if not view.has_holes:
        return offset if for_data else view.size
    begin = offset - offset % view.block_size
    found = await _data_from(view, begin)
    if not for_data:
        for _ in range(MAX_SPANS):
            if found >= view.size or found - found % view.block_size != begin:
                return min(max(begin, offset), view.size)
            begin = await _hole_from(view, found)
            begin += -begin % view.block_size
            found = await _data_from(view, begin)
        return view.size  # Hole after hole within a block: what lies beyond is called data.
    if found >= view.size:
        raise BlockIOError(errno.ENXIO, view.name, f"there are no data from {offset} on")
    return max(found - found % view.block_size, offset)


async def _data_from(view: View, at: int) -> int:
    return await _from(view, at, for_data=True)


async def _hole_from(view: View, at: int) -> int:
    return await _from(view, at, for_data=False)


async def _from(view: View, at: int, for_data: bool) -> int:
    """The first byte of either kind, blocks not minded; the size if there is none."""
    for _ in range(MAX_SPANS):
        if at >= view.size:
            return view.size
        span = await _span_when_possible(view, view.sector(at))
        end = min((span.end << SECTOR_SHIFT) - view.start, view.size)
        keeps_zeros = span.cipher is None or span.cipher.keeps_zeros
        if span.leaf is not None and Op.READ in span.ops and keeps_zeros:
            shift = view.start + (span.shift << SECTOR_SHIFT)
            found = await span.leaf.seek(at + shift, for_data) - shift
            if found < end:
                return found
        elif for_data:
            return at
        at = end
    return at if for_data else view.size


async def _span_when_possible(view: View, sector: int) -> Span:
    while True:
        try:
            return view.device.span(sector).at(sector)
        except DeviceSuspended as suspended:
            await suspended.wait()
