"""The legs of a mirror: which have failed and how, and which one is read. Pure.

Source: fail_mirror, choose_mirror and device_status_char in drivers/md/dm-raid1.c.
"""

import logging
from collections.abc import Sequence
from enum import IntEnum

from fusedm.dm.target import Segment

log = logging.getLogger(__name__)


class Failure(IntEnum):
    """What has failed, the worst first: of several, status has the letter of that."""

    FLUSH = 0
    WRITE = 1
    SYNC = 2
    READ = 3


LETTERS = "FDSR"


class Legs:
    """Reads go to the default leg as long as it is whole.

    handles_errors: when it fails another takes its place, and whoever waits for events is told.
    """

    def __init__(self, segments: Sequence[Segment], handles_errors: bool) -> None:
        self.segments = tuple(segments)
        self.handles_errors = handles_errors
        self.default = 0
        self._failures: list[set[Failure]] = [set() for _ in segments]

    def __len__(self) -> int:
        return len(self.segments)

    def is_whole(self, leg: int) -> bool:
        """Whether nothing of it has ever failed."""
        return not self._failures[leg]

    @property
    def is_default_whole(self) -> bool:
        """Whether the leg that others are copied from is."""
        return self.is_whole(self.default)

    @property
    def any_failed(self) -> bool:
        """Whether something of some leg has failed."""
        return any(self._failures)

    @property
    def all_failed(self) -> bool:
        """Whether none is whole."""
        return all(self._failures)

    @property
    def letters(self) -> str:
        """A letter for each, as status has them."""
        return "".join(LETTERS[min(failures)] if failures else "A" for failures in self._failures)

    def to_read(self) -> int | None:
        """The leg to read what is in sync from; None if there is none."""
        count = len(self.segments)
        legs = ((self.default - step) % count for step in range(count))
        return next((leg for leg in legs if self.is_whole(leg)), None)

    def fail(self, leg: int, failure: Failure, is_in_sync: bool) -> bool:
        """Note that something of a leg has failed; whether that is an event.

        Another leg becomes the default one only if all hold the same, so that no stale data are
        read.
        """
        if failure in self._failures[leg]:
            return False
        self._failures[leg].add(failure)
        name = self.segments[leg].device.name
        log.warning("mirror: leg %s has failed: %s", name, failure.name.lower())
        if not self.handles_errors:
            return False
        if leg == self.default and is_in_sync:
            whole = [other for other in range(len(self)) if self.is_whole(other)]
            self.default = whole[0] if whole else leg
        elif leg == self.default:
            log.warning("mirror: %s is what others are copied from: reads may fail", name)
        return True
