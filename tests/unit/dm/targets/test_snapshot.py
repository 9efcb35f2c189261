"""What is special to snapshot and its origin; the rest is in test_every_target.py."""

import errno
from dataclasses import replace
from random import Random

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fusedm.block import FLUSH, Bio, Op
from fusedm.block.errors import BlockIOError, StackError, TableError
from fusedm.crypto import submit_bio
from fusedm.disk import Disk
from fusedm.dm import MappedDevice, format_table, open_targets, parse_table
from fusedm.stores import FailOp, FaultyStore, MemoryStore, VolatileCacheStore
from tests.helpers.builders import make_disk, medium, read, write
from tests.helpers.devices import RecordingDevice, lookup_in
from tests.helpers.snapshot_stack import NEW, OLD, SECTORS, Stack


async def test_a_snapshot_reads_as_its_origin_was():
    stack = await Stack().make()
    await write(stack.origin, 3, NEW[: 20 * 512])
    await write(stack.origin, 100, NEW[: 28 * 512])
    assert await read(stack.snap, 0, SECTORS * 512) == OLD
    assert await read(stack.origin, 3, 20 * 512) == NEW[: 20 * 512]


async def test_a_write_to_the_snapshot_leaves_the_origin():
    stack = await Stack().make()
    await write(stack.snap, 5, NEW[: 10 * 512])
    assert medium(stack.base, 0, SECTORS * 512) == OLD
    assert (
        await read(stack.snap, 0, 20 * 512)
        == OLD[: 5 * 512] + NEW[: 10 * 512] + OLD[15 * 512 : 20 * 512]
    )


async def test_every_snapshot_of_an_origin_keeps_what_changes():
    stack = await Stack().make()
    other = Stack("N", 16, origin=stack.base)
    await other.load(other.snap, f"snapshot {other.words}")
    await write(stack.origin, 0, NEW)
    for snap in (stack.snap, other.snap):
        assert await read(snap, 0, SECTORS * 512) == OLD


async def test_a_chunk_is_copied_once():
    stack = await Stack().make()
    await write(stack.origin, 0, NEW[:512])
    used = stack.status
    await write(stack.origin, 1, NEW[:512])
    await write(stack.snap, 2, NEW[:512])
    assert stack.status == used == "24/400 16"


@pytest.mark.parametrize("kind", ["P", "PO", "N"])
@pytest.mark.parametrize("seed", range(6))
async def test_random_writes_give_what_a_flat_model_says(kind, seed):
    random = Random(seed)
    stack = await Stack(kind, random.choice([1, 4, 8, 32])).make()
    flat = {"origin": bytearray(OLD), "snap": bytearray(OLD)}

    async def change(name: str) -> None:
        for _ in range(12):
            begin = random.randrange(SECTORS)
            data = random.randbytes(512 * random.randint(1, SECTORS - begin))
            flat[name][begin * 512 : begin * 512 + len(data)] = data
            await write(getattr(stack, name), begin, data)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(change, "origin")
        nursery.start_soon(change, "snap")
    for name, want in flat.items():
        assert await read(getattr(stack, name), 0, SECTORS * 512) == want
    assert medium(stack.base, 0, SECTORS * 512) == flat["origin"]


async def test_a_read_that_waited_for_a_copy_reads_the_copy():
    disk, held = make_disk("disk", SECTORS), MappedDevice("base")
    held.load(parse_table("0 128 linear disk 0", lookup_in(disk), lambda: 0.0))
    await held.resume()
    other = await Stack(origin=held).make()
    await held.suspend()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write, other.origin, 0, NEW[:512])
        await wait_all_tasks_blocked()
        nursery.start_soon(expect, other.snap, OLD[:512])
        await wait_all_tasks_blocked()
        await held.resume()
    assert await read(other.origin, 0, 512) == NEW[:512]


async def expect(device, want: bytes) -> None:
    assert await read(device, 0, len(want)) == want


# What is kept.


