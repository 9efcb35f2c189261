"""What is done in the background, and messages that ask for it."""

import errno

import pytest
import trio

from fusedm.block import Op
from fusedm.block.errors import StackError
from fusedm.dm.raid.actions import Actions, Pace
from fusedm.dm.raid.superblock import DONE
from tests.helpers.arrays import (
    disks,
    failing,
    health,
    make_raid,
    said,
    started,
    superblock,
    target_of_device,
    until_idle,
)
from tests.helpers.builders import medium, pattern, read, write

SIZE = 2048
TEXT = bytes(pattern(4096, 3))


async def synced(count=2, size=SIZE, **options):
    """A raid1 whose members agree."""
    metas, datas = disks(count, size)
    options = {"region_sectors": 64, "nosync": True, **options}
    device = await started(make_raid("raid1", size, metas, datas, **options))
    return metas, datas, device


async def done(device, message):
    await device.message(0, [message])
    await trio.sleep(60)


async def test_a_check_counts_what_differs_as_md_does(autojump_clock):
    _, datas, device = await synced()
    datas[1].store.pwrite(8 * 512, memoryview(TEXT))
    datas[1].store.pwrite(1000 * 512, memoryview(TEXT))
    await done(device, "check")
    assert said(device) == ["raid1", "2", "AA", "2048/2048", "idle", "256", "0", "-"]
    assert medium(datas[0]) != medium(datas[1])
    assert device.event_number == 1


async def test_a_repair_makes_alike_what_differs(autojump_clock):
    _, datas, device = await synced()
    datas[1].store.pwrite(8 * 512, memoryview(TEXT))
    await done(device, "repair")
    assert said(device)[5] == "0", "only a check shows what it has found"
    assert medium(datas[0]) == medium(datas[1])
    assert not any(medium(datas[0]))


async def test_a_check_writes_anew_what_cannot_be_read(autojump_clock):
    _, datas, device = await synced()
    await write(device, 0, TEXT)
    store = datas[0].store
    store.fails = lambda op, offset, length: op is Op.READ
    await done(device, "check")
    store.fails = failing()
    assert health(device) == "AA"
    assert await read(device, 0, 4096) == TEXT


async def test_a_check_of_what_nobody_can_read_ends(autojump_clock, caplog):
    _, datas, device = await synced()
    for data in datas:
        data.store.fails = failing(Op.READ)
    await done(device, "check")
    assert "check ends: raid1: no copy of sector 0 can be read" in caplog.text
    assert said(device)[4] == "idle"


async def test_what_is_under_way_keeps_others_waiting(autojump_clock):
    _, _, device = await synced(max_rate=64)
    await device.message(0, ["check"])
    assert said(device)[3:5] == ["0/2048", "check"]
    await trio.sleep(1)
    assert said(device)[2:5] == ["AA", "2048/2048", "check"]
    for word in ("check", "repair", "resync", "recover"):
        with pytest.raises(StackError, match="check is under way") as caught:
            await device.message(0, [word])
        assert caught.value.errno == errno.EBUSY


@pytest.mark.parametrize("word", ["idle", "frozen"])
async def test_what_is_under_way_can_be_ended(autojump_clock, word):
    _, datas, device = await synced(size=3 * 4096, max_rate=1024)
    await device.message(0, ["check"])
    await trio.sleep(0.1)
    await device.message(0, [word])
    await trio.sleep(10)
    assert said(device)[4] == word
    assert datas[0].stats.ios[0] == 1


async def test_what_is_frozen_begins_nothing_until_something_is_asked_for(autojump_clock):
    metas, datas, device = await synced()
    await device.message(0, ["frozen"])
    datas[1].store.pwrite(0, memoryview(TEXT))
    target_of_device(device).array.need(0, 8)
    await trio.sleep(60)
    assert said(device)[2:5] == ["aa", "0/2048", "frozen"]
    await done(device, "resync")
    assert said(device)[2:5] == ["AA", "2048/2048", "idle"]
    assert medium(datas[1]) == medium(datas[0])


async def test_a_word_that_is_not_known_is_refused(autojump_clock):
    _, _, device = await synced()
    with pytest.raises(StackError, match="message 'nosuch' is none of resync, recover, check"):
        await device.message(0, ["nosuch"])


async def test_nothing_is_asked_of_a_suspended_array(autojump_clock):
    _, _, device = await synced()
    await device.suspend()
    with pytest.raises(StackError, match="suspended") as caught:
        await device.message(0, ["check"])
    assert caught.value.errno == errno.EBUSY
    assert said(device)[4] == "frozen"


async def test_the_rate_is_kept(autojump_clock):
    _, _, device = await synced(size=8 * 4096, max_rate=1024)
    begin = trio.current_time()
    await device.message(0, ["check"])
    await until_idle(device, 0.1)
    assert trio.current_time() - begin == pytest.approx(16, abs=0.2), "16 MiB at 1 MiB/s"


