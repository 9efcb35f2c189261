"""Which data unit numbers two views share that have data on both media, and a sample of them.

A view is mostly holes as a rule, so numbers picked at random would compare nothing. Stretches of
data are walked through instead, twice: counted, then those whose turn it is are picked. What is
remembered is the sample, however large the views.
"""

from collections.abc import AsyncIterator
from errno import ENXIO
from random import Random
from typing import Any

from fusedm.block import NO_DATA, Op
from fusedm.block.errors import BlockIOError, StackError
from fusedm.block.units import SECTOR_SHIFT
from fusedm.files import seek
from fusedm.system import View

#: Most numbers of one sample: its answer is one line of the control socket.
MAX_SAMPLE = 8192
#: Stretches of data looked for: some 2 s of work. What lies beyond them is taken for data.
MAX_STRETCHES = 1 << 14


async def sample_duns(
    one: View, other: View, first: int, last: int, count: int, seed: int
) -> dict[str, Any]:
    """At most count of the numbers first to last under which both views have data.

    Shapes: in order; the same seed gives the same, as long as the data are where they were.
    Raises: StackError for more numbers than an answer holds; BlockIOError.
    """
    if not 0 <= count <= MAX_SAMPLE:
        raise StackError(f"a sample has 0..{MAX_SAMPLE} DUNs, {count} asked for")
    total = 0
    async for begin, end in _stretches(one, other, first, last):
        total += end - begin
    wanted = range(total) if total <= count else sorted(Random(seed).sample(range(total), count))
    duns: list[int] = []
    before = 0
    async for begin, end in _stretches(one, other, first, last):
        while len(duns) < len(wanted) and wanted[len(duns)] < before + end - begin:
            duns.append(begin + wanted[len(duns)] - before)
        before += end - begin
    return {"with_data": total, "duns": duns}


async def _stretches(
    one: View, other: View, first: int, last: int
) -> AsyncIterator[tuple[int, int]]:
    """Begin and end of each run of numbers with data in both, up to and with last."""
    dun = first
    for _ in range(MAX_STRETCHES):
        if dun > last:
            return
        begins = [await _next(view, dun, last, for_data=True) for view in (one, other)]
        if max(begins) > dun:
            dun = max(begins)
            continue
        end = min([await _next(view, dun, last, for_data=False) for view in (one, other)])
        yield dun, end
        dun = end
    if dun <= last:
        yield dun, last + 1


async def _next(view: View, dun: int, last: int, for_data: bool) -> int:
    """The next number with data, or the next without any, from dun on; else the one after last."""
    assert view.key is not None, "only views have data unit numbers"
    unit = view.key.config.data_unit_size
    begin = view.bio(Op.READ, 0, NO_DATA).sector << SECTOR_SHIFT
    # Holes of the medium, which a view may not know: under strict rules it shows none.
    medium = View(view.device.name, view.device)
    try:
        at = await seek(medium, begin + (dun - view.dun_base) * unit, for_data)
    except BlockIOError as error:
        if error.errno != ENXIO or not for_data:
            raise
        return last + 1
    found = view.dun_base + (at - begin + (0 if for_data else unit - 1)) // unit
    return min(max(found, dun if for_data else dun + 1), last + 1)
