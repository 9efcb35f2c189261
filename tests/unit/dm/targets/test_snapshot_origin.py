"""What is special to snapshot-origin; what it does for snapshots is in test_snapshot.py."""

from fusedm.block import FLUSH, Bio
from fusedm.dm import Remap, parse_table
from tests.helpers.devices import RecordingDevice, lookup_in

D0 = RecordingDevice("d0", 4096)


def make():
    return parse_table("0 64 snapshot-origin d0", lookup_in(D0), lambda: 0.0).entries[0].target


def test_without_snapshots_it_is_as_linear():
    for bio in (Bio.read(5, memoryview(bytearray(512))), Bio.write(5, memoryview(bytes(512)))):
        assert make().map(bio) == Remap(D0, bio)


def test_a_flush_goes_down():
    assert make().map(FLUSH) == Remap(D0, FLUSH)
