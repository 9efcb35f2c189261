"""Bytes at offsets on a view: what a file handle does, over bios of whole blocks.

A range that does not begin or end on a block is widened: a read reads the whole blocks and hands
out a part, a write patches the blocks at its ends. All bios of one call are planned together, so a
patched block is read and written under one range lock and against one table.
"""

import errno
from collections.abc import Sequence

import trio

from fusedm.block import FLUSH, NO_DATA, Bio, Op
from fusedm.block.errors import BlockIOError, Status
from fusedm.block.units import bytes_to_sectors
from fusedm.crypto import (
    PatchBlock,
    Request,
    runs_of_data,
    submit_bio,
    submit_made,
    submit_nowait,
)
from fusedm.files.byte_io import cover, split_write
from fusedm.system import View

#: As much as one write brings.
_ZEROS = memoryview(bytes(1 << 20))


async def read(view: View, offset: int, length: int) -> memoryview:
    """Bytes of a view; fewer at its end, none beyond.

    Raises: BlockIOError.
    """
    part = NO_DATA

    def make() -> Sequence[Request]:
        nonlocal part
        bios, part = read_requests(view, offset, length)
        return bios

    await submit_made(view.device, make)
    return part


def read_nowait(view: View, offset: int, length: int) -> memoryview:
    """The same on the spot.

    Raises: BlockIOError; WouldBlock before any effect.
    """
    bios, part = read_requests(view, offset, length)
    submit_nowait(view.device, bios)
    return part


async def write(view: View, offset: int, data: memoryview, durable: bool = False) -> None:
    """Write all of data; durable as well when this returns, if asked for.

    Raises: BlockIOError; ENOSPC if any byte lies beyond the end, and then nothing is written.
    """
    await submit_made(view.device, lambda: write_requests(view, offset, data))
    if durable:
        await flush(view)


def write_nowait(view: View, offset: int, data: memoryview) -> None:
    """The same on the spot; never durable.

    Raises: BlockIOError; WouldBlock before any effect.
    """
    submit_nowait(view.device, write_requests(view, offset, data))


async def zero(view: View, offset: int, length: int, punch: bool) -> None:
    """Make a range read as zeros through this view; punch gives its space up as well.

    The stores make a hole of whole blocks, which a view reads as zeros; blocks at the ends are
    patched. Where a target cannot and nothing has to be given up, zeros are written like any data.
    So they are in strict mode under a key, where a hole would read as noise.
    Raises: BlockIOError; EINVAL beyond the end, EOPNOTSUPP for punch where a target or the view
            cannot.
    """
    if punch and not view.takes_discards:
        text = "what lies below takes no discards, or a hole would read as noise under a key"
        raise BlockIOError(Status.NOTSUPP, view.name, text)
    if offset >= view.size:
        text = f"zeroing {length} bytes at {offset} begins past the end at {view.size}"
        raise BlockIOError(errno.EINVAL, view.name, text)
    end = min(offset + length, view.size)
    first, last = offset + -offset % view.block_size, end - end % view.block_size
    if first >= last or not view.has_holes:
        await _write_zeros(view, offset, end)
        return
    await _write_zeros(view, offset, first)
    op = Op.DISCARD if punch else Op.WRITE_ZEROES
    bio = Bio(op, view.sector(first), bytes_to_sectors(last - first))
    try:
        await submit_bio(view.device, bio)
    except BlockIOError as error:
        # As blkdev_issue_zeroout: zeroing may fall back to writing, punching may not.
        if punch or error.errno != errno.EOPNOTSUPP:
            raise
        await _write_zeros(view, first, last)
    await _write_zeros(view, last, end)


async def zero_data(view: View) -> None:
    """Write zeros over a whole view, but where it has zeros: a snapshot copies what is written.

    Raises: BlockIOError.
    """
    for begin in range(0, view.size, len(_ZEROS)):
        data = await read(view, begin, len(_ZEROS))
        for run in runs_of_data(data, view.block_size):
            await write(view, begin + run.start, _ZEROS[: run.stop - run.start])
        await trio.lowlevel.checkpoint()


async def flush(view: View) -> None:
    """Make durable what was acknowledged, in every store below.

    Raises: BlockIOError.
    """
    await submit_bio(view.device, FLUSH)


def flush_nowait(view: View) -> None:
    """The same on the spot.

    Raises: BlockIOError; WouldBlock before any effect.
    """
    submit_nowait(view.device, (FLUSH,))


async def _write_zeros(view: View, begin: int, end: int) -> None:
    for offset in range(begin, end, len(_ZEROS)):
        await write(view, offset, _ZEROS[: end - offset])
        # A long range carried out on the spot must not keep others from their turn.
        await trio.lowlevel.checkpoint()


def read_requests(view: View, offset: int, length: int) -> tuple[list[Bio], memoryview]:
    """The bios that read a range, at most one, and the part of its buffer that was asked for. Pure.

    Units: bytes.
    """
    length = min(length, view.size - offset)
    if length <= 0:
        return [], NO_DATA
    begin, end = cover(offset, length, view.block_size)
    data = memoryview(bytearray(end - begin))
    return [view.bio(Op.READ, begin, data)], data[offset - begin : offset - begin + length]


def write_requests(view: View, offset: int, data: memoryview) -> list[Request]:
    """A write as bios of whole blocks and patches of the blocks at its ends. Pure.

    Raises: BlockIOError(ENOSPC) if any byte lies beyond the end.
    """
    if offset + len(data) > view.size:
        text = f"write of {len(data)} bytes at {offset} ends past the end at {view.size}"
        raise BlockIOError(errno.ENOSPC, view.name, text)
    requests: list[Request] = []
    for blocks in split_write(offset, len(data), view.block_size):
        payload = data[blocks.first : blocks.last]
        if blocks.is_whole:
            requests.append(view.bio(Op.WRITE, blocks.begin, payload))
        else:
            block = memoryview(bytearray(blocks.end - blocks.begin))
            read_block = view.bio(Op.READ, blocks.begin, block)
            write_block = view.bio(Op.WRITE, blocks.begin, block)
            requests.append(PatchBlock(read_block, write_block, blocks.offset, payload))
    return requests
