"""Which chunks of an origin have been copied to where, and how a device keeps that. Pure.

On the device, in chunks: one of the header; then areas, each one chunk of metadata and the data
chunks it tells of. An entry of the metadata is a chunk of the origin and a chunk of this device;
the first entry of 0 ends the list. All numbers are little endian.
Source: the on-disk format of the kernel's dm-snap-persistent.c.
"""

import errno
import struct
from collections.abc import Iterable

from fusedm.block.errors import StackError
from fusedm.block.units import SECTOR_SIZE

MAGIC = 0x70416E53
VERSION = 1
#: The chunk size of a new store where none is asked for, in sectors.
DEFAULT_CHUNK_SECTORS = 32

_HEADER = struct.Struct("<IIII")
_ENTRY = struct.Struct("<QQ")


class ExceptionStore:
    """The exceptions of one snapshot, kept in memory only.

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

    def add(self, old: int, new: int) -> None:
        """A chunk of the origin is found in one of the device from now on."""
        self.chunks[old] = new

    def usage(self) -> str:
        """Allocated and all sectors, and those of metadata, as `status` prints them."""
        return f"{self._next * self.chunk_sectors}/{self.size_sectors} 0"


class PersistentStore(ExceptionStore):
    """The same, kept on the device too; whoever adds writes what pending_area says."""

    is_persistent = True

    def __init__(self, chunk_sectors: int, size_sectors: int) -> None:
        super().__init__(chunk_sectors, size_sectors)
        self.chunk_bytes = chunk_sectors * SECTOR_SIZE
        self.entries_per_area = self.chunk_bytes // _ENTRY.size
        self.area = 0
        self._entries = bytearray(self.chunk_bytes)
        self._entry_count = 0
        self._next = 2

    def header(self, is_valid: bool = True) -> bytes:
        """The first chunk of the device."""
        fields = _HEADER.pack(MAGIC, is_valid, VERSION, self.chunk_sectors)
        return fields.ljust(self.chunk_bytes, b"\0")

    def area_sector(self, area: int) -> int:
        """Where the metadata of an area begin."""
        return (1 + area * (self.entries_per_area + 1)) * self.chunk_sectors

    def add(self, old: int, new: int) -> None:
        super().add(old, new)
        _ENTRY.pack_into(self._entries, self._entry_count * _ENTRY.size, old, new)
        self._entry_count += 1

    @property
    def is_area_empty(self) -> bool:
        """Whether the current area tells of nothing."""
        return not self._entry_count

    def areas_filled_by(self, count: int) -> int:
        """How many areas so many more entries fill."""
        return (self._entry_count + count) // self.entries_per_area

    @property
    def is_area_full(self) -> bool:
        """Whether no entry fits any more: the next area is to be cleared before this is written."""
        return self._entry_count == self.entries_per_area

    def area_bytes(self) -> bytearray:
        """The metadata of the current area, its own until the next entry is added."""
        return self._entries

    def written(self) -> None:
        """The current area is on the device; a full one makes way for the next."""
        if self.is_area_full:
            self.area += 1
            self._entries = bytearray(self.chunk_bytes)
            self._entry_count = 0

    def take_area(self, data: bytes | bytearray) -> bool:
        """Take in the metadata of the current area as read; whether there is another one."""
        for old, new in _entries(data):
            self.add(old, new)
            self._next = max(self._next, new + 1)
        more = self.is_area_full
        self.written()
        self._next = self._past_metadata(self._next)
        return more

    def usage(self) -> str:
        allocated = self._next * self.chunk_sectors
        return f"{allocated}/{self.size_sectors} {(self.area + 2) * self.chunk_sectors}"

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
