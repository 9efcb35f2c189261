"""A mapped device at work: plans, flushes, keys, and changing tables under load."""

import errno

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fusedm.block import FLUSH, NO_CAPABILITIES, Bio, Op
from fusedm.block.errors import BlockIOError, KeyBusy, StackError, TableError, WouldBlock
from fusedm.crypto import evict_key, start_using_key, submit_bio, submit_bio_nowait
from fusedm.dm import MappedDevice
from fusedm.stores import MemoryStore, VolatileCacheStore
from tests.helpers import reference_xts
from tests.helpers.builders import (
    assert_nothing_is_held,
    contents,
    load,
    make_disk,
    make_key,
    make_mapped,
    medium,
    pattern,
    read,
    write,
    write_bio,
)

KEY = make_key(unit=4096)
TEXT = bytes(pattern(8 * 4096))
BOTH = "0 20 linear d0 0\n20 44 linear d1 0"


def two_disks(slots=2, **options):
    return make_disk("d0", slots=slots, **options), make_disk("d1", slots=slots, **options)


def flushes(*disks):
    return [disk.stats.ios[3] for disk in disks]


# Mapping.


async def test_a_straddling_unit_is_encrypted_as_a_whole_and_the_rest_natively():
    d0, d1 = two_disks()
    mapped = await make_mapped(BOTH, d0, d1, keys=[KEY])
    await write(mapped, 0, TEXT, KEY, 7)
    want = reference_xts.encrypt(bytes(KEY.raw), 4096, 7, TEXT)
    assert medium(d0, 0, 20 * 512) + medium(d1, 0, 44 * 512) == want
    first, second = mapped.live.entries
    assert (first.counts.native, first.counts.fallback) == (1, 1)
    assert (second.counts.native, second.counts.fallback) == (1, 0)


async def test_a_target_that_does_not_pass_crypto_gets_ciphertext():
    disk = make_disk(slots=2)
    mapped = await make_mapped("0 8 linear d0 0\n8 8 delay d0 8 0", disk, keys=[KEY])
    await write(mapped, 0, TEXT[:8192], KEY)
    want = reference_xts.encrypt(bytes(KEY.raw), 4096, 0, TEXT[:8192])
    assert medium(disk, 0, 8192) == want
    assert [entry.counts.fallback for entry in mapped.live.entries] == [0, 1]
    assert await read(mapped, 0, 8192, KEY) == TEXT[:8192]


async def test_a_hole_reads_as_decrypted_zeros():
    mapped = await make_mapped("0 64 zero", keys=[KEY])
    await write(mapped, 0, TEXT, KEY)
    assert await read(mapped, 0, 4096) == bytes(4096)
    want = reference_xts.decrypt(bytes(KEY.raw), 4096, 5, bytes(4096))
    assert await read(mapped, 0, 4096, KEY, 5) == want


async def test_devices_on_devices_to_any_depth():
    disk = make_disk(slots=1)
    below = disk
    for depth in range(20):
        text = f"0 {1000 - depth * 8} linear {below.name} 8"
        below = await make_mapped(text, below, name=f"dm{depth}")
    start_using_key(below, KEY)
    await write(below, 0, TEXT, KEY, 3)
    want = reference_xts.encrypt(bytes(KEY.raw), 4096, 3, TEXT)
    assert medium(disk, 160, len(TEXT)) == want
    assert disk.counts.native == 1


async def test_a_discard_reaches_every_leg():
    d0, d1 = two_disks()
    mapped = await make_mapped(BOTH, d0, d1)
    await write(mapped, 0, TEXT)
    await submit_bio(mapped, Bio(Op.DISCARD, 16, 8))
    assert await read(mapped, 0, len(TEXT)) == TEXT[:8192] + bytes(4096) + TEXT[12288:]


async def test_a_mapped_device_is_as_read_only_as_what_lies_below():
    disk = make_disk(store=MemoryStore(1 << 16, read_only=True))
    mapped = await make_mapped("0 8 linear d0 0", disk)
    assert mapped.read_only
    with pytest.raises(BlockIOError, match="dm0: .* on a read-only device") as caught:
        await write(mapped, 0, bytes(512))
    assert caught.value.errno == errno.EROFS


# Flushing.


