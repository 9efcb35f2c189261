"""Members of a raid1 that fail, come back, are missing, or are rebuilt."""

import pytest
import trio

from fusedm.block import FLUSH, Bio, Op
from fusedm.block.errors import BlockIOError
from fusedm.crypto import submit_bio
from fusedm.dm.raid.superblock import DONE
from tests.helpers.arrays import (
    EVERYTHING,
    Mirror,
    disks,
    failing,
    health,
    said,
    superblock,
    synced,
)
from tests.helpers.arrays import (
    MIRROR_SECTORS as SIZE,
)
from tests.helpers.builders import (
    assert_nothing_is_held,
    medium,
    pattern,
    read,
    write,
)

TEXT = bytes(pattern(4096, 3))


# Members that fail.


async def test_a_read_that_fails_is_tried_elsewhere_and_written_back(autojump_clock):
    mirror = await synced()
    await write(mirror.device, 8, TEXT)
    store = mirror.datas[0].store
    store.fails = lambda op, offset, length: op is Op.READ and offset == 8 * 512
    mirror.order.clear()
    assert await read(mirror.device, 8, 4096) == TEXT
    store.fails = failing()
    store.pwrite(8 * 512, memoryview(bytes(4096)))
    await trio.sleep(0.1)
    assert medium(mirror.datas[0], 8, 4096) == TEXT
    assert health(mirror.device) == "AA"


async def test_a_member_that_cannot_be_written_back_fails(autojump_clock):
    mirror = await synced()
    await write(mirror.device, 8, TEXT)
    mirror.datas[0].store.fails = failing(Op.READ, Op.WRITE)
    assert await read(mirror.device, 8, 4096) == TEXT
    await trio.sleep(0.1)
    assert health(mirror.device) == "DA"


async def test_a_read_that_fails_everywhere_fails(autojump_clock):
    mirror = await synced()
    for data in mirror.datas:
        data.store.fails = failing(Op.READ)
    with pytest.raises(BlockIOError, match="d0"):
        await read(mirror.device, 8, 4096)
    assert health(mirror.device) == "AA"


async def test_a_member_that_fails_a_write_is_marked_before_it_is_acknowledged(autojump_clock):
    mirror = await synced()
    mirror.order.clear()
    mirror.datas[1].store.fails = failing(Op.WRITE)
    await write(mirror.device, 8, TEXT)
    assert health(mirror.device) == "AD"
    assert superblock(mirror.metas[0]).failed == {1}
    first = [("m0", 4096), ("m0", 0), ("d0", 4096)]
    assert mirror.order == [*first, ("m0", 4096), ("m0", 0)]
    assert superblock(mirror.metas[0]).resync_offset == DONE, "only what it misses is"
    assert mirror.device.event_number == 1
    assert await read(mirror.device, 8, 4096) == TEXT


async def test_a_flush_that_fails_fails_its_member(autojump_clock):
    mirror = await synced()
    mirror.datas[1].store.fails = failing(Op.FLUSH)
    await submit_bio(mirror.device, FLUSH)
    assert health(mirror.device) == "AD"


async def test_a_member_whose_metadata_cannot_be_written_fails(autojump_clock):
    mirror = await synced()
    mirror.metas[1].store.fails = failing(Op.WRITE)
    await write(mirror.device, 8, TEXT)
    assert health(mirror.device) == "AD"
    assert superblock(mirror.metas[0]).failed == {1}


async def test_the_last_member_does_not_fail(autojump_clock):
    mirror = await synced()
    mirror.datas[0].store.fails = mirror.datas[1].store.fails = failing(Op.WRITE)
    with pytest.raises(BlockIOError):
        await write(mirror.device, 8, TEXT)
    assert health(mirror.device) == "aa", "what the write touched is to be made alike"
    mirror.datas[0].store.fails = mirror.datas[1].store.fails = failing()
    await write(mirror.device, 8, TEXT)
    assert await read(mirror.device, 8, 4096) == TEXT


