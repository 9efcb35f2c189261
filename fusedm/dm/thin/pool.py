"""A pool: what it can still do, how its blocks are given out, and how its metadata are committed.

Rules:

    Metadata change within one step, while nobody commits: a commit holds `lock`, and whoever finds
    it free may change them until it yields.
    A commit that comes to a suspended data device is given up, before it has changed anything: the
    suspend may wait for a plan that waits for `lock`.
    Who holds `lock` sends bios to the data and metadata devices only, never to the pool's device:
    that may be suspended, and its suspend ends with a commit.
    Who finds no room lets go of everything and is planned anew when there may be some (Requeue):
    a bio that is in flight on the pool keeps blocks from being given out again.
    A block that was freed is given out again only when it is free in what is committed, and all
    bios have ended that were planned before (Quiesce): one of them may be on its way to it.

Source: the kernel's drivers/md/dm-thin.c, which waits for the bios first and frees then.
"""

import errno
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

from fusedm.block import FLUSH, BlockDevice, RangeLocks
from fusedm.block.errors import BlockIOError, FusedmError, Requeue, StackError, Status
from fusedm.block.range_locks import Extent
from fusedm.dm.signal import Signal
from fusedm.dm.target import Quiesce, Remap, Script, Wait
from fusedm.dm.thin.blocks import BLOCK_SECTORS, MAX_METADATA_BLOCKS
from fusedm.dm.thin.mode import Features, Mode
from fusedm.dm.thin.open_thin import OpenThin
from fusedm.dm.thin.pool_metadata import PoolMetadata
from fusedm.dm.thin.requests import Requests
from fusedm.dm.turns import Steps, T

#: How long changes may be uncommitted. Source: COMMIT_PERIOD in dm-thin.c.
COMMIT_SECONDS = 1
#: How long bios wait for room. Source: NO_SPACE_TIMEOUT_SECS in dm-thin.c.
NO_SPACE_SECONDS = 60
#: The most blocks of free metadata below which there is an event: 4 MiB are enough for anything.
MAX_METADATA_THRESHOLD = 1024

log = logging.getLogger(__name__)


