"""Strict mode: each decision, refusal and errno of the kernel, beside what is done by default."""

import errno

import pytest

from fusedm.block import (
    NO_CAPABILITIES,
    Bio,
    Capabilities,
    CryptContext,
    CryptoConfig,
    CryptoKey,
    KeyType,
    Op,
)
from fusedm.block.errors import CryptoError, StackError, TableError
from fusedm.crypto import InlineEngine, evict_key, start_using_key, submit_bio
from fusedm.crypto.evp import EVP_MODES
from fusedm.fuse.sysfs import block_directory
from tests.helpers import reference_xts
from tests.helpers.builders import MODE, make_key, medium, pattern, read, write
from tests.helpers.strict import MIXED, both, failed, make_system

KEY = make_key("k", 4096)
WEAK = CryptoKey("weak", CryptoConfig(MODE, 4096, 8), b"\xab" * 64)
TEXT = bytes(pattern(8 * 4096))


def refused(kind, number, call, *args):
    with pytest.raises(kind) as caught:
        call(*args)
    assert caught.value.errno == number
    return str(caught.value)


def counts(*disks):
    return [(disk.counts.native, disk.counts.fallback) for disk in disks]


def crypto_files(system, name):
    queue = block_directory(system, name).child("queue")
    crypto = queue.child("crypto")
    if crypto is None:
        return None
    modes = crypto.child("modes")
    return {mode: modes.child(mode).text() for mode in modes.names()}


# Where data are transformed.


@both
async def test_one_weak_leg_sends_the_whole_device_to_its_own_fallback(strict):
    system = await make_system(strict, dm0=MIXED)
    device = system.device("dm0")
    start_using_key(device, KEY)
    await write(device, 0, TEXT, KEY)
    first, second = device.live.entries
    shares = [(e.counts.native, e.counts.fallback) for e in (first, second)]
    assert shares == ([(0, 1), (0, 1)] if strict else [(1, 0), (0, 1)])
    assert device.fallback.is_ready(KEY) == strict
    legs = [system.disks["rich"], system.disks["poor"]]
    assert counts(*legs) == ([(0, 0), (0, 0)] if strict else [(1, 0), (0, 1)])
    want = reference_xts.encrypt(bytes(KEY.raw), 4096, 0, TEXT)
    assert b"".join(medium(leg, 0, 32 * 512) for leg in legs) == want
    assert await read(device, 0, len(TEXT), KEY) == TEXT


async def test_a_device_all_native_hands_contexts_down():
    system = await make_system(dm0="0 64 linear rich 0", top="0 64 linear dm0 0")
    start_using_key(system.device("top"), KEY)
    await write(system.device("top"), 0, TEXT, KEY)
    assert counts(system.disks["rich"]) == [(1, 0)]


@both
async def test_a_context_below_a_mapped_device_where_it_is_not_native_is_eopnotsupp(strict):
    system = await make_system(strict, dm0="0 64 linear rich 0")
    device = system.device("dm0")
    start_using_key(device, KEY)
    system.swap_engine("rich", None)
    bio = Bio.write(0, memoryview(TEXT), CryptContext(KEY, 0))
    if not strict:
        await submit_bio(device, bio)
        return
    text = await failed(errno.EOPNOTSUPP, device, bio)
    assert text.startswith("rich: write of sectors 0..64 with a context for AES-256-XTS/4096")
    assert medium(system.disks["rich"], 0, 4096) == bytes(4096)


async def test_a_mapped_device_below_another_that_is_not_native_is_eopnotsupp_too():
    system = await make_system(dm0="0 64 linear rich 0", top="0 64 linear dm0 0")
    start_using_key(system.device("top"), KEY)
    system.device("dm0")._fixed.capabilities = NO_CAPABILITIES
    bio = Bio.write(0, memoryview(TEXT), CryptContext(KEY, 0))
    text = await failed(errno.EOPNOTSUPP, system.device("top"), bio)
    assert text.startswith("dm0: ")


async def test_a_disk_opened_itself_still_falls_back():
    system = await make_system()
    start_using_key(system.disks["poor"], KEY)
    await write(system.disks["poor"], 0, TEXT, KEY)
    assert counts(system.disks["poor"]) == [(0, 1)]


async def test_a_bio_before_start_using_key_is_eio():
    system = await make_system(dm0=MIXED)
    bio = Bio.write(0, memoryview(TEXT), CryptContext(KEY, 0))
    text = await failed(errno.EIO, system.device("dm0"), bio)
    assert "used before start_using_key readied the fallback" in text


# Tables.


@both
@pytest.mark.parametrize("table", ["0 64 linear less 0", MIXED, "0 64 error", "0 64 zero"])
async def test_a_table_with_fewer_capabilities_is_einval_at_load(strict, table):
    system = await make_system(strict, dm0="0 64 linear rich 0")
    if not strict:
        system.load("dm0", table)
        return
    text = refused(TableError, errno.EINVAL, system.load, "dm0", table)
    assert "are fewer than the device has (AES-256-XTS 0x1200, 8 DUN bytes)" in text
    assert system.device("dm0").inactive is None


