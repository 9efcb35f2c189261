"""Writes with FUA under log-writes, and what is written last."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fusedm.block import FUA, PREFLUSH, Bio
from fusedm.block.errors import BlockIOError, TableError
from fusedm.crypto import submit_bio
from fusedm.dm import parse_table
from tests.helpers.builders import load, make_mapped, medium, pattern, write
from tests.helpers.devices import RecordingDevice
from tests.helpers.logged_device import entries, flush, kinds, logged, status
from tests.helpers.write_log import Entry


def durable(sector: int, data: bytes, more: int = 0) -> Bio:
    return Bio.write(sector, memoryview(data), flags=FUA | more)


async def test_a_write_with_fua_is_logged_when_it_ends_before_what_is_not_flushed():
    mapped, disk, log = await logged()
    await write(mapped, 1, pattern(512))
    await submit_bio(mapped, durable(5, pattern(1024, 1)))
    assert entries(log) == [Entry("durable", 5 * 512, 1024, bytes(pattern(1024, 1)), "")]
    assert medium(disk, 5, 1024) == pattern(1024, 1)
    await flush(mapped)
    assert kinds(log) == ["durable 5", "durable 1", "flush"]


async def test_a_write_with_preflush_and_fua_is_a_flush_and_then_a_durable_write():
    mapped, _, log = await logged()
    await write(mapped, 1, pattern(512))
    await submit_bio(mapped, durable(5, pattern(512), PREFLUSH))
    assert kinds(log) == ["durable 1", "flush", "durable 5"]


async def test_a_write_with_fua_that_failed_is_not_logged_nor_one_after_the_log_is_full():
    mapped, disk, log = await logged(log=8)
    bad = await make_mapped("0 8 linear d0 0\n8 56 error", disk, name="bad")
    await load(mapped, "0 64 log-writes bad d1", bad, log)
    await mapped.resume()
    with pytest.raises(BlockIOError):
        await submit_bio(mapped, durable(8, bytes(512)))
    await submit_bio(mapped, durable(1, pattern(1024)))
    for _ in range(2):
        await submit_bio(mapped, durable(2, pattern(2048)))
    assert medium(disk, 2, 2048) == pattern(2048)
    assert status(mapped).endswith(" logging_disabled")
    assert kinds(log) == ["durable 1"]


async def test_the_last_words_of_a_log_are_written_before_the_next_table_is_read():
    mapped, disk, log = await logged()
    await write(mapped, 1, pattern(512))
    await load(mapped, "0 64 linear d1 0", disk, log)
    async with trio.open_nursery() as nursery:
        await mapped.suspend()
        data = bytearray(512)
        nursery.start_soon(submit_bio, mapped, Bio.read(0, memoryview(data)))
        await wait_all_tasks_blocked()
        await mapped.resume()
    assert data == medium(log, 0, 512)
    assert int.from_bytes(data[16:24], "little") == 2
    assert kinds(log) == ["write 1", "dm-log-writes-end"]


def test_what_is_logged_by_another_name_is_no_log():
    device = RecordingDevice("d0", 64)
    with pytest.raises(TableError, match="argument 2: logdev: d0 is what is to be logged"):
        parse_table("0 64 log-writes d0 other", lambda name: device, lambda: 0.0)
