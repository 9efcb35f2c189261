"""Room in pools: who waits for it, who does not, and when changes become durable."""

import errno

import trio
from trio.testing import wait_all_tasks_blocked

from fusedm.block import FLUSH, Bio, Op
from fusedm.crypto import submit_bio
from fusedm.dm import MappedDevice
from tests.helpers.builders import make_disk, pattern, read, write
from tests.helpers.thin_stack import BLOCK, BLOCK_BYTES, Stack, refused

DATA = bytes(pattern(8 * BLOCK_BYTES, 5))


# Room.


async def test_writes_wait_until_there_is_room(autojump_clock):
    stack = await Stack(blocks=2).make()
    thin = await stack.thin(0)
    await write(thin, 0, DATA[: 2 * BLOCK_BYTES])
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write, thin, 2 * BLOCK, DATA[2 * BLOCK_BYTES : 3 * BLOCK_BYTES])
        await trio.sleep(5)
        assert stack.mode == "out_of_data_space"
        await write(thin, 0, DATA[:512])
        await submit_bio(thin, Bio(Op.DISCARD, BLOCK, BLOCK))
    assert stack.mode == "rw"
    assert await read(thin, 2 * BLOCK, BLOCK_BYTES) == DATA[2 * BLOCK_BYTES : 3 * BLOCK_BYTES]
    assert trio.current_time() - began < 30
    await stack.end()


async def test_a_larger_pool_lets_those_go_on_that_wait_for_room(autojump_clock):
    stack = await Stack(blocks=2, data=make_disk("data", 4 * BLOCK)).make()
    thin = await stack.thin(0)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write, thin, 0, DATA[: 4 * BLOCK_BYTES])
        await trio.sleep(5)
        stack.blocks = 4
        await stack.load(stack.pool, stack.line)
    assert await read(thin, 0, 4 * BLOCK_BYTES) == DATA[: 4 * BLOCK_BYTES]
    assert trio.current_time() - began < 30
    await stack.end()


async def test_after_a_minute_without_room_writes_fail(autojump_clock):
    stack = await Stack(blocks=1).make()
    thin = await stack.thin(0)
    await write(thin, 0, DATA[:BLOCK_BYTES])
    began, events = trio.current_time(), stack.pool.event_number
    await refused(errno.ENOSPC, write(thin, BLOCK, DATA[:512]))
    assert 60 <= trio.current_time() - began < 62
    await refused(errno.ENOSPC, write(thin, BLOCK, DATA[:512]))
    assert 60 <= trio.current_time() - began < 62
    assert "error_if_no_space" in stack.status
    # Few blocks, none, and no longer waiting for one.
    assert stack.pool.event_number == events + 3
    await stack.end()


async def test_with_error_if_no_space_they_fail_at_once():
    stack = await Stack("error_if_no_space", blocks=1).make()
    thin = await stack.thin(0)
    await refused(errno.ENOSPC, write(thin, 0, DATA[: 2 * BLOCK_BYTES]))
    assert await read(thin, 0, BLOCK_BYTES) == DATA[:BLOCK_BYTES]
    await write(thin, 0, DATA[:512])
    await stack.end()


async def test_few_free_blocks_are_an_event_until_the_pool_is_resumed():
    stack = await Stack(low_water=14).make()
    thin = await stack.thin(0)
    numbers = []
    for number in range(4):
        await write(thin, number * BLOCK, DATA[:512])
        numbers.append(stack.pool.event_number)
    assert numbers == [0, 0, 1, 1]
    await stack.pool.suspend()
    await stack.pool.resume()
    await write(thin, 4 * BLOCK, DATA[:512])
    assert stack.pool.event_number == 2
    await stack.end()


async def test_what_is_freed_is_not_given_out_while_a_bio_is_on_its_way_to_it(autojump_clock):
    stack = await Stack(blocks=2).make()
    thin = await stack.thin(0)
    await write(thin, 0, DATA[: 2 * BLOCK_BYTES])
    pool = stack.inside
    began = stack.pool.stats.begin(Op.READ)
    await submit_bio(thin, Bio(Op.DISCARD, 0, BLOCK))
    await submit_bio(thin, FLUSH)
    await trio.sleep(3)
    assert pool.metadata.free_data_blocks == 1
    assert not pool.metadata.can_allocate
    stack.pool.stats.end(Op.READ, 8, began)
    await trio.sleep(3)
    assert pool.metadata.can_allocate
    await stack.end()