@pytest.mark.parametrize(
    "fewer", [Capabilities.of({MODE: [512]}, 8), Capabilities.of({MODE: [512]}, 7, KeyType)]
)
async def test_a_table_with_fewer_types_of_key_or_dun_bytes_is_einval_too(fewer):
    system = await make_system()
    system.swap_engine("rich", InlineEngine(Capabilities.of({MODE: [512]}, 8, KeyType), 1))
    system.swap_engine("less", InlineEngine(fewer, 1))
    system.add_mapped("dm0")
    system.load("dm0", "0 64 linear rich 0")
    refused(TableError, errno.EINVAL, system.load, "dm0", "0 64 linear less 0")


@both
async def test_wrapped_keys_gained_with_a_table_are_usable_at_once(strict):
    system = await make_system(strict, dm0="0 64 linear rich 0")
    able = Capabilities.of({MODE: [512, 4096]}, 8, KeyType)
    engine = InlineEngine(able, 1)
    system.swap_engine("poor", engine)
    system.load("dm0", "0 64 linear poor 0")
    await system.resume("dm0")
    by, config = engine.key_manager, CryptoConfig(MODE, 4096, 8, KeyType.HW_WRAPPED)
    key = CryptoKey("w", config, by.prepare_key(by.generate_key()))
    start_using_key(system.device("dm0"), key)
    await write(system.device("dm0"), 0, TEXT, key)
    assert counts(system.disks["poor"]) == [(1, 0)]


async def test_a_table_never_resumed_binds_the_device_already():
    system = await make_system()
    system.add_mapped("dm0")
    system.load("dm0", "0 64 linear rich 0")
    assert system.device("dm0").capabilities == system.disks["rich"].capabilities
    refused(TableError, errno.EINVAL, system.load, "dm0", "0 64 linear poor 0")


async def test_a_refused_table_starts_no_key_and_holds_nothing():
    system = await make_system(dm0="0 64 linear rich 0")
    start_using_key(system.device("dm0"), KEY)
    refused(TableError, errno.EINVAL, system.load, "dm0", "0 64 linear poor 0")
    assert list(system.disks["poor"].holders) == []
    assert system.disks["poor"].fallback not in list(system.device("dm0").key_users(KEY))


async def test_a_table_that_can_do_more_counts_from_its_resume_on():
    system = await make_system(dm0="0 64 linear less 0")
    device = system.device("dm0")
    system.load("dm0", "0 64 linear rich 0")
    assert device.capabilities == system.disks["less"].capabilities
    await system.resume("dm0")
    assert device.capabilities == system.disks["rich"].capabilities


async def test_resume_without_any_table_is_refused_to_a_suspended_device_only():
    system = await make_system()
    mapped = system.add_mapped("dm0")
    await system.resume("dm0")
    await mapped.suspend()
    with pytest.raises(StackError, match="dm0 has no table: load one before resume"):
        await system.resume("dm0")
    assert mapped.suspended


@both
async def test_what_changes_below_is_seen_above_after_a_reload_only(strict):
    system = await make_system(strict, dm0="0 64 linear poor 0", top="0 64 linear dm0 0")
    top = system.device("top")
    system.load("dm0", "0 64 linear rich 0")
    await system.resume("dm0")
    assert bool(top.capabilities) == (not strict)
    system.load("top", "0 64 linear dm0 0")
    await system.resume("top")
    assert top.capabilities == system.disks["rich"].capabilities


@both
async def test_a_read_only_device_below_refuses_a_writable_table_with_eacces(strict):
    system = await make_system(strict)
    system.add_mapped("dm0")
    if strict:
        text = refused(TableError, errno.EACCES, system.load, "dm0", "0 64 linear fixed 0")
        assert text == "table line 1: linear: fixed is read-only: load the table read-only"
        system.load("dm0", "0 64 linear fixed 0", True)
    else:
        system.load("dm0", "0 64 linear fixed 0")
    await system.resume("dm0")
    assert system.device("dm0").read_only


@both
async def test_a_table_after_the_first_need_not_fit_until_its_resume(strict):
    system = await make_system(strict)
    system.add_mapped("m")
    await system.load_opened("m", "0 8 linear poor 0")
    await system.resume("m")
    size = system.device("poor").sector_count
    if not strict:
        with pytest.raises(TableError, match="ends past poor"):
            await system.load_opened("m", f"0 {size + 8} linear poor 0")
        return
    await system.load_opened("m", f"0 {size + 8} linear poor 0")
    with pytest.raises(TableError, match="ends past poor"):
        await system.resume("m")
    assert system.mapped["m"].suspended
    await system.resume("m")
    assert system.mapped["m"].sector_count == 8


