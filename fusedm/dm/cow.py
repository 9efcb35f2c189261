"""Copying on write: what a snapshot keeps of its origin, and how it gets there.

A chunk is copied at most once, before the first write to it, through the origin or through the
snapshot. Three locks see to that, all held by the script of a bio from its beginning to its end:
the range of sectors of the origin it touches, rounded to chunks; and, if something may have to be
copied, the whole of the copy, so that metadata are written one after the other.

Data are flushed before the metadata that tell of them are written, and those before the write goes
on: what was acknowledged is found again whatever is lost in between.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from weakref import WeakKeyDictionary

from fusedm.block import FLUSH, Bio, BlockDevice, Op, RangeLocks
from fusedm.block.errors import BlockIOError
from fusedm.block.range_locks import Extent
from fusedm.block.units import SECTOR_SIZE
from fusedm.dm.exception_store import (
    DEFAULT_CHUNK_SECTORS,
    ExceptionStore,
    PersistentStore,
    parse_header,
)
from fusedm.dm.target import Remap, Steps


class Origin:
    """A device with snapshots: their copies, and the locks of its sectors."""

    def __init__(self) -> None:
        self.locks = RangeLocks()
        self.copies: list[Copy] = []


_ORIGINS: WeakKeyDictionary[BlockDevice, Origin] = WeakKeyDictionary()


def origin_of(device: BlockDevice) -> Origin:
    """What all snapshots of a device share, whichever mapped devices they are targets of."""
    return _ORIGINS.setdefault(device, Origin())


class Copy:
    """The changed chunks of a snapshot on its COW device.

    is_valid: there is something to be had of it; is_full: it takes no writes any more.
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
        return all(chunk in self.store.chunks for chunk in self.chunks(sector, sector_count))

    def extent(self, sector: int, sector_count: int) -> tuple[int, int]:
        """A range of the origin rounded to chunks, down and up."""
        chunks = self.chunks(sector, sector_count)
        return chunks.start * self.chunk_sectors, chunks.stop * self.chunk_sectors

    def place(self, bio: Bio) -> Remap:
        """A bio within one chunk that has been copied, where it is now."""
        chunk, within = divmod(bio.sector, self.chunk_sectors)
        sector = self.store.chunks[chunk] * self.chunk_sectors + within
        return Remap(self.device, bio.remap(sector))

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
            yield from self._write(0, self.store.header())
            yield from self._write(self.store.area_sector(0), bytes(self.store.chunk_bytes))
            yield Remap(self.device, FLUSH)
            return
        chunk, self.is_valid = found
        self.store = store = PersistentStore(chunk, self.store.size_sectors)
        more = self.is_valid
        while more:
            data = yield from self._read(store.area_sector(store.area), chunk)
            more = store.take_area(data)

    def copy(self, chunk: int, change: Bio | None = None) -> Steps[bool]:
        """Copy a chunk of the origin, with a write to it already done; whether there was room.

        Raises: BlockIOError; the copy is invalid then.
        """
        new = self.store.allocate()
        if new is None:
            return False
        begin = chunk * self.chunk_sectors
        count = min(self.chunk_sectors, self.sector_count - begin)
        data = bytearray(count * SECTOR_SIZE)
        try:
            if change is None or change.sector_count < count:
                yield Remap(self.origin, Bio.read(begin, memoryview(data)))
            if change is not None:
                at = (change.sector - begin) * SECTOR_SIZE
                data[at : at + len(change.data)] = change.data
            yield from self._write(new * self.chunk_sectors, data)
            yield from self._commit(chunk, new)
        except BlockIOError:
            yield from self.invalidate()
            raise
        return True

    def invalidate(self) -> Steps[None]:
        """Give the copy up, on the device too if that can still be written."""
        self.is_valid = False
        if isinstance(self.store, PersistentStore):
            with suppress(BlockIOError):  # It is invalid here all the same.
                yield from self._write(0, self.store.header(is_valid=False))
                yield Remap(self.device, FLUSH)

    def _commit(self, chunk: int, new: int) -> Steps[None]:
        store = self.store
        if not isinstance(store, PersistentStore):
            store.add(chunk, new)
            return
        yield Remap(self.device, FLUSH)
        store.add(chunk, new)
        if store.is_area_full:
            yield from self._write(store.area_sector(store.area + 1), bytes(store.chunk_bytes))
        yield from self._write(store.area_sector(store.area), store.area_bytes())
        yield Remap(self.device, FLUSH)
        store.written()

    def _read(self, sector: int, sector_count: int) -> Steps[bytearray]:
        data = bytearray(sector_count * SECTOR_SIZE)
        yield Remap(self.device, Bio.read(sector, memoryview(data)))
        return data

    def _write(self, sector: int, data: bytes | bytearray) -> Steps[None]:
        yield Remap(self.device, Bio.write(sector, memoryview(data)))


def _nothing() -> None:
    """Nobody has to be told."""


def copy_all(copies: Iterable[Copy], bio: Bio) -> Steps[None]:
    """Copy what a write to the origin would change, to every valid copy.

    One that cannot take it is given up, and the origin goes on.
    """
    for copy in [copy for copy in copies if copy.is_valid]:
        for chunk in copy.chunks(bio.sector, bio.sector_count):
            if not copy.is_valid:
                break
            if chunk not in copy.store.chunks:
                yield from _copy_or_give_up(copy, chunk)
        if not copy.is_valid:
            copy.on_lost()


def _copy_or_give_up(copy: Copy, chunk: int) -> Steps[None]:
    with suppress(BlockIOError):
        if not (yield from copy.copy(chunk)):
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
