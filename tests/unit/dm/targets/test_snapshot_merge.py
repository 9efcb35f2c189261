"""What is special to snapshot-merge; the rest is in test_every_target.py."""

from random import Random

import pytest
import trio
import trio.lowlevel
from trio.testing import wait_all_tasks_blocked

from fusedm.block import FLUSH, Bio, Op
from fusedm.block.errors import BlockIOError, StackError
from fusedm.crypto import submit_bio
from fusedm.dm import MappedDevice, format_status, format_table
from fusedm.stores import FailOp, FaultyStore
from tests.helpers.builders import make_disk, medium, read, write
from tests.helpers.snapshot_stack import NEW, OLD, SECTORS, SlowStore, Stack


class Merging(Stack):
    """A stack whose origin is turned into its snapshot, as lvconvert --merge does."""

    async def begin(self) -> None:
        await self.origin.suspend()
        await self.snap.suspend()
        self.origin.load(self.table(f"snapshot-merge {self.words}"))
        await self.origin.resume()

    async def finish(self) -> None:
        await wait_all_tasks_blocked()

    @property
    def merge_status(self) -> str:
        return format_status(self.origin.live).split(" snapshot-merge ")[1]


async def written(**options) -> tuple[Merging, bytes]:
    """A stack with some of its chunks changed through the snapshot, and what that reads as."""
    stack = Merging(**options)
    await stack.make()
    for sector, count in ((40, 16), (0, 12), (100, 5)):
        await write(stack.snap, sector, NEW[sector * 512 : (sector + count) * 512])
    return stack, await read(stack.snap, 0, SECTORS * 512)


async def test_the_origin_becomes_what_the_snapshot_was():
    stack, want = await written()
    await write(stack.origin, 60, NEW[: 8 * 512])
    await stack.begin()
    await stack.finish()
    assert medium(stack.base, 0, SECTORS * 512) == want
    assert await read(stack.origin, 0, SECTORS * 512) == want
    assert stack.merge_status == "16/400 16"
    assert format_table(stack.origin.live) == "0 128 snapshot-merge base cow P 8"


async def test_what_was_changed_in_the_origin_since_is_undone():
    stack = Merging()
    await stack.make()
    await write(stack.origin, 3, NEW[: 50 * 512])
    await stack.begin()
    await stack.finish()
    assert medium(stack.base, 0, SECTORS * 512) == OLD


async def test_the_snapshot_is_read_from_the_first_moment_on():
    stack, want = await written(cow=make_disk("cow", 400, store=SlowStore(400 * 512)))
    await stack.begin()
    assert await read(stack.origin, 0, SECTORS * 512) == want
    assert stack.merge_status != "16/400 16"


async def test_the_last_chunks_are_merged_first_run_by_run():
    stack, _ = await written()
    target = await held_at_run(stack, 1)
    assert medium(stack.base, 100, 5 * 512) == NEW[100 * 512 : 105 * 512]
    assert medium(stack.base, 0, 100 * 512) == OLD[: 100 * 512]
    assert list(target.copy.store.chunks) == [5, 6, 0, 1]
    assert stack.merge_status == "48/400 16"


async def held_at_run(stack: Merging, runs: int):
    """Have the first run merged, or none, and then fail; returns the target."""
    end = 96 * 512 if runs else SECTORS * 512
    stack.base.store = FaultyStore(stack.base.store, 0, [FailOp(op=Op.WRITE, end=end)])
    await stack.begin()
    await stack.finish()
    assert stack.merge_status == "Merge failed"
    (entry,) = stack.origin.live.entries
    entry.target.has_failed = False
    stack.base.store = stack.base.store.inner
    return entry.target


async def test_a_merge_that_is_suspended_goes_on_when_it_is_resumed():
    stack, want = await written(cow=make_disk("cow", 400, store=SlowStore(400 * 512)))
    await stack.begin()
    await stack.origin.suspend()
    before = stack.merge_status
    await wait_all_tasks_blocked()
    assert stack.merge_status == before
    await stack.origin.resume()
    await merged(stack)
    assert medium(stack.base, 0, SECTORS * 512) == want


async def merged(stack: Merging) -> None:
    with trio.fail_after(20):
        while stack.origin.live.entries[0].target.copy.store.chunks:
            await stack.origin.wait_event(stack.origin.event_number)