@both
async def test_after_a_swap_that_failed_the_device_stays_suspended(strict):
    system = await make_system(strict, dm0="0 64 linear poor 0", low="0 64 linear rich 0")
    device = system.device("dm0")
    system.load("dm0", "0 64 linear low 0")
    system.load("low", "0 32 linear rich 0")
    await system.resume("low")
    with pytest.raises(TableError, match="ends past low"):
        await system.resume("dm0")
    assert device.suspended == strict
    await system.resume("dm0")
    assert await read(device, 0, 512) == bytes(512)


# What sysfs shows.


@both
async def test_capabilities_gained_later_work_but_never_appear_in_sysfs(strict):
    system = await make_system(strict, dm0="0 64 linear poor 0")
    device = system.device("dm0")
    system.load("dm0", "0 64 linear rich 0")
    await system.resume("dm0")
    start_using_key(device, KEY)
    await write(device, 0, TEXT, KEY)
    assert counts(system.disks["rich"]) == [(1, 0)]
    assert crypto_files(system, "dm0") == (None if strict else {MODE: "0x1200\n"})


@both
async def test_files_in_sysfs_follow_the_masks_and_stay(strict):
    system = await make_system(strict, dm0="0 64 linear less 0")
    system.load("dm0", "0 64 linear rich 0")
    await system.resume("dm0")
    assert crypto_files(system, "dm0") == {MODE: "0x1200\n"}
    system.swap_engine("less", None)
    assert crypto_files(system, "less") == ({MODE: "0x0\n"} if strict else None)
    system.swap_engine("poor", InlineEngine(Capabilities.of({MODE: [512]}, 8), 1))
    assert crypto_files(system, "poor") == (None if strict else {MODE: "0x200\n"})


@both
async def test_files_of_key_types_are_those_of_the_first_table_and_stay(strict):
    system = await make_system(strict, dm0="0 64 linear rich 0")
    engine = InlineEngine(Capabilities.of({MODE: [512]}, 8, [KeyType.HW_WRAPPED]), 1)
    system.swap_engine("rich", engine)
    told = ["raw_keys"] if strict else ["hw_wrapped_keys"]
    for name in ("rich", "dm0"):
        crypto = block_directory(system, name).child("queue").child("crypto")
        assert [file for file in crypto.names() if file.endswith("_keys")] == told


# Keys of equal halves.


@both
async def test_a_key_of_equal_halves_is_started_and_used_by_hardware(strict):
    system = await make_system(strict, dm0="0 64 linear rich 0")
    device = system.device("dm0")
    if not strict:
        refused(CryptoError, errno.EINVAL, start_using_key, device, WEAK)
        return
    start_using_key(device, WEAK)
    await write(device, 0, TEXT, WEAK, 9)
    want = reference_xts.encrypt(bytes(WEAK.raw), 4096, 9, TEXT)
    assert medium(system.disks["rich"], 0, len(TEXT)) == want
    assert await read(device, 0, len(TEXT), WEAK, 9) == TEXT


@pytest.mark.parametrize("op", [Op.READ, Op.WRITE])
async def test_a_key_of_equal_halves_fails_its_first_bio_in_software_with_einval(op):
    system = await make_system(dm0=MIXED)
    device = system.device("dm0")
    start_using_key(device, WEAK)
    bio = Bio(op, 0, 64, memoryview(bytearray(TEXT)), CryptContext(WEAK, 0))
    assert "the two halves of an XTS key are equal" in await failed(errno.EINVAL, device, bio)
    evict_key(device, WEAK)


@both
async def test_without_software_a_key_is_enopkg_unless_it_is_native_all_over(strict, monkeypatch):
    system = await make_system(strict, dm0="0 64 linear rich 0")
    key = make_key("s", 4096, mode="SM4-XTS")
    monkeypatch.setitem(EVP_MODES, "SM4-XTS", ("SM5", "xts", 32))
    refused(CryptoError, errno.ENOPKG, start_using_key, system.device("dm0"), key)
    system.swap_engine(
        "rich", InlineEngine(Capabilities.of({MODE: (512, 4096), key.config.mode: [4096]}, 8), 1)
    )
    system.load("dm0", "0 64 linear rich 0")
    await system.resume("dm0")
    if strict:
        start_using_key(system.device("dm0"), key)
    else:
        refused(CryptoError, errno.ENOPKG, start_using_key, system.device("dm0"), key)


async def test_an_engine_gained_later_takes_such_a_key_too():
    system = await make_system()
    disk = system.disks["poor"]
    start_using_key(disk, WEAK)
    system.swap_engine("poor", InlineEngine(Capabilities.of({MODE: [4096]}, 8), 0))
    await write(disk, 0, TEXT, WEAK)
    assert await read(disk, 0, len(TEXT), WEAK) == TEXT
