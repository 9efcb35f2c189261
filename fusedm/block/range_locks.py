"""Locks on ranges of sectors of one leaf device: the state machine, without waiting.

Every write holds the ranges it will touch; a read-modify-write holds them from its read to the end
of its write, so nothing can come between. Locks are on leaf sectors, so two views, a mapped device
and a raw file that reach the same bytes meet here. Reads take no lock.

Order is first come, first served among those that overlap: a newcomer that overlaps an earlier
waiter waits behind it. All ranges on one device are taken in one go, and devices one after the
other by serial (see merged()), so holders cannot wait for each other in a circle: were the ranges
of one device taken singly, a waiter for a wide range could come between two of them.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count

_serials = count()

#: Begin and end of each range; none is empty.
Ranges = tuple[tuple[int, int], ...]


def _nobody_waits() -> None:
    """Nobody has to be woken."""


@dataclass(eq=False, slots=True)
class Hold:
    """Ranges held or waited for, all of them at once; granted says which. Identity matters."""

    ranges: Ranges
    granted: bool
    wake: Callable[[], None]
    is_lent: bool = False


def _any_overlaps(holds: Iterable[Hold], ranges: Ranges) -> bool:
    """Whether any sector of the ranges is in any of the holds."""
    for hold in holds:
        for own_begin, own_end in hold.ranges:
            for begin, end in ranges:
                if begin < own_end and own_begin < end:
                    return True
    return False


class RangeLocks:
    """The held and wanted ranges of one device, oldest first."""

    __slots__ = ("_holds", "serial")

    def __init__(self) -> None:
        self.serial = next(_serials)
        self._holds: list[Hold] = []

    @property
    def claimed(self) -> list[tuple[int, int]]:
        """Where no write may begin that is told of by lend only: somebody holds it, or waits."""
        return [each for hold in self._holds if not hold.is_lent for each in hold.ranges]

    def keeps_waiting(self, hold: Hold) -> bool:
        """Whether somebody waits for a sector that is held."""
        waiters = [other for other in self._holds if not other.granted]
        return _any_overlaps(waiters, hold.ranges)

    def is_free(self, begin: int, end: int) -> bool:
        """Whether nobody holds or waits for a sector of the range."""
        return not _any_overlaps(self._holds, ((begin, end),))

    def take(self, ranges: Ranges, wake: Callable[[], None] = _nobody_waits) -> Hold:
        """Take the ranges, or queue for them.

        wake, or what the hold's wake is then, is called when hold.granted has become true.
        """
        assert all(begin < end for begin, end in ranges), f"empty range in {ranges}"
        hold = Hold(ranges, not _any_overlaps(self._holds, ranges), wake)
        self._holds.append(hold)
        return hold

    def lend(self, ranges: Ranges) -> Hold:
        """Have ranges held by writes that began where nothing was claimed, others lent or not."""
        hold = Hold(ranges, granted=True, wake=_nobody_waits, is_lent=True)
        # First, since it began before whoever waits, or is what is left of something that did.
        self._holds.insert(0, hold)
        return hold

    def release(self, hold: Hold) -> None:
        """Give ranges back, or stop waiting for them, and grant what has become free."""
        self._holds.remove(hold)
        for index, waiter in enumerate(self._holds):
            if waiter.granted or not _any_overlaps((waiter,), hold.ranges):
                continue
            if not _any_overlaps(self._holds[:index], waiter.ranges):
                waiter.granted = True
                waiter.wake()


Extent = tuple[RangeLocks, int, int]


def merged(extents: Iterable[Extent]) -> list[tuple[RangeLocks, Ranges]]:
    """What to take of each device, in the order to take it; ranges that touch are made one."""
    by_device: dict[RangeLocks, list[tuple[int, int]]] = {}
    for locks, begin, end in sorted(extents, key=lambda extent: (extent[0].serial, extent[1])):
        ranges = by_device.setdefault(locks, [])
        if ranges and begin <= ranges[-1][1]:
            ranges[-1] = (ranges[-1][0], max(end, ranges[-1][1]))
        else:
            ranges.append((begin, end))
    return [(locks, tuple(ranges)) for locks, ranges in by_device.items()]
