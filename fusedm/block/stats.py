"""What a device has done and is doing: the counters behind sys/block/DEV/stat and inflight."""

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from fusedm.block.bio import Op

_COLUMN = {Op.READ: 0, Op.WRITE: 1, Op.WRITE_ZEROES: 1, Op.DISCARD: 2, Op.FLUSH: 3}


class IoStats:
    """Completed bios and bios in flight of one device.

    A bio is in flight on every device it passes, from the moment its plan is accepted until the
    last part of it has completed; suspend waits for in_flight to be 0.
    """

    __slots__ = ("_busy_since", "_clock", "busy_seconds", "ios", "in_flight_by_op", "in_flight",
                 "on_idle", "seconds", "sectors")  # fmt: skip

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self.ios = [0, 0, 0, 0]
        self.sectors = [0, 0, 0, 0]
        self.seconds = [0.0, 0.0, 0.0, 0.0]
        self.in_flight_by_op = [0, 0, 0, 0]
        self.in_flight = 0
        self.busy_seconds = 0.0
        self._busy_since = 0.0
        #: Called when in_flight falls to 0; set by whoever waits for that.
        self.on_idle: Callable[[], None] | None = None

    def begin(self, op: Op) -> float:
        """A bio starts; returns the time to give to end()."""
        now = self._clock()
        if not self.in_flight:
            self._busy_since = now
        self.in_flight += 1
        self.in_flight_by_op[_COLUMN[op]] += 1
        return now

    def end(self, op: Op, sector_count: int, began: float) -> None:
        """A bio that began has completed, well or not."""
        now = self._clock()
        column = _COLUMN[op]
        assert self.in_flight_by_op[column] > 0, "a bio ended that had not begun"
        self.in_flight -= 1
        self.in_flight_by_op[column] -= 1
        self.ios[column] += 1
        self.sectors[column] += sector_count
        self.seconds[column] += now - began
        if not self.in_flight:
            self.busy_seconds += now - self._busy_since
            if self.on_idle is not None:
                self.on_idle()

    def under_way_elsewhere(self, op: Op, change: int) -> None:
        """So many more bios, or fewer, are in flight that are counted elsewhere until they end."""
        if not change:
            return
        if not self.in_flight:
            self._busy_since = self._clock()
        self.in_flight += change
        self.in_flight_by_op[_COLUMN[op]] += change
        if not self.in_flight:
            self.busy_seconds += self._clock() - self._busy_since
            if self.on_idle is not None:
                self.on_idle()

    def add(self, op: Op, ios: int, sector_count: int, nanoseconds: int) -> None:
        """Bios that were done one after the other, and have been counted elsewhere meanwhile."""
        column = _COLUMN[op]
        self.ios[column] += ios
        self.sectors[column] += sector_count
        self.seconds[column] += nanoseconds / 1e9
        if not self.in_flight:
            self.busy_seconds += nanoseconds / 1e9

    def stat_line(self) -> str:
        """The 17 columns of the kernel's /sys/block/DEV/stat; times in milliseconds.

        Source: part_stat_show in the kernel's block/genhd.c. Nothing here merges, so merges are 0.
        """
        columns: list[int] = []
        for column in range(3):
            ticks = int(self.seconds[column] * 1000)
            columns += [self.ios[column], 0, self.sectors[column], ticks]
        queue = int(sum(self.seconds) * 1000)
        columns[8:8] = [self.in_flight, int(self.busy_seconds * 1000), queue]
        columns += [self.ios[3], int(self.seconds[3] * 1000)]
        return " ".join(f"{value:>8}" for value in columns)

    def inflight_line(self) -> str:
        """Reads and writes in flight, as in /sys/block/DEV/inflight."""
        reads = self.in_flight_by_op[0]
        return f"{reads:>8} {self.in_flight - reads:>8}"


@dataclass(slots=True)
class CryptoCounts:
    """How many encrypted bios of one extent were done natively and how many by a fallback."""

    native: int = 0
    fallback: int = 0
