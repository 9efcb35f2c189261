"""log-writes: one device, and a log of what is written to it on another.  See log-writes.md."""

import logging
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

from fusedm.block import FLUSH, Bio, BlockDevice, Op, RangeLocks
from fusedm.block.errors import BlockIOError, StackError
from fusedm.block.units import SECTOR_SHIFT
from fusedm.dm.arguments import Arguments
from fusedm.dm.target import (
    Action,
    Complete,
    Remap,
    Script,
    Segment,
    Steady,
    Target,
    Word,
)
from fusedm.dm.turns import Steps

#: The log, little endian. Super: magic, version, entries, sector size. Entry: sector, sectors (both
#: in units of the sector size), flags, length of the text of a mark.
SUPER = struct.Struct("<QQQI")
ENTRY = struct.Struct("<QQQQ")
MAGIC, VERSION = 0x6A736677736872, 1
FLUSHED, DURABLE, DISCARDED, MARKED = 1, 2, 4, 8
END_MARK = b"dm-log-writes-end"

#: Writes are kept in memory until a flush; above this they are logged before one more is begun.
MAX_UNFLUSHED_BYTES = 64 << 20

log = logging.getLogger(__name__)


def examples() -> list[str]:
    """Arguments the contract suite tries."""
    return ["d0 d1", "d0 d1 and what is ignored"]


