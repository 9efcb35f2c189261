"""Pools in corners: metadata without room, bios that are cancelled, tables that come back."""

import errno

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fusedm.block import FLUSH, FUA, Bio, Op
from fusedm.block.errors import FusedmError, StackError
from fusedm.crypto import start_using_key, submit_bio
from fusedm.dm import MappedDevice, Wait, parse_table
from fusedm.dm.thin.pool_target import live_pool
from fusedm.stores import FailOp, FaultyStore
from tests.helpers.builders import make_disk, make_key, pattern, read, write
from tests.helpers.devices import RecordingDevice, lookup_in
from tests.helpers.thin_stack import BLOCK, BLOCK_BYTES, Stack, refused, thin_status

NEW = bytes(pattern(4 * BLOCK_BYTES, 7))


def no_room(*_) -> None:
    raise StackError("no metadata block is free", errno.ENOSPC)


@pytest.mark.parametrize("name", ["insert", "allocate", "remove"])
async def test_a_change_that_metadata_have_no_room_for_makes_the_pool_read_only(name, monkeypatch):
    stack = await Stack().make()
    thin = await stack.thin(0)
    await write(thin, 0, NEW[:BLOCK_BYTES])
    await submit_bio(thin, FLUSH)
    monkeypatch.setattr(stack.inside.metadata, name, no_room)
    bio = Bio(Op.DISCARD, 0, BLOCK)
    if name != "remove":
        bio = Bio.write(BLOCK, memoryview(NEW[:512]))
    await refused(errno.EIO, submit_bio(thin, bio))
    assert stack.mode == "ro"
    assert "needs_check" in stack.status
    assert await read(thin, 0, BLOCK_BYTES) == NEW[:BLOCK_BYTES]
    await stack.end()


async def test_a_change_that_is_refused_for_another_reason_is_that_error(monkeypatch):
    stack = await Stack().make()
    thin = await stack.thin(0)

    def wrong(*_) -> None:
        raise StackError("no such device", errno.ENODATA)

    monkeypatch.setattr(stack.inside.metadata, "insert", wrong)
    with pytest.raises(StackError, match="no such device"):
        await write(thin, 0, NEW[:512])
    assert stack.mode == "rw"
    await stack.end()


async def test_the_metadata_device_grows_with_a_resume():
    stack = Stack()
    stack.devices["disk"] = make_disk("disk", 8 * 256)
    stack.devices["meta"] = meta = MappedDevice("meta")
    await stack.load(meta, f"0 {8 * 128} linear disk 0")
    await stack.make()
    number = 0
    while stack.mode == "rw":
        number += 1
        await stack.say(f"create_thin {number}")
    await stack.load(meta, f"0 {8 * 256} linear disk 0")
    await stack.pool.suspend()
    await stack.pool.resume()
    assert stack.mode == "rw"
    assert stack.status.split()[1].endswith("/256")
    await stack.end()


async def test_a_read_only_pool_does_not_grow():
    stack = await Stack(blocks=8, data=make_disk("data", 16 * BLOCK)).make()
    stack.blocks, stack.features = 16, "read_only"
    await stack.load(stack.pool, stack.line)
    assert stack.status.split()[2] == "0/8"
    await stack.end()


async def test_a_pool_that_asks_for_a_check_does_not_grow():
    stack = await Stack(blocks=8, data=make_disk("data", 16 * BLOCK)).make()
    thin = await stack.thin(0)
    await write(thin, 0, NEW)
    inner, stack.data.store = (
        stack.data.store,
        FaultyStore(stack.data.store, 0, [FailOp(op=Op.FLUSH)]),
    )
    await refused(errno.EIO, submit_bio(thin, FLUSH))
    stack.data.store = inner
    stack.blocks = 16
    await stack.load(stack.pool, stack.line)
    assert stack.status.split()[2] == "0/8"
    assert stack.mode == "ro"
    await stack.end()


async def test_a_shorter_metadata_device_is_refused_and_the_pool_goes_on():
    stack = Stack()
    stack.devices["disk"] = make_disk("disk", 8 * 256)
    stack.devices["meta"] = meta = MappedDevice("meta")
    await stack.load(meta, f"0 {8 * 256} linear disk 0")
    await stack.make()
    thin = await stack.thin(0)
    await stack.load(meta, f"0 {8 * 128} linear disk 0")
    await refused(errno.EINVAL, stack.load(stack.pool, stack.line))
    await stack.load(meta, f"0 {8 * 256} linear disk 0")
    await stack.pool.resume()
    await write(thin, 0, NEW)
    await stack.end()