async def test_the_only_member_that_another_is_rebuilt_from_does_not_fail(autojump_clock):
    mirror = await synced()
    await mirror.device.end()
    (mirror.metas[0],), (mirror.datas[0],) = disks(1, SIZE)
    await mirror.start(rebuild=frozenset({0}), max_rate=1)
    mirror.datas[1].store.fails = failing(Op.WRITE)
    with pytest.raises(BlockIOError, match="d1"):
        await write(mirror.device, 8, TEXT)
    assert health(mirror.device) == "aA"
    mirror.datas[1].store.fails = failing()
    await mirror.restart()
    await mirror.settle()
    assert health(mirror.device) == "AA"
    assert mirror.alike()


async def test_a_member_that_is_being_rebuilt_may_fail(autojump_clock):
    mirror = await synced()
    await mirror.device.end()
    (mirror.metas[0],), (mirror.datas[0],) = disks(1, SIZE)
    await mirror.start(rebuild=frozenset({0}), max_rate=1)
    mirror.datas[0].store.fails = failing(Op.WRITE)
    await write(mirror.device, 8, TEXT)
    assert health(mirror.device) == "DA"
    assert superblock(mirror.metas[1]).failed == {0}


async def test_writes_that_nobody_can_be_told_of_fail(autojump_clock):
    mirror = await synced()
    mirror.metas[0].store.fails = mirror.metas[1].store.fails = failing(Op.WRITE)
    with pytest.raises(BlockIOError):
        await write(mirror.device, 8, TEXT)
    assert medium(mirror.datas[0], 8, 4096) != TEXT


async def test_an_error_that_says_nothing_of_a_member_fails_none(autojump_clock):
    mirror = await synced()

    def refuse(offset, length):
        raise OSError(95, "not supported")

    mirror.datas[1].store.discard = refuse
    with pytest.raises(BlockIOError, match="not supported"):
        await submit_bio(mirror.device, Bio(Op.DISCARD, 8, 8))
    assert "D" not in health(mirror.device)


async def test_a_member_that_is_missing_is_told_by_the_others(autojump_clock):
    mirror = await synced()
    await mirror.device.end()
    mirror.metas[1] = mirror.datas[1] = None
    await mirror.start()
    await write(mirror.device, 8, TEXT)
    assert health(mirror.device) == "A-"
    assert superblock(mirror.metas[0]).failed == {1}
    await mirror.settle()
    assert mirror.bits()[0] == 1, "what it misses is kept"


async def test_a_member_that_cannot_be_read_at_its_beginning_has_failed(autojump_clock):
    mirror = await synced()
    await mirror.device.end()
    mirror.metas[1].store.fails = EVERYTHING
    await mirror.start()
    assert health(mirror.device) == "AD"


# Members that come back.


async def test_a_member_that_comes_back_gets_what_it_has_missed(autojump_clock):
    mirror = await synced()
    mirror.datas[1].store.fails = EVERYTHING
    await write(mirror.device, 8, TEXT)
    mirror.datas[1].store.fails = failing()
    mirror.datas[1].store.pwrite(1024 * 512, memoryview(TEXT))
    await mirror.restart()
    assert said(mirror.device)[2:5] == ["Aa", "0/2048", "recover"]
    await mirror.settle()
    assert said(mirror.device)[2:5] == ["AA", "2048/2048", "idle"]
    assert medium(mirror.datas[1], 8, 4096) == TEXT
    assert medium(mirror.datas[1], 1024, 4096) == TEXT, "of what it has not missed nothing is read"
    assert not any(mirror.bits())


async def test_a_second_resume_takes_back_what_can_be_read_again(autojump_clock):
    mirror = await synced()
    mirror.datas[1].store.fails = EVERYTHING
    await write(mirror.device, 8, TEXT)
    mirror.datas[1].store.fails = failing()
    await mirror.device.suspend()
    await mirror.device.resume()
    assert health(mirror.device) == "Aa"
    await mirror.settle()
    assert mirror.alike()
    assert superblock(mirror.metas[1]).failed == set()


async def test_a_second_resume_leaves_what_cannot(autojump_clock):
    mirror = await synced()
    mirror.metas[1].store.fails = mirror.datas[1].store.fails = EVERYTHING
    await write(mirror.device, 8, TEXT)
    await mirror.device.suspend()
    await mirror.device.resume()
    assert health(mirror.device) == "AD"


