"""Carrying plans out: every step fails once, every wait is cancelled once, nothing stays behind."""

import errno
import gc
import threading
import weakref

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fusedm.block import Bio, Op
from fusedm.block.errors import BlockIOError, CryptoError
from fusedm.crypto import start_using_key, submit, submit_bio, submit_bio_nowait
from fusedm.disk import MAX_STORE_THREADS
from fusedm.stores import FailOp, FaultyStore, Latency, MemoryStore
from tests.helpers import reference_xts
from tests.helpers.builders import (
    assert_nothing_is_held,
    contents,
    make_disk,
    make_key,
    make_mapped,
    medium,
    patch,
    pattern,
    prime,
    read,
    read_bio,
    write,
    write_bio,
)

KEY, OTHER = make_key(unit=4096), make_key("other", 4096)
TEXT = bytes(pattern(8192))
PATHS = {"native": 2, "passthrough": 0, "fallback": None}
every_path = pytest.mark.parametrize("slots", PATHS.values(), ids=PATHS)
waiting_or_not = pytest.mark.parametrize("waiting", [True, False], ids=["waiting", "on the spot"])


def faulty_disk(*rules, slots=None, waiting=True, name="d0"):
    """A disk of 64 KiB with faults; waiting makes every call go through a worker thread."""
    slow = [Latency(seconds=0.0)] if waiting else []
    store = FaultyStore(MemoryStore(1 << 16), 1, [*rules, *slow], sleep=lambda seconds: None)
    return make_disk(name, slots=slots, store=store)


def keyslot_source(disk):
    return disk.engine.slots if disk.engine else disk.fallback


async def ready(disk):
    start_using_key(disk, KEY)
    await prime(keyslot_source(disk), KEY)


@every_path
@waiting_or_not
@pytest.mark.parametrize("op", [Op.READ, Op.WRITE])
async def test_a_store_error_reaches_the_submitter_and_nothing_is_held(op, slots, waiting):
    disk = faulty_disk(FailOp(op=op, nth=1, errno=errno.ENOSPC), slots=slots, waiting=waiting)
    await ready(disk)
    buffer = bytearray(TEXT)
    bio = write_bio(0, buffer, KEY) if op is Op.WRITE else read_bio(0, 8192, KEY)[0]
    with pytest.raises(BlockIOError, match=f"d0: {op.value} of sectors 0..16") as caught:
        await submit_bio(disk, bio)
    assert caught.value.errno == errno.ENOSPC
    assert buffer == TEXT
    assert_nothing_is_held(disk)
    await write(disk, 0, TEXT, KEY)
    assert await read(disk, 0, 8192, KEY) == TEXT


@waiting_or_not
async def test_a_read_that_failed_below_is_not_decrypted(waiting):
    class Counting(FaultyStore):
        def pread_into(self, offset, target):
            target[:] = TEXT[: len(target)]
            super().pread_into(offset, target)

    slow = [Latency(seconds=0.0)] if waiting else []
    rules = [FailOp(op=Op.READ), *slow]
    disk = make_disk(store=Counting(MemoryStore(1 << 16), 1, rules, sleep=lambda seconds: None))
    await ready(disk)
    hits = disk.fallback._profile.slots.slots[0].counts.hits
    bio, data = read_bio(0, 8192, KEY)
    with pytest.raises(BlockIOError):
        await submit_bio(disk, bio)
    assert data == TEXT
    assert disk.fallback._profile.slots.slots[0].counts.hits == hits


@pytest.mark.parametrize(
    "bio", [Bio(Op.FLUSH, 0, 0), Bio(Op.DISCARD, 0, 8), Bio(Op.WRITE_ZEROES, 0, 8)]
)
@waiting_or_not
async def test_operations_without_data_fail_with_the_stores_errno(bio, waiting):
    disk = faulty_disk(FailOp(op=bio.op, nth=1, errno=errno.EDQUOT), waiting=waiting)
    with pytest.raises(BlockIOError, match="d0: ") as caught:
        await submit_bio(disk, bio)
    assert caught.value.errno == errno.EDQUOT
    assert_nothing_is_held(disk)
    await submit_bio(disk, bio)


