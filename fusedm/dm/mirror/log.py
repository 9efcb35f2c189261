"""The log of a mirror: which regions are the same on all legs, and which may not be after a crash.

That a region is written to is marked, and the mark is on the medium, before the first write to it;
it is marked clean again some time after the last one has ended, when all that was written is
durable. What is not clean when a table is loaded is copied from one leg to the others.

Source: drivers/md/dm-log.c. On the medium, little endian: magic, version, number of regions; from
sector 2 on a bit for each region that is clean.
"""

import struct
from collections.abc import Iterable, Iterator

from fusedm.block import FLUSH, Bio, BlockDevice
from fusedm.block.errors import BlockIOError, StackError
from fusedm.block.units import SECTOR_SIZE
from fusedm.dm.mirror.regions import Regions, set_bytes
from fusedm.dm.signal import Signal
from fusedm.dm.target import Many, Remap, Wait
from fusedm.dm.turns import Steps

HEADER = struct.Struct("<IIQ")
MAGIC, VERSION = 0x4D695272, 2
BITS_AT = 2 * SECTOR_SIZE


def log_bytes(region_count: int, block_size: int) -> int:
    """How much of a log device a log takes."""
    return -(-(BITS_AT + set_bytes(region_count)) // block_size) * block_size


class RegionLog:
    """What is known of each region; on a device, or until the table goes.

    start: "sync" begins with no region in sync, "nosync" with all, "" with those the device tells.
    """

    def __init__(
        self, region_count: int, start: str = "", device: BlockDevice | None = None
    ) -> None:
        self.region_count = region_count
        self.start = start
        self.device = device
        self._block = device.limits.logical_block_size if device is not None else SECTOR_SIZE
        self._buffer = memoryview(bytearray(log_bytes(region_count, self._block)))
        bits = self._buffer[BITS_AT : BITS_AT + set_bytes(region_count)]
        self._clean = Regions(region_count, bits)
        self._in_sync = Regions(region_count)
        self._in_sync.fill(0, start == "nosync")
        #: How many regions are in sync.
        self.sync_count = len(self._in_sync)
        #: Whether the device has failed, and whether it was a flush that did.
        self.has_failed = False
        self.has_failed_flush = False
        #: Set once a leg may have lost what was written: then nothing is marked clean any more.
        self.never_clean = False
        self._is_loaded = False
        # Which blocks have changed since they were last written, how often any has, and how many
        # of these changes are on the medium.
        self._touched: set[int] = set()
        self._changes = self._durable = 0
        self._is_writing = False
        self._written = Signal()

    # What is known.

    def is_in_sync(self, region: int) -> bool:
        """Whether all legs hold the same there, or are about to."""
        return region in self._in_sync

    def out_of_sync(self) -> Iterator[int]:
        """The regions that are to be copied as of now, in order."""
        return self._in_sync.missing()

    def set_in_sync(self, region: int, is_in_sync: bool) -> None:
        """Note that a region has been copied, or that a write has failed on some leg."""
        if (region in self._in_sync) != is_in_sync:
            (self._in_sync.add if is_in_sync else self._in_sync.discard)(region)
            self.sync_count += 1 if is_in_sync else -1

    @property
    def state(self) -> str:
        """The letter that status has for the device."""
        return "F" if self.has_failed_flush else "D" if self.has_failed else "A"

    # What is on the medium.

    def load(self) -> Steps[None]:
        """Find out which regions are in sync, and make the log one of this mirror's.

        Where the device cannot be read none is. When called again the regions are known already.
        Raises: StackError for a log of another version; BlockIOError if it cannot be written, and
                goes on all the same.
        """
        if self.device is None:
            return
        if not self._is_loaded:
            known = yield from self._read()
            self._clean.fill(known, self.start == "nosync")
            self._in_sync.take(self._clean)
            self.sync_count = len(self._in_sync)
            self._is_loaded = True
        HEADER.pack_into(self._buffer, 0, MAGIC, VERSION, self.region_count)
        self._touch(0, len(self._buffer))
        yield from self.write(is_durable=True)

    def _read(self) -> Steps[int]:
        """Of how many regions the device tells."""
        assert self.device is not None, "it is asked for what lies there"
        try:
            yield Remap(self.device, Bio.read(0, self._buffer))
        except BlockIOError:
            self.has_failed = True
            return 0
        magic, version, count = HEADER.unpack_from(self._buffer)
        if self.start or magic != MAGIC:
            return 0
        if version not in (1, VERSION):
            text = f"mirror: the log on {self.device.name} has version {version}, not {VERSION}"
            raise StackError(text)
        return min(int(count), self.region_count)

    def mark(self, regions: Iterable[int]) -> Steps[None]:
        """Have regions marked as written to, on the medium.

        Raises: BlockIOError.
        """
        for region in regions:
            self._set_clean(region, False)
        yield from self.write(is_durable=True)

    def mark_clean(self, regions: Iterable[int]) -> Steps[None]:
        """Mark regions clean, whose data are durable on all legs; the marks may be lost.

        Raises: BlockIOError.
        """
        for region in regions:
            self._set_clean(region, True)
        yield from self.write(is_durable=False)

    def mark_none_clean(self) -> Steps[None]:
        """Let all regions be copied when the log is loaded again.

        Raises: BlockIOError.
        """
        self.never_clean = True
        self._clean.fill(0, False)
        self._touch(0, len(self._buffer))
        yield from self.write(is_durable=True)

    def _set_clean(self, region: int, is_clean: bool) -> None:
        if (region in self._clean) != is_clean and not (is_clean and self.never_clean):
            (self._clean.add if is_clean else self._clean.discard)(region)
            at = BITS_AT + (region >> 3)
            self._touch(at, at + 1)

    def _touch(self, begin: int, end: int) -> None:
        self._touched.update(range(begin // self._block, -(-end // self._block)))
        self._changes += 1

    def write(self, is_durable: bool) -> Steps[None]:
        """Write what has changed so far; one does it for all who come meanwhile.

        Raises: BlockIOError.
        """
        if self.device is None:
            self._touched.clear()
            return
        wanted = self._changes
        while self._touched_before(wanted, is_durable):
            if self._is_writing:
                yield Wait(self._written)
                continue
            self._is_writing = True
            try:
                yield from self._write(self.device, is_durable)
            finally:
                self._is_writing = False
                self._written.notify()

    def _touched_before(self, wanted: int, is_durable: bool) -> bool:
        """Whether a change up to that number is still to be written, or not durable."""
        return self._durable < wanted if is_durable else bool(self._touched)

    def _write(self, device: BlockDevice, is_durable: bool) -> Steps[None]:
        changes, touched = self._changes, sorted(self._touched)
        self._touched.clear()
        try:
            yield Many(tuple(self._block_write(device, block) for block in touched))
            if not is_durable:
                return
            try:
                yield Remap(device, FLUSH)
            except BlockIOError:
                self.has_failed_flush = True
                raise
        except BlockIOError:
            self.has_failed = True
            self._touched.update(touched)
            raise
        self._durable = changes

    def _block_write(self, device: BlockDevice, block: int) -> Remap:
        begin = block * self._block
        # A copy: the marks may change while it is under way.
        data = memoryview(bytes(self._buffer[begin : begin + self._block]))
        return Remap(device, Bio.write(begin // SECTOR_SIZE, data))
