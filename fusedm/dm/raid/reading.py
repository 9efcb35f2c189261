"""The beginning of an array: its superblocks and its bitmap are read, and judged. Pure."""

from collections.abc import Iterable, Sequence

from fusedm.block import Bio
from fusedm.block.errors import StackError
from fusedm.block.units import SECTOR_SIZE
from fusedm.dm.raid import bitmap as bitmaps
from fusedm.dm.raid import superblock as superblocks
from fusedm.dm.raid.array import Array
from fusedm.dm.raid.assembly import Found, assemble
from fusedm.dm.raid.bitmap import Bitmap, BitmapHeader
from fusedm.dm.raid.members import IN_SYNC, Member
from fusedm.dm.raid.superblock import Superblock
from fusedm.dm.target import Each
from fusedm.dm.turns import Steps


def read(array: Array) -> Steps[Found]:
    """Find out what there is, and judge it; nothing is written.

    Raises: StackError if there is no array in this.
    """
    array.bitmap = Bitmap(array.level.sync_sectors, array.bitmap.region_sectors)
    for member in array.members:
        member.is_failed, member.by_bitmap, member.recovery_offset = False, False, IN_SYNC
    found: list[Superblock | None] = [None] * len(array.members)
    members = array.with_metadata()
    if not array.options.sync:
        buffers = yield from _read_metadata(members, 0, superblocks.SIZE)
        for member, data in zip(members, buffers, strict=True):
            if data is None:
                member.is_failed = True
            else:
                found[member.index] = superblocks.parse(data)
    result = assemble(array.shape, array.level, array.members, found, array.options.rebuild)
    for member in array.members:
        member.durable_offset = member.recovery_offset
    array.events = result.events
    yield from _begin_bitmap(array, result, found)
    return result


def _begin_bitmap(array: Array, found: Found, known: Sequence[Superblock | None]) -> Steps[None]:
    """Say what is to be made alike."""
    end = array.level.sync_sectors
    if found.is_new and array.options.nosync and array.level.level == 6:
        raise StackError("nosync: a new raid6 is made alike first")
    if array.level.is_redundant and not array.options.nosync:
        if found.is_new:
            is_told_of = array.options.sync or array.has_metadata
            if is_told_of and len(array.members) > 1:
                array.bitmap.need(0, end)
            return
        assert found.freshest is not None, "somebody has told of it"
        yield from _take_bitmap(array, array.members[found.freshest], found, known)


def _take_bitmap(
    array: Array, member: Member, found: Found, known: Sequence[Superblock | None]
) -> Steps[None]:
    end = array.level.sync_sectors
    header, bits = yield from _read_bitmap(member)
    if header is None or header.state & bitmaps.STALE or header.events < found.events:
        for each in array.members:
            each.by_bitmap = False
        if header is None and found.resync_offset >= end:
            return  # There never was one: nothing is known to be wrong.
        array.bitmap.need(0 if header is not None else found.resync_offset, end)
        return
    for begin, stop in bitmaps.set_ranges(header, bits):
        array.bitmap.need(begin, min(stop, end))
    if header.sync_sectors < end:
        array.bitmap.need(header.sync_sectors, end)
    for each in array.members:
        superblock = known[each.index]
        each.by_bitmap = (
            each.by_bitmap and superblock is not None and superblock.events >= header.events_cleared
        )
    array.events_cleared = header.events_cleared


def _read_bitmap(member: Member) -> Steps[tuple[BitmapHeader | None, bytearray]]:
    first = yield from _read_metadata([member], bitmaps.START_SECTOR, 256)
    header = bitmaps.parse_header(first[0]) if first[0] is not None else None
    if header is None:
        return None, bytearray()
    size = bitmaps.HEADER_BYTES + bitmaps.bits_bytes(header)
    room = member.meta.sector_count - bitmaps.START_SECTOR if member.meta is not None else 0
    if -(-size // SECTOR_SIZE) > room:
        return None, bytearray()
    whole = yield from _read_metadata([member], bitmaps.START_SECTOR, size)
    return (header, whole[0][bitmaps.HEADER_BYTES :]) if whole[0] else (None, bytearray())


def _read_metadata(
    members: Iterable[Member], sector: int, size: int
) -> Steps[list[bytearray | None]]:
    """The same place of several metadata devices; None of one that cannot be read."""
    buffers, reads = [], []
    for member in members:
        assert member.meta is not None, "they were chosen by it"
        block = max(member.meta.device.limits.logical_block_size, SECTOR_SIZE)
        buffer = bytearray(-(-size // block) * block)
        buffers.append(buffer)
        reads.append(member.meta.remap(Bio.read(sector, memoryview(buffer))))
    outcomes = yield Each(tuple(reads))
    pairs = zip(buffers, outcomes, strict=True)
    return [buffer if error is None else None for buffer, error in pairs]


def revive(array: Array) -> Steps[None]:
    """Take members back that had failed and can be read again, to be rebuilt.

    Raises: BlockIOError if the array cannot go on.
    """
    failed = [one for one in array.members if one.is_failed and one.meta is not None]
    buffers = yield from _read_metadata(failed, 0, superblocks.SIZE)
    back = False
    for member, data in zip(failed, buffers, strict=True):
        known = superblocks.parse(data) if data is not None else None
        if known is not None:
            member.is_failed, member.recovery_offset, back = False, 0, True
            has_all_before = known.is_recovered and known.events >= array.events_cleared
            member.by_bitmap = array.has_bitmap and has_all_before
    if back:
        yield from array.store_all()
        array.on_change()
        array.work.notify()


def check_room(array: Array) -> None:
    """Refuse metadata devices that are too small for what is to be written to them.

    Raises: StackError.
    """
    for member in array.with_metadata():
        assert member.meta is not None, "they were chosen by it"
        bits = array.bitmap.size_bytes if array.has_bitmap else 0
        block = member.meta.device.limits.logical_block_size
        wanted = bitmaps.START_SECTOR + -(-bits // block) * block // SECTOR_SIZE
        room = member.meta.sector_count
        if room < wanted:
            name = member.meta.device.name
            raise StackError(f"{name} has {room} sectors, metadata take {wanted}")
