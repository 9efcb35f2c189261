"""Bytes at offsets on a view: what a file handle does, over bios of whole blocks.

A range that does not begin or end on a block is widened: a read reads the whole blocks and hands
out a part, a write patches the blocks at its ends. All bios of one call are planned together, so a
patched block is read and written under one range lock and against one table.
"""

import errno

from fusedm.block import FLUSH, Bio, Op
from fusedm.block.errors import BlockIOError
from fusedm.crypto import PatchBlock, Request, submit, submit_bio
from fusedm.fuse.byte_io import cover, split_write
from fusedm.system import View


async def read(view: View, offset: int, length: int) -> memoryview:
    """Bytes of a view; fewer at its end, none beyond.

    Raises: BlockIOError.
    """
    length = min(length, view.size - offset)
    if length <= 0:
        return memoryview(b"")
    begin, end = cover(offset, length, view.block_size)
    data = memoryview(bytearray(end - begin))
    await submit_bio(view.device, view.bio(Op.READ, begin, data))
    return data[offset - begin : offset - begin + length]


async def write(view: View, offset: int, data: memoryview, durable: bool = False) -> None:
    """Write all of data; durable as well when this returns, if asked for.

    Raises: BlockIOError; ENOSPC if any byte lies beyond the end, and then nothing is written.
    """
    if offset + len(data) > view.size:
        text = f"write of {len(data)} bytes at {offset} ends past the end at {view.size}"
        raise BlockIOError(errno.ENOSPC, view.name, text)
    if data:
        await submit(view.device, write_requests(view, offset, data))
    if durable:
        await flush(view)


async def flush(view: View) -> None:
    """Make durable what was acknowledged, in every store below.

    Raises: BlockIOError.
    """
    await submit_bio(view.device, FLUSH)


def write_requests(view: View, offset: int, data: memoryview) -> list[Request]:
    """A write as bios of whole blocks and patches of the blocks at its ends. Pure."""
    requests: list[Request] = []
    for blocks in split_write(offset, len(data), view.block_size):
        payload = data[blocks.first : blocks.last]
        if blocks.is_whole:
            requests.append(_write(view, blocks.begin, payload))
        else:
            block = memoryview(bytearray(blocks.end - blocks.begin))
            read_block = view.bio(Op.READ, blocks.begin, block)
            write_block = _write(view, blocks.begin, block)
            requests.append(PatchBlock(read_block, write_block, blocks.offset, payload))
    return requests


def _write(view: View, offset: int, data: memoryview) -> Bio:
    return view.bio(Op.WRITE, offset, data)
