"""Which paths are open to compiled workers, and the books that they cannot keep.

Paths are found out once (file_span.py) and are good until a device on the way changes. Keyslots and
range locks are looked at anew whenever the gate opens: it is open only while the daemon runs no
Python, so what holds then holds until it closes.

What is under way when it closes is in flight on every device that it passes, keeps its keyslot, and
has the ranges locked that it writes, like the bios of any plan.
"""

import logging
from bisect import bisect_right, insort
from math import inf
from operator import attrgetter
from time import monotonic

from fusedm.block import IoStats, Op
from fusedm.block.errors import FusedmError, WouldBlock
from fusedm.block.plan import Route
from fusedm.block.units import SECTOR_SHIFT
from fusedm.crypto import CompiledCipher
from fusedm.files.file_span import (
    OPS,
    FileSpan,
    Media,
    claimed,
    legs_of,
    obstacles_below,
    on_leg,
    path_of,
)
from fusedm.files.handles import Handles, OpenDevice
from fusedm.files.path import KINDS, Gate, Path
from fusedm.system import System

#: Spans remembered for an open file; a file that has more forgets them all at once. They are a
#: few hundred bytes each, and found anew in some ten microseconds.
MAX_FILE_SPANS = 4096
#: How long a path is opened again that is not used: who asked for it may be late on a busy machine.
KEEP_SECONDS = 0.1

_BEGIN = attrgetter("begin")
_FLUSHES = KINDS.index("flush")
_FOREVER = (1 << 63) - 1

log = logging.getLogger(__name__)


