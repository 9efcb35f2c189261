"""log-writes: one device, and a log of what is written to it on another.  See log-writes.md."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from fusedm.block import FLUSH, FUA, Bio, BlockDevice, Op, RangeLocks
from fusedm.block.errors import BlockIOError, StackError
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
from fusedm.dm.write_log import DURABLE, FLUSHED, WriteLog, mark_durable

END_MARK = b"dm-log-writes-end"

#: Writes are kept in memory until a flush; above this they are logged before one more is begun.
MAX_UNFLUSHED_BYTES = 64 << 20


def examples() -> list[str]:
    """Arguments the contract suite tries."""
    return ["d0 d1", "d0 d1 and what is ignored"]


@dataclass
class LogWrites(Target):
    """Logs every write in the order of completion, and each flush behind what it made durable.

    A write with FUA is logged as one when it ends. Most that are meant to be one do not come as
    one: a loop device makes a write and a flush of it. So the last write before a flush is logged
    as one too, which it is as durable as: what looks for one finds it.

    Its log is data it has looked at, so contexts do not pass: ciphertext is logged.
    """

    name = "log-writes"
    version = (1, 1, 0)
    passes_crypto = False
    discards_end_here = True

    sector_count: int
    segment: Segment
    log_device: BlockDevice
    log: WriteLog = field(init=False, compare=False, repr=False)
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
        size = max(device.limits.logical_block_size for device in both)
        self.log = WriteLog(self.segment.device.name, self.log_device, size)

    def params(self) -> list[Word]:
        return [self.segment.device, self.log_device]

    def status(self) -> list[Word]:
        end = [] if self.log.enabled else ["logging_disabled"]
        return [str(self.log.entry_count), str(self.log.next_sector - 1), *end]

    def devices(self) -> Iterable[Segment]:
        return [self.segment, Segment(self.log_device, 0, self.log_device.sector_count)]

    def map(self, bio: Bio) -> Action:
        if bio.op is Op.DISCARD and not self.segment.device.limits.discard:
            return Complete()
        log, lock = self.log, ((self.locks, 0, 1),)
        if log.enabled and bio.op is Op.FLUSH and (log.entry_count or log.unflushed):
            return Script(self._flush, lock)
        if log.enabled and bio.flags & FUA:
            return Script(lambda: self._write_durably(bio), lock)
        if log.unflushed_bytes > MAX_UNFLUSHED_BYTES and bio.op.changes_medium:
            return Script(lambda: self._make_room(bio), lock)
        return self.segment.remap(bio)

    def steady(self, sector: int) -> Steady:
        return Steady(ops=frozenset({Op.READ}))

    def end_io(self, bio: Bio, error: BlockIOError | None) -> BlockIOError | None:
        is_change = bio.op.changes_medium and not bio.flags & FUA
        if self.log.enabled and error is None and is_change:
            self.log.keep(bio)
        return error

    def message(self, words: list[str]) -> Steps[str]:
        text = words[-1].encode()
        if len(words) != 2 or words[0].lower() != "mark":
            raise StackError(f"log-writes: message {' '.join(words)!r} is not: mark TEXT")
        most = self.log.longest_mark
        if len(text) > most:
            raise StackError(f"log-writes: a mark of {len(text)} bytes: at most {most}")
        return self.log.mark(text)

    def closing(self) -> Steps[None]:
        yield from self.log.append(self.log.take())
        yield from self.log.mark(END_MARK)

    def _flush(self) -> Steps[None]:
        """Log what has ended before the flush begins, and then the flush."""
        taken = self.log.take()
        try:
            yield Remap(self.segment.device, FLUSH)
        except BlockIOError:
            # Nothing is known to be durable: the next flush is to say so of these as well.
            self.log.put_back(taken)
            raise
        mark_durable(taken)
        yield from self.log.append([*taken, self.log.entry(FLUSHED)])
        yield from self.log.write_super()

    def _write_durably(self, bio: Bio) -> Steps[None]:
        """What has ended before stays for a flush, as in the kernel: it need not be durable."""
        yield self.segment.remap(bio)
        yield from self.log.append([self.log.entry(DURABLE, bio)])
        yield from self.log.write_super()

    def _make_room(self, bio: Bio) -> Steps[None]:
        taken = self.log.take()
        # The last one waits for a flush, which may have to say that it is durable.
        self.log.put_back(taken[-1:])
        yield from self.log.append(taken[:-1])
        yield self.segment.remap(bio)