async def test_a_store_error_without_errno_is_an_io_error():
    class Nameless(MemoryStore):
        def flush(self):
            raise OSError("something")

    with pytest.raises(BlockIOError) as caught:
        await submit_bio(make_disk(store=Nameless(1 << 16)), Bio(Op.FLUSH, 0, 0))
    assert caught.value.errno == errno.EIO


@every_path
@waiting_or_not
@pytest.mark.parametrize("op", [Op.READ, Op.WRITE])
async def test_either_half_of_a_patch_may_fail(op, slots, waiting):
    disk = faulty_disk(FailOp(op=op, nth=2), slots=slots, waiting=waiting)
    await ready(disk)
    await write(disk, 0, TEXT, KEY)
    if op is Op.READ:
        await read(disk, 0, 4096, KEY)
    before = medium(disk) if op is Op.WRITE else contents(disk.store.inner)
    with pytest.raises(BlockIOError, match=f"d0: {op.value} of sectors 0..8"):
        await submit(disk, [patch(0, 4096, 9, b"lost", KEY)])
    assert contents(disk.store.inner) == before
    assert_nothing_is_held(disk)
    await submit(disk, [patch(0, 4096, 9, b"kept", KEY)])
    assert await read(disk, 0, 4096, KEY) == TEXT[:9] + b"kept" + TEXT[13:4096]


@pytest.mark.parametrize(
    "error", [CryptoError("slot broke", errno.ENODEV), BlockIOError(errno.ENODEV, "d0", "broke")]
)
@pytest.mark.parametrize("op", [Op.READ, Op.WRITE])
async def test_a_slot_that_cannot_be_programmed_fails_the_bio(error, op):
    failing = [error]

    def hook(index, key):
        if failing:
            raise failing.pop()

    disk = make_disk(slots=1, before_program=hook)
    buffer = bytearray(TEXT)
    bio = write_bio(0, buffer, KEY) if op is Op.WRITE else read_bio(0, 8192, KEY)[0]
    with pytest.raises(BlockIOError, match="^d0: .*broke") as caught:
        await submit_bio(disk, bio)
    assert caught.value.errno == errno.ENODEV
    assert buffer == TEXT
    assert medium(disk) == bytes(1024 * 512)
    assert_nothing_is_held(disk)
    await write(disk, 0, TEXT, KEY)
    assert await read(disk, 0, 8192, KEY) == TEXT


@every_path
@waiting_or_not
async def test_a_key_that_can_no_longer_be_programmed_fails_the_bio(slots, waiting):
    disk, key = faulty_disk(slots=slots, waiting=waiting), make_key("gone", 4096)
    start_using_key(disk, key)
    key.wipe()
    with pytest.raises(BlockIOError, match="^d0: write .* key 'gone': the two halves") as caught:
        await submit_bio(disk, write_bio(0, TEXT, key))
    assert caught.value.errno == errno.EINVAL
    assert_nothing_is_held(disk)


@waiting_or_not
async def test_the_first_error_wins_and_the_other_parts_are_carried_out(waiting):
    disks = [
        faulty_disk(FailOp(errno=errno.ENOSPC), name="d0", waiting=waiting),
        faulty_disk(FailOp(errno=errno.ENODEV), name="d1", waiting=waiting),
        faulty_disk(name="d2", waiting=waiting),
    ]
    mapped = await make_mapped(
        "0 4 linear d0 0\n4 4 linear d1 0\n8 8 linear d2 0", *disks, keys=[KEY]
    )
    with pytest.raises(BlockIOError, match="d0: write of sectors 0..4") as caught:
        await write(mapped, 0, TEXT)
    assert caught.value.errno == errno.ENOSPC
    assert contents(disks[2].store.inner, 0, 4096) == TEXT[4096:]
    assert_nothing_is_held(mapped, *disks)


@pytest.mark.parametrize("ms", [0, 1], ids=["on the spot", "waiting"])
async def test_a_part_that_fails_by_plan_does_not_stop_the_others(ms, autojump_clock):
    disk = make_disk()
    mapped = await make_mapped(f"0 8 error\n8 8 delay d0 8 {ms}", disk)
    with pytest.raises(BlockIOError, match="dm0: write of sectors 0..8: Input/output error"):
        await write(mapped, 0, TEXT)
    assert medium(disk, 8, 4096) == TEXT[4096:]
    assert_nothing_is_held(mapped, disk)


