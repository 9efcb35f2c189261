"""Snapshots under writes of many chunks: copied in one go, under one commit."""

from random import Random

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fusedm.block import FLUSH, FUA, Bio, Op
from fusedm.block.errors import BlockIOError
from fusedm.crypto import submit_bio
from fusedm.dm import MappedDevice, parse_table
from fusedm.stores import FailOp, FaultyStore, FileStore, MemoryStore, VolatileCacheStore
from tests.helpers.builders import make_disk, medium, pattern, read, write
from tests.helpers.devices import lookup_in
from tests.helpers.snapshot_stack import NEW, OLD, SECTORS, SlowStore, Stack


@pytest.mark.parametrize("name", ["origin", "snap"])
@pytest.mark.parametrize("seed", range(20))
async def test_a_power_cut_in_large_writes_leaves_each_chunk_as_it_was_or_is(name, seed):
    """A chunk of one sector tells of 32 chunks, so each write fills an area or two."""
    random = Random(seed)
    store = VolatileCacheStore(MemoryStore(400 * 512), seed=seed)
    stack = await Stack(chunk=1, cow=make_disk("cow", 400, store=store)).make()
    want, begin = bytearray(OLD), 0
    while begin < SECTORS - 60:
        count = random.randrange(20, 60)
        await write(getattr(stack, name), begin, NEW[: count * 512])
        if name == "snap":
            await submit_bio(stack.snap, FLUSH)
            want[begin * 512 : (begin + count) * 512] = NEW[: count * 512]
        begin += count - random.randrange(10)
    store.lose_power("random")
    await stack.close()
    again = await Stack(chunk=1, cow=stack.cow, origin=stack.base).open()
    assert await read(again.snap, 0, SECTORS * 512) == want


@pytest.mark.parametrize(("name", "reads"), [("origin", 1), ("snap", 0)])
async def test_what_one_write_needs_is_copied_and_made_durable_in_one_go(name, reads):
    stack = await Stack().make()
    before = [*stack.cow.stats.ios], stack.base.stats.ios[0]
    await write(getattr(stack, name), 0, NEW[: 64 * 512])
    done = [now - then for now, then in zip(stack.cow.stats.ios, before[0], strict=True)]
    assert done == [0, 2, 0, 1], "data, a flush, and metadata that are durable once written"
    assert stack.base.stats.ios[0] - before[1] == reads


@pytest.mark.parametrize(("name", "reads"), [("origin", 16), ("snap", 0)])
async def test_what_several_writes_copy_at_once_is_told_of_in_one_go(name, reads):
    stack = await Stack(cow=make_disk("cow", 400, store=SlowStore(400 * 512))).make()
    before = [*stack.cow.stats.ios], stack.base.stats.ios[0]
    async with trio.open_nursery() as nursery:
        for chunk in range(16):
            nursery.start_soon(write, getattr(stack, name), chunk * 8, NEW[: 8 * 512])
    done = [now - then for now, then in zip(stack.cow.stats.ios, before[0], strict=True)]
    assert done == [0, 16 + 1, 0, 1]
    assert stack.base.stats.ios[0] - before[1] == reads
    assert stack.status == "144/400 16"


@pytest.mark.parametrize("name", ["origin", "snap"])
@pytest.mark.parametrize("op", [Op.READ, Op.WRITE, Op.FLUSH])
async def test_writes_that_copy_at_once_end_together_when_one_of_them_fails(name, op):
    """The second copy fails, or what tells of all: the snapshot is lost to every one of them."""
    stack = await Stack(cow=make_disk("cow", 400, store=SlowStore(400 * 512))).make()
    disk = stack.base if op is Op.READ else stack.cow
    disk.store = FaultyStore(disk.store, 0, [FailOp(op=op, nth=1 if op is Op.FLUSH else 2)])
    outcomes = []

    async def change(sector: int) -> None:
        try:
            await write(getattr(stack, name), sector, NEW[:512])
            outcomes.append("written")
        except BlockIOError:
            outcomes.append("failed")

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for chunk in range(4):
                nursery.start_soon(change, chunk * 8)
    assert outcomes == ["written" if name == "origin" else "failed"] * 4
    assert (stack.status, stack.snap.event_number) == ("Invalid", 1)


