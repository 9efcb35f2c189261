"""Where a target sends a stretch of sectors, found out once for many bios. Pure."""

from fusedm.block import Bio, Generation, IoStats, Op, Span
from fusedm.dm.table import TableEntry
from fusedm.dm.target import Complete, Remap


def span_through(
    entry: TableEntry, sector: int, guard: tuple[Generation, int], stats: IoStats
) -> Span:
    """The span of a sector of a mapped device through the target that holds it, down to the leaf.

    It holds while guard does; stats are those of the mapped device.
    Raises: BlockIOError, WouldBlock from below.
    """
    own = sector - entry.start_sector
    begin, end = entry.start_sector, entry.end_sector
    chunk = entry.target.max_io_sectors
    if chunk is not None:
        begin = sector - own % chunk
        end = min(end, begin + chunk)
    action = entry.target.map(Bio(Op.READ, own, 1)) if entry.target.is_steady else Complete()
    if not isinstance(action, Remap):
        return Span(begin, end, guards=(guard,))
    below = action.device.span(action.bio.sector)
    shift = action.bio.sector - sector
    return Span(
        begin=max(begin, below.begin - shift),
        end=min(end, below.end - shift),
        leaf=below.leaf,
        shift=shift + below.shift,
        is_writable=below.is_writable,
        passes_crypto=below.passes_crypto and entry.target.passes_crypto,
        visits=(stats, *below.visits),
        route=(entry.counts, *below.route),
        guards=(guard, *below.guards),
        native=below.native,
    )
