"""The door: what is refused, what has to wait, and what is carried out on the spot."""

import errno

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fusedm.block import FLUSH, Bio, CryptContext, Op
from fusedm.block.errors import BlockIOError, CryptoError, DeviceSuspended, KeyBusy, WouldBlock
from fusedm.crypto import (
    PatchBlock,
    evict_key,
    start_using_key,
    submit,
    submit_bio,
    submit_bio_nowait,
    submit_nowait,
)
from fusedm.crypto.ciphers import BYTES_ON_THE_SPOT
from fusedm.stores import FaultyStore, MemoryStore
from tests.helpers import reference_xts
from tests.helpers.builders import (
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

KEY = make_key()
LARGE_UNIT = make_key("large", 4096)
SLOW = make_key("slow", mode="SM4-XTS")
ONE_DUN_BYTE = make_key("short", 512, dun_bytes=1)


def data(sectors):
    return memoryview(bytearray(sectors * 512))


REFUSED = {
    "past the end": (Bio.write(1020, data(5)), errno.EIO, "not within the device (1024 sectors)"),
    "before the start": (Bio.read(-1, data(1)), errno.EIO, "is not within"),
    "no sectors": (Bio(Op.DISCARD, 0, 0), errno.EIO, "is not within"),
    "too little data": (Bio(Op.READ, 0, 2, data(1)), errno.EINVAL, "needs 1024 bytes of data, 512"),
    "too much data": (Bio(Op.WRITE, 0, 1, data(2)), errno.EINVAL, "needs 512 bytes of data, 1024"),
    "data of a discard": (Bio(Op.DISCARD, 0, 1, data(1)), errno.EINVAL, "needs 0 bytes of data"),
    "context of a discard": (
        Bio(Op.DISCARD, 0, 8, crypt=CryptContext(KEY, 0)),
        errno.EIO,
        "has a context but no data",
    ),
    "context of a zeroing": (
        Bio(Op.WRITE_ZEROES, 0, 8, crypt=CryptContext(KEY, 0)),
        errno.EIO,
        "has a context but no data",
    ),
    "read of a part of a data unit": (
        read_bio(0, 9 * 512, LARGE_UNIT)[0],
        errno.EINVAL,
        "is 4608 bytes, not a multiple of the data unit size 4096",
    ),
    "part of a data unit": (
        write_bio(0, data(9), LARGE_UNIT),
        errno.EINVAL,
        "is 4608 bytes, not a multiple of the data unit size 4096",
    ),
    "dun too large": (
        write_bio(0, data(2), ONE_DUN_BYTE, 255),
        errno.EINVAL,
        "data unit numbers 255..256 do not fit 1 DUN bytes",
    ),
    "negative dun": (write_bio(0, data(1), KEY, -1), errno.EINVAL, "data unit numbers -1..-1"),
    "flush with a place": (Bio(Op.FLUSH, 8, 8), errno.EINVAL, "a flush has no sectors"),
    "flush with a context": (
        Bio(Op.FLUSH, 0, 0, crypt=CryptContext(KEY, 0)),
        errno.EIO,
        "has a context but no data",
    ),
}


@pytest.mark.parametrize("slots", [None, 2])
@pytest.mark.parametrize(("bio", "number", "text"), REFUSED.values(), ids=REFUSED)
async def test_a_bio_out_of_line_is_refused_before_any_effect(bio, number, text, slots):
    disk = make_disk(slots=slots)
    for key in (KEY, LARGE_UNIT, ONE_DUN_BYTE):
        start_using_key(disk, key)
    with pytest.raises(BlockIOError) as caught:
        await submit_bio(disk, bio)
    assert caught.value.errno == number
    assert str(caught.value).startswith("d0: ")
    assert text in str(caught.value)
    with pytest.raises(BlockIOError):
        submit_bio_nowait(disk, bio)
    assert disk.stats.ios == [0, 0, 0, 0]
    assert medium(disk) == bytes(1024 * 512)


@pytest.mark.parametrize("op", [Op.WRITE, Op.DISCARD, Op.WRITE_ZEROES])
async def test_a_read_only_device_refuses_change(op):
    disk = make_disk(store=MemoryStore(1 << 16, read_only=True))
    with pytest.raises(BlockIOError, match="on a read-only device") as caught:
        await submit_bio(disk, Bio(op, 0, 8, data(8) if op.has_data else data(0)))
    assert caught.value.errno == errno.EROFS


async def test_a_read_only_device_is_read_and_flushed():
    disk = make_disk(store=MemoryStore(1 << 16, read_only=True))
    assert await read(disk, 0, 512) == bytes(512)
    await submit_bio(disk, FLUSH)


@pytest.mark.parametrize(("sector", "count"), [(1, 8), (0, 4), (8, 9)])
async def test_bios_are_whole_logical_blocks(sector, count):
    disk = make_disk(block=4096)
    with pytest.raises(BlockIOError, match="not aligned to 4096-byte logical blocks") as caught:
        await submit_bio(disk, Bio.write(sector, data(count)))
    assert caught.value.errno == errno.EINVAL


async def test_data_unit_and_place_are_independent():
    disk, text = make_disk(slots=2), pattern(4096)
    await write(disk, 3, text, LARGE_UNIT, 77)
    want = reference_xts.encrypt(bytes(LARGE_UNIT.raw), 4096, 77, text)
    assert medium(disk, 3, 4096) == want


async def test_the_last_dun_that_fits_is_used():
    disk, text = make_disk(slots=2), pattern(1024)
    await write(disk, 0, text, ONE_DUN_BYTE, 254)
    assert medium(disk, 0, 1024) == reference_xts.encrypt(bytes(ONE_DUN_BYTE.raw), 512, 254, text)


# What has to wait: each scenario is (device, disk below, bio), made within a nursery.


async def key_in_no_slot(nursery):
    disk = make_disk(slots=2)
    await prime(disk.engine.slots, make_key("other"))
    return disk, disk, write_bio(0, pattern(512), KEY)


async def key_in_no_slot_of_the_fallback(nursery):
    disk = make_disk()
    start_using_key(disk, KEY)
    return disk, disk, write_bio(0, pattern(512), KEY)


async def others_wait_for_a_slot(nursery):
    disk = make_disk(slots=1)
    hold = await disk.engine.slots.take(KEY)
    nursery.start_soon(disk.engine.slots.take, make_key("other"))
    await wait_all_tasks_blocked()
    assert hold.cipher
    return disk, disk, write_bio(0, pattern(512), KEY)


async def suspended(nursery):
    disk = make_disk()
    mapped = await make_mapped("0 1024 linear d0 0", disk)
    await mapped.suspend()
    return mapped, disk, write_bio(0, pattern(512))


async def suspended_below(nursery):
    disk = make_disk()
    lower = await make_mapped("0 1024 linear d0 0", disk, name="lower")
    upper = await make_mapped("0 8 linear d0 0\n8 8 linear lower 8", disk, lower)
    await lower.suspend()
    return upper, disk, write_bio(0, pattern(16 * 512))


async def an_overlapping_write_is_on_its_way(nursery):
    disk = make_disk(slots=1)
    hold = await disk.engine.slots.take(make_key("other"))
    nursery.start_soon(write, disk, 4, pattern(512), KEY)
    await wait_all_tasks_blocked()
    assert hold.cipher
    return disk, disk, write_bio(0, pattern(8 * 512))


async def the_store_may_block(nursery):
    store = FaultyStore(MemoryStore(1 << 16), seed=0)
    disk = make_disk(store=store)
    store.hold()
    return disk, disk, write_bio(0, pattern(512))


async def a_delay_target(nursery):
    disk = make_disk()
    mapped = await make_mapped("0 8 linear d0 0\n8 8 delay d0 8 1", disk)
    return mapped, disk, write_bio(0, pattern(16 * 512))


async def a_large_software_cipher(nursery):
    disk = make_disk()
    start_using_key(disk, SLOW)
    await prime(disk.fallback, SLOW)
    return disk, disk, write_bio(0, pattern(BYTES_ON_THE_SPOT["SM4-XTS"] + 512), SLOW)


async def a_patch_below_which_a_key_is_missing(nursery):
    disk = make_disk(slots=2)
    buffer = memoryview(bytearray(512))
    context = CryptContext(KEY, 0)
    patch = PatchBlock(
        Bio.read(0, buffer, context), Bio.write(0, buffer, context), 3, memoryview(b"abc")
    )
    return disk, disk, patch


SCENARIOS = [
    key_in_no_slot,
    key_in_no_slot_of_the_fallback,
    others_wait_for_a_slot,
    suspended,
    suspended_below,
    an_overlapping_write_is_on_its_way,
    the_store_may_block,
    a_delay_target,
    a_large_software_cipher,
    a_patch_below_which_a_key_is_missing,
]


def everything_about(disk):
    """All that a bio could have changed."""
    profiles = [disk.fallback._profile, disk.engine.slots if disk.engine else None]
    stats = disk.stats
    return (
        [
            (list(p.slots._idle), [(s.state, s.key, s.users) for s in p.slots.slots])
            for p in profiles
            if p is not None
        ],
        [list(stats.ios), list(stats.sectors), stats.in_flight, stats.busy_seconds],
        (disk.counts.native, disk.counts.fallback),
        len(disk.range_locks._holds),
        contents(getattr(disk.store, "inner", disk.store)),
    )


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_what_has_to_wait_would_block_before_any_effect(scenario):
    async with trio.open_nursery() as nursery:
        device, disk, request = await scenario(nursery)
        before = everything_about(disk)
        counters = [list(device.stats.ios), device.stats.in_flight]
        with pytest.raises(WouldBlock):
            submit_nowait(device, [request])
        assert everything_about(disk) == before
        assert [list(device.stats.ios), device.stats.in_flight] == counters
        nursery.cancel_scope.cancel()


async def test_one_of_several_requests_that_has_to_wait_stops_all():
    disk = make_disk(slots=2)
    with pytest.raises(WouldBlock):
        submit_nowait(disk, [write_bio(0, pattern(512)), write_bio(8, pattern(512), KEY)])
    assert medium(disk) == bytes(1024 * 512)


@pytest.mark.parametrize("slots", [None, 0, 2])
async def test_what_has_nothing_to_wait_for_is_done_on_the_spot(slots):
    disk, text = make_disk(slots=slots), pattern(64 << 10)
    start_using_key(disk, KEY)
    await prime(disk.fallback if slots is None else disk.engine.slots, KEY)
    submit_bio_nowait(disk, write_bio(0, text, KEY, 9))
    bio, got = read_bio(0, len(text), KEY, 9)
    submit_bio_nowait(disk, bio)
    assert got == text
    assert medium(disk, 0, len(text)) == reference_xts.encrypt(bytes(KEY.raw), 512, 9, text)
    assert disk.stats.in_flight == 0


async def test_native_and_fallback_bios_are_counted():
    native, software = make_disk(slots=2), make_disk("d1")
    for disk in (native, software):
        start_using_key(disk, KEY)
        await write(disk, 0, pattern(512), KEY)
        await read(disk, 0, 512, KEY)
        await write(disk, 8, pattern(512))
    assert (native.counts.native, native.counts.fallback) == (2, 0)
    assert (software.counts.native, software.counts.fallback) == (0, 2)


async def test_a_suspended_device_says_how_to_wait():
    mapped = await make_mapped("0 1024 linear d0 0", make_disk())
    await mapped.suspend()
    with pytest.raises(DeviceSuspended) as caught:
        submit_bio_nowait(mapped, FLUSH)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(caught.value.wait)
        await mapped.resume()


# Patching blocks.


@pytest.mark.parametrize("slots", [None, 0, 1])
@pytest.mark.parametrize("primed", [False, True])
async def test_a_patch_changes_the_payload_only(slots, primed):
    disk, text = make_disk(slots=slots), pattern(8192)
    start_using_key(disk, LARGE_UNIT)
    await write(disk, 0, text, LARGE_UNIT, 3)
    if not primed:
        evict_key(disk, LARGE_UNIT)
    await submit(disk, [patch(8, 4096, 100, b"changed", LARGE_UNIT, 4)])
    text[4196:4203] = b"changed"
    assert await read(disk, 0, 8192, LARGE_UNIT, 3) == text


async def test_patches_of_one_block_do_not_lose_each_other(autojump_clock):
    disk = make_disk(slots=1, latency=0.01)
    await write(disk, 0, bytes(4096), LARGE_UNIT)
    async with trio.open_nursery() as nursery:
        for index in range(16):
            evict = make_key(str(index))
            nursery.start_soon(submit, disk, [patch(0, 4096, index, b"x", LARGE_UNIT)])
            nursery.start_soon(read, disk, 0, 512, evict)
    assert await read(disk, 0, 4096, LARGE_UNIT) == b"x" * 16 + bytes(4080)


async def test_a_head_a_body_and_a_tail_are_one_request():
    disk, text = make_disk(), pattern(16 * 512)
    await write(disk, 0, text)
    await submit(
        disk,
        [patch(0, 512, 500, b"h" * 12), write_bio(1, b"b" * 1024), patch(3, 512, 0, b"t" * 5)],
    )
    text[500:1541] = b"h" * 12 + b"b" * 1024 + b"t" * 5
    assert medium(disk, 0, len(text)) == text


# Keys.


def test_a_key_its_mode_refuses_is_not_started():
    weak = make_key()
    weak.wipe()
    disk = make_disk()
    with pytest.raises(CryptoError, match="two halves"):
        start_using_key(disk, weak)
    with pytest.raises(BlockIOError, match="before start_using_key"):
        submit_bio_nowait(disk, write_bio(0, pattern(512), KEY))


@pytest.mark.parametrize("slots", [None, 0, 1])
async def test_an_evicted_key_is_in_no_slot(slots):
    disk = make_disk(slots=slots)
    start_using_key(disk, KEY)
    await write(disk, 0, pattern(512), KEY)
    evict_key(disk, KEY)
    assert not disk.fallback.is_ready(KEY)
    if slots:
        assert disk.engine.slots.slots.index_of(KEY) is None
    assert await read(disk, 0, 512, KEY) == pattern(512)


async def test_eviction_is_refused_by_a_busy_leg_and_changes_no_other():
    disks = [make_disk("d0", slots=1), make_disk("d1", slots=1)]
    mapped = await make_mapped("0 8 linear d0 0\n8 8 linear d1 0", *disks, keys=[KEY])
    await write(mapped, 0, pattern(16 * 512), KEY)
    hold = disks[1].engine.slots.take_now(KEY)
    with pytest.raises(KeyBusy, match="key 'k' is in use in keyslot 0"):
        evict_key(mapped, KEY)
    assert all(disk.engine.slots.is_ready(KEY) for disk in disks)
    hold.release()
    evict_key(mapped, KEY)
    assert not any(disk.engine.slots.is_ready(KEY) for disk in disks)