async def test_a_flush_reaches_every_store_below_a_deep_stack_exactly_once():
    disks = [make_disk(f"d{index}") for index in range(4)]
    one = await make_mapped("0 8 linear d0 0\n8 8 linear d1 0\n16 8 linear d0 8", *disks, name="a")
    two = await make_mapped("0 32 striped 2 8 d2 0 d3 0", *disks, name="b")
    top = await make_mapped("0 24 linear a 0\n24 32 linear b 0\n56 8 zero", one, two)
    await submit_bio(top, FLUSH)
    assert flushes(*disks) == [1, 1, 1, 1]
    submit_bio_nowait(top, FLUSH)
    assert flushes(*disks) == [2, 2, 2, 2]


async def test_what_was_flushed_survives_a_power_cut_and_the_rest_does_not():
    stores = [VolatileCacheStore(MemoryStore(1 << 16)) for _ in range(2)]
    d0, d1 = make_disk("d0", store=stores[0], slots=1), make_disk("d1", store=stores[1])
    mapped = await make_mapped(BOTH, d0, d1, keys=[KEY])
    await write(mapped, 0, TEXT, KEY)
    await submit_bio(mapped, FLUSH)
    await write(mapped, 0, bytes(len(TEXT)), KEY)
    for store in stores:
        store.lose_power("nothing")
    assert await read(mapped, 0, len(TEXT), KEY) == TEXT


# Tables.


async def test_a_device_without_a_table_has_no_size_and_no_capabilities():
    mapped = MappedDevice("dm0")
    assert (mapped.sector_count, mapped.capabilities) == (0, NO_CAPABILITIES)
    assert not mapped.read_only
    with pytest.raises(
        BlockIOError, match="dm0: .* is not within the device .0 sectors."
    ) as caught:
        await read(mapped, 0, 512)
    assert caught.value.errno == errno.EIO
    with pytest.raises(BlockIOError, match="dm0: flush .* without a live table"):
        await submit_bio(mapped, FLUSH)


async def test_resume_without_any_table_is_refused():
    with pytest.raises(StackError, match="dm0 has no table: load one before resume") as caught:
        await MappedDevice("dm0").resume()
    assert caught.value.errno == errno.EINVAL


async def test_a_loaded_table_changes_nothing_before_resume():
    d0, d1 = two_disks()
    mapped = await make_mapped("0 8 linear d0 0", d0)
    await load(mapped, "0 16 linear d1 0", d1)
    assert (mapped.sector_count, mapped.underlying()) == (8, [d0, d1])
    await mapped.resume()
    assert (mapped.sector_count, mapped.underlying()) == (16, [d1])
    assert mapped.inactive is None


async def test_a_cleared_table_is_not_resumed():
    d0, d1 = two_disks()
    mapped = await make_mapped("0 8 linear d0 0", d0)
    await load(mapped, "0 16 linear d1 0", d1)
    mapped.clear()
    await mapped.resume()
    assert (mapped.sector_count, mapped.underlying()) == (8, [d0])


async def test_a_second_load_takes_the_place_of_the_first():
    d0, d1 = two_disks()
    mapped = MappedDevice("dm0")
    await load(mapped, "0 8 linear d0 0", d0)
    await load(mapped, "0 16 linear d1 0", d1)
    await mapped.resume()
    assert mapped.underlying() == [d1]


async def test_a_read_only_table_makes_the_device_read_only_from_resume_on():
    disk = make_disk()
    mapped = await make_mapped("0 8 linear d0 0", disk)
    mapped.load(mapped.live, read_only=True)
    assert not mapped.read_only
    await mapped.resume()
    assert mapped.read_only


@pytest.mark.parametrize("depth", [0, 1, 5])
async def test_a_cycle_is_refused_and_changes_nothing(depth):
    disk = make_disk()
    bottom = top = await make_mapped("0 8 linear d0 0", disk, name="bottom")
    for index in range(depth):
        top = await make_mapped(f"0 8 linear {top.name} 0", top, name=f"dm{index}")
    with pytest.raises(TableError, match="bottom would lie below itself .a cycle.") as caught:
        await load(bottom, f"0 8 linear {top.name} 0", top)
    assert caught.value.errno == errno.EINVAL
    assert bottom.underlying() == [disk]
    assert await read(top, 0, 512) == bytes(512)


async def test_a_cycle_through_inactive_tables_is_refused():
    disk = make_disk()
    a, b = [await make_mapped("0 8 linear d0 0", disk, name=name) for name in "ab"]
    await load(a, "0 8 linear b 0", b)
    with pytest.raises(TableError, match="a cycle"):
        await load(b, "0 8 linear a 0", a)