@pytest.mark.parametrize("seed", range(8))
async def test_bios_meanwhile_see_one_device_and_other_snapshots_another(seed):
    random = Random(seed)
    cow = make_disk("cow", 1200, store=SlowStore(1200 * 512))
    stack = Merging(chunk=random.choice([1, 4, 8]), cow=cow)
    await stack.make()
    other = Stack(
        random.choice("PN"), random.choice([2, 8, 16]), origin=stack.base, cow=make_disk("c2", 800)
    )
    other.words = other.words.replace("cow", "c2")
    for _ in range(12):
        begin = random.randrange(SECTORS - 8)
        await write(stack.snap, begin, random.randbytes(512 * random.randint(1, 8)))
    await other.load(other.snap, f"snapshot {other.words}")
    want = bytearray(await read(stack.snap, 0, SECTORS * 512))
    await stack.begin()

    async def work() -> None:
        for _ in range(40):
            begin = random.randrange(SECTORS - 12)
            count = random.randint(1, 12)
            if random.random() < 0.6:
                data = random.randbytes(512 * count)
                want[begin * 512 : begin * 512 + len(data)] = data
                await write(stack.origin, begin, data)
            else:
                at = slice(begin * 512, (begin + count) * 512)
                assert await read(stack.origin, begin, count * 512) == want[at]
            await trio.lowlevel.checkpoint()

    await work()
    await merged(stack)
    assert medium(stack.base, 0, SECTORS * 512) == want
    assert await read(stack.origin, 0, SECTORS * 512) == want
    assert await read(other.snap, 0, SECTORS * 512) == OLD


async def test_a_write_to_what_is_left_goes_to_the_copy_and_one_to_what_is_merged_to_the_origin():
    stack, _ = await written()
    await held_at_run(stack, 1)
    await write(stack.origin, 40, NEW[:512])
    await write(stack.origin, 100, NEW[:512])
    assert medium(stack.base, 40, 512) == OLD[40 * 512 : 41 * 512]
    assert medium(stack.base, 100, 512) == NEW[:512]
    assert await read(stack.origin, 40, 512) == NEW[:512]


async def test_a_write_to_a_chunk_on_its_way_waits_for_it():
    stack, want = await written()
    target = await held_at_run(stack, 0)
    steps = target._merge_runs()
    script = next(steps)
    locks, begin, end = script.locks[0]
    hold = locks.take(((begin, end),))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write, stack.origin, 100, NEW[: 8 * 512])
        await wait_all_tasks_blocked()
        inner = script.steps()
        for step in inner:
            await submit_bio(step.device, step.bio)
        locks.release(hold)
    steps.close()
    assert medium(stack.base, 100, 8 * 512) == NEW[: 8 * 512]


async def test_what_went_one_way_is_asked_anew_after_each_run():
    stack, _ = await written()
    target = await held_at_run(stack, 1)
    before = stack.origin.span(40), stack.origin.span(100)
    assert [set(span.ops) for span in before] == [{Op.READ}, {Op.READ, Op.WRITE}]
    assert [span.leaf.name for span in before] == ["cow", "base"]
    await stack.origin.suspend()
    await stack.origin.resume()
    await stack.finish()
    assert not any(span.is_current() for span in before)
    assert set(stack.origin.span(40).ops) == {Op.READ, Op.WRITE}
    assert not target.copy.store.chunks


async def test_flushes_reach_both_and_discards_do_nothing():
    stack, want = await written(features=" 1 discard_zeroes_cow")
    await held_at_run(stack, 0)
    before = stack.base.stats.ios[3], stack.cow.stats.ios[3]
    await submit_bio(stack.origin, FLUSH)
    assert (stack.base.stats.ios[3], stack.cow.stats.ios[3]) == (before[0] + 1, before[1] + 1)
    await submit_bio(stack.origin, Bio(Op.DISCARD, 0, SECTORS))
    assert await read(stack.origin, 0, SECTORS * 512) == want


async def test_the_last_chunk_may_be_cut_off_by_the_end_of_the_origin():
    base = make_disk("base", SECTORS - 4)
    stack = Merging(chunk=32, origin=base, cow_sectors=600)
    stack.sectors = SECTORS - 4
    await stack.open()
    await write(stack.snap, 120, NEW[: 4 * 512])
    await stack.begin()
    await stack.finish()
    assert stack.merge_status == "64/600 64"
    assert medium(base, 120, 4 * 512) == NEW[: 4 * 512]


# The handover.


async def test_the_snapshot_that_was_taken_over_is_invalid_and_its_bios_fail():
    stack, want = await written()
    await stack.begin()
    await stack.snap.resume()
    assert stack.status == "Invalid"
    assert format_table(stack.snap.live) == "0 128 snapshot base cow P 0"
    with pytest.raises(BlockIOError):
        await read(stack.snap, 0, 512)
    await stack.snap.end()
    await stack.finish()
    assert await read(stack.origin, 0, SECTORS * 512) == want