async def test_a_new_disk_is_rebuilt_while_it_is_in_use(autojump_clock):
    mirror = await synced()
    await mirror.device.end()
    mirror.datas[0].store.pwrite(0, memoryview(pattern(SIZE * 512)))
    (mirror.metas[1],), (mirror.datas[1],) = disks(1, SIZE)
    await mirror.start(rebuild=frozenset({1}), max_rate=512)
    assert superblock(mirror.metas[1]).recovery_offset == 0
    await write(mirror.device, 2000, TEXT)
    assert medium(mirror.datas[1], 2000, 4096) == TEXT
    await mirror.settle()
    assert mirror.alike()
    assert superblock(mirror.metas[1]).recovery_offset == DONE


async def test_what_is_not_rebuilt_yet_is_not_read(autojump_clock):
    mirror = await synced()
    await mirror.device.end()
    (mirror.metas[0],), (mirror.datas[0],) = disks(1, SIZE)
    mirror.datas[1].store.pwrite(0, memoryview(TEXT))
    await mirror.start(rebuild=frozenset({0}), max_rate=1)
    assert await read(mirror.device, 0, 4096) == TEXT


async def test_a_rebuild_that_cannot_read_ends_and_is_taken_up_by_a_resume(autojump_clock, caplog):
    mirror = await synced()
    await mirror.device.end()
    mirror.datas[0].store.fails = failing(Op.READ)
    await mirror.start(rebuild=frozenset({1}))
    await mirror.settle()
    assert said(mirror.device)[2:5] == ["Aa", "0/2048", "idle"]
    assert "raid1: recover ends: d0" in caplog.text
    mirror.datas[0].store.fails = failing()
    await mirror.device.suspend()
    await mirror.device.resume()
    await mirror.settle()
    assert health(mirror.device) == "AA"


async def test_a_disk_that_fails_while_it_is_rebuilt_has_failed(autojump_clock):
    mirror = await synced()
    await mirror.device.end()
    mirror.datas[1].store.fails = failing(Op.WRITE)
    await mirror.start(rebuild=frozenset({1}))
    await mirror.settle()
    assert said(mirror.device)[2:5] == ["AD", "2048/2048", "idle"]


async def test_resync_reads_another_member_where_one_cannot_be_read(autojump_clock):
    mirror = Mirror()
    mirror.datas[1].store.pwrite(0, memoryview(TEXT))
    mirror.datas[0].store.fails = failing(Op.READ)
    await mirror.start()
    await mirror.settle()
    mirror.datas[0].store.fails = failing()
    assert medium(mirror.datas[0], 0, 4096) == TEXT


async def test_a_resync_that_was_cut_off_goes_on(autojump_clock):
    mirror = await Mirror().start(max_rate=64)
    mirror.datas[0].store.pwrite(0, memoryview(pattern(SIZE * 512)))
    await trio.sleep(10)
    await mirror.device.suspend()
    offset = superblock(mirror.metas[0]).resync_offset
    assert 0 < offset < SIZE
    assert said(mirror.device)[4] == "frozen"
    await mirror.restart()
    assert said(mirror.device)[3] == f"{offset}/2048"


async def test_nothing_is_held_in_the_end(autojump_clock):
    mirror = await synced()
    await write(mirror.device, 8, TEXT)
    await mirror.device.end()
    assert_nothing_is_held(mirror.device, *mirror.metas, *mirror.datas)


async def test_a_table_that_takes_the_place_of_another_reads_what_that_has_written(autojump_clock):
    mirror = await synced()
    mirror.datas[1].store.fails = EVERYTHING
    target = mirror.target()
    mirror.device.load(
        type(mirror.device.live)([type(mirror.device.live.entries[0])(0, SIZE, target)])
    )
    await write(mirror.device, 8, TEXT)
    mirror.datas[1].store.fails = failing()
    await mirror.device.resume()
    assert health(mirror.device) == "Aa"
    await mirror.settle()
    assert mirror.alike()
