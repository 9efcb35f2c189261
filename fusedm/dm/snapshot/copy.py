"""The copy of an origin that a snapshot keeps, and how chunks get there.

A chunk is copied at most once, before the first write to it, through the origin or through the
snapshot. The script of a bio sees to that: it holds the range of sectors that it touches, rounded
to chunks, of every copy that lacks some of them.

Data are flushed before the metadata that tell of them are written, and those are durable before the
write goes on: what was acknowledged is found again whatever is lost in between. Until then nobody
takes the chunk for copied. All that is copied at the same time is told of together, by whoever is
the last to have written its data: one flush and one write of metadata for as many bios as there
are (the kernel's pending exceptions).

What has been copied stays where it is, but for merging. So bios of such chunks need no lock, and go
one way until a copy is lost or another snapshot comes.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from operator import itemgetter

from fusedm.block import FLUSH, FUA, Bio, BlockDevice, RangeLocks
from fusedm.block.errors import BlockIOError, Status
from fusedm.block.range_locks import Extent
from fusedm.block.units import SECTOR_SIZE
from fusedm.dm.signal import Signal
from fusedm.dm.snapshot.exception_store import (
    DEFAULT_CHUNK_SECTORS,
    ExceptionStore,
    PersistentStore,
    Written,
    parse_header,
)
from fusedm.dm.target import Many, Remap, Wait
from fusedm.dm.turns import Steps


class Copy:
    """The changed chunks of a snapshot on its COW device.

    is_open: the device has been read. is_active: bios have come, so the origin keeps to it.
    is_valid: there is something to be had of it; is_full: it takes no writes any more.
    on_change is called when bios go another way from now on, on_lost when it becomes invalid.
    """

    def __init__(
        self, origin: BlockDevice, device: BlockDevice, sector_count: int, store: ExceptionStore
    ) -> None:
        self.origin = origin
        self.device = device
        self.sector_count = sector_count
        self.store = store
        self.is_open = self.is_active = self.is_full = False
        self.is_valid = True
        self.locks = RangeLocks()
        self.on_change = self.on_lost = _nothing
        #: How many scripts are copying, and what has been copied but not been told of.
        self._under_way = 0
        self._ready: dict[int, int] = {}
        self._is_committing = False
        self._news = Signal()

    @property
    def chunk_sectors(self) -> int:
        """The size of a chunk."""
        return self.store.chunk_sectors

    def chunks(self, sector: int, sector_count: int) -> range:
        """The chunks that a range touches."""
        return range(
            sector // self.chunk_sectors, -(-(sector + sector_count) // self.chunk_sectors)
        )

    def holds(self, sector: int, sector_count: int) -> bool:
        """Whether every chunk of a range has been copied."""
        return all(chunk in self.store.chunks for chunk in self.chunks(sector, sector_count))

    def holds_some(self, sector: int, sector_count: int) -> bool:
        """Whether some chunk of a range has been copied."""
        return any(chunk in self.store.chunks for chunk in self.chunks(sector, sector_count))

    def extent(self, sector: int, sector_count: int) -> tuple[int, int]:
        """A range of the origin rounded to chunks, down and up."""
        chunks = self.chunks(sector, sector_count)
        return chunks.start * self.chunk_sectors, chunks.stop * self.chunk_sectors

    def missing(self, sector: int, sector_count: int) -> list[int]:
        """The chunks of a range that have not been copied."""
        return [c for c in self.chunks(sector, sector_count) if c not in self.store.chunks]

    def lock(self, sector: int, sector_count: int) -> Extent:
        """What a script holds that may find a range copied or not: all of its chunks."""
        return (self.locks, *self.extent(sector, sector_count))

    def distance(self, chunk: int) -> int | None:
        """How far from a chunk its copy lies, in chunks; None if there is none."""
        new = self.store.chunks.get(chunk)
        return None if new is None else new - chunk

    def place(self, bio: Bio) -> Remap | Many:
        """A bio with data where it is now: what has been copied is here, the rest in the origin."""
        parts = tuple(self.parts(bio))
        return parts[0] if len(parts) == 1 else Many(parts)

    def parts(self, bio: Bio) -> Iterable[Remap]:
        """A bio in as few parts as lie together."""
        at, chunk_sectors = bio.sector, self.chunk_sectors
        while at < bio.end_sector:
            chunk, within = divmod(at, chunk_sectors)
            new = self.store.chunks.get(chunk)
            end = chunk + 1
            while end * chunk_sectors < bio.end_sector and self.store.chunks.get(end) == (
                None if new is None else new + end - chunk
            ):
                end += 1
            end_sector = min(bio.end_sector, end * chunk_sectors)
            part = bio.slice(at - bio.sector, end_sector - bio.sector)
            if new is None:
                yield Remap(self.origin, part)
            else:
                yield Remap(self.device, part.remap(new * chunk_sectors + within))
            at = end_sector

    # Scripts. Whoever runs them holds the locks.

    def open(self, wanted_sectors: int) -> Steps[None]:
        """Read what the device says, or begin a new store on it.

        Raises: StackError for a device of something else; BlockIOError.
        """
        if isinstance(self.store, PersistentStore):
            yield from self._open(wanted_sectors, self.store.size_sectors)
        self.is_open = True

    def _open(self, wanted_sectors: int, size_sectors: int) -> Steps[None]:
        block = self.device.limits.logical_block_size
        head = yield from self._read(0, max(block, SECTOR_SIZE) // SECTOR_SIZE)
        found = parse_header(head)
        if found is None:
            chunk = wanted_sectors or max(DEFAULT_CHUNK_SECTORS, block // SECTOR_SIZE)
            self.store = store = PersistentStore(chunk, size_sectors)
            yield self._write(store.header())
            yield self._write(store.written_area(0))
            yield Remap(self.device, FLUSH)
            return
        chunk, self.is_valid = found
        self.store = store = PersistentStore(chunk, size_sectors)
        more = self.is_valid
        while more:
            data = yield from self._read(store.area_sector(store.area), chunk)
            more = store.take_area(data)

    def copy(self, chunks: Sequence[int], change: Bio | None = None) -> Steps[bool]:
        """Copy chunks of the origin, with a write to them already done; whether there was room.

        Raises: BlockIOError; the copy is invalid then.
        """
        pairs = list(zip(chunks, self.store.allocate(len(chunks)), strict=False))
        try:
            yield from self._move(pairs, change)
            yield from self._tell(pairs)
        except BlockIOError:
            yield from self.invalidate()
            raise
        return len(pairs) == len(chunks)

    def _move(self, pairs: Sequence[tuple[int, int]], change: Bio | None) -> Steps[None]:
        """Read chunks from the origin, and write them to the device."""
        flags = 0 if change is None or self.store.is_persistent else change.flags & FUA
        self._under_way += 1
        try:
            runs = [self._run(run, change) for run in consecutive(pairs)]
            reads = [
                Remap(self.origin, Bio.read(run.begin, run.data)) for run in runs if not run.is_new
            ]
            if reads:
                yield Many(tuple(reads))
            for run in runs:
                run.apply(change)
            if runs:
                yield Many(tuple(self._write((run.to, run.data), flags) for run in runs))
        except BaseException:
            self._news.notify()  # Those who wait for this one are not to wait for ever.
            raise
        finally:
            self._under_way -= 1

    def _run(self, pairs: Sequence[tuple[int, int]], change: Bio | None) -> "Run":
        begin = pairs[0][0] * self.chunk_sectors
        end = min((pairs[-1][0] + 1) * self.chunk_sectors, self.sector_count)
        is_new = change is not None and change.sector <= begin and end <= change.end_sector
        data = memoryview(bytearray((end - begin) * SECTOR_SIZE))
        return Run(begin, pairs[0][1] * self.chunk_sectors, data, is_new)

    def _tell(self, pairs: Sequence[tuple[int, int]]) -> Steps[None]:
        """Tell of what has been copied, on the device too, with all that others have copied."""
        self._ready.update(pairs)
        while not all(old in self.store.chunks for old, _ in pairs):
            if not self.is_valid:
                text = f"chunk {pairs[0][0]}: the snapshot is lost"
                raise BlockIOError(Status.IOERR, self.device.name, text)
            if self.store.is_persistent and (self._under_way or self._is_committing):
                yield Wait(self._news)
            else:
                yield from self._commit()

    def _commit(self) -> Steps[None]:
        pairs = sorted(self._ready.items(), key=itemgetter(1))
        self._is_committing = True
        try:
            if isinstance(self.store, PersistentStore):
                empty, told = self.store.telling(pairs)
                if empty:
                    yield Many(tuple(map(self._write, empty)))
                yield Remap(self.device, FLUSH)
                yield Many(tuple(self._write(each, FUA) for each in told))
            self.store.add(pairs)
            for old, _ in pairs:
                del self._ready[old]
        finally:
            self._is_committing = False
            self._news.notify()
        self.on_change()

    def invalidate(self) -> Steps[None]:
        """Give the copy up, on the device too if that can still be written."""
        if not self.is_valid:
            return
        self.is_valid = False
        self.on_change()
        self.on_lost()
        self._news.notify()
        if isinstance(self.store, PersistentStore):
            with suppress(BlockIOError):  # It is invalid here all the same.
                yield self._write(self.store.header(is_valid=False), FUA)

    def _read(self, sector: int, sector_count: int) -> Steps[bytearray]:
        data = bytearray(sector_count * SECTOR_SIZE)
        yield Remap(self.device, Bio.read(sector, memoryview(data)))
        return data

    def _write(self, written: Written, flags: int = 0) -> Remap:
        sector, data = written
        return Remap(self.device, Bio.write(sector, memoryview(data), flags=flags))


@dataclass(slots=True)
class Run:
    """Chunks next to each other in the origin and on the device, on their way.

    begin and to are sectors of the one and the other; is_new: a write replaces all of it.
    """

    begin: int
    to: int
    data: memoryview
    is_new: bool

    def apply(self, change: Bio | None) -> None:
        """Do to the data what a write does to them, which touches each run that it needs."""
        if change is None:
            return
        end = self.begin + len(self.data) // SECTOR_SIZE
        first, last = max(self.begin, change.sector), min(end, change.end_sector)
        part = change.slice(first - change.sector, last - change.sector)
        self.data[(first - self.begin) * SECTOR_SIZE :][: len(part.data)] = part.data


def consecutive(pairs: Sequence[tuple[int, int]]) -> Iterator[Sequence[tuple[int, int]]]:
    """Pairs of numbers in runs in which both count up by 1."""
    begin = 0
    for index in range(1, len(pairs) + 1):
        before, here = pairs[index - 1], pairs[index] if index < len(pairs) else None
        if here != (before[0] + 1, before[1] + 1):
            yield pairs[begin:index]
            begin = index


def _nothing() -> None:
    """Nobody has to be told."""


def copy_all(copies: Iterable[Copy], sector: int, sector_count: int) -> Steps[None]:
    """Copy what a write to a range of the origin would change, to every valid copy.

    One that cannot take it is given up, and the origin goes on.
    """
    for copy in copies:
        missing = copy.missing(sector, sector_count) if copy.is_valid else ()
        if missing:
            with suppress(BlockIOError):
                if not (yield from copy.copy(missing)):
                    yield from copy.invalidate()