@dataclass
class LogWrites(Target):
    """Logs every write in the order of completion, and each flush behind what it made durable.

    A loop device has no FUA: the kernel makes a write and a flush of it. So the last write before a
    flush is logged as one with FUA, which it is as durable as: what looks for one finds it.

    Its log is data it has looked at, so contexts do not pass: ciphertext is logged.
    """

    name = "log-writes"
    version = (1, 1, 0)
    passes_crypto = False
    discards_end_here = True

    sector_count: int
    segment: Segment
    log_device: BlockDevice
    #: Entries of what has ended and was not logged yet, and their length together.
    unflushed: list[bytearray] = field(default_factory=list, compare=False)
    unflushed_bytes: int = field(default=0, compare=False)
    entry_count: int = field(default=0, compare=False)
    enabled: bool = field(default=True, compare=False)
    #: Held while entries are taken and logged, so that no flush is overtaken by what came after it.
    locks: RangeLocks = field(default_factory=RangeLocks, compare=False)

    @classmethod
    def make(cls, line: Arguments) -> "LogWrites":
        segment, log_device = Segment(line.device(), 0, line.sector_count), line.device("logdev")
        if log_device is segment.device:
            line.refuse("logdev", f"{log_device.name} is what is to be logged")
        return cls(line.sector_count, segment, log_device)

    def __post_init__(self) -> None:
        both = (self.segment.device, self.log_device)
        self.sector_size = max(device.limits.logical_block_size for device in both)
        self.next_sector = self.sector_size >> SECTOR_SHIFT

    def params(self) -> list[Word]:
        return [self.segment.device, self.log_device]

    def status(self) -> list[Word]:
        end = [] if self.enabled else ["logging_disabled"]
        return [str(self.entry_count), str(self.next_sector - 1), *end]

    def devices(self) -> Iterable[Segment]:
        return [self.segment, Segment(self.log_device, 0, self.log_device.sector_count)]

    def map(self, bio: Bio) -> Action:
        if bio.op is Op.DISCARD and not self.segment.device.limits.discard:
            return Complete()
        if self.enabled and bio.op is Op.FLUSH and (self.entry_count or self.unflushed):
            return Script(self._flush, ((self.locks, 0, 1),))
        if self.unflushed_bytes > MAX_UNFLUSHED_BYTES and bio.op.changes_medium:
            return Script(lambda: self._make_room(bio), ((self.locks, 0, 1),))
        return self.segment.remap(bio)

    def steady(self, sector: int) -> Steady:
        return Steady(ops=frozenset({Op.READ}))

    def end_io(self, bio: Bio, error: BlockIOError | None) -> BlockIOError | None:
        if self.enabled and error is None and bio.op.changes_medium:
            flags = DISCARDED if bio.op is Op.DISCARD else 0
            entry = self._entry(flags, bio)
            self.unflushed.append(entry)
            self.unflushed_bytes += len(entry)
        return error

    def message(self, words: list[str]) -> Steps[str]:
        text = words[-1].encode()
        if len(words) != 2 or words[0].lower() != "mark":
            raise StackError(f"log-writes: message {' '.join(words)!r} is not: mark TEXT")
        most = self.sector_size - ENTRY.size - 1
        if len(text) > most:
            raise StackError(f"log-writes: a mark of {len(text)} bytes: at most {most}")
        return self._mark(text)

    def closing(self) -> Steps[None]:
        yield from self._log(self._take())
        yield from self._mark(END_MARK)

    def _entry(self, flags: int, bio: Bio = FLUSH, text: bytes = b"") -> bytearray:
        """An entry as it is in the log: one sector, and the data written if there are any."""
        unit = self.sector_size >> SECTOR_SHIFT
        entry = bytearray(self.sector_size + len(bio.data))
        place = bio.sector // unit, bio.sector_count // unit
        ENTRY.pack_into(entry, 0, *place, flags, len(text))
        entry[ENTRY.size : ENTRY.size + len(text)] = text
        entry[self.sector_size :] = bio.data
        return entry

    def _take(self) -> list[bytearray]:
        taken, self.unflushed, self.unflushed_bytes = self.unflushed, [], 0
        return taken

    def _put_back(self, entries: list[bytearray]) -> None:
        """Have entries logged before all that has ended meanwhile."""
        self.unflushed[:0] = entries
        self.unflushed_bytes += sum(map(len, entries))

    def _flush(self) -> Steps[None]:
        """Log what has ended before the flush begins, and then the flush."""
        taken = self._take()
        try:
            yield Remap(self.segment.device, FLUSH)
        except BlockIOError:
            # Nothing is known to be durable: the next flush is to say so of these as well.
            self._put_back(taken)
            raise
        _mark_durable(taken)
        yield from self._log([*taken, self._entry(FLUSHED)])
        yield from self._write_super()

    def _make_room(self, bio: Bio) -> Steps[None]:
        taken = self._take()
        # The last one waits for a flush, which may have to say that it is durable.
        self._put_back(taken[-1:])
        yield from self._log(taken[:-1])
        yield self.segment.remap(bio)

    def _mark(self, text: bytes) -> Steps[str]:
        yield from self._log([self._entry(MARKED, text=text)])
        yield from self._write_super()
        return ""

    def _log(self, entries: list[bytearray]) -> Steps[None]:
        """Append entries to the log while there is room, as the kernel never up to its last."""
        for entry in entries:
            if not self.enabled:
                return
            sector = self.next_sector
            self.next_sector += len(entry) >> SECTOR_SHIFT
            if self.next_sector >= self.log_device.sector_count:
                yield from self._write_super()
                self._stop(f"{self.log_device.name} is full")
                return
            self.entry_count += 1
            yield from self._put(sector, entry)

    def _write_super(self) -> Steps[None]:
        head = bytearray(self.sector_size)
        SUPER.pack_into(head, 0, MAGIC, VERSION, self.entry_count, self.sector_size)
        yield from self._put(0, head)

    def _put(self, sector: int, data: bytearray) -> Steps[None]:
        if not self.enabled:
            return
        try:
            yield Remap(self.log_device, Bio.write(sector, memoryview(data)))
        except BlockIOError as error:
            self._stop(str(error))

    def _stop(self, why: str) -> None:
        """Log nothing more; what is logged goes on."""
        log.warning("log-writes over %s: logging stops: %s", self.segment.device.name, why)
        self.enabled = False
        self._take()


def _mark_durable(entries: list[bytearray]) -> None:
    """Make the last write of some entries one with FUA."""
    for entry in reversed(entries):
        *place, flags, text_length = ENTRY.unpack_from(entry)
        if not flags:
            ENTRY.pack_into(entry, 0, *place, DURABLE, text_length)
            return
