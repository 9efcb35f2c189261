"""Spans of open files: where they lie, what is in the way of a path, and the path. No state.

A span of an open file whose bios all go to descriptors, through a compiled cipher or none, has a
Path. It is found by the rules by which bios are planned (BlockDevice.span), and is good until a
device on the way changes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from fusedm.block import NO_DATA, IoStats, Leg, Op, RangeLocks, Span
from fusedm.block.crypt_ctx import dun_limit
from fusedm.block.plan import KeyslotSource, Leaf, SlotHold
from fusedm.block.range_locks import Hold
from fusedm.block.units import SECTOR_SHIFT
from fusedm.crypto import CompiledCipher
from fusedm.files.path import Lines, Medium, Path
from fusedm.system import View

#: Places one path may lead to.
MAX_LEGS = 16

#: Compiled code numbers data units with 128 bits; only Adiantum has more.
_NUMBER_LIMIT = 1 << 128

#: What a path counts of each kind, in the order of path.pyx.
OPS = (Op.READ, Op.WRITE, Op.FLUSH)

#: Descriptors that have been used, while their leaves are there.
Media = WeakKeyDictionary[Leaf, Medium]


@dataclass(frozen=True, slots=True)
class Point:
    """Where the data of a leg are transformed under a key: in an engine, whose stats those are."""

    slots: KeyslotSource
    engine: IoStats | None = None


@dataclass(slots=True, eq=False)
class FileSpan:
    """A part of a file that lies in one span, and its Path if it can have one.

    Units: bytes of the file; whole blocks, except where there is no Path.
    """

    begin: int
    end: int
    view: View
    span: Span
    path: Path | None = None
    #: One for each leg; none without a key.
    points: tuple[Point, ...] = ()
    #: Of all points, each once.
    slots: tuple[KeyslotSource, ...] = ()
    holds: list[SlotHold] = field(default_factory=list)
    #: When it was last used, or found, by time.monotonic.
    used: float = 0.0
    #: Whether the holds were taken since the books were last made.
    holds_are_new: bool = False
    locks: list[tuple[RangeLocks, Hold]] = field(default_factory=list)
    under_way: tuple[int, int, int] = (0, 0, 0)


def path_of(view: View, offset: int, handle: int = 0, media: Media | None = None) -> FileSpan:
    """The span an offset of a view lies in, found out anew, with its path if it can have one.

    Raises: BlockIOError, WouldBlock.
    """
    sector, block = view.bio(Op.READ, offset, NO_DATA).sector, view.block_size
    span = view.device.span(sector)
    if (span.chunk << SECTOR_SHIFT) % block or (span.origin << SECTOR_SHIFT) % block:
        span = span.at(sector)
    begin = max((span.begin << SECTOR_SHIFT) - view.start, 0)
    found = FileSpan(begin, (span.end << SECTOR_SHIFT) - view.start, view, span)
    begin += -begin % block
    end = min(found.end - found.end % block, _limit(view))
    if begin >= end or next(obstacles(view, span), None) is not None:
        return found
    found.begin, found.end = begin, end
    several = len(span.legs) > 1
    found.path = Path(
        handle,
        begin,
        end,
        legs_of(span, Media() if media is None else media),
        block,
        (span.origin << SECTOR_SHIFT) - view.start,
        *((span.chunk << SECTOR_SHIFT,) if several else ()),
    )
    if view.key is not None:
        found.path.numbers(view.dun_base, view.has_holes)
        found.points = tuple(_point(view, span, leg) for leg in span.legs)
        found.slots = tuple(dict.fromkeys(point.slots for point in found.points))
    elif span.cipher is not None:
        sector = span.cipher.number_shift + (view.start >> SECTOR_SHIFT)
        found.path.numbers(sector, span.cipher.keeps_zeros)
    return found


def legs_of(span: Span, media: Media) -> list[tuple[Medium, int]]:
    """The descriptors of a span's legs and how bytes are moved there, in media from then on."""
    for leaf in (leg.leaf for leg in span.legs):
        if leaf not in media:
            descriptor = leaf.direct_fd()
            lines = leaf.lines(Lines) if descriptor is None else None
            blocks = any(leaf.may_block(op) for op in OPS)
            media[leaf] = Medium(-1 if descriptor is None else descriptor, blocks, lines)
    return [(media[leg.leaf], leg.shift << SECTOR_SHIFT) for leg in span.legs]


