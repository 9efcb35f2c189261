"""What an array does in the background: making alike, rebuilding, checking and repairing. Pure.

One action at a time, in windows, each with its range locked, and a few of them at the same time;
after these it may be ended, its device suspended, and its rate is kept.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from math import inf

from fusedm.block.errors import BlockIOError
from fusedm.block.units import MAX_SECTORS, SECTOR_SIZE
from fusedm.dm.raid.array import Array
from fusedm.dm.raid.members import IN_SYNC
from fusedm.dm.target import Each, Script, Wait
from fusedm.dm.turns import Steps

log = logging.getLogger(__name__)

#: Where a part of an action begins and ends.
Window = tuple[int, int]

IDLE, RESYNC, RECOVER, CHECK, REPAIR = "idle", "resync", "recover", "check", "repair"

#: How far an action has come is written down each time it has done so much of the whole, and at
#: most once in so many seconds: each time all members are flushed.
CHECKPOINTS = 16
CHECKPOINT_SECONDS = 1.0

#: How many windows are done at the same time, so that some are read while others are summed up and
#: written, and how many bytes of members they may have together. Each is locked on its own.
MAX_WINDOWS = 4
MAX_WINDOW_BYTES = 1 << 26

#: While others write, an action that is faster than its lowest rate leaves them as much time as it
#: takes, but not more than so many seconds at once.
MAX_PAUSE = 0.05


class Actions:
    """The actions of one array, and what is known of them."""

    def __init__(self, array: Array, clock: Callable[[], float]) -> None:
        self.array = array
        self._clock = clock
        self.action = IDLE
        #: How far the action has come, or the last one had, in sectors that resync counts in.
        self.completed = 0
        self.is_frozen = False
        self.mismatches = 0
        self._last = IDLE
        self._asked_for = IDLE
        self._is_to_end = False
        #: What cannot be done because something cannot be read; until it is asked for, or resumed.
        self._given_up: set[str] = set()

    @property
    def pending(self) -> str:
        """What is under way, or begins next."""
        return self.action if self.action != IDLE else self._next()

    @property
    def shown_mismatches(self) -> int:
        """As `status` has it: of the last check only."""
        return self.mismatches if self._last == CHECK else 0

    def freeze(self, is_frozen: bool) -> None:
        """Begin nothing until thawed; what is under way ends."""
        self.is_frozen = is_frozen
        self._asked_for = IDLE
        self._is_to_end = self.action != IDLE
        self.array.work.notify()

    def ask(self, action: str) -> None:
        """Have something done next."""
        self.is_frozen, self._asked_for = False, action
        self._given_up.clear()
        self.array.work.notify()

    def take_up(self) -> None:
        """Try again what could not be done."""
        self._given_up.clear()
        self.array.work.notify()

    # The scripts.

    def run(self) -> Steps[None]:
        """What is to be done, as long as there is something; then wait."""
        while True:
            action = self._next()
            if action == IDLE:
                yield Wait(self.array.work)
                continue
            with self._doing(action):
                try:
                    yield from self._steps(action)
                except BlockIOError as error:
                    log.warning("%s: %s ends: %s", self.array.shape.type, action, error)
                    self._given_up.add(action)
            yield from self._store()

    def clear_bits(self) -> Steps[None]:
        """From time to time, clear the bits of what nobody writes to."""
        seconds = self.array.options.daemon_sleep_ms / 1000
        while True:
            yield Wait(seconds=seconds)
            try:
                yield Script(self.array.clear_idle)
            except BlockIOError as error:
                log.warning("%s: clearing bits: %s", self.array.shape.type, error)

    def repair_reads(self) -> Steps[None]:
        """Write anew what a member could not read."""
        array = self.array
        while True:
            if not array.repairs:
                yield Wait(array.work)
                continue
            index, begin, end = next(iter(array.repairs))
            try:
                yield self._recovering(begin, end, {index})
            except BlockIOError as error:
                log.warning("%s: a repair: %s", array.shape.type, error)
            array.repairs.pop((index, begin, end), None)

    def written_down(self) -> Steps[None]:
        """How far it came; before superblocks say that something is good, it is."""
        yield from self.array.flush_members()
        yield from self.array.clear_idle(at_once=True)
        yield from self.array.store_superblocks()

    # One action.

    def _next(self) -> str:
        array = self.array
        if self.is_frozen:
            return IDLE
        if RECOVER not in self._given_up and any(one.is_recovering for one in array.members):
            return RECOVER
        if RESYNC not in self._given_up and array.bitmap.needed:
            return RESYNC
        return self._asked_for

    @contextmanager
    def _doing(self, action: str) -> Iterator[None]:
        self.action, self._is_to_end, self.completed = action, False, 0
        if action in (CHECK, REPAIR):
            self._asked_for, self.mismatches = IDLE, 0
        try:
            yield
        finally:
            self.action, self._last, self._is_to_end = IDLE, action, False

    def _steps(self, action: str) -> Steps[None]:
        if action == RECOVER:
            return self._recover()
        return self._resync() if action == RESYNC else self._check(action == REPAIR)

    def _store(self) -> Steps[None]:
        """Write down how far it came; what has ended is an event."""
        self.array.on_change()
        self.array.on_event()
        try:
            yield Script(self.written_down)
        except BlockIOError as error:
            log.warning("%s: superblocks: %s", self.array.shape.type, error)

    def _recover(self) -> Steps[None]:
        array, level = self.array, self.array.level
        members = [one for one in array.members if one.is_recovering]
        by_bitmap = array.has_bitmap and all(member.by_bitmap for member in members)

        def windows() -> Iterator[Window]:
            begin = min(member.recovery_offset for member in members)
            # Region by region, where most are passed over.
            step = min(
                level.step_sectors, array.bitmap.region_sectors if by_bitmap else MAX_SECTORS
            )
            for window in _cut(begin, level.member_sectors, step):
                if not any(member.is_recovering for member in members):
                    return
                yield window

        def make(at: int, end: int) -> Script | None:
            if by_bitmap and not self._is_marked(*level.locked_by(at, end)):
                return None
            return self._recovering(at, end, {m.index for m in members if m.is_recovering})

        def done(at: int, end: int) -> None:
            for member in members:
                # Not one that failed on the way and came back meanwhile.
                if member.is_recovering and at <= member.recovery_offset < end:
                    member.recovery_offset = end
            self.completed = end * level.sync_sectors // level.member_sectors

        yield from self._do_all(windows(), make, done, Pace(self))
        yield Script(array.flush_members)
        for member in members:
            if level.member_sectors <= member.recovery_offset:
                member.recovery_offset, member.by_bitmap = IN_SYNC, False

    def _recovering(self, begin: int, end: int, indices: set[int]) -> Script:
        array = self.array
        locked = (array.locks, *array.level.locked_by(begin, end))
        return Script(lambda: array.level.recover(begin, end, indices), (locked,))

    def _is_marked(self, begin: int, end: int) -> bool:
        bitmap = self.array.bitmap
        return any(bitmap.is_set(region) for region in bitmap.regions(begin, end))

    def _resync(self) -> Steps[None]:
        level, bitmap = self.array.level, self.array.bitmap
        pace = Pace(self)

        def windows() -> Iterator[Window]:
            for region in sorted(bitmap.needed):
                bitmap.take_up(region)
                yield from _cut(*bitmap.bounds(region), level.step_sectors)

        def done(at: int, end: int) -> None:
            self.completed = end
            region = at // bitmap.region_sectors
            if end == bitmap.bounds(region)[1]:
                bitmap.is_alike(region)

        while bitmap.needed and not self._is_to_end:
            yield from self._do_all(windows(), self._locked(level.resync), done, pace)

    def _check(self, repair: bool) -> Steps[None]:
        level = self.array.level

        def steps(at: int, end: int) -> Steps[None]:
            self.mismatches += yield from level.check(at, end, repair)

        def done(at: int, end: int) -> None:
            self.completed = end

        windows = _cut(0, level.sync_sectors, level.step_sectors)
        pace = Pace(self, is_written_down=False)
        yield from self._do_all(windows, self._locked(steps), done, pace)

    def _locked(self, steps: Callable[[int, int], Steps[None]]) -> Callable[[int, int], Script]:
        locks = self.array.locks
        return lambda at, end: Script(partial(steps, at, end), ((locks, at, end),))

    def _do_all(
        self,
        windows: Iterator[Window],
        make: Callable[[int, int], Script | None],
        done: Callable[[int, int], None],
        pace: "Pace",
    ) -> Steps[None]:
        """Do windows, several at the same time, each with its own lock.

        make: what is to be done for one, if anything; done is told of each once it and all before
        it are. How far that is is written down while the next ones are under way.
        Raises: BlockIOError of the first that fails.
        """
        while not self._is_to_end and (group := list(islice(windows, pace.at_once))):
            pace.begin()
            first = [Script(self.written_down)] if pace.is_checkpoint(self.completed) else []
            scripts = [make(*window) for window in group]
            steps = (*first, *(script for script in scripts if script is not None))
            outcomes = (yield Each(steps)) if steps else []
            number = len(first)
            for window, script in zip(group, scripts, strict=True):
                if script is not None and outcomes[number] is not None:
                    raise outcomes.pop(number)
                number += script is not None
                done(*window)
            if first and outcomes[0] is not None:
                raise outcomes.pop(0)
            yield from pace.keep(sum(end - at for at, end in group))


def _cut(begin: int, end: int, step: int) -> Iterator[Window]:
    for at in range(begin, end, step):
        yield at, min(at + step, end)


class Pace:
    """The rate of one action, and when it is written down how far it came, if at all."""

    def __init__(self, actions: Actions, is_written_down: bool = True) -> None:
        self._actions = actions
        self._clock = actions._clock
        self._step = max(actions.array.level.sync_sectors // CHECKPOINTS, 1)
        self._next: float = self._step if is_written_down else inf
        self._writes = actions.array.write_count
        self._is_busy = False
        self._began = self._checked = self._clock()

    @property
    def at_once(self) -> int:
        """How many windows are done at the same time: one where others are to have room."""
        array = self._actions.array
        if self._is_busy or array.options.max_rate:
            return 1
        window_bytes = array.level.step_sectors * SECTOR_SIZE * len(array.members)
        return max(1, min(MAX_WINDOWS, MAX_WINDOW_BYTES // window_bytes))

    def begin(self) -> None:
        """A piece begins."""
        self._began = self._clock()
        self._writes = self._actions.array.write_count

    def keep(self, sectors: int) -> Steps[None]:
        """Wait after a piece as long as the rate wants it."""
        options = self._actions.array.options
        taken = self._clock() - self._began
        kib = sectors / 2
        seconds = max(kib / options.max_rate - taken, 0.0) if options.max_rate else 0.0
        self._is_busy = self._actions.array.write_count != self._writes
        is_ahead = not options.min_rate or kib > options.min_rate * taken
        if self._is_busy and is_ahead:
            seconds = max(seconds, min(taken, MAX_PAUSE))
        if seconds:
            yield Wait(seconds=seconds)

    def is_checkpoint(self, completed: int) -> bool:
        """Whether a further part of the whole has been done."""
        if completed < self._next or self._clock() - self._checked < CHECKPOINT_SECONDS:
            return False
        self._next, self._checked = completed + self._step, self._clock()
        return True
