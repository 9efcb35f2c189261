"""What the compiled loop of the lane may do by itself, and the books it cannot keep.

A stretch of an open file whose bios all go to one place in memory, natively encrypted or not at
all, has a Path. It is found by the rules by which bios are planned (BlockDevice.span), and is good
until a device on the way changes. Keyslots and range locks are looked at anew for each batch: a
batch is one synchronous step, so what holds at its first request holds until its last.
"""

import logging
from bisect import bisect_right, insort
from dataclasses import dataclass
from operator import attrgetter

from fusedm.block import NO_DATA, Op, Span
from fusedm.block.crypt_ctx import dun_limit
from fusedm.block.errors import FusedmError, WouldBlock
from fusedm.block.plan import KeyslotSource, SlotHold
from fusedm.block.units import SECTOR_SHIFT
from fusedm.crypto import CompiledCipher
from fusedm.files.handles import Handles, OpenDevice
from fusedm.files.path import Path
from fusedm.system import System, View

#: Stretches remembered for an open file; a file that has more forgets them all at once. They are a
#: few hundred bytes each, and found anew in some ten microseconds.
MAX_STRETCHES = 4096

#: Compiled code numbers data units with 128 bits; only Adiantum has more.
_NUMBER_LIMIT = 1 << 128

_BEGIN = attrgetter("begin")

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Stretch:
    """A part of a file that lies in one span, and its Path if it can have one.

    Units: bytes of the file; whole blocks, except where there is no Path.
    """

    begin: int
    end: int
    view: View
    span: Span
    path: Path | None = None
    slots: KeyslotSource | None = None
    hold: SlotHold | None = None


class Routes:
    """Finds paths for the requests of a batch, and settles what a batch has done when it ends."""

    def __init__(self, handles: Handles, system: System) -> None:
        self._handles = handles
        self._system = system
        self._in_batch: dict[Path, Stretch] = {}

    def find(self, handle: int, offset: int, size: int) -> Path | None:
        """A Path for a request, ready to be used until the batch ends; None if there is none."""
        try:
            return self._find(handle, offset, size)
        except (FusedmError, WouldBlock):
            return None  # As the bio itself will find out.
        except Exception:  # A bug in one request must not end the mount.
            log.exception("bug in finding a path")
            return None

    def _find(self, handle: int, offset: int, size: int) -> Path | None:
        opened = self._handles.get(handle)
        if not isinstance(opened, OpenDevice) or not 0 < size <= opened.view.size - offset:
            return None
        stretch = _known(opened, offset) or _find(handle, opened, offset)
        if stretch.path is None or offset + size > stretch.end:
            return None
        if stretch.path not in self._in_batch and not self._begin(stretch, stretch.path):
            return None
        return stretch.path

    def end_batch(self) -> None:
        """Count what was done on each path, and give its keyslot back."""
        for path, stretch in self._in_batch.items():
            reads, read_bytes, read_time, writes, write_bytes, write_time = path.come_back()
            if stretch.hold is not None:
                stretch.hold.count_hits(max(reads + writes - 1, 0))
                stretch.hold.release()
                stretch.hold = None
            for stats in stretch.span.visits:
                stats.add(Op.READ, reads, read_bytes >> SECTOR_SHIFT, read_time)
                stats.add(Op.WRITE, writes, write_bytes >> SECTOR_SHIFT, write_time)
            if stretch.slots is not None:
                for counts in stretch.span.route:
                    counts.native += reads + writes
            if writes:
                self._system.names.note_write(stretch.view.name)
        self._in_batch.clear()

    def _begin(self, stretch: Stretch, path: Path) -> bool:
        """Ready a path for this batch; False if its key is in no keyslot, or bios wait for one."""
        key, span = stretch.view.key, stretch.span
        assert span.leaf is not None, "a path leads to a leaf"
        cipher: CompiledCipher | None = None
        if stretch.slots is not None and key is not None:
            if not stretch.slots.is_ready(key):
                return False
            hold = stretch.slots.take_now(key)
            if not isinstance(hold.cipher, CompiledCipher):
                hold.count_hits(-1)
                hold.release()
                return False
            stretch.hold, cipher = hold, hold.cipher
        path.set_out(cipher, Op.WRITE in span.ops and span.leaf.range_locks.is_idle)
        self._in_batch[path] = stretch
        return True


def _known(opened: OpenDevice, offset: int) -> Stretch | None:
    """The stretch found before that holds an offset, if it is still as it was."""
    stretches: list[Stretch] = opened.stretches
    index = bisect_right(stretches, offset, key=_BEGIN) - 1
    if index < 0 or offset >= stretches[index].end:
        return None
    if not stretches[index].span.is_current():
        stretches.clear()
        return None
    return stretches[index]


def _find(handle: int, opened: OpenDevice, offset: int) -> Stretch:
    """Find a stretch out, and remember it.

    Raises: BlockIOError, WouldBlock as the device's span.
    """
    view = opened.view
    stretch = _stretch(handle, view, _span(view, view.sector(offset)))
    if len(opened.stretches) >= MAX_STRETCHES:
        opened.stretches.clear()
    # A block that a border cuts is in two spans, and in no path.
    if stretch.begin <= offset < stretch.end:
        insort(opened.stretches, stretch, key=_BEGIN)
    return stretch


def find_stretch(view: View, offset: int) -> Stretch:
    """The stretch an offset of a view lies in, found out anew; without a Path if it has none.

    Raises: BlockIOError, WouldBlock.
    """
    return _stretch(0, view, _span(view, view.bio(Op.READ, offset, NO_DATA).sector))


def _span(view: View, sector: int) -> Span:
    return view.device.span(sector).at(sector)


def _stretch(handle: int, view: View, span: Span) -> Stretch:
    begin = max((span.begin << SECTOR_SHIFT) - view.start, 0)
    end = (span.end << SECTOR_SHIFT) - view.start
    block = view.block_size
    whole = Stretch(begin + -begin % block, min(end - end % block, _limit(view)), view, span)
    bare = Stretch(begin, end, view, span)
    # Blocks may have grown since the view was made: the device refuses bios that are out of line.
    if span.leaf is None or whole.begin >= whole.end or view.start % block:
        return bare
    if span.cipher is not None or Op.READ not in span.ops or not span.is_current():
        return bare
    if view.key is not None:
        config = view.key.config
        able = span.leaf.capabilities
        if span.native is not None:
            able = able.intersect(span.native)
        if span.fallback is not None or not able.supports(config):
            return bare
        whole.slots = span.leaf.engine_slots
    descriptor = span.leaf.direct_fd()
    if descriptor is None:
        return bare
    unit = view.key.config.data_unit_size if view.key is not None else block
    shift = view.start + (span.shift << SECTOR_SHIFT)
    whole.path = Path(
        handle,
        whole.begin,
        whole.end,
        descriptor,
        shift,
        block,
        view.dun_base,
        unit,
        view.has_holes,
    )
    return whole


def _limit(view: View) -> int:
    """Where a view ends, or earlier, where its key has no data unit numbers left.

    The device may have grown since the view was made; bios beyond are refused.
    """
    if view.key is None:
        return view.size
    config = view.key.config
    limit = min(dun_limit(config), _NUMBER_LIMIT)
    return min(view.size, (limit - view.dun_base) * config.data_unit_size)