async def test_a_write_that_is_given_up_while_it_copies_keeps_no_other_waiting():
    disk, held = make_disk("disk", SECTORS), MappedDevice("base")
    held.load(parse_table("0 128 linear disk 0", lookup_in(disk), lambda: 0.0))
    await held.resume()
    stack = await Stack(origin=held).make()
    await held.suspend()
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()

            async def given_up() -> None:
                with scope:
                    await write(stack.snap, 1, NEW[:512])

            nursery.start_soon(given_up)
            await wait_all_tasks_blocked()
            nursery.start_soon(write, stack.snap, 8, NEW[: 8 * 512])
            await wait_all_tasks_blocked()
            assert stack.status == "32/400 16"
            assert not stack.snap.live.entries[0].target.copy.store.chunks
            scope.cancel()
    assert list(stack.snap.live.entries[0].target.copy.store.chunks) == [1]


async def test_a_snapshot_that_several_writes_find_full_says_so_once():
    store = SlowStore(32 * 512)
    stack = await Stack("PO", cow=make_disk("cow", 32, store=store)).make()

    async def refused(sector: int) -> None:
        with pytest.raises(BlockIOError):
            await write(stack.snap, sector, NEW[: 24 * 512])

    async with trio.open_nursery() as nursery:
        for sector in (0, 40, 80):
            nursery.start_soon(refused, sector)
    assert (stack.status, stack.snap.event_number) == ("Overflow", 1)


async def test_a_write_with_fua_to_a_snapshot_that_is_not_kept_is_durable():
    store = VolatileCacheStore(MemoryStore(400 * 512), seed=1)
    stack = await Stack("N", cow=make_disk("cow", 400, store=store)).make()
    for sector in (0, 4):
        data = memoryview(NEW[sector * 512 : (sector + 4) * 512])
        await submit_bio(stack.snap, Bio.write(sector, data, flags=FUA))
    store.lose_power("nothing")
    assert await read(stack.snap, 0, 8 * 512) == NEW[: 8 * 512]


async def test_a_write_across_what_has_been_copied_and_what_has_not():
    stack = await Stack().make()
    await write(stack.snap, 8, NEW[: 8 * 512])
    await write(stack.snap, 24, NEW[: 8 * 512])
    await write(stack.snap, 4, NEW[: 40 * 512])
    want = OLD[: 4 * 512] + NEW[: 40 * 512] + OLD[44 * 512 :]
    assert await read(stack.snap, 0, SECTORS * 512) == want
    assert medium(stack.base, 0, SECTORS * 512) == OLD


@pytest.mark.parametrize(("kind", "status"), [("P", "Invalid"), ("PO", "Overflow")])
async def test_a_large_write_that_does_not_fit_takes_the_room_there_is(kind, status):
    stack = await Stack(kind, cow_sectors=40).make()
    with pytest.raises(BlockIOError, match="has no room for it"):
        await write(stack.snap, 0, NEW[: 64 * 512])
    assert stack.status == status
    if kind == "PO":
        want = NEW[: 24 * 512] + OLD[24 * 512 :]
        assert await read(stack.snap, 0, SECTORS * 512) == want


async def test_one_large_write_passes_from_one_area_to_the_next(tmp_path):
    """A chunk of 8 sectors tells of 256 chunks."""
    sectors, data = 4096, bytes(pattern(3000 * 512, 3))
    base = make_disk("base", sectors)
    cow = make_disk("cow", 8192, store=FileStore.open(tmp_path / "cow", 8192 * 512, create=True))
    snap = MappedDevice("snap")
    line = f"0 {sectors} snapshot base cow P 8"
    snap.load(parse_table(line, lookup_in(base, cow), lambda: 0.0))
    await snap.resume()
    await write(snap, 4, data)
    assert await read(snap, 4, len(data)) == data
    await snap.end()
    cow.store.close()