async def test_a_snapshot_that_is_not_suspended_is_not_taken_over():
    stack, want = await written()
    stack.origin.load(stack.table(f"snapshot-merge {stack.words}"))
    with pytest.raises(StackError, match="in use by a snapshot that is not suspended"):
        await stack.origin.resume()
    assert await read(stack.snap, 0, SECTORS * 512) == want
    await write(stack.origin, 24, NEW[:512])
    assert await read(stack.snap, 0, SECTORS * 512) == want


async def test_a_snapshot_that_was_removed_before_is_read_from_its_device():
    stack, want = await written()
    await stack.snap.suspend()
    stack.origin.load(stack.table(f"snapshot-merge {stack.words}"))
    await stack.snap.end()
    await stack.origin.resume()
    await stack.finish()
    assert medium(stack.base, 0, SECTORS * 512) == want


async def test_a_snapshot_that_is_not_persistent_cannot_be_merged():
    stack = Merging("N")
    await stack.make()
    with pytest.raises(StackError, match=r"the snapshot on cow is not persistent \(P or PO\)"):
        stack.origin.load(stack.table("snapshot-merge base cow P 8"))


async def test_one_snapshot_of_an_origin_is_merged_at_a_time():
    stack, _ = await written()
    await held_at_run(stack, 0)
    with pytest.raises(StackError, match="a snapshot of base is being merged already"):
        stack.origin.load(stack.table(f"snapshot-merge {stack.words}"))


async def test_an_invalid_snapshot_is_not_merged_and_the_origin_goes_on():
    stack = Merging(cow_sectors=32)
    await stack.make()
    await write(stack.origin, 0, NEW)
    assert stack.status == "Invalid"
    await stack.begin()
    await stack.finish()
    assert stack.merge_status == "Invalid"
    await write(stack.origin, 8, OLD[:512])
    assert await read(stack.origin, 0, 9 * 512) == NEW[: 8 * 512] + OLD[:512]
    assert stack.origin.span(0).ops == {Op.READ, Op.WRITE}


async def test_a_merge_goes_on_when_it_is_loaded_again():
    stack, want = await written()
    await held_at_run(stack, 1)
    await stack.close()
    again = Merging(cow=stack.cow, origin=stack.base)
    await again.load(again.origin, f"snapshot-merge {again.words}")
    await again.finish()
    assert again.merge_status == "16/400 16"
    assert medium(stack.base, 0, SECTORS * 512) == want


async def test_a_snapshot_may_take_over_what_is_left_of_a_merge():
    stack, want = await written()
    await held_at_run(stack, 1)
    await stack.origin.suspend()
    again = MappedDevice("again")
    again.load(stack.table(f"snapshot {stack.words}"))
    await again.resume()
    await write(again, 24, NEW[24 * 512 : 25 * 512])
    want = want[: 24 * 512] + NEW[24 * 512 : 25 * 512] + want[25 * 512 :]
    assert await read(again, 0, SECTORS * 512) == want
    assert format_status(again.live).endswith("56/400 16")


# Errors.


@pytest.mark.parametrize("disk", ["base", "cow"])
@pytest.mark.parametrize("op", [Op.READ, Op.WRITE, Op.FLUSH])
async def test_a_merge_that_fails_says_so_loses_nothing_and_is_tried_again(caplog, disk, op):
    if (disk, op) in (("base", Op.READ), ("cow", Op.FLUSH)):
        return  # It does neither.
    stack, want = await written()
    number = stack.origin.event_number
    broken = getattr(stack, disk)
    broken.store = FaultyStore(broken.store, 0, [FailOp(op=op)])
    await stack.begin()
    await stack.finish()
    assert stack.merge_status == "Merge failed"
    assert stack.origin.event_number == number + 1
    assert "origin: the merge into base: " in caplog.text
    caplog.clear()
    broken.store = broken.store.inner
    assert await read(stack.origin, 0, SECTORS * 512) == want
    await stack.origin.suspend()
    await stack.origin.resume()
    await stack.finish()
    assert medium(stack.base, 0, SECTORS * 512) == want
    assert stack.merge_status == "Merge failed"
    assert stack.origin.event_number == number + 2


async def test_the_end_of_a_merge_is_an_event():
    stack, _ = await written()
    number = stack.origin.event_number
    await stack.begin()
    await stack.finish()
    assert stack.origin.event_number == number + 1


async def test_another_snapshot_that_cannot_keep_what_is_merged_is_lost_and_the_merge_goes_on():
    stack, want = await written()
    other = Stack("N", 8, origin=stack.base, cow=make_disk("c2", 16))
    other.words = "base c2 N 8"
    await other.load(other.snap, f"snapshot {other.words}")
    await stack.begin()
    await stack.finish()
    assert other.status == "Invalid"
    assert medium(stack.base, 0, SECTORS * 512) == want
