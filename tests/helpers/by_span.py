"""Carrying bios out by what spans say, as a compiled worker would: no plan, no script, no wait."""

from collections.abc import Iterator

from fusedm.block import Bio, BlockDevice, Leg, Op, Span
from fusedm.block.errors import BlockIOError, WouldBlock
from fusedm.crypto import decrypt_data
from fusedm.crypto.ciphers import make_cipher


def carry_out_by_span(device: BlockDevice, bio: Bio, now: float | None = None) -> bool:
    """Carry a READ, WRITE or FLUSH out; False, as if nothing had been done, if it is to be planned.

    now is the time on the clock of the tables.
    """
    try:
        if bio.op is Op.FLUSH:
            return _flush(device, now)
        span = device.span(bio.sector)
        assert span.begin <= bio.sector < span.end
        if bio.op not in span.ops or bio.end_sector > span.end or not span.is_current(now):
            return False
        return _transfer(span, bio, device.limits.logical_block_size // 512)
    except (BlockIOError, WouldBlock):
        return False


def _flush(device: BlockDevice, now: float | None) -> bool:
    span = device.flush_span()
    if span is None or not span.is_current(now):
        return False
    for leg in span.legs:
        leg.leaf.perform(Bio(Op.FLUSH, 0, 0), None)
    return True


def _transfer(span: Span, bio: Bio, block: int) -> bool:
    parts = list(_parts(span, bio))
    unit = block
    if bio.crypt is not None:
        unit = max(unit, bio.crypt.key.config.data_unit_size // 512)
    if any(begin % unit or end % unit for _, _, begin, end in parts):
        assert bio.crypt is not None, "a part of a bio is whole blocks of the device"
        return False
    if bio.crypt is not None and not span.passes_crypto:
        return False
    for leg, sector, begin, end in parts:
        locks = leg.leaf.range_locks
        if bio.op is Op.WRITE and not locks.is_free(sector, sector + end - begin):
            return False
    data = bytearray(bio.data)
    if bio.op is Op.WRITE:
        _encrypt(span, bio, memoryview(data))
    for leg, sector, begin, end in parts:
        part = memoryview(data)[begin * 512 : end * 512]
        leg.leaf.perform(Bio(bio.op, sector, end - begin, part), None)
    if bio.op is Op.READ:
        _decrypt(span, bio, memoryview(data))
        bio.data[:] = data
    return True


def _parts(span: Span, bio: Bio) -> Iterator[tuple[Leg, int, int, int]]:
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
