"""A sparse store in memory: only chunks that hold something other than zeros take space."""

from threading import Lock

from fusedm.block import Op
from fusedm.block.units import SECTOR_SIZE
from fusedm.stores.geometry import check_size, check_writable

CHUNK_SIZE = 1 << 16

_ZEROS = memoryview(bytes(CHUNK_SIZE))


class MemoryStore:
    """Bytes in 64 KiB chunks by index; a chunk that is not there reads as zeros.

    Changes take a lock, so that a chunk is never freed while a neighbour is written into it. Reads
    take none: a chunk freed under a reader held zeros wherever nobody else was writing.
    """

    def __init__(
        self, size: int, logical_block_size: int = SECTOR_SIZE, read_only: bool = False
    ) -> None:
        check_size("memory", size, logical_block_size)
        self.size = size
        self.logical_block_size = logical_block_size
        self.read_only = read_only
        self._lock = Lock()
        # Views rather than bytearrays: assigning to a bytearray's slice copies the source twice.
        self._chunks: dict[int, memoryview] = {}

    @property
    def allocated_bytes(self) -> int:
        """Memory taken by chunks."""
        return len(self._chunks) * CHUNK_SIZE

    def may_block(self, op: Op) -> bool:
        """Never."""
        return False

    def pread_into(self, offset: int, buffer: memoryview) -> None:
        """Fill the buffer."""
        for index, begin, piece in _pieces(offset, buffer):
            piece[:] = self._chunks.get(index, _ZEROS)[begin : begin + len(piece)]

    def pwrite(self, offset: int, data: memoryview) -> None:
        """Write all of data."""
        check_writable(self)
        with self._lock:
            for index, begin, piece in _pieces(offset, data):
                chunk = self._chunks.get(index)
                if chunk is None:
                    chunk = self._chunks[index] = memoryview(bytearray(CHUNK_SIZE))
                chunk[begin : begin + len(piece)] = piece

    def flush(self) -> None:
        """Nothing outlives the process, so there is nothing to do."""

    def discard(self, offset: int, length: int) -> None:
        """Zero the range and free chunks that have become all zeros."""
        self.write_zeroes(offset, length)

    def write_zeroes(self, offset: int, length: int) -> None:
        """Zero the range and free chunks that have become all zeros."""
        check_writable(self)
        with self._lock:
            for index in self._held(offset // CHUNK_SIZE, -(-(offset + length) // CHUNK_SIZE)):
                chunk = self._chunks[index]
                begin = max(offset - index * CHUNK_SIZE, 0)
                end = min(offset + length - index * CHUNK_SIZE, CHUNK_SIZE)
                chunk[begin:end] = _ZEROS[begin:end]
                # The bytearray compares with one memcmp, a memoryview byte by byte.
                if chunk.obj == _ZEROS.obj:
                    del self._chunks[index]

    def close(self) -> None:
        """Free everything."""
        self._chunks.clear()

    def _held(self, first: int, end: int) -> list[int]:
        """Indexes of the chunks that are there, looked for on the shorter side."""
        if end - first <= len(self._chunks):
            return [index for index in range(first, end) if index in self._chunks]
        return [index for index in self._chunks if first <= index < end]


def _pieces(offset: int, data: memoryview) -> list[tuple[int, int, memoryview]]:
    """Cut at chunk borders: (chunk index, begin within the chunk, piece of data)."""
    index, begin = divmod(offset, CHUNK_SIZE)
    # Nearly every bio lies within one chunk.
    if begin + len(data) <= CHUNK_SIZE:
        return [(index, begin, data)]
    pieces = [(index, begin, data[: CHUNK_SIZE - begin])]
    for done in range(CHUNK_SIZE - begin, len(data), CHUNK_SIZE):
        index += 1
        pieces.append((index, 0, data[done : done + CHUNK_SIZE]))
    return pieces
