"""raid1 at work: resync, members that fail and come back, bits and superblocks."""

import pytest
import trio

from fusedm.block import FUA, Bio, Op
from fusedm.block.errors import BlockIOError, StackError
from fusedm.crypto import start_using_key, submit_bio
from fusedm.dm.raid.superblock import DONE
from tests.helpers.arrays import (
    EVERYTHING,
    Mirror,
    disks,
    failing,
    health,
    make_raid,
    said,
    started,
    superblock,
    synced,
    target_of_device,
)
from tests.helpers.arrays import (
    MIRROR_SECTORS as SIZE,
)
from tests.helpers.builders import (
    make_disk,
    make_key,
    medium,
    pattern,
    read,
    write,
)

TEXT = bytes(pattern(4096, 3))


# Its beginning.


async def test_a_new_array_is_made_alike_from_its_first_member(autojump_clock):
    mirror = Mirror()
    mirror.datas[0].store.pwrite(0, memoryview(pattern(SIZE * 512)))
    await mirror.start()
    assert said(mirror.device) == ["raid1", "2", "aa", "0/2048", "resync", "0", "0", "-"]
    assert superblock(mirror.metas[0]).resync_offset == 0
    await mirror.settle()
    assert said(mirror.device) == ["raid1", "2", "AA", "2048/2048", "idle", "0", "0", "-"]
    assert mirror.alike()
    assert superblock(mirror.metas[1]).resync_offset == DONE
    assert not any(mirror.bits())
    assert mirror.device.event_number == 1


async def test_one_member_alone_is_alike(autojump_clock):
    mirror = await Mirror(1).start()
    assert said(mirror.device) == ["raid1", "1", "A", "2048/2048", "idle", "0", "0", "-"]
    await mirror.settle()
    assert mirror.device.event_number == 0


async def test_nosync_leaves_members_as_they_are(autojump_clock):
    mirror = Mirror()
    mirror.datas[0].store.pwrite(0, memoryview(pattern(SIZE * 512)))
    await mirror.start(nosync=True)
    await mirror.settle()
    assert health(mirror.device) == "AA"
    assert not mirror.alike()


async def test_sync_makes_members_of_a_known_array_alike(autojump_clock):
    mirror = await synced()
    mirror.datas[1].store.pwrite(0, memoryview(TEXT))
    await mirror.restart(sync=True)
    assert health(mirror.device) == "aa"
    await mirror.settle()
    assert mirror.alike()


async def test_an_array_without_metadata_is_taken_as_it_is(autojump_clock):
    mirror = Mirror()
    mirror.metas = [None, None]
    await mirror.start()
    await write(mirror.device, 8, TEXT)
    assert mirror.alike()
    assert health(mirror.device) == "AA"
    await mirror.settle()
    assert not target_of_device(mirror.device).array.bitmap.is_set(0)


async def test_metadata_devices_that_are_too_small_are_refused(autojump_clock):
    mirror = Mirror()
    mirror.metas[1] = make_disk("small", 8)
    with pytest.raises(StackError, match="small has 8 sectors, metadata take 9"):
        await mirror.start()


async def test_a_new_raid_with_other_shape_is_refused_and_nothing_is_written(autojump_clock):
    mirror = await synced()
    await mirror.device.end()
    before = medium(mirror.metas[0])
    with pytest.raises(StackError, match="3 devices"):
        await started(
            make_raid("raid1", SIZE, [*mirror.metas, None], [*mirror.datas, make_disk("x", SIZE)])
        )
    assert medium(mirror.metas[0]) == before


