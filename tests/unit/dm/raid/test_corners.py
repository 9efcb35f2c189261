"""What seldom comes to arrays: bitmaps not to be believed, and errors in the background."""

import struct

import pytest
import trio

from fusedm.block import Op
from fusedm.block.errors import BlockIOError, StackError
from fusedm.dm.raid.array import MAX_REPAIRS
from fusedm.dm.raid.superblock import DONE
from fusedm.dm.scripts import run_script
from tests.helpers.arrays import (
    EVERYTHING,
    Mirror,
    disks,
    failing,
    health,
    make_raid,
    said,
    started,
    store_of,
    superblock,
    synced,
    target_of_device,
)
from tests.helpers.builders import medium, pattern, write

TEXT = bytes(pattern(4096, 3))


async def ended(**options):
    """A mirror that was written to, and has ended."""
    mirror = await synced(**options)
    await write(mirror.device, 8, TEXT)
    await mirror.device.end()
    return mirror


def change(disk, offset, data):
    disk.store.pwrite(offset, memoryview(data))


# Bitmaps.


@pytest.mark.parametrize(
    ("at", "value"), [(24, struct.pack("<Q", 1)), (48, struct.pack("<I", 1))], ids=["old", "stale"]
)
async def test_a_bitmap_that_is_behind_or_stale_tells_nothing(autojump_clock, at, value):
    mirror = await ended()
    for meta in mirror.metas:
        change(meta, 4096 + at - at % 512, medium(meta, 8, 512)[: at % 512] + value)
    change(mirror.datas[1], 1024 * 512, TEXT)
    await mirror.start()
    assert said(mirror.device)[3] == "0/2048"
    await mirror.settle()
    assert mirror.alike()


async def test_where_there_is_no_bitmap_superblocks_say_what_is_to_be_made_alike(autojump_clock):
    mirror = await ended()
    for meta in mirror.metas:
        change(meta, 4096, bytes(512))
    await mirror.restart()
    assert health(mirror.device) == "AA"
    await mirror.device.end()
    for meta in mirror.metas:
        change(meta, 4096, bytes(512))
        found = superblock(meta)
        change(meta, 0, type(found)(**{**vars(found), "resync_offset": 1024}).pack(512))
    await mirror.start()
    assert said(mirror.device)[3:5] == ["1024/2048", "resync"]


async def test_a_bitmap_that_cannot_be_where_it_says_is_none(autojump_clock):
    mirror = await ended()
    for meta in mirror.metas:
        change(meta, 4096 + 40 - 40, medium(meta, 8, 512)[:40] + struct.pack("<Q", 1 << 40))
    await mirror.start()
    assert health(mirror.device) == "AA"


@pytest.mark.parametrize("nth", [1, 2])
async def test_a_bitmap_that_cannot_be_read_is_none(autojump_clock, nth):
    mirror = await ended()
    calls = []

    def fails(op, offset, length):
        if op is Op.READ and offset == 4096:
            calls.append(offset)
        return op is Op.READ and offset == 4096 and len(calls) % 2 == nth % 2

    store_of(mirror.metas[0]).fails = fails
    await mirror.start()
    assert health(mirror.device) == "AA"


async def test_a_member_that_has_missed_more_than_the_bitmap_tells_is_rebuilt_whole(autojump_clock):
    mirror = await synced()
    mirror.datas[1].store.fails = EVERYTHING
    await write(mirror.device, 8, TEXT)
    mirror.datas[1].store.fails = failing()
    await mirror.device.end()
    head = medium(mirror.metas[0], 8, 512)
    change(mirror.metas[0], 4096, head[:32] + struct.pack("<Q", 1 << 40))
    change(mirror.datas[1], 1024 * 512, TEXT)
    await mirror.start()
    await mirror.settle()
    assert mirror.alike()


async def test_a_new_raid6_is_made_alike_whatever_is_said(autojump_clock):
    mirror = Mirror()
    target = mirror.target(nosync=True)
    target.level.level = 6
    with pytest.raises(StackError, match="nosync: a new raid6 is made alike first"):
        await started(target)


