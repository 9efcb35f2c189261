"""mirror: the same data on several devices, with a log of what is in sync.  See mirror.md."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from fusedm.block import FLUSH, Bio, BlockDevice, Op, RangeLocks
from fusedm.block.errors import BlockIOError, Requeue, Status
from fusedm.block.units import sectors_to_bytes
from fusedm.dm.arguments import Arguments
from fusedm.dm.mirror.copying import copy_range
from fusedm.dm.mirror.legs import Failure, Legs
from fusedm.dm.mirror.log import RegionLog, log_bytes
from fusedm.dm.signal import Signal
from fusedm.dm.target import (
    Action,
    Each,
    Fail,
    Quiesce,
    Remap,
    Script,
    Segment,
    Steady,
    Target,
    Wait,
    Word,
)
from fusedm.dm.turns import Steps

FEATURES = ("handle_errors", "keep_log")

#: A region that has not been written to for so long is marked clean; each time costs a flush.
CLEAN_AFTER_SECONDS = 1.0

Outcomes = Sequence[BlockIOError | None]


def examples() -> list[str]:
    """Arguments the contract suite tries."""
    return [
        "core 1 64 2 d0 0 d1 0",
        "core 2 16 nosync 2 d0 0 d1 2048",
        "disk 3 d2 16 nosync 2 d0 0 d1 8 1 handle_errors",
        "core 2 8 sync 3 d0 0 d1 0 d2 0 2 handle_errors keep_log",
    ]


@dataclass
class Mirror(Target):
    """What is written goes to all legs; where they differ, one is copied to the others meanwhile.

    It stores data and copies them, so it must not see them in clear: encrypted once above, all legs
    hold the same ciphertext.
    """

    name = "mirror"
    version = (1, 15, 0)
    passes_crypto = False

    sector_count: int
    segments: tuple[Segment, ...]
    region_sectors: int
    sync: str = ""
    log_device: BlockDevice | None = None
    features: tuple[str, ...] = ()
    legs: Legs = field(init=False, compare=False)
    log: RegionLog = field(init=False, compare=False)
    #: Held by what writes where legs differ, and by what copies there.
    locks: RangeLocks = field(default_factory=RangeLocks, compare=False)
    #: Regions that are marked as written to on the medium, those of them that have been written to
    #: of late, and those that are about to be marked clean.
    dirty: set[int] = field(default_factory=set, compare=False)
    recent: set[int] = field(default_factory=set, compare=False)
    cleaning: set[int] = field(default_factory=set, compare=False)
    #: Whether all regions were in sync, and all writes since have reached all legs.
    is_whole: bool = field(default=False, compare=False)
    #: Whether the log could not be marked, and whether its failure has been an event.
    is_log_lost: bool = field(default=False, compare=False)
    is_log_told: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        self.max_io_sectors = self.region_sectors
        self.handles_errors = "handle_errors" in self.features
        self.keeps_log = "keep_log" in self.features
        self.legs = Legs(self.segments, self.handles_errors)
        count = -(-self.sector_count // self.region_sectors)
        self.log = RegionLog(count, self.sync, self.log_device)
        self.is_whole = self.sync == "nosync"
        self._to_copy: Iterator[int] = iter(())
        self._resumed, self._written = Signal(), Signal()

    @classmethod
    def make(cls, line: Arguments) -> "Mirror":
        device, region = line.device_or_none("logdev"), line.number("region")
        if device is not None:
            needed = log_bytes(-(-line.sector_count // region), device.limits.logical_block_size)
            if needed > sectors_to_bytes(device.sector_count):
                size = f"{device.name} has {device.sector_count} sectors"
                line.refuse("logdev", f"{size}, the log takes {needed} bytes")
        features = tuple(feature for feature in FEATURES if line.has(feature))
        legs = tuple(line.segments())
        return cls(line.sector_count, legs, region, line.text("sync"), device, features)

    def params(self) -> list[Word]:
        words: list[Word] = [self.log_device] if self.log_device is not None else []
        words += [str(self.region_sectors), *([self.sync] if self.sync else [])]
        kind = "core" if self.log_device is None else "disk"
        legs = [word for segment in self.segments for word in segment.params()]
        features = [str(len(self.features)), *self.features] if self.features else []
        return [kind, str(len(words)), *words, str(len(self.segments)), *legs, *features]

    def status(self) -> list[Word]:
        devices = [segment.device for segment in self.segments]
        progress = f"{self.log.sync_count}/{self.log.region_count}"
        log: list[Word] = ["1", "core"]
        if self.log_device is not None:
            log = ["3", "disk", self.log_device, self.log.state]
        return [str(len(devices)), *devices, progress, "1", self.legs.letters, *log]

    def devices(self) -> Iterable[Segment]:
        return self.segments

    def own_devices(self) -> Iterable[BlockDevice]:
        return () if self.log_device is None else (self.log_device,)

    # Bios.

    def map(self, bio: Bio) -> Action:
        if bio.op is Op.READ:
            leg = self._leg_to_read(bio)
            if leg is None:
                return Fail(Status.IOERR)
            return Each((self._on(leg, bio),), partial(self._read_ended, bio, leg))
        if self._log_stops_writes and (bio.op is Op.FLUSH or self._all_in_sync(bio)):
            return Script(partial(self._not_written, ()))
        if bio.op is Op.FLUSH:
            return Each(self._on_all(FLUSH), self._flush_ended)
        if self._may_go_at_once(bio):
            return Each(self._on_all(bio), partial(self._write_ended, bio))
        # What is in sync may be written to at once, and is not copied; the rest takes its turn.
        locks = () if self._all_in_sync(bio) else ((self.locks, bio.sector, bio.end_sector),)
        return Script(partial(self._write, bio), locks)

    def steady(self, sector: int) -> Steady:
        """Reads go to the default leg, in sync or not, until something of it fails."""
        reads = {Op.READ} if self.legs.is_default_whole else set[Op]()
        flushes = set[Op]() if self._log_stops_writes else {Op.FLUSH}
        return Steady(ops=frozenset(reads | flushes))

    def _on(self, leg: int, bio: Bio) -> Remap:
        return self.segments[leg].remap(bio)

    def _on_all(self, bio: Bio) -> tuple[Remap, ...]:
        return tuple(segment.remap(bio) for segment in self.segments)

    def _regions(self, bio: Bio) -> range:
        size = self.region_sectors
        return range(bio.sector // size, (bio.end_sector - 1) // size + 1)

    def _all_in_sync(self, bio: Bio) -> bool:
        return all(map(self.log.is_in_sync, self._regions(bio)))

    def _may_go_at_once(self, bio: Bio) -> bool:
        """Whether all legs hold the same there, and it is marked that they may not."""
        is_marked = self.log_device is None or self.dirty.issuperset(self._regions(bio))
        return is_marked and self._all_in_sync(bio)

    @property
    def _log_stops_writes(self) -> bool:
        return self.handles_errors and self.is_log_lost

    # Reads.

    def _leg_to_read(self, bio: Bio) -> int | None:
        """What is not in sync is read from where it is copied from only."""
        if self._all_in_sync(bio):
            return self.legs.to_read()
        return self.legs.default if self.legs.is_default_whole else None

    def _read_ended(self, bio: Bio, leg: int, outcomes: Outcomes) -> Steps[None] | None:
        [error] = outcomes
        return None if error is None else self._read_another(bio, leg, error)

    def _read_another(self, bio: Bio, leg: int, error: BlockIOError) -> Steps[None]:
        while True:
            self._fail(leg, Failure.READ)
            found = self._leg_to_read(bio)
            if found is None:
                raise error
            leg = found
            try:
                yield self._on(leg, bio)
                return
            except BlockIOError as another:
                error = another

    # Writes.

    def _write(self, bio: Bio) -> Steps[None]:
        """A WRITE or DISCARD of what is to be marked first, or is not in sync."""
        if not self._all_in_sync(bio) and bio.op is Op.WRITE:
            yield from self._write_one(bio)
            return
        if self._log_stops_writes:
            yield from self._not_written(())
        yield from self._mark(bio)
        steps = self._write_ended(bio, (yield Each(self._on_all(bio))))
        if steps is not None:
            yield from steps

    def _write_one(self, bio: Bio) -> Steps[None]:
        """To where it will be copied from; that it is not clean is marked already."""
        if self.legs.any_failed and self.handles_errors and not self.keeps_log:
            yield from self._not_written(self._regions(bio))
        yield self._on(self.legs.default, bio)

    def _mark(self, bio: Bio) -> Steps[None]:
        new = [r for r in self._regions(bio) if r not in self.dirty and self.log.is_in_sync(r)]
        self.cleaning.difference_update(new)
        try:
            yield from self.log.mark(new)
        except BlockIOError:
            self.is_log_lost = True
            self.changed()
            self._tell_of_log()
            if self.handles_errors:
                yield from self._not_written(())
            return
        self.recent.update(new)
        self.dirty.update(new)
        self._written.notify()

    def _write_ended(self, bio: Bio, outcomes: Outcomes) -> Steps[None] | None:
        regions = self._regions(bio)
        self.recent.update(regions)
        if not any(outcomes):
            return None
        if bio.op is Op.DISCARD:
            # What is not given up everywhere makes no leg a bad one.
            raise next(error for error in outcomes if error is not None)
        self._fail_those(outcomes, Failure.WRITE)
        return self._not_written(regions)

    def _flush_ended(self, outcomes: Outcomes) -> Steps[None] | None:
        if not any(outcomes):
            return None
        self._fail_those(outcomes, Failure.WRITE)
        self.log.never_clean = True
        self.is_whole = False
        return self._not_written(())

    def _not_written(self, regions: Iterable[int]) -> Steps[None]:
        """What becomes of a bio that has not reached all legs, or must not be sent to them."""
        yield from ()
        if not self.is_log_lost:
            self.is_whole = False
            for region in regions:
                self.log.set_in_sync(region, False)
                self.dirty.discard(region)
            self.changed()
        if self.legs.all_failed or (self.keeps_log and self.is_log_lost):
            text = "no leg is whole" if self.legs.all_failed else "its log has failed"
            raise BlockIOError(Status.IOERR, self.host.name, text)
        if self.handles_errors and not self.keeps_log:
            raise Requeue(self._resumed)

    # Failures.

    def _fail(self, leg: int, failure: Failure) -> None:
        was_whole = self.legs.is_whole(leg)
        is_event = self.legs.fail(leg, failure, self.is_whole)
        if was_whole or is_event:
            self.changed()
        if is_event:
            self.raise_event()

    def _fail_those(self, outcomes: Outcomes, failure: Failure) -> None:
        for leg, error in enumerate(outcomes):
            if error is not None:
                self._fail(leg, failure)

    def _tell_of_log(self) -> None:
        """The first failure of the log is an event."""
        if self.log.has_failed and not self.is_log_told:
            self.is_log_told = True
            self.raise_event()

    # Turns.

    def preresume(self) -> Steps[None]:
        try:
            yield from self.log.load()
        except BlockIOError:
            """What is known holds as long as the table is there."""
        self._tell_of_log()
        self._to_copy = self.log.out_of_sync()

    def resumed(self) -> None:
        self._resumed.notify()

    def stop(self) -> None:
        """Bios that wait for a table without the leg are planned anew."""
        self._resumed.notify()

    def postsuspend(self) -> Steps[None]:
        """All regions that are in sync are clean, since nothing is under way."""
        self.cleaning |= self.dirty
        self.dirty.clear()
        yield from self._mark_clean()

    def background(self) -> Iterable[Steps[None]]:
        yield self._copy_regions()
        if self.log_device is not None:
            yield self._clean_regions()

    def _copy_regions(self) -> Steps[None]:
        """Make legs the same, a region at a time; again from the start when it is resumed."""
        while True:
            region = next(self._to_copy, None)
            if region is not None:
                begin = region * self.region_sectors
                end = min(begin + self.region_sectors, self.sector_count)
                yield Script(partial(self._copy, region, begin, end), ((self.locks, begin, end),))
                continue
            if not self.is_whole and self.log.sync_count == self.log.region_count:
                self.is_whole = True
                self.raise_event()
            yield Wait(self._resumed)

    def _copy(self, region: int, begin: int, end: int) -> Steps[None]:
        source = self.legs.default
        others = [leg for leg in range(len(self.legs)) if leg != source]
        to = [self.segments[leg] for leg in others]
        failed = yield from copy_range(self.segments[source], to, begin, end)
        for index in failed:
            self._fail(others[index] if index is not None else source, Failure.SYNC)
        if failed:
            return
        self.log.set_in_sync(region, True)
        if self.log_device is not None:
            self.dirty.add(region)
            self._written.notify()

    def _clean_regions(self) -> Steps[None]:
        """Mark what has not been written to for a while clean."""
        while not self.log.never_clean:
            if not self.dirty:
                yield Wait(self._written)
                continue
            self.recent.clear()
            yield Wait(None, CLEAN_AFTER_SECONDS)
            idle = self.dirty - self.recent
            self.cleaning |= idle
            self.dirty -= idle
            if idle:
                # What was on its way to them when they were dirty has ended then.
                yield Quiesce()
                yield Script(self._mark_clean)

    def _mark_clean(self) -> Steps[None]:
        """Regions that nobody writes to are made durable on all legs, and marked."""
        if not self.cleaning or self.log.never_clean or self.log_device is None:
            self.cleaning.clear()
            return
        outcomes: Outcomes = yield Each(self._on_all(FLUSH))
        regions = [region for region in self.cleaning if self.log.is_in_sync(region)]
        self.cleaning.clear()
        self._fail_those(outcomes, Failure.FLUSH)
        try:
            if any(outcomes):
                yield from self.log.mark_none_clean()
            else:
                yield from self.log.mark_clean(regions)
        except BlockIOError:
            self._tell_of_log()