class Buffer(bytearray):
    """A buffer that one can see go."""


@pytest.fixture
def no_search_for_circles():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize(
    "table",
    ["0 16 error", "0 16 flakey d0 0 0 1", "0 8 error\n8 8 delay d0 8 1", "0 16 linear d0 0"],
    ids=["failed", "hooked", "among others", "store"],
)
@waiting_or_not
async def test_what_fails_lets_go_of_its_buffer_at_once(table, waiting, no_search_for_circles):
    mapped = await make_mapped(table, faulty_disk(FailOp(), waiting=waiting))
    buffer, gone = Buffer(8192), threading.Event()
    weakref.finalize(buffer, gone.set)
    with pytest.raises(BlockIOError):
        await submit_bio(mapped, Bio.read(0, memoryview(buffer)))
    del buffer
    # A thread that did the I/O may still be about to let go of it.
    assert gone.wait(5), "an error is held by what it went through"


async def test_a_write_never_changes_its_buffer_wherever_it_is_transformed():
    disks = [make_disk("d0", slots=2), make_disk("d1"), make_disk("d2", slots=0)]
    mapped = await make_mapped(
        "0 5 linear d0 0\n5 6 linear d1 0\n11 5 linear d2 0", *disks, keys=[KEY]
    )
    await write(mapped, 0, memoryview(TEXT), KEY)
    assert await read(mapped, 0, 8192, KEY) == TEXT
    want = reference_xts.encrypt(bytes(KEY.raw), 4096, 0, TEXT)
    assert await read(mapped, 0, 8192) == want


# Cancelling.


