"""Buffers that begin where pages do, as direct I/O wants them: data are carried over in pieces."""

import mmap
import threading
from collections.abc import Callable

#: The size of a piece: as much as a large request has.
PIECE_BYTES = 1 << 20

_buffers = threading.local()


def read_in_pieces(
    read: Callable[[int, memoryview], None], offset: int, buffer: memoryview
) -> None:
    """Fill a buffer by reads into aligned ones."""
    aligned = _aligned()
    for begin in range(0, len(buffer), PIECE_BYTES):
        piece = aligned[: len(buffer) - begin]
        read(offset + begin, piece)
        buffer[begin : begin + len(piece)] = piece


def write_in_pieces(
    write: Callable[[int, memoryview], None], offset: int, data: memoryview
) -> None:
    """Write all of data from aligned buffers; what was taken before an error stays written."""
    aligned = _aligned()
    for begin in range(0, len(data), PIECE_BYTES):
        piece = aligned[: len(data) - begin]
        piece[:] = data[begin : begin + len(piece)]
        write(offset + begin, piece)


def _aligned() -> memoryview:
    """This thread's own buffer."""
    if not hasattr(_buffers, "own"):
        _buffers.own = memoryview(mmap.mmap(-1, PIECE_BYTES))
    own: memoryview = _buffers.own
    return own