# Errors.


async def test_without_metadata_nobody_is_told_of_a_failure(autojump_clock):
    _, datas = disks(2, 64)
    device = await started(make_raid("raid1", 64, [None, None], datas))
    store_of(datas[1]).fails = failing(Op.WRITE)
    await write(device, 8, TEXT)
    assert health(device) == "AD"


async def test_writers_wait_for_what_others_write_down(autojump_clock):
    mirror = await synced()
    for disk in (*mirror.metas, *mirror.datas):
        store_of(disk).is_slow = True
    mirror.order.clear()
    async with trio.open_nursery() as nursery:
        for sector in range(0, 2048, 64):
            nursery.start_soon(write, mirror.device, sector, TEXT)
    assert sum(name == "m0" for name, _ in mirror.order) < 32, "many are written down together"
    assert mirror.alike()


async def test_two_writers_find_the_same_member_failed(autojump_clock):
    mirror = await synced()
    for disk in (*mirror.metas, *mirror.datas):
        store_of(disk).is_slow = True
    store_of(mirror.datas[1]).fails = failing(Op.WRITE)
    async with trio.open_nursery() as nursery:
        for sector in (8, 72):
            nursery.start_soon(write, mirror.device, sector, TEXT)
    assert mirror.device.event_number == 1
    assert superblock(mirror.metas[0]).failed == {1}


async def test_repairs_that_wait_have_an_end():
    array = target_of_device((await Mirror().start(nosync=True)).device).array
    for begin in range(0, 2 * 8 * MAX_REPAIRS, 8):
        array.repair_read(0, begin, begin + 8)
    assert len(array.repairs) == MAX_REPAIRS


async def test_bits_stay_where_members_cannot_be_flushed(autojump_clock, caplog):
    mirror = await synced()
    await write(mirror.device, 8, TEXT)
    store_of(mirror.datas[1]).fails = failing(Op.FLUSH)
    await mirror.settle()
    assert health(mirror.device) == "AD"
    assert mirror.bits()[0] == 1
    store_of(mirror.datas[1]).fails = failing()
    await mirror.device.suspend()
    await mirror.device.resume()
    await mirror.settle()
    await write(mirror.device, 8, TEXT)
    for data in mirror.datas:
        store_of(data).fails = failing(Op.FLUSH)
    await mirror.settle()
    assert "clearing bits: d0: flush" in caplog.text
    assert health(mirror.device) == "AA"


async def test_a_repair_that_nobody_can_help_is_given_up(autojump_clock, caplog):
    mirror = await synced()
    array = target_of_device(mirror.device).array
    store_of(mirror.datas[1]).fails = failing(Op.READ)
    array.repair_read(0, 8, 16)
    await trio.sleep(1)
    assert "a repair: d1: read of sectors 8..16" in caplog.text
    assert not array.repairs


async def test_superblocks_that_cannot_be_written_at_the_end_of_an_action(autojump_clock, caplog):
    mirror = await synced()
    for meta in mirror.metas:
        store_of(meta).fails = failing(Op.WRITE)
    await mirror.device.message(0, ["check"])
    await mirror.settle()
    assert "superblocks: m0: write" in caplog.text


async def test_a_member_that_fails_during_its_rebuild_comes_back_and_is_rebuilt(autojump_clock):
    mirror = await ended()
    mirror.datas[0].store.pwrite(0, memoryview(pattern(2048 * 512)))
    target = mirror.target(rebuild=frozenset({1}), max_rate=64)
    target.level.step_sectors = 64
    mirror.device = await started(target)
    await trio.sleep(5)
    store_of(mirror.datas[1]).fails = EVERYTHING
    await trio.sleep(1)
    assert health(mirror.device) == "AD"
    await mirror.device.suspend()
    store_of(mirror.datas[1]).fails = failing()
    await mirror.device.resume()
    await mirror.settle()
    assert health(mirror.device) == "AA"
    assert mirror.alike()