async def test_a_write_that_is_cancelled_gives_back_the_block_it_was_given():
    stack = await Stack().make()
    thin = await stack.thin(0)
    hold = stack.data.range_locks.take(((0, 16 * BLOCK),))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write, thin, 0, NEW)
        await wait_all_tasks_blocked()
        assert stack.used == 4
        nursery.cancel_scope.cancel()
    stack.data.range_locks.release(hold)
    await stack.say("set_transaction_id 0 0")
    assert stack.used == 0
    assert thin_status(thin) == "0 -"
    await stack.end()


async def test_writes_that_are_cancelled_while_they_wait_for_a_block_get_none():
    stack = await Stack().make()
    thin = await stack.thin(0)
    pool = stack.inside
    hold = pool.lock[0][0].take(((0, 1),))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write, thin, 0, NEW)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    pool.lock[0][0].release(hold)
    await write(thin, 4 * BLOCK, NEW[:512])
    assert stack.used == 1
    await stack.end()


async def test_fua_of_a_write_that_fails_commits_nothing():
    stack = await Stack().make()
    thin = await stack.thin(0)
    await write(thin, 0, NEW)
    stack.data.store = FaultyStore(stack.data.store, 0, [FailOp(op=Op.WRITE)])
    await refused(errno.EIO, submit_bio(thin, Bio.write(0, memoryview(NEW[:512]), flags=FUA)))
    assert stack.inside.metadata.has_changes
    await stack.end()


async def test_a_flush_that_finds_its_changes_committed_flushes_the_data_all_the_same():
    stack = await Stack().make()
    thin = await stack.thin(0)
    await write(thin, 0, NEW)
    flushes = stack.data.stats.ios[3]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(submit_bio, thin, FLUSH)
        nursery.start_soon(submit_bio, thin, FLUSH)
    assert stack.data.stats.ios[3] == flushes + 2
    await stack.end()


async def test_in_strict_mode_a_discard_leaves_what_it_covers_of_other_blocks():
    stack = await Stack(strict=True).make()
    thin = await stack.thin(0)
    await write(thin, 0, NEW)
    await submit_bio(thin, Bio(Op.DISCARD, 100, 2 * BLOCK))
    want = NEW[:BLOCK_BYTES] + bytes(BLOCK_BYTES) + NEW[2 * BLOCK_BYTES :]
    assert await read(thin, 0, len(NEW)) == want
    await stack.end()


async def test_what_an_external_origin_has_cannot_be_discarded():
    stack = Stack()
    stack.devices["base"] = make_disk("base", 4 * BLOCK)
    thin = await (await stack.make()).thin(0, 4 * BLOCK, "base")
    await refused(errno.EOPNOTSUPP, submit_bio(thin, Bio(Op.DISCARD, 0, BLOCK)))
    await stack.end()


async def test_a_data_unit_that_the_end_of_an_origin_cuts_cannot_be_read():
    stack = Stack()
    stack.devices["base"] = make_disk("base", BLOCK - 4)
    thin = await (await stack.make()).thin(0, 4 * BLOCK, "base")
    key = make_key(unit=4096)
    start_using_key(thin, key)
    await refused(errno.EINVAL, read(thin, BLOCK - 8, 4096, key))
    await stack.end()


async def test_a_snapshot_of_a_device_that_nobody_uses_can_be_taken():
    stack = await Stack().make()
    thin = await stack.thin(0)
    await write(thin, 0, NEW)
    await thin.end()
    await stack.say("create_snap 1 0")
    snap = await stack.thin(1, new=False)
    assert await read(snap, 0, len(NEW)) == NEW
    await stack.end()


async def test_changes_of_a_device_that_is_closed_are_committed_and_forgotten():
    stack = await Stack().make()
    thin = await stack.thin(0)
    await write(thin, 0, NEW)
    await thin.end()
    again = await stack.thin(0, new=False)
    await submit_bio(again, FLUSH)
    assert not stack.inside.metadata.has_changes
    await again.end()
    await stack.say("delete 0")
    await stack.end()


async def test_blocks_larger_than_what_is_copied_in_one_go():
    size = 4096
    stack = Stack(data=make_disk("data", 4 * size))
    await stack.load(stack.pool, f"0 {4 * size} thin-pool meta data {size} 0")
    thin = await stack.thin(0, 2 * size)
    data = bytes(pattern(size * 512, 3))
    await write(thin, 0, data)
    await stack.say("create_snap 1 0")
    await write(thin, 3000, NEW[:512])
    want = data[: 3000 * 512] + NEW[:512] + data[3001 * 512 :]
    assert await read(thin, 0, size * 512) == want
    snap = await stack.thin(1, 2 * size, new=False)
    assert await read(snap, 0, size * 512) == data
    await stack.end()


