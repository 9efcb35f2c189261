"""A store that fails on purpose, by rules and a seed: same seed and same calls, same faults.

Truth and faults are kept apart. The inner store always holds what a correct medium would hold; what
this medium holds instead is an overlay of sectors. So a checker can ask of any range whether it may
read wrong, and a correct write of a sector ends its fault.
"""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from errno import EIO
from random import Random
from threading import Event, Lock

from fusedm.block import Op
from fusedm.block.units import MAX_SECTORS, SECTOR_SIZE
from fusedm.stores.base import Store


@dataclass(frozen=True, kw_only=True)
class FaultRule:
    """When a fault strikes: calls of op (None: of any) that touch the range; a flush touches all.

    Units: begin and end in bytes; nth counts the matching calls from 1, None is every one of them.
    """

    op: Op | None = None
    begin: int = 0
    end: int = MAX_SECTORS * SECTOR_SIZE
    nth: int | None = None
    probability: float = 1.0

    def matches(self, op: Op, offset: int, length: int) -> bool:
        """Whether the call is one that this rule is about."""
        if self.op not in (None, op):
            return False
        return op is Op.FLUSH or (offset < self.end and self.begin < offset + length)


@dataclass(frozen=True, kw_only=True)
class FailOp(FaultRule):
    """The call fails before any effect."""

    errno: int = EIO


@dataclass(frozen=True, kw_only=True)
class Latency(FaultRule):
    """The call takes longer."""

    seconds: float


@dataclass(frozen=True, kw_only=True)
class WriteFault(FaultRule):
    """A write that reports success although the medium does not hold it."""

    op: Op | None = field(default=Op.WRITE, init=False)


@dataclass(frozen=True, kw_only=True)
class LostWrite(WriteFault):
    """Nothing is written."""


@dataclass(frozen=True, kw_only=True)
class TornWrite(WriteFault):
    """Only the first sectors are written."""

    sector_count: int = 1


@dataclass(frozen=True, kw_only=True)
class MisdirectedWrite(WriteFault):
    """The data are written somewhere else."""


@dataclass(frozen=True, kw_only=True)
class CorruptRead(FaultRule):
    """A bit turns out flipped when it is read, and stays so until its sector is written."""

    op: Op | None = field(default=Op.READ, init=False)


class Faults:
    """The sectors on which the medium may differ from the truth, and what it holds there."""

    def __init__(self) -> None:
        self._sectors: dict[int, bytes] = {}

    def may_differ(self, offset: int, length: int) -> bool:
        """Whether a byte of the range may legitimately read wrong now."""
        return bool(self._within(offset, length))

    def record(self, offset: int, data: memoryview) -> None:
        """The medium holds these data here, whatever the truth is."""
        for begin in range(0, len(data), SECTOR_SIZE):
            sector = (offset + begin) // SECTOR_SIZE
            self._sectors[sector] = bytes(data[begin : begin + SECTOR_SIZE])

    def forget(self, offset: int, length: int) -> None:
        """The medium holds the truth in this range."""
        for sector in self._within(offset, length):
            del self._sectors[sector]

    def apply(self, offset: int, buffer: memoryview) -> None:
        """Change a buffer that holds the truth into what the medium holds."""
        for sector in self._within(offset, len(buffer)):
            begin = sector * SECTOR_SIZE - offset
            buffer[begin : begin + SECTOR_SIZE] = self._sectors[sector]

    def _within(self, offset: int, length: int) -> list[int]:
        """Faulty sectors of a range; there are few, so looking at all of them is cheap."""
        first, end = offset // SECTOR_SIZE, -(-(offset + length) // SECTOR_SIZE)
        return [sector for sector in self._sectors if first <= sector < end]