async def test_two_members_are_rebuilt_together(autojump_clock):
    mirror = await synced(3)
    await mirror.device.end()
    mirror.datas[0].store.pwrite(0, memoryview(pattern(2048 * 512)))
    target = mirror.target(rebuild=frozenset({1, 2}), max_rate=64)
    target.level.step_sectors = 64
    mirror.device = await started(target)
    await trio.sleep(3)
    store_of(mirror.datas[2]).fails = EVERYTHING
    await trio.sleep(0.6)
    await mirror.device.suspend()
    store_of(mirror.datas[2]).fails = failing()
    await mirror.device.resume()
    await mirror.settle()
    assert health(mirror.device) == "AAA"
    assert mirror.alike()
    assert medium(mirror.datas[2]) == medium(mirror.datas[0])


async def test_a_resync_is_ended_between_two_pieces(autojump_clock):
    mirror = Mirror()
    target = mirror.target(max_rate=64)
    target.level.step_sectors = 32
    mirror.device = await started(target)
    await trio.sleep(1.1)
    await mirror.device.message(0, ["frozen"])
    await trio.sleep(5)
    assert said(mirror.device)[4] == "frozen"
    assert 0 < target.array.resync_offset < 2048
    assert superblock(mirror.metas[0]).resync_offset < DONE


async def test_of_three_copies_the_third_is_read(autojump_clock):
    mirror = await Mirror(3).start()
    await mirror.settle()
    await mirror.device.end()
    mirror.datas[2].store.pwrite(0, memoryview(TEXT))
    for data in mirror.datas[:2]:
        store_of(data).fails = lambda op, offset, length: op is Op.READ
    await mirror.start(sync=True)
    await mirror.settle()
    for data in mirror.datas[:2]:
        store_of(data).fails = failing()
    assert medium(mirror.datas[0], 0, 4096) == medium(mirror.datas[1], 0, 4096) == TEXT


async def test_an_array_that_cannot_be_written_down_does_not_begin(autojump_clock):
    mirror = await ended()
    for meta in mirror.metas:
        store_of(meta).fails = failing(Op.WRITE)
    with pytest.raises(BlockIOError, match="m0"):
        await mirror.start()


async def test_a_member_fails_once_however_often_it_is_said(autojump_clock):
    mirror = await synced()
    array = target_of_device(mirror.device).array
    errors = {1: BlockIOError(5, "d1", "told to fail")}
    await run_script(array.fail(errors))
    await run_script(array.fail(errors))
    assert mirror.device.event_number == 1


async def test_what_could_not_be_written_down_is_by_the_next(autojump_clock):
    mirror = await synced()
    writing = store_of(mirror.metas[1]).pwrite

    def refuse(offset, data, durably=False):
        raise OSError(22, "this says nothing of the disk")

    store_of(mirror.metas[1]).pwrite = refuse
    with pytest.raises(BlockIOError, match="m1"):
        await write(mirror.device, 8, TEXT)
    store_of(mirror.metas[1]).pwrite = writing
    await write(mirror.device, 8, TEXT)
    assert superblock(mirror.metas[1]).resync_offset == 0
    await mirror.settle()
    assert health(mirror.device) == "AA"
    assert mirror.alike()


async def test_bits_are_cleared_one_by_one(autojump_clock):
    mirror = await synced(daemon_sleep_ms=1000)
    await write(mirror.device, 8, TEXT)
    await trio.sleep(1.5)
    await write(mirror.device, 72, TEXT)
    await trio.sleep(1)
    assert mirror.bits()[0] == 2
    assert superblock(mirror.metas[0]).resync_offset == 0
    await mirror.settle()
    assert superblock(mirror.metas[0]).resync_offset == DONE


async def test_nothing_is_written_to_a_member_that_has_failed_meanwhile(autojump_clock):
    mirror = await synced()
    target = target_of_device(mirror.device)
    target.array.members[1].is_failed = True
    await run_script(target.level.recover(0, 8, {1}))
    assert not any(name == "d1" for name, _ in mirror.order)
