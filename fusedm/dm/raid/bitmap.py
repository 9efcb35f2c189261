"""Which regions of an array may differ between its members, as md's bitmap keeps it. Pure.

A bit is set, durably, before the first write to its region, and cleared some time after the last;
after a crash only regions whose bit is set are made alike again. On a metadata device it begins at
sector 8: a superblock of 256 bytes, then one bit a region. All numbers are little endian.
Source: struct bitmap_super_s of the kernel's md-bitmap.h.
"""

import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fusedm.block.units import SECTOR_SIZE

MAGIC = 0x6D746962
VERSION = 4
#: Where it begins on a metadata device, in sectors.
START_SECTOR = 8
#: What is written at once, if the device is large enough.
PAGE_BYTES = 4096
#: The bits are not to be trusted: all regions may differ.
STALE = 1

_FIELDS = struct.Struct("<II16xQQQIIIIII")
HEADER_BYTES = 256

#: The region of a new array where none is asked for, and how many there may be, at most.
DEFAULT_REGION = 1 << 13
MAX_REGIONS = 1 << 21


@dataclass(frozen=True)
class BitmapHeader:
    """The fields of the superblock; sizes in sectors, daemon_sleep in seconds."""

    events: int
    events_cleared: int
    sync_sectors: int
    region_sectors: int
    state: int = 0
    daemon_sleep: int = 5
    write_behind: int = 0

    def pack(self) -> bytes:
        """As on the device."""
        fields = _FIELDS.pack(
            *(MAGIC, VERSION, self.events, self.events_cleared, self.sync_sectors, self.state),
            *(self.region_sectors * SECTOR_SIZE, self.daemon_sleep, self.write_behind, 0, 0),
        )
        return fields.ljust(HEADER_BYTES, b"\0")


def parse_header(data: bytes | bytearray | memoryview) -> BitmapHeader | None:
    """What a bitmap begins with; None if that is none, or one that makes no sense."""
    magic, version, events, cleared, sync, state, chunk, sleep, behind, _, _ = _FIELDS.unpack_from(
        data
    )
    region = chunk // SECTOR_SIZE
    if magic != MAGIC or version not in (3, VERSION, 5) or not region or region & (region - 1):
        return None
    return BitmapHeader(events, cleared, sync, region, state, sleep, behind)


def region_for(sector_count: int) -> int:
    """The region of an array where none is asked for, in sectors."""
    least = sector_count // MAX_REGIONS
    return DEFAULT_REGION if least <= DEFAULT_REGION else 1 << least.bit_length()