@pytest.mark.parametrize("suspended", [False, True])
async def test_a_table_that_no_longer_fits_at_resume_leaves_the_old_one(suspended):
    d0, d1 = two_disks()
    lower = await make_mapped("0 64 linear d1 0", d1, name="lower")
    mapped = await make_mapped("0 8 linear d0 0", d0)
    await load(mapped, "0 64 linear lower 0", lower)
    await load(lower, "0 32 linear d1 0", d1)
    await lower.resume()
    if suspended:
        await mapped.suspend()
    with pytest.raises(TableError, match=r"0 \+ 64 sectors ends past lower .32 sectors."):
        await mapped.resume()
    assert (mapped.sector_count, mapped.inactive, mapped.suspended) == (8, None, suspended)
    await mapped.resume()
    assert await read(mapped, 0, 4096) == bytes(4096)


# Suspending.


async def test_suspend_waits_for_what_is_in_flight_and_holds_what_comes(nursery):
    disk = make_disk(slots=1)
    hold = await disk.engine.slots.take(make_key("other"))
    mapped = await make_mapped("0 64 linear d0 0", disk, keys=[KEY])
    nursery.start_soon(write, mapped, 0, TEXT[:4096], KEY)
    await wait_all_tasks_blocked()
    nursery.start_soon(mapped.suspend)
    await wait_all_tasks_blocked()
    nursery.start_soon(write, mapped, 8, TEXT[4096:8192])
    await wait_all_tasks_blocked()
    assert (mapped.suspended, mapped.stats.in_flight) == (False, 1)
    hold.release()
    await wait_all_tasks_blocked()
    assert (mapped.suspended, mapped.stats.in_flight) == (True, 0)
    assert medium(disk, 8, 4096) == bytes(4096)
    await mapped.resume()
    await wait_all_tasks_blocked()
    assert medium(disk, 8, 4096) == TEXT[4096:8192]


async def test_what_must_not_wait_gets_eagain_from_a_suspended_device():
    mapped = await make_mapped("0 8 linear d0 0", make_disk())
    await mapped.suspend()
    with pytest.raises(WouldBlock) as caught:
        submit_bio_nowait(mapped, write_bio(0, bytes(512)))
    assert caught.value.errno == errno.EAGAIN


async def test_suspending_twice_and_resuming_twice_is_fine():
    mapped = await make_mapped("0 8 linear d0 0", make_disk())
    for _ in range(2):
        await mapped.suspend()
    assert mapped.suspended
    for _ in range(2):
        await mapped.resume()
    assert await read(mapped, 0, 512) == bytes(512)


async def test_a_cancelled_suspend_lets_bios_in_again(nursery):
    disk = make_disk(slots=1)
    hold = await disk.engine.slots.take(make_key("other"))
    mapped = await make_mapped("0 64 linear d0 0", disk, keys=[KEY])
    nursery.start_soon(write, mapped, 0, TEXT[:4096], KEY)
    await wait_all_tasks_blocked()
    async with trio.open_nursery() as suspending:
        suspending.start_soon(mapped.suspend)
        await wait_all_tasks_blocked()
        suspending.start_soon(write, mapped, 8, TEXT[4096:8192])
        await wait_all_tasks_blocked()
        nursery.start_soon(write, mapped, 16, TEXT[8192:12288])
        await wait_all_tasks_blocked()
        suspending.cancel_scope.cancel()
    await wait_all_tasks_blocked()
    assert not mapped.suspended
    assert medium(disk, 16, 4096) == TEXT[8192:12288]
    hold.release()
    await wait_all_tasks_blocked()
    assert_nothing_is_held(mapped, disk)


@pytest.mark.parametrize("resumed_before", [False, True])
async def test_suspend_hurries_delayed_bios(resumed_before, autojump_clock, nursery):
    disk = make_disk()
    mapped = await make_mapped("0 64 delay d0 0 3600000", disk)
    nursery.start_soon(write, mapped, 0, TEXT[:4096])
    await wait_all_tasks_blocked()
    if resumed_before:
        await mapped.resume()
    await mapped.suspend()
    assert trio.current_time() < 60
    assert medium(disk, 0, 4096) == TEXT[:4096]


