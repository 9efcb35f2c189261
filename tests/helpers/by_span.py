"""Carrying bios out by what spans say, as a compiled worker would: no plan, no script, no wait."""

from collections.abc import Awaitable, Callable, Iterator

from fusedm.block import Bio, BlockDevice, Leg, Op, Span
from fusedm.block.errors import BlockIOError, WouldBlock
from fusedm.crypto import decrypt_data
from fusedm.crypto.ciphers import make_cipher


def carry_out_by_span(device: BlockDevice, bio: Bio, now: float | None = None) -> bool:
    """Carry a READ, WRITE or FLUSH out; False, as if nothing had been done, if it is to be planned.

    now is the time on the clock of the tables.
    """
    try:
        span = _span(device, bio, now)
        if span is not None:
            _perform(span, bio)
        return span is not None
    except (BlockIOError, WouldBlock):
        return False


async def carry_out_by_span_slowly(
    device: BlockDevice, bio: Bio, pause: Callable[[], Awaitable[None]]
) -> bool:
    """The same, with a pause between the look and the work, as of a worker that is held up.

    Meanwhile the bio is in flight on all that it passes, and what it writes is locked.
    """
    span = _span(device, bio, None)
    if span is None:
        return False
    parts = list(parts_of(span, bio))
    visits = [*span.visits, *(stats for leg, *_ in parts for stats in leg.visits)]
    began = [(stats, stats.begin(bio.op)) for stats in visits]
    locks = [
        (leg.leaf.range_locks, leg.leaf.range_locks.take(((at, at + end - begin),), _nothing))
        for leg, at, begin, end in parts
        if bio.op is Op.WRITE
    ]
    try:
        await pause()
        _perform(span, bio)
    finally:
        for each, hold in locks:
            each.release(hold)
        for stats, when in began:
            stats.end(bio.op, bio.sector_count, when)
    return True


def _nothing() -> None:
    """What is free is not waited for."""


def _span(device: BlockDevice, bio: Bio, now: float | None) -> Span | None:
    """The span that a bio can go by now."""
    if bio.op is Op.FLUSH:
        span = device.flush_span()
        return span if span is not None and span.is_current(now) else None
    span = device.span(bio.sector)
    assert span.begin <= bio.sector < span.end
    if bio.op not in span.ops or bio.end_sector > span.end or not span.is_current(now):
        return None
    parts = list(parts_of(span, bio))
    block = device.limits.logical_block_size // 512
    if any(begin % block or end % block for _, _, begin, end in parts):
        raise AssertionError("a part of a bio is whole blocks of the device")
    unit = bio.crypt.key.config.data_unit_size // 512 if bio.crypt is not None else 1
    if span.fallback is None and any(begin % unit or end % unit for _, _, begin, end in parts):
        return None  # A chunk cuts a data unit, which is transformed above then.
    if bio.op is Op.WRITE and not all(
        leg.leaf.range_locks.is_free(at, at + end - begin) for leg, at, begin, end in parts
    ):
        return None
    return span


def _perform(span: Span, bio: Bio) -> None:
    if bio.op is Op.FLUSH:
        for leg in span.legs:
            leg.leaf.perform(bio, None)
        return
    data = bytearray(bio.data)
    if bio.op is Op.WRITE:
        _encrypt(span, bio, memoryview(data))
    for leg, sector, begin, end in parts_of(span, bio):
        part = memoryview(data)[begin * 512 : end * 512]
        leg.leaf.perform(Bio(bio.op, sector, end - begin, part), None)
    if bio.op is Op.READ:
        _decrypt(span, bio, memoryview(data))
        bio.data[:] = data


def parts_of(span: Span, bio: Bio) -> Iterator[tuple[Leg, int, int, int]]:
    """Of each part that lies together its leg, its sector there, and its borders in the bio."""
    sector = bio.sector
    while sector < bio.end_sector:
        number, within = divmod(sector - span.origin, span.chunk)
        row, index = divmod(number, len(span.legs))
        leg = span.legs[index]
        end = min(bio.end_sector, sector - within + span.chunk)
        at = leg.shift + row * span.chunk + within
        yield leg, at, sector - bio.sector, end - bio.sector
        sector = end


def _encrypt(span: Span, bio: Bio, data: memoryview) -> None:
    if bio.crypt is not None:
        make_cipher(bio.crypt.key).encrypt(bio.crypt.dun, data, data)
    if span.cipher is not None:
        span.cipher.cipher.encrypt(bio.sector + span.cipher.number_shift, data, data)


def _decrypt(span: Span, bio: Bio, data: memoryview) -> None:
    if span.cipher is not None:
        span.cipher.cipher.decrypt(bio.sector + span.cipher.number_shift, data, data)
    if bio.crypt is not None:
        decrypt_data(make_cipher(bio.crypt.key), bio.crypt, data)