class Pool:
    """What the tables of one pool device share, and the thin devices of it.

    Lives: while any of these is.
    """

    def __init__(
        self, metadata_device: BlockDevice, data_device: BlockDevice, metadata: PoolMetadata
    ) -> None:
        self.metadata_device = metadata_device
        self.data_device = data_device
        self.metadata = metadata
        self.mode = Mode.WRITE
        self.features = Features()
        self.low_water_blocks = 0
        #: The target whose word counts, and what it does for an event.
        self.owner: object = None
        self.raise_event: Callable[[], None] = _nothing
        #: From the beginning of a suspend of the pool's device until it is resumed.
        self.is_suspended = True
        self._lock = RangeLocks()
        #: Who found no room may find some.
        self.room = Signal()
        self._dirty, self._has_freed, self._mode_changed = Signal(), Signal(), Signal()
        self._devices: dict[int, OpenThin] = {}
        self.requests = Requests(self)
        self._unused: list[tuple[int, int]] = []
        self._resting: Any = ()
        self._is_committing = False
        self._is_low_told = self._is_metadata_low_told = False

    @property
    def block_sectors(self) -> int:
        """The size of its blocks."""
        return self.metadata.block_sectors

    @property
    def lock(self) -> tuple[Extent, ...]:
        """What is held to commit."""
        return ((self._lock, 0, 1),)

    @property
    def metadata_threshold(self) -> int:
        """At how many free blocks of metadata there is an event."""
        return min(MAX_METADATA_THRESHOLD, self.metadata_size // 4)

    @property
    def metadata_size(self) -> int:
        """How many blocks of metadata its device has room for."""
        return min(self.metadata_device.sector_count // BLOCK_SECTORS, MAX_METADATA_BLOCKS)

    # Thin devices.

    def open(self, number: int, is_dry: bool = False) -> OpenThin:
        """One more target uses a thin device; where metadata are not the real ones, of any number.

        Raises: StackError: EINVAL if the pool fails or is suspended, ENODATA without such a device.
        """
        if self.mode is Mode.FAIL:
            raise StackError("the pool has failed")
        if is_dry and not self.metadata.has_device(number):
            self.metadata.create_thin(number)
        if not self.metadata.has_device(number):
            raise StackError(f"the pool has no thin device {number}", errno.ENODATA)
        if self.is_suspended:
            raise StackError("the pool is suspended")
        device = self._devices.setdefault(number, OpenThin(number))
        device.users += 1
        return device

    def close(self, device: OpenThin) -> None:
        """One less does."""
        device.users -= 1
        # What was lost or is yet to be committed of it is to be told of if it is opened again.
        if not device.users and not device.has_changes and not device.has_lost:
            del self._devices[device.number]

    def is_open(self, number: int) -> bool:
        """Whether a target uses a thin device."""
        return number in self._devices and self._devices[number].users > 0

    def note_shared(self, number: int) -> None:
        """All that is mapped of a thin device is a snapshot's as well."""
        if number in self._devices:
            self._devices[number].lost.advance()

    # Changes.

    def change(self, do: Callable[[], T]) -> Steps[T]:
        """Change the metadata, which do does in one go.

        Raises: BlockIOError(IOERR) if the pool takes no changes, or has no room for metadata: it is
                read-only from then on; else what do raises.
        """
        result: T = yield Script(lambda: self._change(do), self.lock)
        return result

    def _change(self, do: Callable[[], T]) -> Steps[T]:
        yield from self._undo_what_was_cut_off()
        if self.mode >= Mode.OUT_OF_METADATA_SPACE:
            raise self._error(Status.IOERR, "its metadata cannot be changed")
        try:
            result = do()
        except StackError as error:
            if error.errno != errno.ENOSPC:
                raise
            yield from self._fail(error)
            raise self._error(Status.IOERR, str(error)) from error
        if self.metadata.has_changes:
            self._dirty.notify()
        return result

    def give_back(self, begin: int, end: int) -> None:
        """Data blocks are not used after all, or not any more: they lose a reference."""
        self._unused.append((begin, end))
        if self._lock.is_free(0, 1):
            self._take_back()

    def _take_back(self) -> None:
        """Only while nobody else commits."""
        if self.mode < Mode.OUT_OF_METADATA_SPACE:
            while self._unused:
                self.metadata.release(*self._unused.pop())
            self._dirty.notify()

    # Giving blocks out.

    def no_room(self) -> BlockIOError | Requeue:
        """What becomes of a bio that needs a block and gets none.

        Source: should_error_unserviceable_bio in dm-thin.c.
        """
        if self.mode > Mode.OUT_OF_DATA_SPACE:
            return self._error(Status.IOERR, "it is read-only")
        if self.mode is Mode.OUT_OF_DATA_SPACE and self.features.error_if_no_space:
            return self._error(Status.NOSPC, "it has no free blocks")
        return Requeue(self.room)

    def allocate(self) -> Steps[int | None]:
        """A data block, if one can be had; only with lock held.

        Source: alloc_data_block in dm-thin.c.
        """
        metadata = self.metadata
        self._check_low_water()
        if not metadata.can_allocate or not metadata.free_metadata_blocks:
            yield from self.commit()
            self._check_metadata_space()
        if self.mode is Mode.WRITE and not metadata.free_data_blocks:
            self.set_mode(Mode.OUT_OF_DATA_SPACE)
        if self.mode is not Mode.WRITE or not metadata.can_allocate:
            return None
        try:
            data = metadata.allocate()
        except StackError as error:
            yield from self._fail(error)
            return None
        self._dirty.notify()
        return data

    def _check_low_water(self) -> None:
        is_low = self.metadata.free_data_blocks <= self.low_water_blocks
        if is_low and not self._is_low_told:
            log.warning("%s: few free blocks are left", self.data_device.name)
            self._is_low_told = True
            self.raise_event()

    # Commits.

    def commit(self) -> Steps[bool]:
        """Have all changes durable, and the data of what was mapped before; whether they are.

        Only with lock held. One that fails takes the changes back, and the pool is read-only.
        """
        yield from self._undo_what_was_cut_off()
        if self.mode >= Mode.OUT_OF_METADATA_SPACE:
            return False
        self._take_back()
        if not self.metadata.has_changes:
            return True
        try:
            yield Remap(self.data_device, FLUSH)
            # From here on it cannot be given up: what is written would be neither old nor new.
            self._is_committing = True
            yield Script(self.metadata.commit, is_repeatable=False)
        except (BlockIOError, StackError) as error:
            yield from self._fail(error)
            return False
        self._is_committing = False
        for device in list(self._devices.values()):
            device.note_commit()
            if not device.users and not device.has_lost:
                del self._devices[device.number]
        self._has_freed.notify()
        self._check_metadata_space()
        if self.mode is Mode.OUT_OF_DATA_SPACE and self.metadata.free_data_blocks:
            self.set_mode(Mode.WRITE)
        return True

    def _undo_what_was_cut_off(self) -> Steps[None]:
        """Give up what a commit was about to write that has been cancelled."""
        if self._is_committing:
            yield from self._fail(StackError("a commit was cut off"))

    def _check_metadata_space(self) -> None:
        free = self.metadata.free_metadata_blocks
        if not free and self.mode < Mode.OUT_OF_METADATA_SPACE:
            log.error("%s: no free blocks of metadata", self.metadata_device.name)
            self.set_mode(Mode.OUT_OF_METADATA_SPACE)
        is_low, was_low = free <= self.metadata_threshold, self._is_metadata_low_told
        self._is_metadata_low_told = is_low
        if is_low and not was_low:
            self.raise_event()

    def _fail(self, error: FusedmError) -> Steps[None]:
        """A change could not be made: all since the last commit are taken back.

        Only with lock held. Source: metadata_operation_failed in dm-thin.c.
        """
        log.error("%s: changes are given up: %s", self.metadata_device.name, error)
        self._is_committing = False
        for undo in (self.metadata.abort, self.metadata.set_needs_check):
            try:
                yield Script(undo, is_repeatable=False)
            except (BlockIOError, StackError) as failed:
                log.error("%s: %s", self.metadata_device.name, failed)
                self.set_mode(Mode.FAIL)
        self._unused.clear()
        for device in self._devices.values():
            device.note_abort()
        self.set_mode(Mode.READ_ONLY)

    # Modes.

    def bind(
        self,
        owner: object,
        raise_event: Callable[[], None],
        features: Features,
        low_water_blocks: int,
        mode: Mode,
    ) -> None:
        """Go by a table's target from now on, in a mode if that may be.

        Source: bind_control_target in dm-thin.c.
        """
        self.owner, self.raise_event = owner, raise_event
        self.features, self.low_water_blocks = features, low_water_blocks
        self.set_mode(mode)

    def set_mode(self, mode: Mode) -> None:
        """Change to a mode, or to what may be instead; an event if it is another.

        What may have to be repaired is not written, and what has failed has failed.
        Source: set_pool_mode in dm-thin.c.
        """
        before = self.mode
        if mode is Mode.WRITE and self.metadata.needs_check:
            mode = before if before is not mode else Mode.READ_ONLY
        if before is Mode.FAIL:
            mode = before
        self.mode = mode
        self._mode_changed.notify()
        self.room.notify()
        if mode is Mode.FAIL:
            for device in self._devices.values():
                device.forget_spans()
        if mode is not before:
            log.warning("%s: the pool is %s now", self.data_device.name, mode.name)
            self.raise_event()

    def note_resumed(self) -> None:
        """Bios come: who found no room may find some, and is told again of little."""
        self.is_suspended = self._is_low_told = False
        self.room.notify()

    def fit(self, data_blocks: int) -> Steps[None]:
        """Grow with the devices.

        Raises: StackError(EINVAL) if one is smaller than it was; BlockIOError.
        Source: pool_preresume in dm-thin.c.
        """
        metadata = self.metadata
        sizes = (
            (metadata.resize_data, data_blocks, metadata.data_blocks, self.data_device),
            (metadata.resize_metadata, self.metadata_size, metadata.metadata_blocks,
             self.metadata_device),
        )  # fmt: skip
        for resize, size, before, device in sizes:
            if size < before:
                raise StackError(f"{device.name}: {size} blocks, and the pool has {before}")
            if size == before or metadata.needs_check:
                continue
            if self.mode is Mode.OUT_OF_METADATA_SPACE and device is self.metadata_device:
                self.set_mode(Mode.WRITE)
            if self.mode >= Mode.OUT_OF_METADATA_SPACE:
                continue
            yield from self.change(partial(resize, size))
        yield Script(self.commit, self.lock)

    def _error(self, status: Status, text: str) -> BlockIOError:
        return BlockIOError(status, self.data_device.name, f"the pool on it: {text}")

    # In the background.

    def background(self) -> Iterable[Steps[None]]:
        """What goes on while the pool's device is live."""
        return (self._commit_now_and_then(), self._give_up_waiting(), self._recycle())

    def note_idle(self) -> None:
        """No bio is in flight: what was freed may be given out."""
        self._rested()
        self._resting = self.metadata.take_freed()
        self._rested()

    def _rested(self) -> None:
        if self._resting:
            self.metadata.recycle(self._resting)
        self._resting = ()

    def _commit_now_and_then(self) -> Steps[None]:
        while True:
            if not self.metadata.has_changes or self.mode >= Mode.OUT_OF_METADATA_SPACE:
                yield Wait(self._dirty)
            yield Wait(seconds=COMMIT_SECONDS)
            yield Script(self.commit, self.lock, is_repeatable=True)

    def _give_up_waiting(self) -> Steps[None]:
        """After a time without room bios fail at once.

        Source: do_no_space_timeout in dm-thin.c.
        """
        while True:
            if self.mode is not Mode.OUT_OF_DATA_SPACE or self.features.error_if_no_space:
                yield Wait(self._mode_changed)
            elif not (yield Wait(self._mode_changed, NO_SPACE_SECONDS)):
                self.features = replace(self.features, error_if_no_space=True)
                self.raise_event()
                self.room.notify()

    def _recycle(self) -> Steps[None]:
        while True:
            self._resting = self.metadata.take_freed()
            if not self._resting:
                yield Wait(self._has_freed)
                continue
            yield Quiesce()
            self._rested()
            self.room.notify()


def _nothing() -> None:
    """Nobody has to be told."""
