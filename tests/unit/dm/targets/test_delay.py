"""What is special to delay; the rest is in tests/contracts/test_every_target.py."""

import pytest

from fusedm.block import FLUSH, Bio, Op
from fusedm.block.errors import Status, TableError
from fusedm.dm import Defer, Fail, Many, Remap, Target, parse_table
from tests.helpers.devices import RecordingDevice, lookup_in

DEVICES = [RecordingDevice(name, 4096) for name in ("d0", "d1", "d2")]
D0, D1, D2 = DEVICES
DISCARD = Bio(Op.DISCARD, 5, 8)
READ = Bio.read(5, memoryview(bytearray(512)))
WRITE = Bio.write(5, memoryview(bytes(512)))


def make(words: str) -> Target:
    table = parse_table(f"0 1024 delay {words}", lookup_in(*DEVICES), lambda: 0.0)
    return table.entries[0].target


def to(device: RecordingDevice, offset: int, bio: Bio) -> Remap:
    return Remap(device, bio if bio is FLUSH else bio.remap(bio.sector + offset))


@pytest.mark.parametrize("bio", [READ, WRITE, DISCARD, FLUSH], ids=str)
def test_three_arguments_are_for_every_bio(bio):
    assert make("d0 10 1500").map(bio) == Defer(1.5, to(D0, 10, bio))


@pytest.mark.parametrize("bio", [WRITE, DISCARD, FLUSH], ids=str)
def test_six_arguments_part_writes_from_reads(bio):
    target = make("d0 10 1500 d1 20 250")
    assert target.map(READ) == Defer(1.5, to(D0, 10, READ))
    assert target.map(bio) == Defer(0.25, to(D1, 20, bio))


def test_nine_arguments_part_flushes_as_well():
    target = make("d0 10 1500 d1 20 250 d1 30 1")
    assert target.map(READ) == Defer(1.5, to(D0, 10, READ))
    assert target.map(WRITE) == Defer(0.25, to(D1, 20, WRITE))
    assert target.map(FLUSH) == Defer(0.001, to(D1, 30, FLUSH))


def test_a_flush_goes_to_the_device_of_the_writes_too():
    target = make("d0 10 0 d1 20 0 d2 30 7")
    assert target.map(FLUSH) == Defer(0.007, Many((to(D1, 20, FLUSH), to(D2, 30, FLUSH))))


def test_no_delay_goes_straight_on():
    assert make("d0 10 0").map(READ) == to(D0, 10, READ)


def test_write_zeroes_is_not_supported():
    assert make("d0 10 0").map(Bio(Op.WRITE_ZEROES, 0, 8)) == Fail(Status.NOTSUPP)


@pytest.mark.parametrize("count", [0, 1, 2, 4, 5, 7, 8, 10, 12])
def test_other_numbers_of_arguments_are_refused(count):
    words = " ".join(["d0", "0", "0"] * 4).split()[:count]
    with pytest.raises(TableError, match=f"table line 1: delay: takes the .*, {count} given$"):
        make(" ".join(words))


def test_a_delay_longer_than_the_kernel_can_is_refused():
    with pytest.raises(TableError, match=r"argument 3 \(ms\): 4294967296 is not in 0\.\.429496729"):
        make("d0 0 4294967296")
