"""An array at work: what is known of its members, and what is written down of that. Pure.

Two things are written to the metadata device of every member: the superblock, whenever a member has
failed or has been rebuilt further, and the bitmap, before a region is written to. Both are durable
before anything goes on that relies on them.
"""

import errno
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from fusedm.block import FLUSH, FUA, Bio, RangeLocks
from fusedm.block.errors import BlockIOError
from fusedm.block.units import SECTOR_SIZE
from fusedm.dm.raid import bitmap as bitmaps
from fusedm.dm.raid.bitmap import Bitmap, BitmapHeader
from fusedm.dm.raid.commit import Commit
from fusedm.dm.raid.members import IN_SYNC, Member
from fusedm.dm.raid.personality import Personality, Shape
from fusedm.dm.raid.superblock import DONE, Superblock
from fusedm.dm.signal import Signal
from fusedm.dm.target import Each, Remap
from fusedm.dm.turns import Steps

#: How many repairs of sectors that could not be read wait at most; others are found when they are
#: read again.
MAX_REPAIRS = 256


@dataclass(frozen=True)
class Options:
    """What a table line asks of an array beyond its shape.

    Units:  sectors; milliseconds; KiB a second, 0 where there is no limit.
    """

    rebuild: frozenset[int] = frozenset()
    sync: bool = False
    nosync: bool = False
    region_sectors: int = 0
    daemon_sleep_ms: int = 5000
    write_behind: int = 0
    min_rate: int = 0
    max_rate: int = 0