async def test_swapping_tables_under_load_keeps_every_acknowledged_write(autojump_clock):
    d0, d1 = two_disks(slots=1, latency=0.001)
    keys = [make_key(str(index), 4096) for index in range(3)]
    mapped = await make_mapped("0 64 linear d0 0", d0, d1, keys=keys)
    tables = ["0 30 linear d0 0\n30 34 linear d0 30", "0 64 linear d0 0", "0 64 delay d0 0 5"]
    done = 0

    async def writer(index):
        nonlocal done
        for round in range(20):
            text = bytes([index + 1, round]) * 2048
            await write(mapped, index * 8, text, keys[index % 3], index)
            assert await read(mapped, index * 8, 4096, keys[index % 3], index) == text
            done += 1

    async with trio.open_nursery() as nursery:
        for index in range(6):
            nursery.start_soon(writer, index)
        for round in range(30):
            await trio.sleep(0.003)
            await load(mapped, tables[round % 3], d0, d1)
            if round % 2:
                await mapped.suspend()
                await trio.sleep(0.002)
            await mapped.resume()
    assert done == 120
    assert_nothing_is_held(mapped, d0, d1)


# Keys and tables.


async def test_a_key_is_readied_on_devices_of_later_tables():
    d0, d1 = make_disk("d0", slots=2), make_disk("d1")
    mapped = await make_mapped("0 64 linear d0 0", d0, keys=[KEY])
    await load(mapped, "0 64 linear d1 0", d1)
    await mapped.resume()
    await write(mapped, 0, TEXT, KEY)
    assert await read(mapped, 0, len(TEXT), KEY) == TEXT
    assert d1.counts.fallback == 2


async def test_a_key_is_evicted_from_devices_of_a_replaced_table():
    d0, d1 = two_disks()
    mapped = await make_mapped("0 64 linear d0 0", d0, keys=[KEY])
    await write(mapped, 0, TEXT, KEY)
    assert d0.engine.slots.is_ready(KEY)
    await load(mapped, "0 64 linear d1 0", d1)
    await mapped.resume()
    assert not d0.engine.slots.is_ready(KEY)


async def test_a_key_busy_on_a_dropped_device_can_be_evicted_later():
    d0, d1 = two_disks()
    mapped = await make_mapped("0 64 linear d0 0", d0, keys=[KEY])
    hold = await d0.engine.slots.take(KEY)
    await load(mapped, "0 64 linear d1 0", d1)
    await mapped.resume()
    with pytest.raises(KeyBusy):
        evict_key(mapped, KEY)
    hold.release()
    evict_key(mapped, KEY)
    assert not d0.engine.slots.is_ready(KEY)


async def test_dropping_a_mapped_device_does_not_end_its_other_uses_of_the_key():
    d0, d1 = make_disk("d0", slots=2), make_disk("d1")
    lower = await make_mapped("0 64 linear d0 0", d0, name="lower", keys=[KEY])
    upper = await make_mapped("0 64 linear lower 0", lower, name="upper", keys=[KEY])
    await load(upper, "0 64 linear d0 0", d0)
    await upper.resume()
    await load(lower, "0 64 linear d1 0", d1)
    await lower.resume()
    await write(lower, 0, TEXT, KEY)
    assert await read(lower, 0, len(TEXT), KEY) == TEXT


async def test_a_forgotten_key_is_not_readied_on_later_tables():
    d0, d1 = make_disk("d0", slots=2), make_disk("d1")
    mapped = await make_mapped("0 64 linear d0 0", d0, keys=[KEY])
    evict_key(mapped, KEY)
    await load(mapped, "0 64 linear d1 0", d1)
    await mapped.resume()
    with pytest.raises(BlockIOError, match="d1: .* before start_using_key"):
        submit_bio_nowait(mapped, write_bio(0, TEXT, KEY))


async def test_capabilities_follow_what_lies_below_as_it_is_now():
    native, plain = make_disk("d0", slots=2), make_disk("d1")
    lower = await make_mapped("0 64 linear d0 0", native, name="lower")
    upper = await make_mapped("0 64 linear lower 0", lower, name="upper")
    assert upper.capabilities == native.capabilities
    await load(lower, "0 64 linear d1 0", plain)
    await lower.resume()
    assert upper.capabilities == NO_CAPABILITIES
    assert contents(plain.store, 0, 512) == bytes(512)