class FaultyStore:
    """A store over another one, with rules; it can also hang.

    One lock guards the faults. It is held around reads and writes of the inner store but never
    around its slow calls, so that a read on the spot does not wait for a discard in a thread.
    """

    def __init__(
        self,
        inner: Store,
        seed: int,
        rules: Iterable[FaultRule] = (),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.inner = inner
        self.size = inner.size
        self.logical_block_size = inner.logical_block_size
        self.read_only = inner.read_only
        self.faults = Faults()
        self._rules = tuple(rules)
        self._match_counts = [0] * len(self._rules)
        self._random = Random(seed)
        self._sleep = sleep
        self._lock = Lock()
        self._released = Event()
        self._released.set()

    def hold(self) -> None:
        """Make every call from now on hang until release."""
        self._released.clear()

    def release(self) -> None:
        """Let the calls that hang go on."""
        self._released.set()

    @property
    def allocated_bytes(self) -> int:
        """As much as the inner store."""
        return self.inner.allocated_bytes

    def may_block(self, op: Op) -> bool:
        """Whether the inner store may, a rule adds latency, or calls hang now."""
        return (
            not self._released.is_set()
            or any(isinstance(rule, Latency) and rule.op in (None, op) for rule in self._rules)
            or self.inner.may_block(op)
        )

    def pread_into(self, offset: int, buffer: memoryview) -> None:
        """Fill the buffer with what the medium holds."""
        struck = self._strike(Op.READ, offset, len(buffer))
        with self._lock:
            for rule in struck:
                if isinstance(rule, CorruptRead):
                    self._flip_a_bit(
                        max(offset, rule.begin), min(offset + len(buffer), rule.end) - 1
                    )
            self._read_medium(offset, buffer)

    def pwrite(self, offset: int, data: memoryview, durably: bool = False) -> None:
        """Write the truth, and record where the medium does not follow."""
        struck = self._strike(Op.WRITE, offset, len(data))
        with self._lock:
            write_faults = [rule for rule in struck if isinstance(rule, WriteFault)]
            before = memoryview(bytearray(len(data) if write_faults else 0))
            self._read_medium(offset, before)
            self.inner.pwrite(offset, data, durably)
            self.faults.forget(offset, len(data))
            for rule in write_faults:
                kept = rule.sector_count * SECTOR_SIZE if isinstance(rule, TornWrite) else 0
                self.faults.record(offset + kept, before[kept:])
                if isinstance(rule, MisdirectedWrite):
                    self.faults.record(self._anywhere(len(data)), data)

    def flush(self) -> None:
        """Flush the inner store."""
        self._strike(Op.FLUSH, 0, 0)
        self.inner.flush()

    def discard(self, offset: int, length: int) -> None:
        """Discard, which ends the faults of the range."""
        self._strike(Op.DISCARD, offset, length)
        self.inner.discard(offset, length)
        with self._lock:
            self.faults.forget(offset, length)

    def write_zeroes(self, offset: int, length: int) -> None:
        """Write zeros, which ends the faults of the range."""
        self._strike(Op.WRITE_ZEROES, offset, length)
        self.inner.write_zeroes(offset, length)
        with self._lock:
            self.faults.forget(offset, length)

    def seek_data(self, offset: int) -> int:
        """All is data: a fault may show anywhere."""
        return offset

    def seek_hole(self, offset: int) -> int:
        """Nowhere."""
        return self.size

    def direct_fd(self) -> None:
        """None: the rules would be passed by."""

    def close(self) -> None:
        """Close the inner store."""
        self.inner.close()

    def _strike(self, op: Op, offset: int, length: int) -> Sequence[FaultRule]:
        """Hang, wait and fail as the rules say; returns those that strike this call."""
        self._released.wait()
        if not self._rules:
            return ()
        with self._lock:
            struck = [
                rule
                for index, rule in enumerate(self._rules)
                if rule.matches(op, offset, length) and self._is_due(index, rule)
            ]
        for rule in struck:
            if isinstance(rule, Latency):
                self._sleep(rule.seconds)
        for rule in struck:
            if isinstance(rule, FailOp):
                raise OSError(rule.errno, os.strerror(rule.errno))
        return struck

    def _is_due(self, index: int, rule: FaultRule) -> bool:
        """Count a matching call and decide whether the rule strikes it."""
        self._match_counts[index] += 1
        if rule.nth not in (None, self._match_counts[index]):
            return False
        return rule.probability >= 1 or self._random.random() < rule.probability

    def _read_medium(self, offset: int, buffer: memoryview) -> None:
        """What the medium holds: the truth with the faults over it."""
        self.inner.pread_into(offset, buffer)
        self.faults.apply(offset, buffer)

    def _flip_a_bit(self, first: int, last: int) -> None:
        """Record one flipped bit somewhere in bytes first..last."""
        at = self._random.randint(first, last)
        block = memoryview(bytearray(self.logical_block_size))
        begin = at - at % len(block)
        self._read_medium(begin, block)
        block[at - begin] ^= 1 << self._random.randrange(8)
        sector = (at - begin) // SECTOR_SIZE * SECTOR_SIZE
        self.faults.record(begin + sector, block[sector : sector + SECTOR_SIZE])

    def _anywhere(self, length: int) -> int:
        """A random offset at which this many bytes fit."""
        block = self.logical_block_size
        return self._random.randint(0, (self.size - length) // block) * block