@pytest.mark.parametrize(("min_rate", "is_slow"), [(0, True), (1, True), (1 << 30, False)])
async def test_while_others_write_they_are_left_time(autojump_clock, min_rate, is_slow):
    metas, datas, _ = await synced(size=8 * 4096)
    clock = iter(range(1000))
    device = await started(
        make_raid(
            *("raid1", 8 * 4096, metas, datas),
            **{"nosync": True, "min_rate": min_rate},
            clock=lambda: float(next(clock)),
        )
    )
    target = target_of_device(device)
    store = datas[0].store
    reading = store.pread_into

    def pread_into(offset, buffer):
        target.array.write_count += 1
        reading(offset, buffer)

    store.pread_into = pread_into
    begin = trio.current_time()
    await device.message(0, ["check"])
    await until_idle(device, 0.001)
    assert (trio.current_time() - begin > 0.2) is is_slow


async def test_a_resync_writes_down_how_far_it_is(autojump_clock):
    metas, datas = disks(2, SIZE * 8)
    options = {"region_sectors": 1024, "max_rate": 512}
    device = await started(make_raid("raid1", SIZE * 8, metas, datas, **options))
    seen = set()
    for _ in range(40):
        seen.add(superblock(metas[0]).resync_offset)
        await trio.sleep(0.4)
    assert len(seen) > 5
    await device.end()


async def test_a_resync_that_is_fast_is_written_down_at_its_end_only(autojump_clock):
    metas, datas = disks(2, 32 * 4096)
    await started(make_raid("raid1", 32 * 4096, metas, datas, region_sectors=1024))
    await trio.sleep(1)
    assert [disk.stats.ios[3] for disk in datas] == [2, 2]
    assert superblock(metas[0]).resync_offset == DONE


async def test_a_suspend_holds_a_check_which_goes_on_after_it(autojump_clock):
    _, _, device = await synced(size=8 * 4096, max_rate=1024)
    await device.message(0, ["check"])
    await trio.sleep(3)
    await device.suspend()
    before = target_of_device(device).actions.completed
    await trio.sleep(60)
    assert target_of_device(device).actions.completed == before
    await device.resume()
    assert said(device)[4] == "check"
    await trio.sleep(60)
    assert said(device)[4] == "idle"


async def test_an_array_ends_in_the_middle_of_an_action(autojump_clock):
    _, _, device = await synced(size=8 * 4096, max_rate=64)
    await device.message(0, ["check"])
    await trio.sleep(1)
    await device.end()


async def test_windows_are_done_several_at_a_time_each_with_its_own_lock(autojump_clock):
    _, _, device = await synced(size=6 * 4096)
    array = target_of_device(device).array
    actions = Actions(array, trio.current_time)
    actions.ask("check")
    step = actions.run().send(None)
    borders = [(array.locks, at * 4096, (at + 1) * 4096) for at in range(4)]
    assert [script.locks for script in step.actions] == [(each,) for each in borders]
    wide = await synced(size=4096, count=9)
    assert Pace(target_of_device(wide[2]).actions).at_once == 3, "64 MiB of members at most"


async def test_a_window_that_fails_keeps_what_was_done_before_it(autojump_clock, caplog):
    metas, datas, device = await synced(size=6 * 4096)
    await write(device, 0, pattern(6 * 4096 * 512))
    await device.end()
    (metas[1],), (datas[1],) = disks(1, 6 * 4096)
    datas[0].store.fails = lambda op, at, _: op is Op.READ and at == 2 * 4096 * 512
    options = {"region_sectors": 64, "rebuild": frozenset({1})}
    device = await started(make_raid("raid1", 6 * 4096, metas, datas, **options))
    await trio.sleep(60)
    assert "recover ends: d0" in caplog.text
    assert superblock(metas[1]).recovery_offset == 2 * 4096
    datas[0].store.fails = failing()
    await done(device, "recover")
    assert medium(datas[0]) == medium(datas[1])


@pytest.mark.parametrize("end", ["failure", "suspend"])
async def test_nothing_is_called_rebuilt_that_is_not_durable(autojump_clock, end):
    metas, datas, device = await synced(count=3, size=8 * 4096, max_rate=1024)
    await device.end()
    (metas[2],), (datas[2],) = disks(1, 8 * 4096)
    written = durable = 0

    def on_write(offset, data):
        nonlocal written
        written = max(written, offset + len(data))

    def flush():
        nonlocal durable
        durable = written

    datas[2].store.on_write, datas[2].store.flush = on_write, flush
    options = {"region_sectors": 64, "rebuild": frozenset({2}), "max_rate": 1024}
    device = await started(make_raid("raid1", 8 * 4096, metas, datas, **options))
    for _ in range(12):
        await trio.sleep(1.1)
        assert superblock(metas[2]).recovery_offset * 512 <= durable
        if end == "suspend":
            await device.suspend()
            assert superblock(metas[2]).recovery_offset * 512 == durable == written
            await device.resume()
        else:
            target_of_device(device).array.members[1].is_failed = False
            datas[1].store.fails = failing(Op.WRITE)
            await write(device, 0, TEXT)
            datas[1].store.fails = failing()
            assert superblock(metas[2]).recovery_offset * 512 <= durable
    assert durable
