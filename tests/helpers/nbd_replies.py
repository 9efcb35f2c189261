"""What an NBD server answers, as bytes."""

from fusedm.nbd import words
from fusedm.nbd.words import Chunk, ChunkFlag


def simple(cookie: int, error: int = 0, data: bytes = b"") -> bytes:
    return words.SIMPLE_REPLY.pack(words.SIMPLE_REPLY_MAGIC, error, cookie) + data


def chunk(cookie: int, kind: int, payload: bytes = b"", is_last: bool = True) -> bytes:
    flags = ChunkFlag.DONE if is_last else 0
    header = (words.STRUCTURED_REPLY_MAGIC, flags, kind, cookie, len(payload))
    return words.STRUCTURED_REPLY.pack(*header) + payload


def none(cookie: int) -> bytes:
    return chunk(cookie, Chunk.NONE)


def data(cookie: int, offset: int, content: bytes, is_last: bool = True) -> bytes:
    return chunk(
        cookie, Chunk.OFFSET_DATA, words.CHUNK_OFFSET.pack(offset) + content, is_last=is_last
    )


def hole(cookie: int, offset: int, length: int, is_last: bool = True) -> bytes:
    return chunk(cookie, Chunk.OFFSET_HOLE, words.CHUNK_HOLE.pack(offset, length), is_last=is_last)


def extent(cookie: int, length: int, flags: int, context: int = 7, is_last: bool = True) -> bytes:
    payload = words.COUNT.pack(context) + words.EXTENT.pack(length, flags)
    return chunk(cookie, Chunk.BLOCK_STATUS, payload, is_last=is_last)


def error(cookie: int, number: int, text: bytes = b"", is_last: bool = True) -> bytes:
    payload = words.CHUNK_ERROR.pack(number, len(text)) + text
    return chunk(cookie, Chunk.ERROR, payload, is_last=is_last)


def error_at(cookie: int, number: int, offset: int, is_last: bool = True) -> bytes:
    payload = words.CHUNK_ERROR.pack(number, 0) + words.CHUNK_OFFSET.pack(offset)
    return chunk(cookie, Chunk.ERROR_OFFSET, payload, is_last=is_last)