async def test_an_array_that_has_grown_is_made_alike_at_its_end(autojump_clock):
    mirror = Mirror()
    await started(
        make_raid("raid1", SIZE // 2, mirror.metas, mirror.datas, region_sectors=64, nosync=True)
    )
    mirror.datas[0].store.pwrite(SIZE // 2 * 512, memoryview(TEXT))
    await mirror.start()
    assert said(mirror.device)[3] == "1024/2048"
    await mirror.settle()
    assert mirror.alike()


# Reads and writes.


async def test_writes_go_to_all_members_and_reads_come_from_one(autojump_clock):
    mirror = await synced(3)
    await write(mirror.device, 8, TEXT)
    assert all(medium(data, 8, 4096) == TEXT for data in mirror.datas)
    assert await read(mirror.device, 8, 4096) == TEXT
    assert [data.stats.ios[0] for data in mirror.datas] == [1, 0, 0]


async def test_bits_are_set_before_the_first_write_to_a_region(autojump_clock):
    mirror = await synced()
    mirror.order.clear()
    await write(mirror.device, 64, TEXT)
    await write(mirror.device, 72, TEXT)
    first = [("m0", 4096), ("m0", 0), ("d0", 64 * 512)]
    assert mirror.order == [*first, ("d0", 72 * 512)]
    assert mirror.bits()[0] == 2
    await write(mirror.device, 128, TEXT)
    assert mirror.order[4:] == [("m0", 4096), ("d0", 128 * 512)]


async def test_superblocks_say_that_writes_may_be_under_way_until_bits_are_cleared(autojump_clock):
    mirror = await synced()
    assert superblock(mirror.metas[0]).resync_offset == DONE
    await write(mirror.device, 64, TEXT)
    assert superblock(mirror.metas[0]).resync_offset == 0
    await mirror.settle()
    assert superblock(mirror.metas[0]).resync_offset == DONE


async def test_bits_are_cleared_some_time_after_the_last_write(autojump_clock):
    mirror = await synced(daemon_sleep_ms=1000)
    await write(mirror.device, 64, TEXT)
    await trio.sleep(0.9)
    assert mirror.bits()[0] == 2
    await trio.sleep(3)
    assert not any(mirror.bits())


async def test_bits_are_cleared_by_a_suspend(autojump_clock):
    mirror = await synced()
    await write(mirror.device, 64, TEXT)
    await mirror.device.suspend()
    assert not any(mirror.bits())


async def test_what_is_to_be_durable_is_so_on_all_members(autojump_clock):
    mirror = await synced()
    seen = []
    for data in mirror.datas:
        before = data.store.pwrite

        def pwrite(offset, buffer, durably=False, before=before):
            seen.append(durably)
            before(offset, buffer)

        data.store.pwrite = pwrite
    await submit_bio(mirror.device, Bio.write(0, memoryview(TEXT), flags=FUA))
    assert seen == [True, True]


async def test_discards_go_to_all_members(autojump_clock):
    mirror = await synced()
    await write(mirror.device, 8, TEXT)
    await submit_bio(mirror.device, Bio(Op.DISCARD, 8, 8))
    assert not any(medium(mirror.datas[0], 8, 4096) + medium(mirror.datas[1], 8, 4096))


async def test_contexts_go_down_to_all_members(autojump_clock):
    metas, datas = disks(2, SIZE)
    native = [make_disk(f"n{index}", SIZE, slots=slots) for index, slots in enumerate((2, None))]
    device = await started(make_raid("raid1", SIZE, metas, native, nosync=True))
    key = make_key()
    start_using_key(device, key)
    await write(device, 8, TEXT, key, 77)
    assert medium(native[0], 8, 4096) == medium(native[1], 8, 4096) != TEXT
    native[0].store.pread_into = datas[0].store.pread_into
    datas[0].store.fails = EVERYTHING
    assert await read(device, 8, 4096, key, 77) == TEXT
    datas[0].store.fails = failing()
    native[0].store.pread_into(0, memoryview(bytearray(512)))


async def test_reads_go_past_members_that_are_mostly_for_writing(autojump_clock):
    mirror = await synced(write_mostly=frozenset({0}))
    await write(mirror.device, 8, TEXT)
    assert await read(mirror.device, 8, 4096) == TEXT
    assert [data.stats.ios[0] for data in mirror.datas] == [0, 1]


async def test_reads_are_steady_where_members_agree(autojump_clock):
    mirror = await synced()
    array = target_of_device(mirror.device)
    assert array.steady(0).end == SIZE
    assert array.steady(0).ops == {Op.READ}
    array.array.need(0, 8)
    assert not array.steady(0).ops


async def test_what_no_member_has_is_not_read(autojump_clock):
    mirror = await synced()
    array = target_of_device(mirror.device)
    for member in array.array.members:
        member.recovery_offset = 0
    with pytest.raises(BlockIOError):
        await read(mirror.device, 0, 512)
    with pytest.raises(BlockIOError, match="no other copy of sector 0"):
        next(array.level.resync(0, 8))
