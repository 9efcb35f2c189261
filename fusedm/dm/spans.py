"""Where a target sends a stretch of sectors, found out once for many bios. Pure.

A target says for how many bios its answers hold (Steady). What they are it is asked as for any bio,
so there is one place where it says so.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce

from fusedm.block import FLUSH, Bio, BlockDevice, Capabilities, Generation, Leg, Op, Span
from fusedm.block.span import READS_AND_WRITES, SpanCipher
from fusedm.block.units import SECTOR_SIZE
from fusedm.dm.table import Table, TableEntry
from fusedm.dm.target import Action, Complete, Each, Many, Remap, Steady, Target, Transform

Guards = tuple[tuple[Generation, int], ...]


def span_through(entry: TableEntry, sector: int, device: Span) -> Span:
    """The span of a sector of a mapped device through the target that holds it, down to the leaf.

    device is what holds of all spans of the mapped device.
    Raises: BlockIOError, WouldBlock from below.
    """
    target, own = entry.target, sector - entry.start_sector
    said = target.steady(own)
    span = None
    if said.stripes > 1 and target.passes_crypto:
        span = _striped(target, own, said)
    if span is None:
        span = _one_way(target, own, said)
    ops = span.ops & device.ops
    ends_here = not target.passes_crypto
    return replace(
        span.moved(entry.start_sector),
        legs=span.legs if ops else (),
        ops=ops,
        fallback=device.fallback if ends_here else span.fallback,
        fallback_route=(entry.counts, *(() if ends_here else span.fallback_route)),
        visits=device.visits + span.visits,
        route=(entry.counts, *span.route),
        guards=device.guards + _guards(said) + span.guards,
        until=min(said.until, span.until),
        native=_native([device, span]),
    )


def flush_through(table: Table, device: Span) -> Span | None:
    """Which leaves a FLUSH of a table reaches, each once; None if a target makes more of it.

    A device is counted as often as the planner sends it one.

    Raises: WouldBlock from below.
    """
    direct: dict[BlockDevice, None] = {}
    hooked: list[BlockDevice] = []
    spans = [device]
    for entry in table.entries:
        said, action = entry.target.steady(0), entry.target.map(FLUSH)
        actions = action.actions if isinstance(action, Many | Each) else (action,)
        if Op.FLUSH not in said.ops or not all(isinstance(a, Remap | Complete) for a in actions):
            return None
        below = [one.device for one in actions if isinstance(one, Remap)]
        if entry.target.has_hook:
            hooked += below
        else:
            direct.update(dict.fromkeys(below))
        spans.append(Span(0, 0, guards=_guards(said), until=said.until))
    for each in (*direct, *hooked):
        span = each.flush_span()
        if span is None:
            return None
        spans.append(span)
    return replace(
        device,
        ops=frozenset({Op.FLUSH}),
        legs=tuple({leg.leaf: leg for one in spans for leg in one.legs}.values()),
        visits=tuple(visit for one in spans for visit in one.visits),
        guards=tuple(guard for one in spans for guard in one.guards),
        until=min(one.until for one in spans),
    )


def _one_way(target: Target, own: int, said: Steady) -> Span:
    """What lies around a sector and goes where it goes, in the target's sectors."""
    begin, end = said.begin, min(said.end, target.sector_count)
    if said.stripes > 1:
        begin = own - own % _chunk(target)
        end = begin + _chunk(target)
    block = target.limits().logical_block_size // SECTOR_SIZE
    first = own - own % block
    places = {op: _place(target.map(Bio(op, first, block))) for op in said.ops & READS_AND_WRITES}
    place = places.get(Op.READ) or places.get(Op.WRITE)
    if place is None:
        return Span(begin, end)
    device, sector, cipher = place
    below = device.span(sector + own - first).moved(first - sector)
    ops = below.ops & {op for op, other in places.items() if other == place}
    if cipher is not None:
        if below.cipher is not None:  # What is encrypted twice is planned.
            ops = frozenset()
        if below.origin % block or below.chunk % block:  # A chunk may cut what is one to a cipher.
            below = below.at(own)
        below = replace(below, cipher=replace(cipher, number_shift=cipher.number_shift - first))
    return replace(below, begin=max(begin, below.begin), end=min(end, below.end), ops=ops)


def _place(action: Action) -> tuple[BlockDevice, int, SpanCipher | None] | None:
    """To which sector of a device a bio goes, and encrypted how; None if it does something else."""
    match action:
        case Remap(device, bio) | Each((Remap(device, bio),)):
            return device, bio.sector, None
        case Transform(cipher, number, Remap(device, bio), keeps_zeros):
            return device, bio.sector, SpanCipher(cipher, number, keeps_zeros)
    return None


def _striped(target: Target, own: int, said: Steady) -> Span | None:
    """Rows of chunks that go to one leaf each, in the target's sectors; None where they do not."""
    chunk, count = _chunk(target), said.stripes
    row = own // (chunk * count)
    first, last = 0, target.sector_count // (chunk * count)
    legs: list[Leg] = []
    spans: list[Span] = []
    for index in range(count):
        place = _place(target.map(Bio(Op.READ, index * chunk, 1)))
        assert place is not None, "a stripe is a range of a device"
        device, at, _ = place
        below = device.span(at + row * chunk)
        if below.leaf is None or below.cipher is not None or below.fallback is not None:
            return None
        legs.append(Leg(below.leaf, at + below.shift, below.visits, below.route))
        spans.append(below)
        first = max(first, -((at - below.begin) // chunk))
        last = min(last, (below.end - at) // chunk)
    if not first <= row < last:
        return None
    return Span(
        begin=first * chunk * count,
        end=last * chunk * count,
        legs=tuple(legs),
        chunk=chunk,
        ops=said.ops.intersection(*(span.ops for span in spans)),
        guards=tuple(guard for span in spans for guard in span.guards),
        until=min(span.until for span in spans),
        native=_native(spans),
    )


def _native(spans: Sequence[Span]) -> Capabilities | None:
    """What all of those that say it can do natively."""
    told = [span.native for span in spans if span.native is not None]
    return reduce(Capabilities.intersect, told) if told else None


def _chunk(target: Target) -> int:
    assert target.max_io_sectors is not None, "what has stripes has chunks"
    return target.max_io_sectors


def _guards(said: Steady) -> Guards:
    return tuple((generation, generation.number) for generation in said.changes)