def obstacles(view: View, span: Span) -> Iterator[str]:
    """What keeps a span of a view from having a path; nothing if it can have one. Pure."""
    key = view.key
    if not span.legs:
        yield "a target on the way looks at each bio"
        return
    if view.start % view.block_size:
        # Blocks may have grown since the view was made: bios that are out of line are refused.
        yield f"it begins at byte {view.start}, within a block of {view.block_size}"
    if key is not None and span.cipher is not None:
        yield "it is encrypted twice"
    if span.cipher is not None and not isinstance(span.cipher.cipher, CompiledCipher):
        yield "a target on the way has no compiled cipher"
    if (
        key is not None
        and view.device.strict
        and not all(_point(view, span, leg).engine for leg in span.legs)
    ):
        yield "in strict mode the kernel's rules say who does without an engine"
    yield from obstacles_below(span, is_flush=False)


def obstacles_below(span: Span, is_flush: bool) -> Iterator[str]:
    """What keeps any span, also a flush's, from having a path, whatever the view. Pure."""
    if not span.is_current():
        yield "it is over by now"
    if len(span.legs) > MAX_LEGS:
        yield f"it lies on {len(span.legs)} devices, more than {MAX_LEGS}"
    for leg in span.legs:
        if leg.leaf.direct_fd() is None and (is_flush or not leg.leaf.has_lines):
            yield f"the store of {leg.leaf.name} has no descriptor to be used instead"


def on_leg(found: FileSpan, leg: Leg, begin: int, end: int) -> tuple[int, int]:
    """The sectors of a leg that a range of the file's bytes lies in, whole rows of chunks."""
    span, count = found.span, len(found.span.legs)
    first = ((begin + found.view.start) >> SECTOR_SHIFT) - span.origin
    last = ((end + found.view.start) >> SECTOR_SHIFT) - span.origin
    if count == 1:
        return leg.shift + first, leg.shift + last
    row = span.chunk * count
    return leg.shift + first // row * span.chunk, leg.shift + -(-last // row) * span.chunk


def claimed(found: FileSpan) -> list[tuple[int, int]]:
    """The bytes of a span, whole rows of chunks, that somebody holds for a write or waits for."""
    span, ranges = found.span, []
    count, chunk = len(span.legs), span.chunk if len(span.legs) > 1 else 1

    def offset(row: int) -> int:
        return ((span.origin + row * chunk * count) << SECTOR_SHIFT) - found.view.start

    for leg in span.legs:
        for first, last in leg.leaf.range_locks.claimed:
            begin = offset((first - leg.shift) // chunk)
            end = offset(-((leg.shift - last) // chunk))
            if begin < found.end and found.begin < end:
                ranges.append((begin, end))
    return ranges


def _point(view: View, span: Span, leg: Leg) -> Point:
    """Where the data of a leg are transformed under the view's key."""
    assert view.key is not None, "only under a key"
    if span.fallback is not None:
        return Point(span.fallback)
    able = leg.leaf.capabilities
    if span.native is not None:
        able = able.intersect(span.native)
    if able.supports(view.key.config):
        return Point(leg.leaf.engine_slots, leg.leaf.engine_stats)
    return Point(leg.leaf.fallback)


def _limit(view: View) -> int:
    """Where a view ends, or earlier, where its key has no data unit numbers left.

    The device may have grown since the view was made; bios beyond are refused.
    """
    if view.key is None:
        return view.size
    config = view.key.config
    limit = min(dun_limit(config), _NUMBER_LIMIT)
    return min(view.size, (limit - view.dun_base) * config.data_unit_size)