@pytest.mark.parametrize("chunk", [1, 8])
async def test_a_persistent_snapshot_is_found_again(chunk):
    stack = await Stack(chunk=chunk).make()
    await write(stack.origin, 0, NEW[: 70 * 512])
    await write(stack.snap, 90, NEW[: 5 * 512])
    want, used = await read(stack.snap, 0, SECTORS * 512), stack.status
    await stack.close()
    again = await Stack(chunk=chunk, cow=stack.cow, origin=stack.base).open()
    assert await read(again.snap, 0, SECTORS * 512) == want
    assert again.status == used


async def test_the_chunk_size_on_the_device_wins():
    stack = await Stack(chunk=16).make()
    await stack.close()
    again = await Stack(chunk=8, cow=stack.cow, origin=stack.base).open()
    assert format_table(again.snap.live).endswith("P 16")


async def test_a_chunk_size_of_0_is_what_the_device_says_or_32():
    stack = await Stack(chunk=0).make()
    assert stack.status == "64/400 64"
    assert format_table(stack.snap.live).endswith("P 32")


async def test_a_transient_snapshot_begins_anew():
    stack = await Stack("N").make()
    await write(stack.snap, 0, NEW[:4096])
    await stack.close()
    again = await Stack("N", cow=stack.cow, origin=stack.base).open()
    assert await read(again.snap, 0, 4096) == OLD[:4096]


@pytest.mark.parametrize("seed", range(20))
async def test_a_power_cut_loses_no_chunk_the_origin_no_longer_has(seed):
    """The COW device loses what was not flushed, the origin nothing: the worst for a snapshot."""
    store = VolatileCacheStore(MemoryStore(400 * 512), seed=seed)
    stack = await Stack(cow=make_disk("cow", 400, store=store)).make()
    for begin in Random(seed).sample(range(0, SECTORS, 4), 10):
        await write(stack.origin, begin, NEW[: 3 * 512])
    store.lose_power("random")
    await stack.close()
    again = await Stack(cow=stack.cow, origin=stack.base).open()
    assert await read(again.snap, 0, SECTORS * 512) == OLD


async def test_a_device_of_something_else_is_refused():
    cow = make_disk("cow", 400)
    await write(cow, 0, NEW[:512])
    with pytest.raises(StackError, match="is not that of a snapshot") as caught:
        await Stack(cow=cow).make()
    assert caught.value.errno == errno.ENXIO


async def test_a_snapshot_that_was_invalid_stays_so():
    stack = await Stack(cow_sectors=32).make()
    await write(stack.origin, 0, NEW)
    await stack.close()
    again = await Stack(cow=stack.cow, origin=stack.base).open()
    assert again.status == "Invalid"


# Full, or failing.


async def test_a_snapshot_that_is_full_when_the_origin_changes_is_invalid_and_the_origin_goes_on():
    stack = await Stack(cow_sectors=32).make()
    await write(stack.origin, 0, NEW)
    assert stack.status == "Invalid"
    assert stack.snap.event_number == 1
    assert await read(stack.origin, 0, SECTORS * 512) == NEW
    with pytest.raises(BlockIOError) as caught:
        await read(stack.snap, 0, 512)
    assert caught.value.errno == errno.EIO


async def test_a_full_snapshot_that_is_written_to_is_invalid():
    stack = await Stack(cow_sectors=32).make()
    with pytest.raises(BlockIOError, match="no room"):
        await write(stack.snap, 0, NEW)
    assert stack.status == "Invalid"
    assert stack.snap.event_number == 1


async def test_a_full_snapshot_with_overflow_handling_can_still_be_read():
    stack = await Stack("PO", cow_sectors=32).make()
    await write(stack.snap, 0, NEW[:4096])
    with pytest.raises(BlockIOError, match="no room"):
        await write(stack.snap, 8, NEW[: 8 * 4096])
    assert stack.status == "Overflow"
    assert await read(stack.snap, 0, 4096) == NEW[:4096]
    with pytest.raises(BlockIOError):
        await write(stack.snap, 0, NEW[:512])


def break_disk(disk: Disk, op: Op) -> None:
    disk.store = FaultyStore(disk.store, 0, [FailOp(op=op)])