class Paths:
    """Finds paths, opens them at the gate, and settles what was done when it closes."""

    def __init__(self, handles: Handles, system: System) -> None:
        self.gate = Gate()
        self._handles = handles
        self._system = system
        self._media = Media()
        #: At the gate, or with something under way.
        self._out: dict[Path, FileSpan] = {}
        #: What was used lately, and is opened again with the gate.
        self._again: dict[FileSpan, None] = {}

    def find(self, handle: int, kind: int, offset: int, size: int) -> bool:
        """Have a path that serves a request at the gate; False if there is none."""
        try:
            return self._find(handle, kind, offset, size)
        except (FusedmError, WouldBlock):
            return False  # As the bio itself will find out.
        except Exception:  # A bug in one request must not end the mount.
            log.exception("bug in finding a path")
            return False

    def open(self) -> None:
        """Open the gate, with what was open before as far as it still may be.

        Only before the daemon's thread does what is not Python, and never raises.
        """
        try:
            again, self._again = self._again, {}
            for found in again:
                if found.span.is_current():
                    self._add(found)
            for path, found in self._out.items():
                if any(locks.keeps_waiting(hold) for locks, hold in found.locks):
                    self.gate.ring_for_each(path)
        except Exception:
            log.exception("bug in opening paths")
        self.gate.open()

    def close(self) -> None:
        """Close the gate, and settle what has been done; never raises."""
        was_open = self.gate.close()
        try:
            for found in list(self._out.values()):
                self._settle(found, was_open)
        except Exception:
            log.exception("bug in settling paths")

    def _find(self, handle: int, kind: int, offset: int, size: int) -> bool:
        opened = self._handles.get(handle)
        if not isinstance(opened, OpenDevice):
            return False
        served = self.gate.serves(handle, kind, offset, size)
        if served is not None:
            return served
        found: FileSpan | None
        if kind == _FLUSHES:
            found = self._flush_span(handle, opened)
        else:
            found = self._data_span(handle, opened, kind, offset, size)
        if found is None or not self._add(found):
            return False
        found.used = monotonic()
        return bool(self.gate.serves(handle, kind, offset, size))

    def _data_span(
        self, handle: int, opened: OpenDevice, kind: int, offset: int, size: int
    ) -> FileSpan | None:
        """The span that a request lies in; None for what is not for paths."""
        view = opened.view
        if not 0 < size <= view.size - offset or (offset | size) % view.block_size:
            return None
        found = _known(opened, offset) or self._find_span(handle, opened, offset)
        lies_within = found.begin <= offset and offset + size <= found.end
        return found if lies_within and OPS[kind] in found.span.ops else None

    def _find_span(self, handle: int, opened: OpenDevice, offset: int) -> FileSpan:
        """Find a span out, and remember it.

        Raises: BlockIOError, WouldBlock as the device's span.
        """
        found = path_of(opened.view, offset, handle, self._media)
        if len(opened.spans) >= MAX_FILE_SPANS:
            opened.spans.clear()
        # A block that a border cuts is in two spans, and in no path.
        if found.begin <= offset < found.end:
            insort(opened.spans, found, key=_BEGIN)
        return found

    def _flush_span(self, handle: int, opened: OpenDevice) -> FileSpan | None:
        """Where a flush of the file goes, remembered as well."""
        found: FileSpan | None = opened.flush_span
        if found is None or not found.span.is_current():
            found, view = None, opened.view
            span = view.device.flush_span()
            if span is not None and next(obstacles_below(span, is_flush=True), None) is None:
                path = Path(handle, 0, 0, legs_of(span, self._media), 1, is_flush=True)
                found = FileSpan(0, 0, view, span, path)
            opened.flush_span = found
        return found

    def _add(self, found: FileSpan) -> bool:
        """Ready a path and open it; False if it has none, or its key is in no keyslot."""
        path, span = found.path, found.span
        if path is None or not self._take_keyslots(found):
            return False
        cipher = None
        if found.holds:
            cipher = found.holds[0].cipher
        elif span.cipher is not None:
            cipher = span.cipher.cipher
        if not (cipher is None or isinstance(cipher, CompiledCipher)):
            self._give_keyslots_back(found, 0)
            return False
        until = _FOREVER if span.until == inf else int(span.until * 1e9)
        path.ready(cipher, Op.READ in span.ops, Op.WRITE in span.ops, until, claimed(found))
        self._out[path] = found
        if self.gate.add(path):
            return True
        if not any(found.under_way):
            del self._out[path]
            self._give_keyslots_back(found, 0)
        return False

    def _take_keyslots(self, found: FileSpan) -> bool:
        """Take a keyslot for each leg, unless that has been done; False if any is not ready.

        None is while somebody waits for one.
        """
        key = found.view.key
        if key is None or not found.slots:
            return True
        if not all(each.is_ready(key) for each in found.slots):
            return False
        if not found.holds:
            found.holds = [each.take_now(key) for each in found.slots]
            found.holds_are_new = True
        return True

    def _give_keyslots_back(self, found: FileSpan, uses: int) -> None:
        """Count the uses of the keyslots, and give them back if nothing is under way."""
        for hold in found.holds:
            # Taking one has counted one.
            hold.count_hits(uses - found.holds_are_new)
        found.holds_are_new = False
        if not any(found.under_way):
            for hold in found.holds:
                hold.release()
            found.holds.clear()

    def _settle(self, found: FileSpan, was_open: bool) -> None:
        """Enter in the books what was done on a path, and what is still under way.

        What was found while the gate was closed has not had its chance yet.
        """
        path, span = found.path, found.span
        assert path is not None, "a path was open"
        (whole, *by_leg), under_way, writes = self.gate.take_back(path)
        before, found.under_way = found.under_way, under_way
        uses = sum(count for count, _, _ in whole)
        # Before it is told that nothing is in flight: whoever waited for that has it all then.
        self._lock_writes(found, writes)
        self._give_keyslots_back(found, uses)
        for stats in span.visits:
            _count(stats, whole, before, under_way)
        for index, leg in enumerate(span.legs):
            done = by_leg[index] if by_leg else whole
            for stats in leg.visits:
                _count(stats, done, before, under_way)
            if found.points:
                engine = found.points[index].engine
                if engine is not None:
                    _count(engine, done, before, under_way)
                if span.fallback is None:
                    _count_crypto((*span.route, *leg.route), done, engine is not None)
        if found.points and span.fallback is not None:
            _count_crypto(span.fallback_route, whole, False)
        if whole[1][0]:
            self._system.names.note_write(found.view.name)
        now = monotonic()
        if uses or not was_open:
            found.used = now
        if any(under_way) or now - found.used < KEEP_SECONDS:
            self._again[found] = None
        if not any(under_way):
            del self._out[path]

    def _lock_writes(self, found: FileSpan, writes: list[tuple[int, int]]) -> None:
        """Have the ranges locked that the writes under way may touch, instead of those before."""
        old, found.locks = found.locks, []
        for leg in found.span.legs if writes else ():
            locks = leg.leaf.range_locks
            ranges = tuple(on_leg(found, leg, *write) for write in writes)
            found.locks.append((locks, locks.lend(ranges)))
        for locks, hold in old:
            locks.release(hold)


def _known(opened: OpenDevice, offset: int) -> FileSpan | None:
    """The span found before that holds an offset, if it is still as it was."""
    spans: list[FileSpan] = opened.spans
    index = bisect_right(spans, offset, key=_BEGIN) - 1
    if index < 0 or offset >= spans[index].end:
        return None
    if not spans[index].span.is_current():
        spans.clear()
        return None
    return spans[index]


Kinds = tuple[tuple[int, int, int], ...]


def _count(
    stats: IoStats, done: Kinds, before: tuple[int, ...], under_way: tuple[int, ...]
) -> None:
    for op, (count, size, nanoseconds), old, new in zip(OPS, done, before, under_way, strict=True):
        stats.under_way_elsewhere(op, new - old)
        if count:
            stats.add(op, count, size >> SECTOR_SHIFT, nanoseconds)


def _count_crypto(route: Route, done: Kinds, native: bool) -> None:
    bios = done[0][0] + done[1][0]
    for counts in route:
        if native:
            counts.native += bios
        else:
            counts.fallback += bios
