"""The log of a mirror on its device."""

import struct

import pytest

from fusedm.block import Op
from fusedm.block.errors import BlockIOError, StackError, Status
from fusedm.dm.mirror.log import MAGIC, RegionLog, log_bytes
from fusedm.dm.target import Many, Remap, Wait
from tests.helpers.devices import RecordingDevice

ERROR = BlockIOError(Status.IOERR, "lg", "told to fail")


class Medium:
    """A log device: it is read and written as a log's steps say, and fails if told to."""

    def __init__(self, clean: bytes = b"", count: int = 0, magic: int = 0, version: int = 2):
        self.device = RecordingDevice("lg", 4096)
        self.bytes = bytearray(4096 * 512)
        self.bytes[:16] = struct.pack("<IIQ", magic, version, count)
        self.bytes[1024 : 1024 + len(clean)] = clean
        self.failing: set[Op] = set()
        self.done: list[tuple[Op, int]] = []

    def take(self, step) -> None:
        for one in step.actions if isinstance(step, Many) else [step]:
            assert isinstance(one, Remap)
            bio = one.bio
            self.done.append((bio.op, bio.sector))
            if bio.op in self.failing:
                raise ERROR
            at = slice(bio.sector * 512, bio.end_sector * 512)
            if bio.op is Op.READ:
                bio.data[:] = self.bytes[at]
            elif bio.op is Op.WRITE:
                self.bytes[at] = bio.data

    def run(self, steps):
        """Carry out the steps of a log."""
        error = None
        try:
            while True:
                step = steps.send(None) if error is None else steps.throw(error)
                try:
                    self.take(step)
                    error = None
                except BlockIOError as failed:
                    error = failed
        except StopIteration as end:
            return end.value

    def log(self, count: int = 20, start: str = "") -> RegionLog:
        """A log on it that has been loaded."""
        log = RegionLog(count, start, self.device)
        self.run(log.load())
        return log

    @property
    def clean(self) -> int:
        return int.from_bytes(self.bytes[1024:1032], "little")


def in_sync(log: RegionLog) -> set[int]:
    return {region for region in range(log.region_count) if log.is_in_sync(region)}


def test_of_an_empty_device_no_region_is_in_sync():
    medium = Medium()
    log = medium.log()
    assert in_sync(log) == set()
    assert list(log.out_of_sync()) == list(range(20))
    assert medium.bytes[:16] == struct.pack("<IIQ", MAGIC, 2, 20)


def test_regions_that_are_clean_are_in_sync():
    log = Medium(b"\x05\x80\x08", 20, MAGIC).log()
    assert in_sync(log) == {0, 2, 15, 19}
    assert log.sync_count == 4


def test_a_log_of_the_first_version_is_one_of_the_second():
    medium = Medium(b"\x05", 20, MAGIC, version=1)
    assert in_sync(medium.log()) == {0, 2}
    assert medium.bytes[4] == 2


def test_a_log_of_a_version_that_is_not_known_is_refused_and_left_as_it_is():
    medium = Medium(b"\x05", 20, MAGIC, version=3)
    with pytest.raises(StackError, match="the log on lg has version 3, not 2"):
        medium.log()
    assert [op for op, _ in medium.done] == [Op.READ]


def test_what_is_no_log_is_not_believed():
    assert in_sync(Medium(b"\xff\xff\xff", 20, MAGIC + 1).log()) == set()


def test_regions_that_have_been_added_are_not_in_sync_unless_all_are_to_be():
    assert in_sync(Medium(b"\xff\xff\xff", 5, MAGIC).log()) == {0, 1, 2, 3, 4}
    assert in_sync(Medium(b"\x05", 5, MAGIC).log(start="nosync")) == set(range(20))


def test_marks_of_regions_that_are_no_more_are_forgotten():
    medium = Medium(b"\xff" * 8, 64, MAGIC)
    assert medium.log().sync_count == 20
    assert medium.clean == (1 << 20) - 1


@pytest.mark.parametrize(("start", "count"), [("sync", 0), ("nosync", 20)])
def test_nothing_or_all_is_in_sync_if_it_is_said(start, count):
    medium = Medium(b"\x05", 20, MAGIC)
    assert medium.log(start=start).sync_count == count
    assert medium.clean == (1 << count) - 1


