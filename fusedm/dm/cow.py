"""Copying on write: what a snapshot keeps of its origin, and how it gets there.

A chunk is copied at most once, before the first write to it, through the origin or through the
snapshot; all that one bio needs is copied in one go. Three locks see to that, all held by the
script of a bio from its beginning to its end: the range of sectors of the origin it touches,
rounded to chunks; and, if something may have to be copied, the whole of the copy, so that metadata
are written one after the other.

Data are flushed before the metadata that tell of them are written, and those before the write goes
on: what was acknowledged is found again whatever is lost in between. Until then nobody else takes
the chunk for copied.

What has been copied stays where it is. So bios of such chunks need no lock, and go one way until a
copy is lost or another snapshot comes; the origin's generation tells of that, and of each time that
chunks have been copied.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from fusedm.block import FLUSH, Bio, BlockDevice, Generation, Op, RangeLocks
from fusedm.block.errors import BlockIOError
from fusedm.block.range_locks import Extent
from fusedm.block.units import SECTOR_SIZE
from fusedm.dm.exception_store import (
    DEFAULT_CHUNK_SECTORS,
    ExceptionStore,
    PersistentStore,
    parse_header,
)
from fusedm.dm.target import Many, Remap
from fusedm.dm.turns import Steps

#: Chunks that may be told of as one: looking at so many takes as long as planning a bio.
WINDOW = 64


class Origin:
    """A device with snapshots: their copies, the locks of its sectors, what tells of changes."""

    def __init__(self) -> None:
        self.locks = RangeLocks()
        self.copies: list[Copy] = []
        self.changes = Generation()

    def add(self, copy: "Copy") -> None:
        """A snapshot begins."""
        self.copies.append(copy)
        self.changes.advance()

    def remove(self, copy: "Copy") -> None:
        """A snapshot ends, if it has begun."""
        if copy in self.copies:
            self.copies.remove(copy)
            self.changes.advance()


_ORIGINS: WeakKeyDictionary[BlockDevice, Origin] = WeakKeyDictionary()


def origin_of(device: BlockDevice) -> Origin:
    """What all snapshots of a device share, whichever mapped devices they are targets of."""
    origin = _ORIGINS.get(device)
    return _ORIGINS.setdefault(device, Origin()) if origin is None else origin


class Copy:
    """The changed chunks of a snapshot on its COW device.

    is_valid: there is something to be had of it; is_full: it takes no writes any more.
    unsettled are chunks that are being copied.
    owner is the target it belongs to, and on_lost is called when the origin makes it invalid.
    """

    def __init__(
        self, origin: BlockDevice, device: BlockDevice, sector_count: int, store: ExceptionStore
    ) -> None:
        self.origin = origin
        self.device = device
        self.sector_count = sector_count
        self.store = store
        self.is_valid = True
        self.is_full = False
        self.unsettled: frozenset[int] = frozenset()
        self.locks = RangeLocks()
        self.owner: object = None
        self.on_lost: Callable[[], None] = _nothing

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
        return all(
            chunk in self.store.chunks and chunk not in self.unsettled
            for chunk in self.chunks(sector, sector_count)
        )

    def extent(self, sector: int, sector_count: int) -> tuple[int, int]:
        """A range of the origin rounded to chunks, down and up."""
        chunks = self.chunks(sector, sector_count)
        return chunks.start * self.chunk_sectors, chunks.stop * self.chunk_sectors

    def missing(self, sector: int, sector_count: int) -> list[int]:
        """The chunks of a range that have not been copied."""
        return [c for c in self.chunks(sector, sector_count) if c not in self.store.chunks]

    def place(self, bio: Bio) -> Remap | Many:
        """A bio with data where it is now: what has been copied is here, the rest in the origin."""
        parts = tuple(self._parts(bio))
        return parts[0] if len(parts) == 1 else Many(parts)

    def _parts(self, bio: Bio) -> Iterable[Remap]:
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

    def changed(self) -> None:
        """What was known of bios of the origin and its snapshots is out of date."""
        origin_of(self.origin).changes.advance()

    # Scripts. Whoever runs them holds the locks.

    def open(self, wanted_sectors: int) -> Steps[None]:
        """Read what the device says, or begin a new store on it.

        Raises: StackError(EINVAL) for a device of something else; BlockIOError.
        """
        if not isinstance(self.store, PersistentStore):
            return
        block = self.device.limits.logical_block_size
        head = yield from self._read(0, max(block, SECTOR_SIZE) // SECTOR_SIZE)
        found = parse_header(head)
        if found is None:
            chunk = wanted_sectors or max(DEFAULT_CHUNK_SECTORS, block // SECTOR_SIZE)
            self.store = PersistentStore(chunk, self.store.size_sectors)
            yield self._written(0, self.store.header())
            yield self._written(self.store.area_sector(0), bytes(self.store.chunk_bytes))
            yield Remap(self.device, FLUSH)
            return
        chunk, self.is_valid = found
        self.store = store = PersistentStore(chunk, self.store.size_sectors)
        more = self.is_valid
        while more:
            data = yield from self._read(store.area_sector(store.area), chunk)
            more = store.take_area(data)

    def copy(self, chunks: Sequence[int], change: Bio | None = None) -> Steps[bool]:
        """Copy chunks of the origin, with a write to them already done; whether there was room.

        However many they are, they are read, written, and told of on the device, together.
        Raises: BlockIOError; the copy is invalid then.
        """
        new = self.store.allocate(len(chunks))
        pairs = list(zip(chunks, new, strict=False))
        self.unsettled = frozenset(chunks)
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
                yield Many(tuple(self._written(run.to, run.data) for run in runs))
                yield from self._commit(pairs)
        except BlockIOError:
            yield from self.invalidate()
            raise
        finally:
            self.unsettled = frozenset()
            self.changed()
        return len(pairs) == len(chunks)

    def _run(self, pairs: Sequence[tuple[int, int]], change: Bio | None) -> "Run":
        begin = pairs[0][0] * self.chunk_sectors
        end = min((pairs[-1][0] + 1) * self.chunk_sectors, self.sector_count)
        is_new = change is not None and change.sector <= begin and end <= change.end_sector
        data = memoryview(bytearray((end - begin) * SECTOR_SIZE))
        return Run(begin, pairs[0][1] * self.chunk_sectors, data, is_new)

    def invalidate(self) -> Steps[None]:
        """Give the copy up, on the device too if that can still be written."""
        self.is_valid = False
        self.changed()
        if isinstance(self.store, PersistentStore):
            with suppress(BlockIOError):  # It is invalid here all the same.
                yield self._written(0, self.store.header(is_valid=False))
                yield Remap(self.device, FLUSH)

    def _commit(self, pairs: Sequence[tuple[int, int]]) -> Steps[None]:
        """Tell of what has been copied, on the device too.

        An area that becomes full leads to the next, which has to be empty there before.
        """
        store = self.store
        if not isinstance(store, PersistentStore):
            for pair in pairs:
                store.add(*pair)
            return
        for number in range(store.areas_filled_by(len(pairs))):
            empty = bytes(store.chunk_bytes)
            yield self._written(store.area_sector(store.area + 1 + number), empty)
        yield Remap(self.device, FLUSH)
        for pair in pairs:
            store.add(*pair)
            if store.is_area_full:
                yield self._area()
                store.written()
        if not store.is_area_empty:
            yield self._area()
        yield Remap(self.device, FLUSH)

    def _area(self) -> Remap:
        assert isinstance(self.store, PersistentStore), "no other keeps anything on the device"
        return self._written(self.store.area_sector(self.store.area), self.store.area_bytes())

    def _read(self, sector: int, sector_count: int) -> Steps[bytearray]:
        data = bytearray(sector_count * SECTOR_SIZE)
        yield Remap(self.device, Bio.read(sector, memoryview(data)))
        return data

    def _written(self, sector: int, data: bytes | bytearray | memoryview) -> Remap:
        return Remap(self.device, Bio.write(sector, memoryview(data)))


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
        """Do to the data what a write does to them."""
        if change is None:
            return
        end = self.begin + len(self.data) // SECTOR_SIZE
        first, last = max(self.begin, change.sector), min(end, change.end_sector)
        if first < last:
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


def alike(chunk: int, told: Callable[[int], object]) -> range:
    """The chunks around one of which the same is told, within the WINDOW it lies in.

    So it is the same range for each of them, and no long way to its ends.
    """
    first, wanted = chunk - chunk % WINDOW, told(chunk)
    begin, end = chunk, chunk + 1
    while begin > first and told(begin - 1) == wanted:
        begin -= 1
    while end < first + WINDOW and told(end) == wanted:
        end += 1
    return range(begin, end)


def _nothing() -> None:
    """Nobody has to be told."""


def copy_all(copies: Iterable[Copy], bio: Bio) -> Steps[None]:
    """Copy what a write to the origin would change, to every valid copy.

    One that cannot take it is given up, and the origin goes on.
    """
    for copy in [copy for copy in copies if copy.is_valid]:
        missing = copy.missing(bio.sector, bio.sector_count)
        if missing:
            yield from _copy_or_give_up(copy, missing)
        if not copy.is_valid:
            copy.on_lost()


def _copy_or_give_up(copy: Copy, chunks: Sequence[int]) -> Steps[None]:
    with suppress(BlockIOError):
        if not (yield from copy.copy(chunks)):
            yield from copy.invalidate()


def locks_for(origin: Origin, copies: Iterable[Copy], bio: Bio) -> tuple[Extent, ...]:
    """What the script of a bio has to hold: its chunks of the origin, and copies it may extend."""
    begin, end = bio.sector, bio.end_sector
    extending: list[Extent] = []
    for copy in copies:
        own_begin, own_end = copy.extent(bio.sector, bio.sector_count)
        begin, end = min(begin, own_begin), max(end, own_end)
        if bio.op is not Op.READ and not copy.holds(bio.sector, bio.sector_count):
            extending.append((copy.locks, 0, 1))
    return ((origin.locks, begin, end), *extending)