class Bitmap:
    """The bits of an array, as they are to be and as they are known to be on the devices.

    Units:  region_sectors and all ranges in sectors that resync counts in.
    """

    def __init__(self, sync_sectors: int, region_sectors: int) -> None:
        self.sync_sectors = sync_sectors
        self.region_sectors = region_sectors
        self.count = -(-sync_sectors // region_sectors)
        self._bits = bytearray(-(-self.count // 8))
        self._stored = bytearray(len(self._bits))
        #: Regions that are to be made alike.
        self.needed: set[int] = set()
        #: Those of which that has been said again since the last look at them.
        self._renewed: set[int] = set()
        self._writers: Counter[int] = Counter()
        #: Regions that nobody has written to since the last look at them.
        self._cooling: set[int] = set()

    # Regions.

    def regions(self, begin: int, end: int) -> range:
        """Those that a range touches."""
        return range(begin // self.region_sectors, -(-end // self.region_sectors))

    def bounds(self, region: int) -> tuple[int, int]:
        """Where a region begins and ends."""
        begin = region * self.region_sectors
        return begin, min(begin + self.region_sectors, self.sync_sectors)

    def is_set(self, region: int) -> bool:
        """Whether a region may differ between members."""
        return _get(self._bits, region)

    def is_marked(self, begin: int, end: int) -> bool:
        """Whether the bits of a range are known to be set on the devices."""
        return all(
            _get(self._bits, region) and _get(self._stored, region)
            for region in self.regions(begin, end)
        )

    @property
    def has_open_bits(self) -> bool:
        """Whether bits are set of regions that are not to be made alike as it is."""
        return int.from_bytes(self._bits, "little").bit_count() > len(self.needed)

    def need(self, begin: int, end: int) -> None:
        """Regions of a range are to be made alike."""
        for region in self.regions(begin, end):
            _put(self._bits, region, True)
            self.needed.add(region)
            self._renewed.add(region)

    def take_up(self, region: int) -> None:
        """One that is needed is about to be made alike."""
        self._renewed.discard(region)

    def is_alike(self, region: int) -> None:
        """It has been made alike, since take_up; unless a write has failed meanwhile."""
        if region not in self._renewed:
            self.needed.discard(region)

    def is_needed(self, begin: int, end: int) -> bool:
        """Whether some region of a range is to be made alike."""
        if not self.needed:
            return False
        return any(region in self.needed for region in self.regions(begin, end))

    # Writers.

    def begin_write(self, begin: int, end: int) -> None:
        """Somebody is about to write a range: the bits are to be set."""
        for region in self.regions(begin, end):
            self._writers[region] += 1
            self._cooling.discard(region)
            _put(self._bits, region, True)

    def end_write(self, begin: int, end: int) -> None:
        """The write is over."""
        for region in self.regions(begin, end):
            self._writers[region] -= 1
            if not self._writers[region]:
                del self._writers[region]

    def cool(self, at_once: bool = False) -> list[int]:
        """What has not been written since the last time, and may be cleared now.

        at_once: what is not being written at this moment.
        """
        idle = {
            region
            for region in _each_set(self._bits, self.count)
            if region not in self._writers and region not in self.needed
        }
        ready = idle if at_once else idle & self._cooling
        self._cooling = idle - ready
        return sorted(ready)

    def is_cool(self, region: int) -> bool:
        """Whether a region may be cleared still: nobody has begun to write to it."""
        return region not in self._writers and region not in self.needed

    def clear(self, regions: Iterable[int]) -> list[int]:
        """Clear bits, as far as that may be; returns those. They may be gone from devices now."""
        cleared = [region for region in regions if self.is_cool(region)]
        for region in cleared:
            _put(self._bits, region, False)
            _put(self._stored, region, False)
        return cleared

    # Devices.

    @property
    def size_bytes(self) -> int:
        """The size of all of it, header included."""
        return HEADER_BYTES + len(self._bits)

    def page_of(self, region: int) -> int:
        """The number of the page that has a region's bit."""
        return (HEADER_BYTES + region // 8) // PAGE_BYTES

    def pages(self, regions: Iterable[int]) -> set[int]:
        """The pages that have the bits of regions."""
        return {self.page_of(region) for region in regions}

    @property
    def all_pages(self) -> range:
        """The numbers of all pages."""
        return range(-(-self.size_bytes // PAGE_BYTES))

    def page_range(self, page: int, block_bytes: int) -> tuple[int, int]:
        """Where a page lies, in bytes of the bitmap: as much of it as is used, in whole blocks."""
        end = min((page + 1) * PAGE_BYTES, self.size_bytes)
        return page * PAGE_BYTES, -(-end // block_bytes) * block_bytes

    def page(self, page: int, header: BitmapHeader, block_bytes: int) -> bytearray:
        """The contents of a page as they are to be."""
        begin, end = self.page_range(page, block_bytes)
        bits = self._bits[self._slice(page)]
        data = bits if page else bytearray(header.pack()) + bits
        return data.ljust(end - begin, b"\0")

    def snapshot(self, pages: Iterable[int]) -> dict[int, bytearray]:
        """The bits of some pages as they are now, for stored."""
        return {page: self._bits[self._slice(page)] for page in pages}

    def stored(self, written: dict[int, bytearray]) -> None:
        """What snapshot gave has been written; bits that were cleared meanwhile do not count."""
        for page, bits in written.items():
            where = self._slice(page)
            now = self._bits[where]
            self._stored[where] = bytearray(a & b for a, b in zip(bits, now, strict=True))

    def _slice(self, page: int) -> slice:
        begin = max(page * PAGE_BYTES - HEADER_BYTES, 0)
        return slice(begin, (page + 1) * PAGE_BYTES - HEADER_BYTES)


def set_ranges(
    header: BitmapHeader, bits: bytes | bytearray | memoryview
) -> Iterator[tuple[int, int]]:
    """The ranges of sectors whose bits are set on a device."""
    count = -(-header.sync_sectors // header.region_sectors)
    for region in _each_set(bits, min(count, len(bits) * 8)):
        begin = region * header.region_sectors
        yield begin, min(begin + header.region_sectors, header.sync_sectors)


def bits_bytes(header: BitmapHeader) -> int:
    """How many bytes of bits follow a header."""
    regions = -(-header.sync_sectors // header.region_sectors)
    return -(-regions // 8)


def _get(bits: bytes | bytearray | memoryview, region: int) -> bool:
    return bool(bits[region >> 3] >> (region & 7) & 1)


def _put(bits: bytearray, region: int, value: bool) -> None:
    if value:
        bits[region >> 3] |= 1 << (region & 7)
    else:
        bits[region >> 3] &= ~(1 << (region & 7))


def _each_set(bits: bytes | bytearray | memoryview, count: int) -> Iterator[int]:
    for at, byte in enumerate(bits):
        if byte:
            for bit in range(8):
                if byte >> bit & 1 and at * 8 + bit < count:
                    yield at * 8 + bit