@pytest.mark.parametrize("op", [Op.WRITE, Op.FLUSH])
async def test_a_cow_device_that_fails_makes_the_snapshot_invalid(op):
    stack = await Stack().make()
    break_disk(stack.cow, op)
    with pytest.raises(BlockIOError):
        await write(stack.snap, 0, NEW[:4096])
    assert stack.status == "Invalid"
    await write(stack.origin, 8, NEW[:4096])
    assert await read(stack.origin, 8, 4096) == NEW[:4096]


async def test_an_origin_that_cannot_be_read_makes_the_snapshot_invalid():
    stack = await Stack().make()
    break_disk(stack.base, Op.READ)
    await write(stack.origin, 0, NEW[:4096])
    assert stack.status == "Invalid"


# Discards, flushes, zeroes.


async def test_a_flush_of_a_snapshot_is_one_of_its_cow_device():
    stack = await Stack().make()
    before = stack.cow.stats.ios[3], stack.base.stats.ios[3]
    await submit_bio(stack.snap, FLUSH)
    assert (stack.cow.stats.ios[3], stack.base.stats.ios[3]) == (before[0] + 1, before[1])


@pytest.mark.parametrize("name", ["snap", "origin"])
@pytest.mark.parametrize("op", [Op.DISCARD, Op.WRITE_ZEROES])
async def test_without_features_neither_discards_nor_zeroes(name, op):
    stack = await Stack().make()
    with pytest.raises(BlockIOError) as caught:
        await submit_bio(getattr(stack, name), Bio(op, 0, 8))
    assert caught.value.errno == errno.EOPNOTSUPP


async def test_a_discarded_copy_reads_as_zeros_and_the_rest_stays():
    stack = await Stack(features=" 1 discard_zeroes_cow").make()
    await write(stack.snap, 0, NEW[: 12 * 512])
    await submit_bio(stack.snap, Bio(Op.DISCARD, 4, 28))
    want = NEW[: 4 * 512] + bytes(12 * 512) + OLD[16 * 512 :]
    assert await read(stack.snap, 0, SECTORS * 512) == want


async def test_half_a_chunk_stays_where_the_device_takes_no_discards():
    stack = await Stack(features=" 1 discard_zeroes_cow").make()
    await write(stack.snap, 0, NEW[: 16 * 512])
    stack.cow.limits = replace(stack.cow.limits, discard=False)
    await submit_bio(stack.snap, Bio(Op.DISCARD, 4, 12))
    want = NEW[: 8 * 512] + bytes(8 * 512) + OLD[16 * 512 :]
    assert await read(stack.snap, 0, SECTORS * 512) == want


async def test_a_discard_may_be_passed_down_to_the_origin():
    features = " 2 discard_zeroes_cow discard_passdown_origin"
    stack = await Stack(features=features).make()
    await submit_bio(stack.snap, Bio(Op.DISCARD, 8, 8))
    assert medium(stack.base, 8, 4096) == bytes(4096)


# Reloading.


async def test_a_reloaded_snapshot_takes_the_copies_over():
    stack = await Stack("N").make()
    await write(stack.snap, 0, NEW[:4096])
    await stack.load(stack.snap, f"snapshot {stack.words}")
    assert await read(stack.snap, 0, 4096) == NEW[:4096]
    await write(stack.origin, 8, NEW[:4096])
    assert await read(stack.snap, 8, 4096) == OLD[8 * 512 : 16 * 512]


async def test_a_snapshot_opened_at_load_takes_over_at_resume():
    stack = await Stack().make()
    table = stack.table(f"snapshot {stack.words}")
    await open_targets(table, stack.snap)
    await write(stack.snap, 0, NEW[:4096])
    stack.snap.load(table)
    await stack.snap.resume()
    assert await read(stack.snap, 0, 4096) == NEW[:4096]