def test_a_region_is_marked_before_a_write_and_clean_again_later():
    medium = Medium()
    log = medium.log(start="nosync")
    medium.done.clear()
    medium.run(log.mark([3, 9]))
    assert medium.clean == 0xFFFFF & ~(1 << 3 | 1 << 9)
    assert medium.done == [(Op.WRITE, 2), (Op.FLUSH, 0)]
    medium.run(log.mark_clean([3]))
    assert medium.clean == 0xFFFFF & ~(1 << 9)
    assert medium.done[2:] == [(Op.WRITE, 2)], "that it is clean may be lost"


def test_what_is_marked_already_is_not_written_again():
    medium = Medium()
    log = medium.log(start="nosync")
    medium.run(log.mark([3]))
    medium.done.clear()
    medium.run(log.mark([3]))
    assert medium.done == []


def test_only_blocks_that_have_changed_are_written():
    medium = Medium()
    log = medium.log(3 * 4096, "nosync")
    medium.done.clear()
    medium.run(log.mark([0, 8192]))
    assert medium.done == [(Op.WRITE, 2), (Op.WRITE, 4), (Op.FLUSH, 0)]


def test_after_a_flush_of_a_leg_has_failed_nothing_is_clean_any_more():
    medium = Medium()
    log = medium.log(start="nosync")
    medium.run(log.mark_none_clean())
    assert medium.clean == 0
    medium.run(log.mark_clean([3]))
    assert medium.clean == 0
    assert log.is_in_sync(3)


def test_a_region_that_is_in_sync_or_not_any_more_is_counted_once():
    log = Medium().log()
    for _ in range(2):
        log.set_in_sync(3, True)
    assert (log.sync_count, log.is_in_sync(3)) == (1, True)
    for _ in range(2):
        log.set_in_sync(3, False)
    assert (log.sync_count, log.is_in_sync(3)) == (0, False)


def test_a_device_that_cannot_be_read_has_failed_and_nothing_is_in_sync():
    medium = Medium(b"\xff", 20, MAGIC)
    medium.failing.add(Op.READ)
    log = medium.log()
    assert (log.state, log.sync_count) == ("D", 0)


@pytest.mark.parametrize(("op", "state"), [(Op.WRITE, "D"), (Op.FLUSH, "F")])
def test_a_mark_that_fails_is_tried_again_with_the_next(op, state):
    medium = Medium()
    log = medium.log(start="nosync")
    assert log.state == "A"
    medium.failing.add(op)
    with pytest.raises(BlockIOError):
        medium.run(log.mark([3]))
    assert log.state == state
    medium.failing.clear()
    medium.run(log.mark([9]))
    assert medium.clean == 0xFFFFF & ~(1 << 3 | 1 << 9)
    assert medium.done[-2:] == [(Op.WRITE, 2), (Op.FLUSH, 0)]


def test_it_is_loaded_once_and_written_again_when_it_is_resumed():
    medium = Medium()
    log = medium.log(start="nosync")
    log.set_in_sync(3, False)
    medium.run(log.mark([3]))
    medium.bytes[1024:1032] = bytes(8)
    medium.run(log.load())
    assert medium.clean == 0xFFFFF & ~(1 << 3)
    assert log.sync_count == 19


def test_who_comes_while_marks_are_written_waits_and_one_writes_for_all():
    medium = Medium()
    log = medium.log(start="nosync")
    first, second, third = (log.mark([region]) for region in (1, 2, 3))
    writing = next(first)
    assert isinstance(next(second), Wait)
    assert isinstance(next(third), Wait)
    medium.take(writing)
    medium.take(first.send(None))
    assert medium.clean == 0xFFFFF & ~(1 << 1), "the data are those of when it was begun"
    with pytest.raises(StopIteration):
        first.send(None)
    writing = second.send(True)
    assert isinstance(third.send(True), Wait)
    medium.take(writing)
    medium.take(second.send(None))
    with pytest.raises(StopIteration):
        second.send(None)
    with pytest.raises(StopIteration):
        third.send(True)
    assert medium.clean == 0xFFFFF & ~0b1110


def test_without_a_device_nothing_is_read_or_written():
    log = RegionLog(20, "nosync")
    for steps in (log.load(), log.mark([3]), log.mark_clean([3])):
        assert list(steps) == []
    assert log.sync_count == 20


@pytest.mark.parametrize(
    ("count", "block", "length"),
    [(1, 512, 1536), (4096, 512, 1536), (4097, 512, 2048), (1, 4096, 4096)],
)
def test_a_log_takes_whole_blocks_of_its_device(count, block, length):
    assert log_bytes(count, block) == length
