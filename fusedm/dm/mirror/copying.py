"""Copying a range from one leg to others, in large pieces. Pure."""

from collections.abc import Sequence

from fusedm.block import Bio
from fusedm.block.errors import BlockIOError
from fusedm.block.units import sectors_to_bytes
from fusedm.dm.target import Each, Remap, Segment
from fusedm.dm.turns import Steps

#: As much is read and written at a time: 1 MiB, above which it does not get faster.
PIECE_SECTORS = 2048


def copy_range(
    source: Segment, others: Sequence[Segment], begin: int, end: int
) -> Steps[list[int | None]]:
    """Copy sectors to all others; returns which of them have failed, or None for the source.

    The next piece is read while one is written. It stops at the first failure.
    """
    writes: tuple[Remap, ...] = ()
    while begin < end or writes:
        count = min(PIECE_SECTORS, end - begin)
        data = memoryview(bytearray(sectors_to_bytes(count)))
        reads = (source.remap(Bio.read(begin, data)),) if count else ()
        outcomes: list[BlockIOError | None] = yield Each((*writes, *reads))
        failed = [
            index if index < len(writes) else None
            for index, error in enumerate(outcomes)
            if error is not None
        ]
        if failed:
            return failed
        writes = tuple(leg.remap(Bio.write(begin, data)) for leg in others) if count else ()
        begin += count
    return []
