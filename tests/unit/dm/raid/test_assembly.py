"""What is made of superblocks."""

from dataclasses import replace

import pytest

from fusedm.block.errors import StackError
from fusedm.block.units import MAX_SECTORS
from fusedm.dm.raid.array import Array, Options
from fusedm.dm.raid.assembly import Found, assemble
from fusedm.dm.raid.members import IN_SYNC, Member
from fusedm.dm.raid.personality import Shape
from fusedm.dm.raid.raid0 import Raid0
from fusedm.dm.raid.raid1 import Raid1
from fusedm.dm.raid.raid10 import Raid10
from fusedm.dm.raid.superblock import Superblock
from fusedm.dm.target import Segment
from tests.helpers.devices import RecordingDevice

LEVELS = {"raid0": Raid0, "raid1": Raid1, "raid10": Raid10}
SECTORS = 1024


class Case:
    """An array of three, and what its metadata devices hold."""

    def __init__(self, kind="raid1", rebuild=(), missing=(), without_metadata=()):
        chunk = 0 if kind == "raid1" else 8
        sectors = SECTORS * 3 // 2 if kind == "raid10" else SECTORS
        sectors = SECTORS * 3 if kind == "raid0" else sectors
        self.shape = Shape(kind, 3, chunk, sectors)
        self.members = [Member(index, None) for index in range(3)]
        for member in self.members:
            if member.index not in missing:
                member.data = Segment(RecordingDevice("d", SECTORS), 0, SECTORS)
            if member.index not in (*missing, *without_metadata):
                member.meta = Segment(RecordingDevice("m", 64), 0, 64)
        self.rebuild = frozenset(rebuild)
        self.level = Array(self.shape, self.members, Options(), LEVELS[kind]).level
        numbers = (self.level.level, self.level.layout, chunk, sectors, SECTORS)
        self.superblocks = [Superblock(3, index, 10, *numbers) for index in range(3)]
        for index in missing:
            self.superblocks[index] = None

    def set(self, index, **changes):
        self.superblocks[index] = replace(self.superblocks[index], **changes)
        return self

    def none(self, *indices):
        for index in indices:
            self.superblocks[index] = None
        return self

    def assemble(self):
        return assemble(self.shape, self.level, self.members, self.superblocks, self.rebuild)

    def offsets(self):
        self.assemble()
        return [member.recovery_offset for member in self.members]


def test_devices_without_superblocks_are_a_new_array():
    assert Case().none(0, 1, 2).assemble() == Found(is_new=True)


def test_members_that_say_nothing_else_are_in_sync():
    case = Case()
    assert case.assemble() == Found(False, 10, MAX_SECTORS, 0)
    assert case.offsets() == [IN_SYNC] * 3


def test_the_newest_superblock_says_how_far_resync_came():
    case = Case().set(1, events=12, resync_offset=640)
    found = case.assemble()
    assert (found.events, found.freshest, found.resync_offset) == (12, 1, 640)


def test_a_member_that_the_newest_calls_failed_is_rebuilt_by_the_bitmap():
    case = Case().set(1, events=12, failed=frozenset({2}))
    assert case.offsets() == [IN_SYNC, IN_SYNC, 0]
    assert [member.by_bitmap for member in case.members] == [False, False, True]


def test_one_that_failed_while_it_was_rebuilt_has_missed_more_than_that():
    case = Case().set(1, events=12, failed=frozenset({2})).set(2, recovery_offset=512)
    assert case.offsets() == [IN_SYNC, IN_SYNC, 0]
    assert not any(member.by_bitmap for member in case.members)


def test_a_rebuild_goes_on_where_it_was():
    assert Case().set(2, recovery_offset=512).offsets() == [IN_SYNC, IN_SYNC, 512]


def test_a_rebuild_that_others_have_outlived_begins_anew():
    case = Case().set(2, recovery_offset=512, events=9)
    assert case.offsets() == [IN_SYNC, IN_SYNC, 0]


def test_a_device_to_be_rebuilt_is_rebuilt_whatever_it_says():
    assert Case(rebuild=[1]).offsets() == [IN_SYNC, 0, IN_SYNC]


def test_a_new_device_is_rebuilt_if_that_is_asked_for():
    assert Case(rebuild=[1]).none(1).offsets() == [IN_SYNC, 0, IN_SYNC]


def test_a_new_device_is_refused_if_that_is_not_asked_for():
    with pytest.raises(StackError, match="devices 1 have no superblock, and there is no rebuild"):
        Case().none(1).assemble()


def test_a_new_device_beside_one_to_be_rebuilt_is_refused():
    with pytest.raises(StackError, match="device 2 has no superblock beside those to be rebuilt"):
        Case(rebuild=[1]).none(1, 2).assemble()


def test_devices_without_metadata_are_an_array_that_is_not_known():
    case = Case(without_metadata=[0, 1, 2], rebuild=[2]).none(0, 1, 2)
    assert case.assemble() == Found(is_new=True)
    assert case.offsets() == [IN_SYNC, IN_SYNC, 0]


def test_a_missing_device_is_no_new_one():
    case = Case(missing=[1])
    assert case.offsets() == [IN_SYNC] * 3
    assert not case.members[1].in_sync


def test_too_many_that_are_lost_are_refused():
    with pytest.raises(StackError, match="2 of 3 devices are missing, failed or to be rebuilt"):
        Case("raid10", missing=[1, 2]).assemble()


def test_a_raid0_misses_none():
    with pytest.raises(StackError, match="1 of 3 devices"):
        Case("raid0", missing=[1]).assemble()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"device_count": 4}, "tells of 4 devices, level 1.*the table of 3 devices, level 1"),
        ({"level": 5}, "level 5"),
        ({"chunk_sectors": 16}, "chunk 16"),
        ({"member_sectors": 2048}, "2048 sectors of each device, the table of 1024"),
        ({"data_offset": 8}, "data of device 0 begin at sector 8"),
    ],
)
def test_an_array_of_another_shape_is_refused(changes, text):
    with pytest.raises(StackError, match=text):
        Case().set(0, **changes).assemble()


def test_members_of_a_raid1_may_change_places():
    case = Case().set(0, position=1).set(1, position=0)
    assert case.offsets() == [IN_SYNC] * 3


def test_members_of_others_may_not():
    with pytest.raises(StackError, match="device 0 was device 1: only those of a raid1"):
        Case("raid10").set(0, position=1).assemble()
