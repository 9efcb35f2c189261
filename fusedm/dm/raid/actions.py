"""What an array does in the background: making alike, rebuilding, checking and repairing. Pure.

One action at a time, in pieces, each with its range locked; between two pieces it may be ended, its
device suspended, and its rate is kept.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from fusedm.block.errors import BlockIOError
from fusedm.dm.raid.array import Array
from fusedm.dm.raid.members import IN_SYNC
from fusedm.dm.target import Script, Wait
from fusedm.dm.turns import Steps

log = logging.getLogger(__name__)

IDLE, RESYNC, RECOVER, CHECK, REPAIR = "idle", "resync", "recover", "check", "repair"

#: How far an action has come is written down each time it has done so much of the whole.
CHECKPOINTS = 16

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
            yield Script(self._written_down)
        except BlockIOError as error:
            log.warning("%s: superblocks: %s", self.array.shape.type, error)

    def _written_down(self) -> Steps[None]:
        """How far it came; before superblocks say that something is good, it is."""
        yield from self.array.flush_members()
        yield from self.array.clear_idle(at_once=True)
        yield from self.array.store_superblocks()

    def _paced(self, begin: int, end: int, most: int | None = None) -> Iterator[tuple[int, int]]:
        step = self.array.level.step_sectors
        if most is not None:
            step = min(step, most)
        for at in range(begin, end, step):
            if self._is_to_end:
                return
            yield at, min(at + step, end)

    def _recover(self) -> Steps[None]:
        array, level = self.array, self.array.level
        members = [one for one in array.members if one.is_recovering]
        by_bitmap = array.has_bitmap and all(member.by_bitmap for member in members)
        begin = min(member.recovery_offset for member in members)
        pace = Pace(self, level.member_sectors)
        # Region by region, where most are passed over.
        most = array.bitmap.region_sectors if by_bitmap else None
        for at, end in self._paced(begin, level.member_sectors, most):
            indices = {member.index for member in members if member.is_recovering}
            if not indices:
                return
            pace.begin()
            if not by_bitmap or self._is_marked(*level.locked_by(at, end)):
                yield self._recovering(at, end, indices)
            for member in members:
                # Not one that failed on the way and came back meanwhile.
                if member.index in indices and at <= member.recovery_offset < end:
                    member.recovery_offset = end
            self.completed = end * level.sync_sectors // level.member_sectors
            yield from pace.keep(end - at)
            if pace.is_checkpoint(end):
                yield Script(self._written_down)
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
        array, bitmap = self.array, self.array.bitmap
        pace = Pace(self, array.level.sync_sectors)
        while bitmap.needed and not self._is_to_end:
            region = bitmap.next_needed()
            for at, end in self._paced(*bitmap.bounds(region)):
                pace.begin()
                yield self._locked(at, end, partial(array.level.resync, at, end))
                self.completed = end
                yield from pace.keep(end - at)
            if self._is_to_end:
                return
            bitmap.is_alike(region)
            if pace.is_checkpoint(self.completed):
                yield Script(self._written_down)

    def _check(self, repair: bool) -> Steps[None]:
        array = self.array
        pace = Pace(self, array.level.sync_sectors)
        for at, end in self._paced(0, array.level.sync_sectors):
            pace.begin()
            steps = self._locked(at, end, partial(array.level.check, at, end, repair))
            self.mismatches += yield steps
            self.completed = end
            yield from pace.keep(end - at)

    def _locked(self, begin: int, end: int, steps: Callable[[], Steps[Any]]) -> Script:
        return Script(steps, ((self.array.locks, begin, end),))


class Pace:
    """The rate of one action, and when it is written down."""

    def __init__(self, actions: Actions, whole: int) -> None:
        self._actions = actions
        self._clock = actions._clock
        self._step = max(whole // CHECKPOINTS, 1)
        self._next = self._step
        self._writes = actions.array.write_count
        self._began = self._clock()

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
        is_busy = self._actions.array.write_count != self._writes
        is_ahead = not options.min_rate or kib > options.min_rate * taken
        if is_busy and is_ahead:
            seconds = max(seconds, min(taken, MAX_PAUSE))
        if seconds:
            yield Wait(seconds=seconds)

    def is_checkpoint(self, completed: int) -> bool:
        """Whether a further part of the whole has been done."""
        if completed < self._next:
            return False
        self._next = completed + self._step
        return True
