"""Where on a device a context would be honoured, and by whom: an extent at a time. Pure.

The crypto point by the rules of planning (dm/mapping.py, MappedDevice.plan), for all sectors at
once instead of for a bio. A data unit lies at a multiple of its size from the beginning of what is
asked about, as those of a view do. A test compares with plans of bios.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from math import gcd
from operator import attrgetter

from fusedm.block import Bio, BlockDevice, CryptoConfig, Op
from fusedm.block.units import SECTOR_SIZE
from fusedm.dm import MappedDevice, Remap, Segment, TableEntry
from fusedm.inspect.sight import Sight

NATIVE = "native"
LEAF = "leaf fallback"
ABOVE = "fallback above"
NOWHERE = "nowhere"


@dataclass(frozen=True, slots=True)
class Extent:
    """Adjacent sectors of a device whose data units are honoured alike.

    Units:  sectors of the device asked about.
    Shapes: with part, it is only some of the data units there; others have extents of their own.
    """

    start: int
    length: int
    part: str
    target: str
    how: str
    where: str
    why: str

    def outcome(self) -> tuple[str, str, str, str, str]:
        """All but the place."""
        return self.part, self.target, self.how, self.where, self.why


class _Search:
    """One config, one sight, and the data unit in sectors."""

    def __init__(self, sight: Sight, config: CryptoConfig) -> None:
        self.sight = sight
        self.config = config
        self.unit = config.data_unit_size // SECTOR_SIZE

    def up(self, sector: int, phase: int) -> int:
        """The first data unit at a sector or after it."""
        return sector + (phase - sector) % self.unit

    def down(self, sector: int, phase: int) -> int:
        """The last data unit at a sector or before it."""
        return sector - (sector - phase) % self.unit

    def of(
        self, device: BlockDevice, begin: int, end: int, is_below: bool = False
    ) -> Iterator[Extent]:
        """Extents of a range of whole data units, the first of which is at begin.

        With is_below the device gets its bios from a mapped device.
        """
        table = self.sight.table(device)
        if not isinstance(device, MappedDevice):
            yield self._of_leaf(device, begin, end, is_below)
            return
        is_strict = table is not None and device.strict
        if is_strict and not self.sight.is_told_native(device, self.config):
            yield self._strict(device, begin, end, is_below)
            return
        at = begin
        while at < end:
            if table is None or at >= table.sector_count:
                text = f"{device.name} has no live table there: bios fail"
                yield Extent(at, end - at, "", "-", NOWHERE, device.name, text)
                return
            entry = table.find(at)
            last = self.down(min(entry.end_sector, end), begin)
            if last <= at:
                yield self._cut(device, entry, at, at + self.unit, "")
                last = at + self.unit
            else:
                yield from self._inside(device, entry, at, last)
            at = last

    def _of_leaf(self, device: BlockDevice, begin: int, end: int, is_below: bool) -> Extent:
        obstacles = self.sight.obstacles(device, self.config)
        if not obstacles:
            why = f"the engine of {device.name} does {self.config}"
            return Extent(begin, end - begin, "", "", NATIVE, device.name, why)
        why = "; ".join(obstacle.text for obstacle in obstacles)
        if device.strict and is_below:
            return _fails(begin, end, device, why)
        return self._software(Extent(begin, end - begin, "", "", LEAF, device.name, why))

    def _strict(self, device: BlockDevice, begin: int, end: int, is_below: bool) -> Extent:
        """Of a device that is not native as a whole where strict mode wants it to be."""
        why = "strict: not native on all of it"
        if is_below:
            return _fails(begin, end, device, why)
        return self._software(Extent(begin, end - begin, "", "", ABOVE, device.name, why))

    def _software(self, extent: Extent) -> Extent:
        """What software does, unless the key is wrapped: then no software can."""
        if not self.config.is_wrapped:
            return extent
        why = f"{extent.why}: bios fail, as no software can use a hardware-wrapped key"
        return replace(extent, how=NOWHERE, why=why)

    def _cut(
        self, device: BlockDevice, entry: TableEntry, begin: int, end: int, part: str
    ) -> Extent:
        what = "chunks end" if part else "a target ends"
        why = f"{what} within data units of {self.config.data_unit_size} bytes"
        cut = Extent(begin, end - begin, part, entry.target.name, ABOVE, device.name, why)
        return self._software(cut)

    def _inside(
        self, device: BlockDevice, entry: TableEntry, begin: int, end: int
    ) -> Iterator[Extent]:
        """Whole data units within one target."""
        target = entry.target
        segments = list(target.devices())
        if not target.passes_crypto:
            why = f"{target.name} does not pass contexts"
            deaf = Extent(begin, end - begin, "", target.name, ABOVE, device.name, why)
            yield self._software(deaf)
        elif target.max_io_sectors is not None and segments:
            yield from self._chunks(device, entry, segments, begin, end)
        for segment in segments if target.passes_crypto and not target.max_io_sectors else ():
            first = segment.start_sector + begin - entry.start_sector
            part = f"the leg on {segment.device.name}" if len(segments) > 1 else ""
            for below in self.of(segment.device, first, first + end - begin, True):
                yield _above(below, entry, begin + below.start - first, below.length, part)

    def _chunks(
        self, device: BlockDevice, entry: TableEntry, segments: list[Segment], begin: int, end: int
    ) -> Iterator[Extent]:
        """Whole data units of a chunked target, some of which chunk ends may cut.

        Where units lie in chunks and chunks in segments repeats, so a period at either end is
        enough to look at.
        """
        chunk = entry.target.max_io_sectors
        assert chunk is not None, "only for a target with chunks"
        first = (begin - entry.start_sector) // chunk
        count = -(-(end - entry.start_sector) // chunk) - first
        period = len(segments) * self.unit // gcd(chunk, self.unit) + 2
        looked_at = {*range(min(period, count)), *range(max(count - period, 0), count)}
        #: By segment and by where units lie in it: the sectors of the device below.
        places: dict[tuple[int, int], list[int]] = defaultdict(list)
        is_cut = False
        for index in sorted(looked_at):
            start = entry.start_sector + (first + index) * chunk
            stop = min(start + chunk, end)
            whole, last = self.up(max(start, begin), begin), self.down(stop, begin)
            is_cut |= last != stop
            if whole >= last:
                continue
            own = Bio(Op.READ, whole - entry.start_sector, 1)
            action = entry.target.map(own)
            if isinstance(action, Remap):
                at = action.bio.sector
                place = _segment_of(segments, action)
                places[place, at % self.unit] += [at, at + last - whole]
        for (place, _), sectors in sorted(places.items()):
            segment = segments[place]
            part = f"chunks on {segment.device.name}" if len(segments) > 1 else "within chunks"
            lowest, highest = min(sectors), max(sectors)
            below = merged(self.of(segment.device, lowest, self.down(highest, lowest), True))
            for extent in below:
                where = f"{part}, at its {extent.start}+{extent.length}"
                named = part if len(below) == 1 else where
                yield _above(extent, entry, begin, end - begin, named)
        if is_cut:
            yield self._cut(device, entry, begin, end, "where chunks end")


def extents(
    sight: Sight, device: BlockDevice, config: CryptoConfig, begin: int = 0, end: int | None = None
) -> list[Extent]:
    """How every data unit of a device, or of sectors begin to end of it, would be honoured.

    Shapes: in order, without a gap; what is less than a data unit at the end is left out.
    """
    search = _Search(sight, config)
    end = sight.sector_count(device) if end is None else end
    return merged(search.of(device, begin, search.down(end, begin)))


def _fails(begin: int, end: int, device: BlockDevice, why: str) -> Extent:
    """Where strict mode refuses a context that a mapped device sends down."""
    text = f"{why}: strict mode fails bios that arrive there with a context (EOPNOTSUPP)"
    return Extent(begin, end - begin, "", "", NOWHERE, device.name, text)


def native_sectors(found: list[Extent]) -> int:
    """How many sectors are native whatever part of them is meant."""
    places: dict[tuple[int, int], bool] = {}
    for extent in found:
        place = extent.start, extent.length
        places[place] = places.get(place, True) and extent.how == NATIVE
    return sum(length for (_, length), native in places.items() if native)


def merged(found: Iterable[Extent]) -> list[Extent]:
    """Places that follow each other and are alike in all their parts made one."""
    result: list[list[Extent]] = []
    for (start, length), some in groupby(found, key=attrgetter("start", "length")):
        place = list(dict.fromkeys(some))
        before = result[-1] if result else []
        if [one.outcome() for one in before] == [one.outcome() for one in place]:
            assert before[0].start + before[0].length == start, f"a gap before {start}"
            result[-1] = [replace(one, length=one.length + length) for one in before]
        else:
            result.append(place)
    return [extent for place in result for extent in place]


def _segment_of(segments: list[Segment], action: Remap) -> int:
    """Which segment a bio was sent to."""
    return next(
        index
        for index, segment in enumerate(segments)
        if segment.device is action.device
        and 0 <= action.bio.sector - segment.start_sector < segment.sector_count
    )


def _above(below: Extent, entry: TableEntry, start: int, length: int, part: str) -> Extent:
    """What was found below, as sectors of the device above."""
    target = entry.target.name + (f" > {below.target}" if below.target else "")
    parts = ", ".join(word for word in (part, below.part) if word)
    return replace(below, start=start, length=length, part=parts, target=target)
