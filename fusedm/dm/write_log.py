"""The log of log-writes: what it keeps until it is logged, and its entries on the device. Pure.

All little endian. Super: magic, version, entries, sector size. Entry: sector, sectors (both in
units of the sector size), flags, length of the text of a mark; then the data that were written.
"""

import logging
import struct

from fusedm.block import FLUSH, Bio, BlockDevice, Op
from fusedm.block.errors import BlockIOError
from fusedm.block.units import SECTOR_SHIFT
from fusedm.dm.target import Remap
from fusedm.dm.turns import Steps

SUPER = struct.Struct("<QQQI")
ENTRY = struct.Struct("<QQQQ")
MAGIC, VERSION = 0x6A736677736872, 1
FLUSHED, DURABLE, DISCARDED, MARKED = 1, 2, 4, 8

log = logging.getLogger(__name__)


class WriteLog:
    """A log on a device, in entries of sector_size bytes each and their data.

    unflushed are entries of what has ended and was not logged yet, unflushed_bytes their length.
    name is that of what is logged, for messages. Once it is full or fails nothing is logged more.
    """

    def __init__(self, name: str, device: BlockDevice, sector_size: int) -> None:
        self.name = name
        self.device = device
        self.sector_size = sector_size
        self.enabled = True
        self.entry_count = 0
        self.next_sector = sector_size >> SECTOR_SHIFT
        self.unflushed: list[bytearray] = []
        self.unflushed_bytes = 0

    @property
    def longest_mark(self) -> int:
        """How many bytes the text of a mark may have."""
        return self.sector_size - ENTRY.size - 1

    def entry(self, flags: int, bio: Bio = FLUSH, text: bytes = b"") -> bytearray:
        """An entry as it is in the log: one sector, and the data written if there are any."""
        unit = self.sector_size >> SECTOR_SHIFT
        entry = bytearray(self.sector_size + len(bio.data))
        place = bio.sector // unit, bio.sector_count // unit
        ENTRY.pack_into(entry, 0, *place, flags, len(text))
        entry[ENTRY.size : ENTRY.size + len(text)] = text
        entry[self.sector_size :] = bio.data
        return entry

    def keep(self, bio: Bio) -> None:
        """A bio has ended; it is logged with the next flush."""
        entry = self.entry(DISCARDED if bio.op is Op.DISCARD else 0, bio)
        self.unflushed.append(entry)
        self.unflushed_bytes += len(entry)

    def take(self) -> list[bytearray]:
        """What has ended so far."""
        taken, self.unflushed, self.unflushed_bytes = self.unflushed, [], 0
        return taken

    def put_back(self, entries: list[bytearray]) -> None:
        """Have entries logged before all that has ended meanwhile."""
        self.unflushed[:0] = entries
        self.unflushed_bytes += sum(map(len, entries))

    # Scripts.

    def append(self, entries: list[bytearray]) -> Steps[None]:
        """Log entries while there is room, as the kernel never up to its last sector."""
        for entry in entries:
            if not self.enabled:
                return
            sector = self.next_sector
            self.next_sector += len(entry) >> SECTOR_SHIFT
            if self.next_sector >= self.device.sector_count:
                yield from self.write_super()
                self._stop(f"{self.device.name} is full")
                return
            self.entry_count += 1
            yield from self._put(sector, entry)

    def write_super(self) -> Steps[None]:
        """Have the log say how many entries it has."""
        head = bytearray(self.sector_size)
        SUPER.pack_into(head, 0, MAGIC, VERSION, self.entry_count, self.sector_size)
        yield from self._put(0, head)

    def mark(self, text: bytes) -> Steps[str]:
        """Log a mark at once; returns the reply to the message."""
        yield from self.append([self.entry(MARKED, text=text)])
        yield from self.write_super()
        return ""

    def _put(self, sector: int, data: bytearray) -> Steps[None]:
        if not self.enabled:
            return
        try:
            yield Remap(self.device, Bio.write(sector, memoryview(data)))
        except BlockIOError as error:
            self._stop(str(error))

    def _stop(self, why: str) -> None:
        """Log nothing more; what is logged goes on."""
        log.warning("log-writes over %s: logging stops: %s", self.name, why)
        self.enabled = False
        self.take()


def mark_durable(entries: list[bytearray]) -> None:
    """Make the last write of some entries one with FUA."""
    for entry in reversed(entries):
        *place, flags, text_length = ENTRY.unpack_from(entry)
        if not flags:
            ENTRY.pack_into(entry, 0, *place, DURABLE, text_length)
            return
