"""Segment puts bios in their place, and a target says nothing unless it has something to say."""

from fusedm.block import FLUSH, Bio, Op
from fusedm.dm import Remap, Segment, parse_table
from tests.helpers.devices import RecordingDevice, lookup_in

D0 = RecordingDevice("d0", 100)


def test_a_segment_gives_its_arguments_back():
    assert Segment(D0, 20, 10).params() == [D0, "20"]


def test_remapping_into_a_segment_changes_the_sector_only():
    bio = Bio.write(4, memoryview(bytes(1024)))
    assert Segment(D0, 20, 10).remap(bio) == Remap(D0, bio.remap(24))


def test_a_flush_has_no_place_in_a_segment():
    assert Segment(D0, 20, 10).remap(FLUSH) == Remap(D0, Bio(Op.FLUSH, 0, 0))


def test_a_target_has_nothing_to_read_or_write_and_no_keys_unless_it_says_so():
    target = parse_table("0 8 linear d0 0", lookup_in(D0), lambda: 0.0).entries[0].target
    assert [list(target.opening()), list(target.closing()), list(target.keys())] == [[], [], []]
