"""raid0: chunks in turn."""

import pytest

from fusedm.block import FLUSH, Bio, Op
from fusedm.block.errors import BlockIOError, StackError
from fusedm.crypto import submit_bio
from tests.helpers.arrays import disks, failing, make_raid, said, started, target_of_device
from tests.helpers.builders import medium, pattern, read, write


async def array(metas=(None, None)):
    _, datas = disks(2, 64)
    return datas, await started(make_raid("raid0", 128, metas, datas, 16))


async def test_chunks_lie_in_members_in_turn():
    datas, device = await array()
    data = bytes(pattern(128 * 512))
    await write(device, 0, data)
    pieces = [data[at : at + 16 * 512] for at in range(0, len(data), 16 * 512)]
    assert medium(datas[0]) == b"".join(pieces[0::2])
    assert medium(datas[1]) == b"".join(pieces[1::2])
    assert await read(device, 5, 60 * 512) == data[5 * 512 : 65 * 512]


async def test_a_flush_reaches_all_members():
    datas, device = await array()
    datas[1].store.fails = failing(Op.FLUSH)
    with pytest.raises(BlockIOError):
        await submit_bio(device, FLUSH)


async def test_a_discard_reaches_the_parts_of_all():
    datas, device = await array()
    await write(device, 0, pattern(128 * 512))
    await submit_bio(device, Bio(Op.DISCARD, 8, 16))
    assert not any(medium(datas[0], 8, 8 * 512) + medium(datas[1], 0, 8 * 512))
    assert any(medium(datas[0], 0, 8 * 512))
    assert any(medium(datas[1], 8, 8 * 512))


async def test_a_discard_within_a_chunk_reaches_one_member():
    datas, device = await array()
    await write(device, 0, pattern(128 * 512))
    await submit_bio(device, Bio(Op.DISCARD, 0, 8))
    assert any(medium(datas[1], 0, 4096))
    assert not any(medium(datas[0], 0, 4096))


async def test_reads_and_writes_are_steady():
    _, device = await array()
    assert target_of_device(device).steady(0).stripes == 2


async def test_a_suspend_has_nothing_to_write():
    metas, _ = disks(2, 64)
    _, device = await array(metas)
    before = medium(metas[0])
    await device.suspend()
    assert medium(metas[0]) == before


async def test_no_bitmap_is_kept():
    metas, _ = disks(2, 64)
    await array(metas)
    assert not any(medium(metas[0], 8))


async def test_its_status_is_that_of_an_array_that_is_done():
    _, device = await array()
    assert said(device) == ["raid0", "2", "AA", "64/64", "idle", "0", "0", "-"]


async def test_it_takes_no_messages():
    _, device = await array()
    with pytest.raises(StackError, match="raid0 takes no messages"):
        await device.message(0, ["check"])


async def test_it_misses_no_device():
    _, datas = disks(2, 64)
    with pytest.raises(StackError, match="1 of 2 devices"):
        await started(make_raid("raid0", 128, [None, None], [datas[0], None], 16))


def test_a_length_that_is_not_whole_chunks_is_refused():
    with pytest.raises(ValueError, match="length 120 is not a multiple of 2 devices \\* 16"):
        make_raid("raid0", 120, [None, None], disks(2, 64)[1], 16)


def test_there_is_nothing_to_make_alike():
    level = make_raid("raid0", 128, [None, None], disks(2, 64)[1], 16).level
    for work in (level.resync, lambda a, b: level.recover(a, b, {0}), level.check):
        with pytest.raises(AssertionError):
            work(0, 8, *([True] if work == level.check else []))
