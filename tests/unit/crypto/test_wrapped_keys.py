"""Hardware-wrapped keys: what a key manager wraps, prepares and derives, and what it refuses."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusedm.block import Capabilities, CryptoConfig, CryptoKey, KeyType
from fusedm.block.errors import BlockIOError, CryptoError, TableError
from fusedm.crypto import InlineEngine, KeyManager, evict_key, start_using_key
from fusedm.crypto.engine import EngineCiphers
from fusedm.disk import Disk
from fusedm.stores import MemoryStore
from tests.helpers import reference_xts
from tests.helpers.builders import (
    MODE,
    load,
    make_disk,
    make_key,
    make_mapped,
    pattern,
    read,
    read_bio,
    write,
)

RAW = bytes(range(32))
WRAPPED = CryptoConfig(MODE, 512, 8, KeyType.HW_WRAPPED)
LARGE = CryptoConfig(MODE, 4096, 8, KeyType.HW_WRAPPED)


def manager() -> KeyManager:
    """A key manager whose long-term secret is known."""
    return KeyManager(bytearray(b"s" * 32))


def prepared(
    by: KeyManager, raw: bytes = RAW, name: str = "w", config: CryptoConfig = WRAPPED
) -> CryptoKey:
    """A wrapped key ready for use."""
    return CryptoKey(name, config, by.prepare_key(by.import_key(raw)))


def wrapping_disk(name: str, by: KeyManager, slots: int = 2) -> Disk:
    """A disk whose engine takes wrapped keys, and raw ones too."""
    engine = InlineEngine(Capabilities.of({MODE: [512]}, 8, KeyType), slots, key_manager=by)
    return Disk(name, MemoryStore(1024 * 512, 512), engine)


def large_units_disk(by: KeyManager) -> Disk:
    """The same with data units of 4096 bytes as well."""
    return make_disk("d0", slots=2, key_types=KeyType, key_manager=by)


def refused(number: int, work, *arguments) -> str:
    with pytest.raises(CryptoError) as caught:
        work(*arguments)
    assert caught.value.errno == number
    return str(caught.value)


@given(st.binary(min_size=16, max_size=64))
def test_a_blob_fits_the_kernels_limit_and_does_not_show_the_key(raw):
    by = manager()
    long_term = by.import_key(raw)
    ephemeral = by.prepare_key(long_term)
    for blob in (long_term, ephemeral):
        assert WRAPPED.key_size // 2 <= len(blob) <= 128
        assert raw not in blob
    assert len({long_term, ephemeral, by.import_key(raw)}) == 3


@pytest.mark.parametrize("size", [0, 15, 65])
def test_a_raw_key_of_another_size_than_16_to_64_is_einval(size):
    text = refused(errno.EINVAL, manager().import_key, bytes(size))
    assert text == f"a raw key to be wrapped has 16..64 bytes, {size} given"


def test_a_wrapped_key_of_more_than_128_bytes_is_einval():
    text = refused(errno.EINVAL, manager().prepare_key, bytes(129))
    assert text == "a wrapped key has at most 128 bytes, 129 given"


@pytest.mark.parametrize("place", [0, 11, 12, 30, -1])
def test_a_wrapped_key_that_is_corrupt_is_ebadmsg(place):
    by = manager()
    blob = bytearray(by.import_key(RAW))
    blob[place] ^= 1
    assert "not a long-term key of this engine" in refused(errno.EBADMSG, by.prepare_key, blob)
    ready = bytearray(by.prepare_key(by.import_key(RAW)))
    ready[place] ^= 1
    assert "not a prepared key" in refused(errno.EBADMSG, by.software_secret, ready)


@pytest.mark.parametrize("size", [0, 1, 43])
def test_a_wrapped_key_that_is_cut_short_is_ebadmsg(size):
    by = manager()
    refused(errno.EBADMSG, by.prepare_key, by.import_key(RAW)[:size])
    refused(errno.EBADMSG, by.software_secret, bytes(size))


def test_each_form_is_refused_where_the_other_is_wanted():
    by = manager()
    long_term = by.import_key(RAW)
    refused(errno.EBADMSG, by.prepare_key, by.prepare_key(long_term))
    refused(errno.EBADMSG, by.software_secret, long_term)


def test_a_long_term_key_outlives_a_restart_and_a_prepared_one_does_not():
    before, after = manager(), manager()
    long_term = before.import_key(RAW)
    ready = before.prepare_key(long_term)
    refused(errno.EBADMSG, after.software_secret, ready)
    assert after.software_secret(after.prepare_key(long_term)) == before.software_secret(ready)


def test_another_engines_key_is_ebadmsg():
    refused(errno.EBADMSG, KeyManager().prepare_key, manager().import_key(RAW))


def test_a_generated_key_is_another_one_each_time():
    by = manager()
    secrets = {by.software_secret(by.prepare_key(by.generate_key())) for _ in range(3)}
    assert len(secrets) == 3


def test_what_is_derived_says_nothing_of_the_rest():
    by = manager()
    key = prepared(by)
    secret, inline = by.software_secret(key.raw), by.inline_key(key)
    assert (len(secret), len(inline.raw)) == (32, 64)
    assert inline.config == CryptoConfig(MODE, 512, 8)
    assert len({RAW, secret, bytes(inline.raw[:32]), bytes(inline.raw[32:])}) == 4


@given(st.binary(min_size=16, max_size=64), st.binary(min_size=16, max_size=64))
def test_equal_keys_and_only_they_give_equal_secrets(one, other):
    by = manager()
    first, second = (by.software_secret(by.prepare_key(by.import_key(raw))) for raw in (one, other))
    assert (first == second) == (one == other)


def test_the_secret_is_asked_for_once_and_only_when_it_is_needed():
    asked = []

    def secret(make):
        asked.append(make)
        return bytearray(32)

    by = KeyManager(load_secret=secret)
    assert asked == []
    by.prepare_key(by.generate_key())
    assert asked == [True]


def test_a_wiped_manager_opens_nothing_any_more():
    secret = bytearray(b"s" * 32)
    by = KeyManager(secret)
    long_term = by.import_key(RAW)
    ready = by.prepare_key(long_term)
    by.wipe()
    assert secret == bytes(32)
    refused(errno.EBADMSG, by.prepare_key, long_term)
    refused(errno.EBADMSG, by.software_secret, ready)
    KeyManager().wipe()


@pytest.mark.parametrize("size", [31, 129])
def test_a_wrapped_key_has_at_least_the_modes_strength_and_at_most_128_bytes(size):
    text = refused(errno.EINVAL, CryptoKey, "w", WRAPPED, bytes(size))
    assert text == (
        f"key 'w': {size} bytes given, a hardware-wrapped key for AES-256-XTS has 32..128"
    )


# In use.


@pytest.mark.parametrize("slots", [0, 2])
async def test_data_are_encrypted_with_the_derived_key(slots):
    by = manager()
    disk, key = wrapping_disk("d0", by, slots), prepared(by)
    start_using_key(disk, key)
    data = pattern(1024)
    await write(disk, 0, data, key, 7)
    inline = by.inline_key(key)
    assert await read(disk, 0, 1024) == reference_xts.encrypt(
        bytes(inline.raw), 512, 7, bytes(data)
    )
    assert await read(disk, 0, 1024, key, 7) == data


async def test_wrapped_keys_pass_a_mapped_device_where_every_leaf_is_native():
    by = manager()
    disks = wrapping_disk("d0", by), wrapping_disk("d1", by)
    mapped = await make_mapped("0 8 linear d0 0\n8 8 linear d1 0", *disks)
    assert KeyType.HW_WRAPPED in mapped.capabilities.key_types
    key = prepared(by)
    start_using_key(mapped, key)
    data = pattern(8192)
    await write(mapped, 0, data, key)
    assert await read(mapped, 0, 8192, key) == data


async def test_a_wrapped_key_on_software_is_eopnotsupp():
    by = manager()
    disks = wrapping_disk("d0", by), make_disk("d1", slots=2), make_disk("d2")
    mapped = await make_mapped("0 8 linear d0 0\n8 8 linear d2 0", *disks)
    for device in (disks[1], disks[2], mapped):
        text = refused(errno.EOPNOTSUPP, start_using_key, device, prepared(by))
        assert "key 'w' is hardware-wrapped, which no software can use, and not all of" in text
        assert f"{device.name!r} can do AES-256-XTS/512" in text


async def test_a_key_that_one_leaf_cannot_unwrap_is_ebadmsg_and_nothing_is_started():
    by = manager()
    disks = wrapping_disk("d0", by), wrapping_disk("d1", KeyManager())
    mapped = await make_mapped("0 8 linear d0 0\n8 8 linear d1 0", *disks)
    assert "key 'w': not a prepared key" in refused(
        errno.EBADMSG, start_using_key, mapped, prepared(by)
    )
    await load(mapped, "0 8 linear d2 0", make_disk("d2"))


@pytest.mark.parametrize(
    "table",
    [
        "0 8 linear raw0 0",
        "0 8 linear plain0 0",
        "0 8 delay d0 0 0",
        "0 8 error",
        "0 8 zero",
    ],
)
async def test_a_table_that_is_not_native_all_over_is_einval_while_a_wrapped_key_is_used(table):
    by = manager()
    native = wrapping_disk("d0", by)
    others = make_disk("raw0", slots=1), make_disk("plain0")
    mapped = await make_mapped("0 8 linear d0 0", native, keys=[prepared(by)])
    before = mapped.live
    with pytest.raises(TableError, match="key 'w', which is in use, is hardware-wrapped") as caught:
        await load(mapped, table, native, *others)
    assert caught.value.errno == errno.EINVAL
    assert (mapped.live, mapped.inactive) == (before, None)


async def test_once_a_wrapped_key_is_evicted_any_table_is_loaded():
    by = manager()
    native, key = wrapping_disk("d0", by), prepared(by)
    mapped = await make_mapped("0 8 linear d0 0", native, keys=[key])
    evict_key(mapped, key)
    await load(mapped, "0 8 error")
    assert mapped.inactive is not None


async def test_a_table_below_is_refused_for_a_wrapped_key_that_is_used_above():
    by = manager()
    native, key = wrapping_disk("d0", by), prepared(by)
    lower = await make_mapped("0 8 linear d0 0", native, name="lower")
    upper = await make_mapped("0 8 linear lower 0", lower, name="upper", keys=[key])
    with pytest.raises(TableError, match="hardware-wrapped"):
        await load(lower, "0 8 zero")
    assert (lower.inactive, upper.capabilities.supports(key.config)) == (None, True)


@pytest.mark.parametrize("below", ["0 12 linear d0 0\n12 52 linear d0 64", "0 64 striped 1 4 d0 0"])
async def test_a_table_below_that_cuts_the_data_units_of_a_wrapped_key_is_einval(below):
    by = manager()
    native, key = large_units_disk(by), prepared(by, config=LARGE)
    lower = await make_mapped("0 64 linear d0 0", native, name="lower")
    middle = await make_mapped("0 48 linear lower 16", lower, name="middle")
    upper = await make_mapped("0 16 linear middle 8", middle, name="upper", keys=[key])
    with pytest.raises(TableError, match="not all of it can do AES-256-XTS/4096") as caught:
        await load(lower, below, native)
    assert (caught.value.errno, lower.inactive) == (errno.EINVAL, None)
    await load(lower, "0 24 linear d0 0\n24 40 linear d0 64", native)
    await lower.resume()
    await write(upper, 0, pattern(8192), key)
    assert await read(upper, 0, 8192, key) == pattern(8192)


async def test_a_table_from_before_a_wrapped_key_was_used_is_refused_at_its_resume():
    by = manager()
    native, key = wrapping_disk("d0", by), prepared(by)
    lower = await make_mapped("0 8 linear d0 0", native, name="lower")
    upper = await make_mapped("0 8 linear lower 0", lower, name="upper")
    await load(lower, "0 8 delay d0 0 0", native)
    start_using_key(upper, key)
    live = lower.live
    with pytest.raises(TableError, match="key 'w', which is in use, is hardware-wrapped") as caught:
        await lower.resume()
    assert caught.value.errno == errno.EINVAL
    assert (lower.live, lower.inactive, lower.suspended) == (live, None, False)
    assert len(await read(upper, 0, 4096, key)) == 4096


@pytest.mark.parametrize(
    ("target", "option"), [("inlinecrypt", "keytype:hw-wrapped"), ("default-key", "wrappedkey_v0")]
)
async def test_units_of_a_wrapped_key_of_a_target_may_not_be_cut_below(target, option):
    by = manager()
    native = large_units_disk(by)
    lower = await make_mapped("0 8 linear d0 0\n8 56 linear d0 8", native, name="lower")
    word = by.prepare_key(by.import_key(RAW)).hex()
    options = f"3 sector_size:4096 iv_large_sectors {option}"
    line = f"0 16 {target} aes-xts-plain64 {word} 0 lower {{}} {options}"
    with pytest.raises(TableError, match="offset 4: is not a multiple of 8 sectors"):
        await make_mapped(line.format(4), lower)
    mapped = await make_mapped(line.format(8), lower, name="upper")
    await write(mapped, 0, pattern(8192))
    assert await read(mapped, 0, 8192) == pattern(8192)
    with pytest.raises(TableError, match="not all of it can do AES-256-XTS/4096"):
        await load(lower, "0 12 linear d0 0\n12 52 linear d0 12", native)


async def test_a_bio_whose_wrapped_key_would_need_software_is_eopnotsupp():
    by = manager()
    disk = make_disk("d0")
    disk.fallback.start(MODE)
    with pytest.raises(BlockIOError, match="no software can use it") as caught:
        await read(disk, 0, 512, prepared(by))
    assert caught.value.errno == errno.EOPNOTSUPP
    bio, _ = read_bio(0, 512, prepared(by))
    with pytest.raises(BlockIOError, match="'w' is hardware-wrapped"):
        disk.fallback.plan(bio, (), lambda clear: pytest.fail("it went on"))


async def test_that_its_mode_was_never_started_is_found_before_that_a_key_is_wrapped():
    with pytest.raises(BlockIOError, match="used before start_using_key") as caught:
        await read(make_disk("d0"), 0, 512, prepared(manager()))
    assert caught.value.errno == errno.EIO


async def test_a_key_that_was_never_started_and_is_corrupt_fails_its_bio_with_ebadmsg():
    disk = wrapping_disk("d0", manager())
    with pytest.raises(BlockIOError, match="not a prepared key") as caught:
        await read(disk, 0, 512, CryptoKey("w", WRAPPED, bytes(60)))
    assert caught.value.errno == errno.EBADMSG


def test_an_engine_for_raw_keys_only_has_no_key_manager():
    engine = make_disk("d0", slots=1).engine
    assert engine is not None
    assert engine.key_manager is None
    text = refused(errno.EOPNOTSUPP, EngineCiphers().make, prepared(manager()))
    assert text == "key 'w' is hardware-wrapped, this engine takes raw keys only"


def test_an_engine_for_wrapped_keys_has_a_key_manager_of_its_own_unless_it_is_given_one():
    capabilities = Capabilities.of({MODE: [512]}, 8, [KeyType.HW_WRAPPED])
    one, other = InlineEngine(capabilities, 1), InlineEngine(capabilities, 1)
    assert one.key_manager is not None
    assert one.key_manager is not other.key_manager
    by = manager()
    assert InlineEngine(capabilities, 1, key_manager=by).key_manager is by


async def test_an_engine_for_wrapped_keys_only_leaves_raw_ones_to_software():
    engine = InlineEngine(Capabilities.of({MODE: [512]}, 8, [KeyType.HW_WRAPPED]), 1)
    disk, key = Disk("d0", MemoryStore(1 << 16, 512), engine), make_key()
    start_using_key(disk, key)
    await write(disk, 0, pattern(512), key)
    assert (disk.counts.native, disk.counts.fallback) == (0, 1)