async def cancelled_while_blocked(device, *requests):
    """Submit, and cancel as soon as nothing moves any more."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(submit, device, requests)
        await wait_all_tasks_blocked()
        assert device.stats.in_flight > 0, "it did not wait"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("op", [Op.READ, Op.WRITE])
async def test_cancelled_while_waiting_for_a_keyslot(op):
    disk = make_disk(slots=1)
    hold = await disk.engine.slots.take(OTHER)
    buffer = bytearray(TEXT)
    bio = write_bio(0, buffer, KEY) if op is Op.WRITE else read_bio(0, 8192, KEY)[0]
    await cancelled_while_blocked(disk, bio)
    hold.release()
    assert buffer == TEXT
    assert medium(disk) == bytes(1024 * 512)
    assert_nothing_is_held(disk)


async def test_cancelled_while_a_slot_is_programmed(autojump_clock):
    disk = make_disk(slots=1, latency=10.0)
    with trio.move_on_after(5):
        await write(disk, 0, TEXT, KEY)
    assert_nothing_is_held(disk)
    await write(disk, 0, TEXT, OTHER)
    assert await read(disk, 0, 8192, OTHER) == TEXT


async def test_cancelled_while_waiting_for_a_range(nursery):
    disk = make_disk(slots=1)
    hold = await disk.engine.slots.take(OTHER)
    nursery.start_soon(write, disk, 8, TEXT, KEY)
    await wait_all_tasks_blocked()
    await cancelled_while_blocked(disk, write_bio(0, TEXT), patch(30, 512, 0, b"x"))
    submit_bio_nowait(disk, write_bio(0, TEXT[:4096]))
    hold.release()
    await wait_all_tasks_blocked()
    assert await read(disk, 8, 8192, KEY) == TEXT
    assert_nothing_is_held(disk)


async def test_cancelled_in_a_delay(autojump_clock):
    disk = make_disk()
    mapped = await make_mapped("0 1024 delay d0 0 10000", disk)
    with trio.move_on_after(5):
        await write(mapped, 0, TEXT)
    assert medium(disk) == bytes(1024 * 512)
    assert_nothing_is_held(mapped, disk)
    await write(mapped, 0, TEXT)
    assert trio.current_time() == 15.0


async def test_cancelled_while_the_device_is_suspended(nursery):
    mapped = await make_mapped("0 1024 linear d0 0", make_disk())
    await mapped.suspend()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as waiting:
            waiting.start_soon(write, mapped, 0, TEXT)
            await wait_all_tasks_blocked()
            scope.cancel()
    assert_nothing_is_held(mapped)
    await mapped.resume()
    assert await read(mapped, 0, 8192) == bytes(8192)


# Waiting.


async def test_bios_with_several_ranges_never_wait_in_a_circle(autojump_clock, nursery):
    disk = make_disk(slots=1)
    hold = await disk.engine.slots.take(OTHER)
    nursery.start_soon(write, disk, 16, TEXT[:4096], KEY)
    await wait_all_tasks_blocked()
    async with trio.open_nursery() as both:
        both.start_soon(submit, disk, [write_bio(at, TEXT[:4096]) for at in (0, 16, 32)])
        await wait_all_tasks_blocked()
        both.start_soon(write, disk, 0, TEXT * 3)
        await wait_all_tasks_blocked()
        hold.release()
        both.cancel_scope.deadline = trio.current_time() + 60
    assert not both.cancel_scope.cancelled_caught
    assert medium(disk, 0, 3 * 8192) == TEXT * 3


async def test_a_bio_that_waits_for_a_range_holds_no_keyslot(nursery):
    disk = faulty_disk(slots=1, waiting=False)
    disk.store.hold()
    nursery.start_soon(write, disk, 0, TEXT)
    await wait_all_tasks_blocked()
    nursery.start_soon(write, disk, 0, TEXT, KEY)
    await wait_all_tasks_blocked()
    assert disk.engine.slots.slot_of(KEY) is None
    disk.store.release()


@pytest.mark.parametrize(("slots", "held"), [(1, True), (None, False)], ids=["engine", "fallback"])
async def test_a_keyslot_is_held_in_the_disk_by_an_engine_and_not_by_a_fallback(
    slots, held, nursery
):
    disk = faulty_disk(slots=slots, waiting=False)
    await ready(disk)
    disk.store.hold()
    nursery.start_soon(write, disk, 0, TEXT, KEY)
    await wait_all_tasks_blocked()
    profile = disk.engine.slots if slots else disk.fallback._profile
    assert profile.slots.slots[0].users == held
    disk.store.release()


async def test_overlapping_writes_are_carried_out_one_after_the_other():
    disk = make_disk(slots=1)
    hold = await disk.engine.slots.take(OTHER)
    async with trio.open_nursery() as nursery:
        for text, key in [(b"1" * 4096, KEY), (b"2" * 4096, None), (b"3" * 4096, KEY)]:
            nursery.start_soon(write, disk, 0, text, key)
            await wait_all_tasks_blocked()
        hold.release()
    assert await read(disk, 0, 4096, KEY) == b"3" * 4096


async def test_a_hung_store_ties_up_its_own_threads_only():
    hung, other = faulty_disk(slots=2, waiting=False), faulty_disk(name="d1", slots=2)
    hung.store.hold()
    count = 3 * MAX_STORE_THREADS
    async with trio.open_nursery() as nursery:
        for index in range(count):
            nursery.start_soon(write, hung, index * 4, TEXT[:2048])
        await wait_all_tasks_blocked()
        assert hung.stats.in_flight == count
        with trio.fail_after(10):
            await write(other, 0, TEXT, KEY)
            assert await read(other, 0, 8192, KEY) == TEXT
        assert hung.stats.in_flight == count
        assert hung._io._threads.busy == MAX_STORE_THREADS
        hung.store.release()
    assert contents(hung.store, 0, count * 2048) == TEXT[:2048] * count
    assert_nothing_is_held(hung, other)


@every_path
async def test_large_ciphers_give_the_same_bytes_from_a_worker_thread(slots):
    disk, text = make_disk(slots=slots), bytes(pattern(120 * 4096))
    start_using_key(disk, KEY)
    await write(disk, 8, text, KEY, 5)
    assert await read(disk, 8, len(text), KEY, 5) == text
    assert medium(disk, 8, len(text)) == reference_xts.encrypt(bytes(KEY.raw), 4096, 5, text)