async def test_a_data_device_can_be_suspended_under_writes_that_allocate(autojump_clock):
    """Bios in flight on it wait for who commits, and that comes to it while it is closed."""
    stack = Stack(blocks=60)
    stack.devices["disk"] = make_disk("disk", 60 * BLOCK)
    stack.devices["data"] = data = MappedDevice("data")
    await stack.load(data, f"0 {60 * BLOCK} linear disk 0")
    thin = await (await stack.make()).thin(0, 50 * BLOCK)
    await write(thin, 0, DATA)
    # The commit comes to the data device when that is closed, and a write needs the next block.
    disk = stack.devices["disk"]
    hold = disk.range_locks.take(((0, 8),))
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write, thin, 0, DATA + DATA)
            await wait_all_tasks_blocked()
            nursery.start_soon(data.suspend)
            await wait_all_tasks_blocked()
            nursery.start_soon(submit_bio, thin, FLUSH)
            nursery.start_soon(write, thin, 4 * BLOCK, DATA + DATA)
            await wait_all_tasks_blocked()
            disk.range_locks.release(hold)
            await wait_all_tasks_blocked()
            assert data.suspended
            await trio.sleep(5)
            await data.resume()
    assert await read(thin, 0, 4 * BLOCK_BYTES) == DATA[: 4 * BLOCK_BYTES]
    await stack.end()


# Commits.


async def test_changes_are_committed_after_a_second(autojump_clock):
    stack = await Stack().make()
    thin = await stack.thin(0)
    await write(thin, 0, DATA)
    assert stack.inside.metadata.has_changes
    await trio.sleep(1.5)
    assert not stack.inside.metadata.has_changes
    await stack.end()


async def test_a_flush_commits_changes_and_flushes_data_before():
    stack = await Stack().make()
    thin = await stack.thin(0)
    await write(thin, 0, DATA)
    flushes = stack.data.stats.ios[3]
    await submit_bio(thin, FLUSH)
    assert not stack.inside.metadata.has_changes
    assert stack.data.stats.ios[3] == flushes + 1
    writes = stack.meta.stats.ios[1]
    await submit_bio(thin, FLUSH)
    assert (stack.data.stats.ios[3], stack.meta.stats.ios[1]) == (flushes + 2, writes)
    await stack.end()


async def test_a_suspend_commits():
    stack = await Stack().make()
    thin = await stack.thin(0)
    await write(thin, 0, DATA)
    await stack.pool.suspend()
    assert not stack.inside.metadata.has_changes
    await stack.pool.resume()
    await stack.end()


async def test_nothing_is_changed_while_the_pool_is_suspended(autojump_clock):
    stack = await Stack().make()
    thin = await stack.thin(0)
    await write(thin, 0, DATA)
    await stack.pool.suspend()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(submit_bio, thin, Bio(Op.DISCARD, 0, BLOCK))
        nursery.start_soon(submit_bio, thin, FLUSH)
        nursery.start_soon(write, thin, 0, DATA)
        await trio.sleep(5)
        assert not stack.inside.metadata.has_changes
        await stack.pool.resume()
    await stack.end()


async def test_bios_of_a_suspended_pool_keep_no_plan_of_others_waiting(autojump_clock):
    """One has a block that is mapped and one that is not; the pool is suspended in between."""
    stack = await Stack().make()
    thin = await stack.thin(0)
    await write(thin, 0, DATA[: 2 * BLOCK_BYTES])
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                for sector in (0, 3 * BLOCK, 2 * BLOCK, BLOCK):
                    nursery.start_soon(write, thin, sector + 4, DATA[: 3 * BLOCK_BYTES])
                await trio.lowlevel.checkpoint()
                await stack.pool.suspend()
                await wait_all_tasks_blocked()
                await stack.pool.resume()
    await stack.end()
