"""What a server answers in the transmission phase, as bytes. Pure.

A reply is a list of buffers to be sent one after the other, so that data need not be copied.
"""

from collections.abc import Sequence

from fusedm.nbd import words
from fusedm.nbd.words import Chunk, ChunkFlag, ExtentFlag

Parts = list[bytes | memoryview]

#: The context id of base:allocation, the only one there is.
CONTEXT_ID = 1


def simple(cookie: int, error: int = 0) -> Parts:
    """That a request is done, or why not; error as on the wire."""
    return [words.SIMPLE_REPLY.pack(words.SIMPLE_REPLY_MAGIC, error, cookie)]


def simple_data(cookie: int, data: memoryview) -> Parts:
    """What was read, where structured replies are not spoken."""
    return [*simple(cookie), data]


def data_chunk(cookie: int, offset: int, data: memoryview, done: bool) -> Parts:
    """Bytes that were read; done with the last chunk of a reply."""
    size = words.CHUNK_OFFSET.size + len(data)
    head = _chunk(cookie, Chunk.OFFSET_DATA, size, done)
    return [head + words.CHUNK_OFFSET.pack(offset), data]


def hole_chunk(cookie: int, offset: int, length: int, done: bool) -> Parts:
    """A range that reads as zeros."""
    head = _chunk(cookie, Chunk.OFFSET_HOLE, words.CHUNK_HOLE.size, done)
    return [head + words.CHUNK_HOLE.pack(offset, length)]


def error_chunk(cookie: int, error: int, text: str) -> Parts:
    """Why a request failed, in words as well; the end of its reply."""
    told = text.encode(errors="replace")[: words.MAX_STRING_BYTES]
    head = _chunk(cookie, Chunk.ERROR, words.CHUNK_ERROR.size + len(told), True)
    return [head + words.CHUNK_ERROR.pack(error, len(told)) + told]


def status_chunk(cookie: int, extents: Sequence[tuple[int, bool]]) -> Parts:
    """What is a hole: extents as (length in bytes, whether it is one), one after the other."""
    hole = ExtentFlag.HOLE | ExtentFlag.ZERO
    told = b"".join(
        words.EXTENT.pack(length, hole if is_hole else 0) for length, is_hole in extents
    )
    head = _chunk(cookie, Chunk.BLOCK_STATUS, words.COUNT.size + len(told), True)
    return [head + words.COUNT.pack(CONTEXT_ID) + told]


def _chunk(cookie: int, kind: Chunk, size: int, done: bool) -> bytes:
    flags = ChunkFlag.DONE if done else 0
    return words.STRUCTURED_REPLY.pack(words.STRUCTURED_REPLY_MAGIC, flags, kind, cookie, size)