class Array:
    """The members of an array, its bitmap and its superblocks (an ArrayView).

    make gives its level, once it is there to be given to it.
    """

    def __init__(
        self,
        shape: Shape,
        members: Sequence[Member],
        options: Options,
        make: Callable[[Shape, "Array"], Personality],
    ) -> None:
        self.shape = shape
        self.members = members
        self.options = options
        self.locks = RangeLocks()
        self.level = make(shape, self)
        region = options.region_sectors or bitmaps.region_for(self.level.sync_sectors)
        self.bitmap = Bitmap(self.level.sync_sectors, region)
        self.events = 0
        self.events_cleared = 0
        #: Reads that failed, by member and range of its sectors.
        self.repairs: dict[tuple[int, int, int], None] = {}
        #: Something has come up for the scripts in the background.
        self.work = Signal()
        #: How many writes have begun, by which the background sees whether somebody is in a hurry.
        self.write_count = 0
        self.on_event: Callable[[], None] = lambda: None
        self.on_change: Callable[[], None] = lambda: None
        self._store = Commit(self._write)
        self._dirty_pages: set[int] = set()
        self._is_superblock_due = False
        #: Whether superblocks say that nothing is to be made alike, whatever bits say.
        self._is_called_clean = False

    # What the level is given.

    @property
    def has_metadata(self) -> bool:
        """Whether anything is written down."""
        return any(member.meta is not None for member in self.members)

    @property
    def has_bitmap(self) -> bool:
        """Whether bits are written down."""
        return self.has_metadata and self.level.is_redundant

    @property
    def lost(self) -> set[int]:
        """The positions without a member, or with one that has failed."""
        return {member.index for member in self.members if not member.writable}

    @property
    def resync_offset(self) -> int | None:
        """Where the first region begins that is to be made alike; None if there is none."""
        needed = self.bitmap.needed
        return self.bitmap.bounds(min(needed))[0] if needed else None

    @property
    def is_degraded(self) -> bool:
        """Whether some member is missing, has failed or is not yet rebuilt."""
        return not all(member.in_sync for member in self.members)

    def is_synced(self, begin: int, end: int) -> bool:
        """Whether members agree in a range, as far as is known."""
        return not self.bitmap.is_needed(begin, end)

    def begin_write(self, begin: int, end: int) -> Steps[None]:
        """Have it on the devices that a range may differ; end_write follows, whatever comes.

        Raises: BlockIOError if the array cannot go on.
        """
        self.write_count += 1
        self.bitmap.begin_write(begin, end)
        if not self.has_bitmap:
            return
        while not self.bitmap.is_marked(begin, end) or self._is_called_clean:
            self._dirty_pages |= self.bitmap.pages(self.bitmap.regions(begin, end))
            self._is_superblock_due |= self._is_called_clean
            yield from self._store()

    def end_write(self, begin: int, end: int) -> None:
        """A write is over."""
        self.bitmap.end_write(begin, end)

    def fail(self, errors: Mapping[int, BlockIOError]) -> Steps[None]:
        """Members that could not be written are given up, which is written to the others first.

        Raises: BlockIOError if the array cannot go on without them; then nothing has changed.
        """
        new = {index for index in errors if self.members[index].writable}
        if new:
            self._give_up(new, errors)
        if errors and self.has_metadata:
            # Also where another script has found it before, and writes it down now.
            yield from self._store()

    def need(self, begin: int, end: int) -> None:
        """A write has failed: members may differ in its range."""
        self.bitmap.need(begin, end)
        self.on_change()
        self.work.notify()

    def repair_read(self, index: int, begin: int, end: int) -> None:
        """A member could not read sectors of its own that others have: write them to it anew."""
        if len(self.repairs) < MAX_REPAIRS:
            self.repairs[index, begin, end] = None
            self.work.notify()

    def flush_all(self) -> Each:
        """A FLUSH of everything that is written."""
        members = [member for member in self.members if member.writable]

        def then(outcomes: list[BlockIOError | None]) -> Steps[None] | None:
            errors = errors_of(members, outcomes)
            return self.fail(errors) if errors else None

        return Each(tuple(member.place.remap(FLUSH) for member in members), then)

    def _give_up(self, indices: set[int], errors: Mapping[int, BlockIOError]) -> None:
        """They have failed; but not who alone has what others are being rebuilt from."""
        good = {member.index for member in self.members if member.in_sync}
        gone = set(range(len(self.members))) - (good - indices)
        if good & indices and not self.level.survives(gone):
            raise next(errors[index] for index in sorted(indices) if index in errors)
        self._is_superblock_due = True
        for index in indices:
            self.members[index].is_failed = True
            for repair in [each for each in self.repairs if each[0] == index]:
                del self.repairs[repair]
        self.on_change()
        self.on_event()
        self.work.notify()

    # Writing down.

    def _superblock(self, member: Member) -> Superblock:
        level = self.level
        recovered = min(member.recovery_offset, member.durable_offset)
        return Superblock(
            *(len(self.members), member.index, self.events),
            *(level.level, level.layout, self.shape.chunk_sectors),
            *(self.shape.array_sectors, level.member_sectors),
            failed=frozenset(self.lost),
            recovery_offset=DONE if recovered == IN_SYNC else recovered,
            resync_offset=self._offset_to_store(),
        )

    def _offset_to_store(self) -> int:
        """Where resync is to begin should the machine go off now.

        The kernel's heeds only bits beyond it. But an array that is degraded and not clean it does
        not begin at all, if it has parity.
        """
        if self.bitmap.has_open_bits and not self.is_degraded:
            return 0
        return DONE if self.resync_offset is None else self.resync_offset

    def _header(self) -> BitmapHeader:
        sleep, behind = self.options.daemon_sleep_ms // 1000, self.options.write_behind
        sizes = (self.level.sync_sectors, self.bitmap.region_sectors)
        return BitmapHeader(self.events, self.events_cleared, *sizes, 0, max(sleep, 1), behind)

    def store_superblocks(self) -> Steps[None]:
        """Write down how far members are good, if anything is written down.

        Raises: BlockIOError if the array cannot go on.
        """
        if self.has_metadata:
            self._is_superblock_due = True
            yield from self._store()

    def store_all(self) -> Steps[None]:
        """Write down everything."""
        if self.has_bitmap:
            self._dirty_pages.update(self.bitmap.all_pages)
        yield from self.store_superblocks()

    def _write(self) -> Steps[None]:
        """Pages of the bitmap, then superblocks, until no further member has failed at that.

        A bitmap that has seen less events than the superblock is not believed, so it comes first.
        """
        while True:
            pages, self._dirty_pages = self._dirty_pages, set()
            is_due, self._is_superblock_due = self._is_superblock_due, False
            if is_due:
                self.events += 1
                pages |= {0} if self.has_bitmap else set()
            try:
                errors = yield from self._write_once(pages, is_due)
            except BaseException:  # Given up, as where a member is suspended: others write it.
                self._dirty_pages |= pages
                self._is_superblock_due |= is_due
                raise
            if not errors:
                return
            self._dirty_pages |= pages
            self._is_superblock_due |= is_due
            self._give_up({index for index in errors if self.members[index].writable}, errors)

    def _write_once(self, pages: set[int], is_due: bool) -> Steps[dict[int, BlockIOError]]:
        errors = yield from self._write_pages(pages)
        if is_due and not errors:
            is_clean = self._offset_to_store() == DONE and not self.is_degraded
            errors = yield from self._write_superblocks()
            self._is_called_clean = is_clean
        return errors

    def _write_pages(self, pages: set[int]) -> Steps[dict[int, BlockIOError]]:
        held = self.bitmap.snapshot(pages)
        members = self.with_metadata()
        writes = [(one, self._page_write(one, page)) for page in sorted(pages) for one in members]
        outcomes = yield Each(tuple(write for _, write in writes))
        errors = errors_of([member for member, _ in writes], outcomes)
        if not errors:
            self.bitmap.stored(held)
        return errors

    def _page_write(self, member: Member, page: int) -> Remap:
        assert member.meta is not None, "they were chosen by it"
        block = member.meta.device.limits.logical_block_size
        begin, _ = self.bitmap.page_range(page, block)
        data = memoryview(self.bitmap.page(page, self._header(), block))
        sector = bitmaps.START_SECTOR + begin // SECTOR_SIZE
        return member.meta.remap(Bio.write(sector, data, flags=FUA))

    def _write_superblocks(self) -> Steps[dict[int, BlockIOError]]:
        members = self.with_metadata()
        writes = []
        for member in members:
            assert member.meta is not None, "they were chosen by it"
            block = member.meta.device.limits.logical_block_size
            data = memoryview(self._superblock(member).pack(block))
            writes.append(member.meta.remap(Bio.write(0, data, flags=FUA)))
        outcomes = yield Each(tuple(writes))
        return errors_of(members, outcomes)

    def with_metadata(self) -> list[Member]:
        """Those to whose metadata devices everything is written."""
        return [one for one in self.members if one.writable and one.meta is not None]

    def clear_idle(self, at_once: bool = False) -> Steps[None]:
        """Clear the bits of regions that nobody writes to any more, once their data are durable.

        While a member is missing they stay: they tell what it has missed.
        """
        if self.is_degraded:
            return
        ready = self.bitmap.cool(at_once)
        if not ready or not self.has_bitmap:
            self.bitmap.clear(ready)
            return
        yield from self.flush_members()
        if self.is_degraded:
            return
        cleared = self.bitmap.clear(ready)
        self.events_cleared = self.events
        # The first page has the event with which they were cleared.
        self._dirty_pages |= self.bitmap.pages(cleared) | {0}
        yield from self._store()
        if not self.bitmap.has_open_bits:
            yield from self.store_superblocks()

    def flush_members(self) -> Steps[None]:
        """Make durable what has been written to members.

        Raises: BlockIOError if the array cannot go on.
        """
        members = [member for member in self.members if member.writable]
        offsets = [member.recovery_offset for member in members]
        outcomes = yield Each(tuple(member.place.remap(FLUSH) for member in members))
        errors = errors_of(members, outcomes)
        for member, offset in zip(members, offsets, strict=True):
            if member.index not in errors:
                member.durable_offset = offset
        if errors:
            yield from self.fail(errors)


#: Errors that say something of what was asked, not of the device that was asked.
_OF_THE_BIO = (
    *(errno.EOPNOTSUPP, errno.EINVAL, errno.ENOPKG, errno.ENOKEY, errno.EKEYREJECTED),
    *(errno.EBUSY, errno.EAGAIN),
)


def errors_of(
    members: Iterable[Member], outcomes: Iterable[BlockIOError | None]
) -> dict[int, BlockIOError]:
    """The errors of members, by their positions, the first of each.

    Raises: BlockIOError, the first that says nothing against a device.
    """
    errors: dict[int, BlockIOError] = {}
    for member, error in zip(members, outcomes, strict=True):
        if error is not None:
            if error.errno in _OF_THE_BIO:
                raise error
            errors.setdefault(member.index, error)
    return errors