async def test_a_pool_is_looked_for_in_live_tables_only():
    stack = Stack()
    await stack.only_load(stack.pool, stack.line)
    assert live_pool(stack.pool) is None
    assert live_pool(stack.meta) is None
    await stack.pool.resume()
    assert live_pool(stack.pool) is not None
    await stack.end()


async def test_events_that_come_before_a_table_is_live_are_nobodys():
    """The metadata are nearly full when they are opened, and made so by a commit."""
    stack = Stack(low_water=100)
    await stack.only_load(stack.pool, stack.line)
    pool = next(iter(stack.pool.inactive.entries)).target.pool
    pool.raise_event()
    assert stack.pool.event_number == 0
    await stack.pool.resume()
    await stack.end()


@pytest.mark.parametrize("words", ["a 16777216", "a x", "a 0 a"])
def test_wrong_arguments_of_thin_are_refused(words):
    device = RecordingDevice("a", 4096)
    with pytest.raises(FusedmError, match="^table line 1: thin: "):
        parse_table(f"0 64 thin {words}", lookup_in(device), lambda: 0.0)


async def test_a_pool_that_has_failed_goes_on_being_resumed_whatever_its_size():
    stack = await Stack().make()
    thin = await stack.thin(0)
    await write(thin, 0, NEW)
    mapped = thin.span(0)
    stack.meta.store = FaultyStore(stack.meta.store, 0, [FailOp(op=Op.WRITE)])
    await refused(errno.EIO, submit_bio(thin, FLUSH))
    assert stack.status == "Fail"
    assert not mapped.is_current()
    assert not thin.span(0).ops
    stack.meta.store = stack.meta.store.inner
    await stack.load(stack.pool, f"0 1024 thin-pool meta data {BLOCK} 0")
    assert stack.status == "Fail"
    await stack.end()


async def test_a_table_that_is_loaded_before_it_is_opened_can_be_dropped():
    stack = Stack()
    table = parse_table(stack.line, lookup_in(stack.meta, stack.data), lambda: 0.0)
    stack.pool.load(table)
    stack.pool.clear()
    stack.pool.load(parse_table(stack.line, lookup_in(stack.meta, stack.data), lambda: 0.0))
    await stack.pool.resume()
    assert stack.mode == "rw"
    await stack.end()


async def test_other_devices_may_lie_over_those_of_a_pool():
    stack = Stack()
    stack.devices["over"] = over = MappedDevice("over")
    await stack.load(over, "0 64 linear meta 0\n64 64 linear data 0")
    await stack.make()
    await stack.load(stack.pool, stack.line)
    second = MappedDevice("second")
    stack.devices["meta2"] = make_disk("meta2", 2048)
    stack.devices["data2"] = make_disk("data2", 2048)
    await stack.load(second, "0 2048 thin-pool meta2 data2 128 0")
    await stack.load(over, "0 64 linear meta2 0\n64 64 linear meta 0")
    await stack.load(second, "0 2048 thin-pool meta2 data2 128 0")
    await second.end()
    await stack.end()


async def test_a_snapshot_of_a_device_that_was_forgotten_can_be_taken():
    stack = await Stack().make()
    thin = await stack.thin(0)
    await thin.end()
    await stack.say("create_snap 1 0")
    assert stack.inside.metadata.has_device(1)
    await stack.end()


async def test_a_block_that_comes_for_a_write_that_was_cancelled_is_given_back():
    stack = await Stack().make()
    pool = stack.inside
    taken = pool.requests
    first, second = taken.ask(0, 0), taken.ask(0, 1)
    for each in (first, second):
        assert next(each) == next(each) == Wait(seconds=0)
    # The first gives out for both; the second is cancelled before it looks.
    (script,) = (next(first),)
    assert list(script.steps()) == []
    second.close()
    with pytest.raises(StopIteration) as end:
        first.send(None)
    assert end.value.value == 0
    pool.give_back(0, 1)
    await stack.say("set_transaction_id 0 0")
    assert stack.used == 0
    await stack.end()


async def test_a_block_is_given_back_if_its_write_is_cancelled_while_it_is_allocated(monkeypatch):
    stack = await Stack().make()
    pool = stack.inside
    asked = pool.requests.ask(0, 0)
    next(asked), next(asked)
    script = next(asked)

    def allocate():
        yield Wait(seconds=1)
        return pool.metadata.allocate()

    monkeypatch.setattr(pool, "allocate", allocate)
    giving = script.steps()
    assert next(giving) == Wait(seconds=1)
    asked.close()
    assert list(giving) == []
    await stack.say("set_transaction_id 0 0")
    assert stack.used == 0
    await stack.end()
