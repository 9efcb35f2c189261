"""Bytes at offsets on a view: what a file handle does, over bios of whole blocks.

A range that does not begin or end on a block is widened: a read reads the whole blocks and hands
out a part, a write patches the blocks at its ends. All bios of one call are planned together, so a
patched block is read and written under one range lock and against one table.
"""

import errno
from collections.abc import Sequence

from fusedm.block import FLUSH, NO_DATA, Bio, Op
from fusedm.block.errors import BlockIOError
from fusedm.crypto import PatchBlock, Request, submit_bio, submit_made
from fusedm.fuse.byte_io import cover, split_write
from fusedm.system import View


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


async def write(view: View, offset: int, data: memoryview, durable: bool = False) -> None:
    """Write all of data; durable as well when this returns, if asked for.

    Raises: BlockIOError; ENOSPC if any byte lies beyond the end, and then nothing is written.
    """
    await submit_made(view.device, lambda: write_requests(view, offset, data))
    if durable:
        await flush(view)


async def flush(view: View) -> None:
    """Make durable what was acknowledged, in every store below.

    Raises: BlockIOError.
    """
    await submit_bio(view.device, FLUSH)


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