async def test_a_snapshot_whose_successor_cannot_go_on_keeps_its_copies():
    """Its table has another target, which refuses after the copies were taken over."""
    stack = await Stack().make()
    await write(stack.snap, 0, NEW[:4096])
    table = stack.table(f"snapshot {stack.words}\n128 64 linear base 0")
    stack.snap.load(table)

    def refuses():
        yield from ()
        raise StackError("not now")

    table.entries[1].target.preresume = refuses
    with pytest.raises(StackError, match="not now"):
        await stack.snap.resume()
    await write(stack.origin, 8, NEW[:4096])
    assert await read(stack.snap, 0, SECTORS * 512) == NEW[:4096] + OLD[4096:]
    await stack.load(stack.snap, f"snapshot {stack.words}")
    assert await read(stack.snap, 0, SECTORS * 512) == NEW[:4096] + OLD[4096:]


async def test_a_snapshot_that_is_resumed_again_goes_on():
    stack = await Stack().make()
    await write(stack.snap, 0, NEW[:4096])
    await stack.snap.suspend()
    await write(stack.origin, 8, NEW[:4096])
    await stack.snap.resume()
    assert await read(stack.snap, 0, SECTORS * 512) == NEW[:4096] + OLD[4096:]


async def test_a_snapshot_whose_predecessor_was_removed_before_reads_its_device():
    stack = await Stack().make()
    await write(stack.snap, 0, NEW[:4096])
    heir, table = MappedDevice("heir"), stack.table(f"snapshot {stack.words}")
    await open_targets(table, heir)
    heir.load(table)
    await stack.snap.end()
    await heir.resume()
    assert await read(heir, 0, SECTORS * 512) == NEW[:4096] + OLD[4096:]


async def test_a_cow_device_in_use_by_another_snapshot_cannot_be_taken():
    stack = await Stack().make()
    thief = MappedDevice("thief")
    thief.load(stack.table(f"snapshot {stack.words}"))
    with pytest.raises(StackError, match="in use by a snapshot that is not suspended"):
        await thief.resume()
    assert (thief.live, thief.inactive) == (None, None)


async def test_a_removed_snapshot_costs_the_origin_nothing_more():
    stack = await Stack().make()
    await stack.snap.end()
    used = stack.cow.stats.ios[1]
    await write(stack.origin, 0, NEW)
    assert stack.cow.stats.ios[1] == used


# Arguments.

D = {"a": RecordingDevice("a", 4096), "b": RecordingDevice("b", 4096)}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("a a P 8", "argument 2: cow: is the origin itself"),
        ("a b Q 8", "argument 3: persistent: 'Q' is not one of P, PO, N"),
        ("a b P 9", "argument 4: chunk: 9 is not a power of two"),
        ("a b N 0", "argument 4: chunk 0: is for a store that tells its own, P or PO"),
        ("a b P 8 1", "argument 5: features 1: 1 words are announced, 0 follow"),
        ("a b P 8 1 what", "argument 6: 'what' is not one of its features: discard_zeroes_cow, "),
        (
            "a b P 8 1 discard_passdown_origin",
            "argument 6: discard_passdown_origin needs ",
        ),
        (
            "a b P 8 2 discard_zeroes_cow discard_zeroes_cow",
            "argument 7: discard_zeroes_cow is ",
        ),
        ("a b P 8 3 a b c", "argument 5: features: 3 is not in 0..2"),
    ],
)
def test_wrong_arguments_are_named(words, text):
    with pytest.raises(TableError) as caught:
        parse_table(f"0 64 snapshot {words}", lookup_in(*D.values()), lambda: 0.0)
    assert str(caught.value).startswith(f"table line 1: snapshot: {text}")


def test_a_chunk_smaller_than_a_block_below_is_refused():
    coarse = make_disk("coarse", 4096, block=4096)
    with pytest.raises(TableError, match="4 is not a multiple of 8 sectors, the block of coarse"):
        parse_table("0 64 snapshot a coarse P 4", lookup_in(D["a"], coarse), lambda: 0.0)


def test_an_origin_by_another_name_is_no_cow_device():
    with pytest.raises(TableError, match="argument 2: cow: a is the origin as well"):
        parse_table("0 64 snapshot a other P 8", lambda name: D["a"], lambda: 0.0)
