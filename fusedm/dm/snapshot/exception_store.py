"""Which chunks of an origin have been copied to where, and how a device keeps that. Pure.

On the device, in chunks: one of the header; then areas, each one chunk of metadata and the data
chunks it tells of. An entry of the metadata is a chunk of the origin and a chunk of this device;
the first entry of 0 ends the list. All numbers are little endian.
Source: the on-disk format of the kernel's dm-snap-persistent.c.
"""

import errno
import struct
from collections.abc import Iterable, Sequence
from itertools import islice

from fusedm.block.errors import StackError
from fusedm.block.units import SECTOR_SIZE

MAGIC = 0x70416E53
VERSION = 1
#: The chunk size of a new store where none is asked for, in sectors.
DEFAULT_CHUNK_SECTORS = 32

_HEADER = struct.Struct("<IIII")
_ENTRY = struct.Struct("<QQ")


#: Sectors of the device and what to write there.
Written = tuple[int, bytes | memoryview]


class ExceptionStore:
    """The exceptions of one snapshot, kept in memory only, in the order in which they were made.

    Units: chunks of chunk_sectors sectors; size_sectors is the device's.
    """

    is_persistent = False

    def __init__(self, chunk_sectors: int, size_sectors: int) -> None:
        self.chunk_sectors = chunk_sectors
        self.size_sectors = size_sectors
        self.chunks: dict[int, int] = {}
        self._next = 0

    def allocate(self, count: int) -> list[int]:
        """Free chunks of the device, in order; fewer if it is full."""
        chunks: list[int] = []
        while len(chunks) < count and (self._next + 1) * self.chunk_sectors <= self.size_sectors:
            chunks.append(self._next)
            self._next = self._after(self._next)
        return chunks

    def _after(self, chunk: int) -> int:
        """The chunk that is used after one."""
        return chunk + 1

    def add(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Chunks of the origin are found in chunks of the device from now on."""
        self.chunks.update(pairs)

    def usage(self) -> list[str]:
        """Allocated and all sectors, and those of metadata, as `status` prints them."""
        return [f"{self._next * self.chunk_sectors}/{self.size_sectors}", "0"]


class PersistentStore(ExceptionStore):
    """The same, kept on the device too: who adds or removes writes what it says before."""

    is_persistent = True

    def __init__(self, chunk_sectors: int, size_sectors: int) -> None:
        super().__init__(chunk_sectors, size_sectors)
        self.chunk_bytes = chunk_sectors * SECTOR_SIZE
        self.entries_per_area = self.chunk_bytes // _ENTRY.size
        self._next = 2
        self._has_removed = False

    def header(self, is_valid: bool = True) -> Written:
        """The first chunk of the device."""
        fields = _HEADER.pack(MAGIC, is_valid, VERSION, self.chunk_sectors)
        return 0, fields.ljust(self.chunk_bytes, b"\0")

    @property
    def area(self) -> int:
        """The area that the next entry goes to."""
        return len(self.chunks) // self.entries_per_area

    def area_sector(self, area: int) -> int:
        """Where the metadata of an area begin."""
        return self._area_chunk(area) * self.chunk_sectors

    def written_area(self, area: int, entries: Iterable[tuple[int, int]] = ()) -> Written:
        """The metadata of an area with some entries."""
        data = b"".join(_ENTRY.pack(*entry) for entry in entries)
        return self.area_sector(area), data.ljust(self.chunk_bytes, b"\0")

    def telling(self, pairs: Sequence[tuple[int, int]]) -> tuple[list[Written], list[Written]]:
        """What is to be written before pairs may be added: the latter once the former is durable.

        A full area leads to the next one, so the areas behind those that become full are emptied
        first.
        """
        size, area = self.entries_per_area, self.area
        entries = [*self._last(len(self.chunks) % size), *pairs]
        last = area + len(entries) // size
        empty = [self.written_area(number) for number in range(area + 1, last + 1)]
        told = [
            self.written_area(area + begin // size, entries[begin : begin + size])
            for begin in range(0, len(entries), size)
        ]
        return empty, told

    def take_area(self, data: bytes | bytearray) -> bool:
        """Take in the metadata of the current area as read; whether there is another one."""
        area, before = self.area, len(self.chunks)
        entries = list(_entries(data))
        self.chunks.update(entries)
        if len(self.chunks) - before < len(entries):
            raise StackError(f"area {area} of the metadata tells of a chunk for the second time")
        self._next = self._past_metadata(max([self._next, *(new + 1 for _, new in entries)]))
        return self.area > area

    def usage(self) -> list[str]:
        metadata = (self.area + 2) * self.chunk_sectors
        return [f"{self._next * self.chunk_sectors}/{self.size_sectors}", f"{metadata}"]

    # Merging: entries go in the order opposite to the one in which they came.

    def last_run(self, most: int) -> tuple[int, int, int]:
        """The last chunks that lie next to each other here and in the origin, at most so many.

        Returns: the first of the origin, that of the device, and how many; 0: all is merged.
        """
        in_area = (len(self.chunks) - 1) % self.entries_per_area + 1
        entries = reversed(self.chunks.items())
        old, new = first = next(entries, (0, 0))
        count = 0 if first == (0, 0) else 1
        for before in islice(entries, min(in_area, most) - 1):
            if before != (old - 1, new - 1):
                break
            (old, new), count = before, count + 1
        return old, new, count

    def without_last(self, count: int) -> Written:
        """What is to be written before the last entries, all of one area, may be removed."""
        left = len(self.chunks) - count
        area = left // self.entries_per_area
        kept = self._last(len(self.chunks) - area * self.entries_per_area)
        return self.written_area(area, kept[:-count])

    def remove_last(self, count: int) -> None:
        """Those chunks are found in the origin from now on; free is what lies behind all others."""
        for _ in range(count):
            self.chunks.popitem()
        within = len(self.chunks) % self.entries_per_area
        self._next = self._area_chunk(self.area) + within + 1
        self._has_removed = True

    def allocate(self, count: int) -> list[int]:
        if self._has_removed:
            # Chunks need not lie in the order of their entries, though usage says so by then.
            self._next = self._past_metadata(max(self.chunks.values(), default=1) + 1)
            self._has_removed = False
        return super().allocate(count)

    def _last(self, count: int) -> list[tuple[int, int]]:
        return list(islice(reversed(self.chunks.items()), count))[::-1]

    def _area_chunk(self, area: int) -> int:
        return 1 + area * (self.entries_per_area + 1)

    def _after(self, chunk: int) -> int:
        return self._past_metadata(chunk + 1)

    def _past_metadata(self, chunk: int) -> int:
        return chunk + (chunk % (self.entries_per_area + 1) == 1)


def parse_header(data: bytes | bytearray) -> tuple[int, bool] | None:
    """Chunk size in sectors and whether the store is valid; None for a device of zeros.

    Raises: StackError: ENXIO for anything else that is no header, EINVAL for one that cannot be.
    """
    magic, valid, version, chunk = _HEADER.unpack_from(data)
    if magic == 0:
        return None
    if magic != MAGIC:
        text = f"magic {magic:#010x} is not that of a snapshot ({MAGIC:#010x})"
        raise StackError(text, errno.ENXIO)
    if version != VERSION:
        raise StackError(f"snapshot version {version} is not {VERSION}")
    if chunk <= 0 or chunk & (chunk - 1) or chunk > MAX_CHUNK_SECTORS:
        raise StackError(f"chunk size {chunk} in the header is not a power of two of sectors")
    return chunk, bool(valid)


#: The kernel keeps the bytes of a chunk in an int; a chunk has to fit into memory.
MAX_CHUNK_SECTORS = (1 << 31) - 1 >> 9


def _entries(data: bytes | bytearray) -> Iterable[tuple[int, int]]:
    for old, new in _ENTRY.iter_unpack(data):
        if new == 0:
            return
        yield old, new
