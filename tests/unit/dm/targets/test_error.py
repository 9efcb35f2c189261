"""What is special to error; the rest is in tests/contracts/test_every_target.py."""

import errno

import pytest

from fusedm.block import FLUSH, Bio, Limits, Op
from fusedm.block.errors import Status, TableError
from fusedm.dm import Complete, Fail, Segment, Table, format_table, parse_table, stack_limits
from tests.helpers.devices import RecordingDevice, lookup_in

D0 = RecordingDevice("d0", 4096, limits=Limits(logical_block_size=4096))


def table(words: str) -> Table:
    return parse_table(f"0 1024 error {words}", lookup_in(D0), lambda: 0.0)


@pytest.mark.parametrize("words", ["", "d0 8"])
@pytest.mark.parametrize(
    "bio",
    [
        Bio.read(0, memoryview(bytearray(512))),
        Bio.write(0, memoryview(bytes(512))),
        Bio(Op.DISCARD, 0, 8),
        Bio(Op.WRITE_ZEROES, 0, 8),
    ],
    ids=str,
)
def test_every_io_fails(words, bio):
    assert table(words).entries[0].target.map(bio) == Fail(Status.IOERR)


def test_a_flush_succeeds():
    assert table("d0 8").entries[0].target.map(FLUSH) == Complete()


def test_two_arguments_are_a_device_for_its_limits():
    with_device = table("d0 8")
    assert list(with_device.entries[0].target.devices()) == [Segment(D0, 8, 1024)]
    assert stack_limits(with_device).logical_block_size == 4096


@pytest.mark.parametrize("words", ["", "d0", "d0 8 more", "a b c d"])
def test_other_arguments_mean_nothing_but_are_printed(words):
    assert table(words).devices() == []
    assert format_table(table(words)) == f"0 1024 error {words}"


def test_a_device_that_is_not_there_keeps_its_errno():
    with pytest.raises(TableError, match="no device is named 'd9'") as caught:
        table("d9 8")
    assert caught.value.errno == errno.ENXIO


def test_a_range_past_the_device_is_refused():
    with pytest.raises(TableError, match=r"error: 4000 \+ 1024 sectors ends past d0"):
        table("d0 4000")
