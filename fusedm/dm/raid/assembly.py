"""What to make of the superblocks that are found: which members are good, and how far. Pure.

Source: super_init_validation, super_validate, validate_raid_redundancy of the kernel's dm-raid.c.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass

from fusedm.block.errors import StackError
from fusedm.block.units import MAX_SECTORS
from fusedm.dm.raid.members import IN_SYNC, Member
from fusedm.dm.raid.personality import Personality, Shape
from fusedm.dm.raid.superblock import Superblock


@dataclass(frozen=True)
class Found:
    """What the metadata devices say together.

    is_new: there was no array. events: of the newest superblock. freshest: whose that is.
    Units:  resync_offset in sectors that resync counts in.
    """

    is_new: bool
    events: int = 0
    resync_offset: int = 0
    freshest: int | None = None


def assemble(
    shape: Shape,
    level: Personality,
    members: Sequence[Member],
    superblocks: Sequence[Superblock | None],
    rebuild: Set[int],
) -> Found:
    """Judge superblocks (None: there is none) and say of every member how far it is good.

    Raises: StackError if there is no array in this.
    """
    for index in rebuild:
        members[index].recovery_offset = 0
    found = _look(shape, members, superblocks, rebuild)
    if found.freshest is not None:
        newest = superblocks[found.freshest]
        assert newest is not None, "the freshest is one of those"
        _check_shape(shape, level, newest)
        for member in members:
            superblock = superblocks[member.index]
            if superblock is not None and member.index not in rebuild:
                _judge(shape, member, superblock, newest)
    lost = {member.index for member in members if not member.in_sync}
    if not level.survives(lost):
        text = f"{len(lost)} of {len(members)} devices are missing, failed or to be rebuilt"
        raise StackError(f"{text}: not enough are left of this {shape.type}")
    return found


def _look(
    shape: Shape,
    members: Sequence[Member],
    superblocks: Sequence[Superblock | None],
    rebuild: Set[int],
) -> Found:
    kept = [
        member.index
        for member in members
        if member.index not in rebuild and superblocks[member.index] is not None
    ]
    # One that cannot be read is neither new nor old.
    new = {
        member.index
        for member in members
        if member.writable and member.meta is not None and member.index not in kept
    }
    if len(new) == shape.device_count:
        return Found(is_new=True)
    if not rebuild and new:
        text = f"devices {_list(new)} have no superblock, and there is no rebuild for them"
        raise StackError(text)
    if rebuild and new - rebuild:
        text = f"device {_list(new - rebuild)} has no superblock beside those to be rebuilt"
        raise StackError(text)
    if not kept:
        return Found(is_new=True)
    events = {index: superblock.events for index in kept if (superblock := superblocks[index])}
    freshest = max(kept, key=lambda index: (events[index], -index))
    newest = superblocks[freshest]
    assert newest is not None, "it is one of those that were found"
    offset = min(newest.resync_offset, MAX_SECTORS)
    return Found(False, newest.events, offset, freshest)


def _check_shape(shape: Shape, level: Personality, newest: Superblock) -> None:
    found = (newest.device_count, newest.level, newest.layout, newest.chunk_sectors)
    wanted = (shape.device_count, level.level, level.layout, shape.chunk_sectors)
    if found != wanted:
        words = "{} devices, level {}, layout {}, chunk {}"
        text = f"the superblock tells of {words.format(*found)}; the table of "
        raise StackError(f"{text}{words.format(*wanted)}: arrays are not reshaped here")
    if newest.member_sectors > level.member_sectors:
        text = f"the superblock tells of {newest.member_sectors} sectors of each device, the table "
        raise StackError(f"{text}of {level.member_sectors}: arrays are not made smaller here")


def _judge(shape: Shape, member: Member, superblock: Superblock, newest: Superblock) -> None:
    if superblock.position != member.index and shape.type != "raid1":
        text = f"device {member.index} was device {superblock.position}: only those of a raid1"
        raise StackError(f"{text} may change places")
    if superblock.data_offset:
        text = f"data of device {member.index} begin at sector {superblock.data_offset}"
        raise StackError(f"{text}: only those that begin at 0 are used here")
    if superblock.position in newest.failed:
        # It has come back: what it has missed since is in the bitmap, if that goes back so far;
        # but not what it had not been given yet.
        member.recovery_offset, member.by_bitmap = 0, superblock.is_recovered
    elif superblock.recovery_offset < MAX_SECTORS:
        late = superblock.events < newest.events
        member.recovery_offset = 0 if late else superblock.recovery_offset
    else:
        member.recovery_offset = IN_SYNC


def _list(indices: Set[int]) -> str:
    return ", ".join(str(index) for index in sorted(indices))
