"""Refusals of contexts, keys, bios and tables: the kernel's errno, and a sentence that says it.

Each holds with and without strict mode, before any effect, on a disk and through mapped devices.
"""

import errno

import pytest

from fusedm.block import FLUSH, Bio, Capabilities, CryptContext, CryptoConfig, CryptoKey, Op
from fusedm.block.errors import BlockIOError, CryptoError, KeyBusy, TableError
from fusedm.crypto import evict_key, start_using_key, submit_bio, submit_bio_nowait
from fusedm.system import System
from tests.helpers.builders import MODE, make_key, medium, read
from tests.helpers.strict import both, make_system

KEY = make_key("k", 4096)
NARROW = make_key("narrow", 512, dun_bytes=1)
EVERYWHERE = pytest.mark.parametrize("name", ["rich", "poor", "all", "some"])


def words(sectors: int) -> memoryview:
    return memoryview(bytearray(b"x" * 512 * sectors))


async def system_of(strict: bool) -> System:
    """Disks, and mapped devices all native, mixed, and without a table."""
    mixed = "0 32 linear rich 64\n32 32 linear poor 0"
    system = await make_system(strict, all="0 64 linear rich 0", some=mixed)
    system.add_mapped("bare")
    return system


# Configs and keys.


@pytest.mark.parametrize(
    ("mode", "unit", "dun_bytes", "text"),
    [
        ("", 4096, 8, "mode '' is unknown: the modes are"),
        ("INVALID", 4096, 8, "mode 'INVALID' is unknown: the modes are"),
        ("aes-256-xts", 4096, 8, "mode 'aes-256-xts' is unknown: the modes are"),
        (MODE, 4096, 0, "dun_bytes 0 is not in 1..16 (IV size of AES-256-XTS)"),
        (MODE, 4096, -1, "dun_bytes -1 is not in 1..16 (IV size of AES-256-XTS)"),
        (MODE, 4096, 17, "dun_bytes 17 is not in 1..16 (IV size of AES-256-XTS)"),
        (MODE, 0, 8, "data_unit_size 0 is not a power of two in 512..65536"),
        (MODE, -4096, 8, "data_unit_size -4096 is not a power of two in 512..65536"),
        (MODE, 4095, 8, "data_unit_size 4095 is not a power of two in 512..65536"),
        (MODE, 3 * 512, 8, "data_unit_size 1536 is not a power of two in 512..65536"),
        (MODE, 256, 8, "data_unit_size 256 is not a power of two in 512..65536"),
        (MODE, 1 << 17, 8, "data_unit_size 131072 is not a power of two in 512..65536"),
    ],
)
def test_a_config_that_cannot_be_is_einval(mode, unit, dun_bytes, text):
    with pytest.raises(CryptoError) as caught:
        CryptoConfig(mode, unit, dun_bytes)
    assert caught.value.errno == errno.EINVAL
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    ("modes", "dun_bytes", "text"),
    [
        ({"INVALID": [4096]}, 8, "mode 'INVALID' is unknown: the modes are"),
        ({MODE: [4097]}, 8, "data_unit_size 4097 is not a power of two in 512..65536"),
        ({MODE: [4096]}, 0, "max_dun_bytes 0 is not in 1..32"),
        ({MODE: [4096]}, 33, "max_dun_bytes 33 is not in 1..32"),
    ],
)
def test_capabilities_that_cannot_be_are_einval(modes, dun_bytes, text):
    with pytest.raises(CryptoError) as caught:
        Capabilities.of(modes, dun_bytes)
    assert caught.value.errno == errno.EINVAL
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize("size", [0, 63, 65, 128])
def test_a_key_of_the_wrong_size_is_einval(size):
    with pytest.raises(CryptoError) as caught:
        CryptoKey("k", CryptoConfig(MODE, 4096, 8), bytes(size))
    assert caught.value.errno == errno.EINVAL
    assert str(caught.value) == f"key 'k': {size} bytes given, {MODE} needs 64"


# Bios.

BIOS = {
    "part of a unit": (
        Bio.write(0, words(9), CryptContext(KEY, 0)),
        errno.EINVAL,
        "is 4608 bytes, not a multiple of the data unit size 4096",
    ),
    "less than a unit": (
        Bio.read(0, words(1), CryptContext(KEY, 0)),
        errno.EINVAL,
        "is 512 bytes, not a multiple of the data unit size 4096",
    ),
    "dun outgrows its bytes": (
        Bio.write(0, words(2), CryptContext(NARROW, 255)),
        errno.EINVAL,
        "data unit numbers 255..256 do not fit 1 DUN bytes",
    ),
    "dun below 0": (
        Bio.write(0, words(1), CryptContext(NARROW, -1)),
        errno.EINVAL,
        "data unit numbers -1..-1 do not fit 1 DUN bytes",
    ),
    "discard with a context": (
        Bio(Op.DISCARD, 0, 8, crypt=CryptContext(KEY, 0)),
        errno.EIO,
        "has a context but no data",
    ),
    "zeroing with a context": (
        Bio(Op.WRITE_ZEROES, 0, 8, crypt=CryptContext(KEY, 0)),
        errno.EIO,
        "has a context but no data",
    ),
    "flush with a context": (
        Bio(Op.FLUSH, 0, 0, crypt=CryptContext(KEY, 0)),
        errno.EIO,
        "has a context but no data",
    ),
    "past the end": (
        Bio.write(1 << 20, words(8), CryptContext(KEY, 0)),
        errno.EIO,
        "is not within the device",
    ),
    "never started": (
        Bio.write(0, words(8), CryptContext(make_key("new", 4096, 16), 0)),
        errno.EIO,
        "used before start_using_key readied the fallback",
    ),
}


@both
@EVERYWHERE
@pytest.mark.parametrize("what", BIOS)
async def test_a_bio_that_cannot_be_is_refused_before_any_effect(strict, name, what):
    system = await system_of(strict)
    device, (bio, number, text) = system.device(name), BIOS[what]
    if what != "never started":
        start_using_key(device, KEY)
        start_using_key(device, NARROW)
    for submit in (submit_bio, None):
        with pytest.raises(BlockIOError) as caught:
            await submit(device, bio) if submit else submit_bio_nowait(device, bio)
        assert caught.value.errno == number
        assert text in str(caught.value)
    assert all(not any(medium(disk)) for disk in system.disks.values())
    assert all(disk.stats.in_flight == 0 for disk in system.disks.values())


@both
async def test_a_bio_out_of_line_with_the_blocks_is_einval(strict):
    system = await make_system(strict)
    system.disks["poor"].limits = type(system.disks["poor"].limits)(4096, 4096)
    with pytest.raises(BlockIOError, match="not aligned to 4096-byte logical blocks") as caught:
        await submit_bio(system.disks["poor"], Bio.write(1, words(8)))
    assert caught.value.errno == errno.EINVAL


@both
async def test_a_bio_on_a_device_without_a_table_is_eio(strict):
    system = await system_of(strict)
    for bio in (FLUSH, Bio.write(0, words(8), CryptContext(KEY, 0))):
        with pytest.raises(BlockIOError) as caught:
            await submit_bio(system.device("bare"), bio)
        assert caught.value.errno == errno.EIO


# Eviction.


@both
@pytest.mark.parametrize("name", ["rich", "all", "some"])
async def test_eviction_in_use_is_ebusy_and_changes_nothing(strict, name):
    system = await system_of(strict)
    device, rich = system.device(name), system.disks["rich"]
    start_using_key(device, KEY)
    hold = await rich.engine.slots.take(KEY)
    with pytest.raises(KeyBusy, match="key 'k' is in use in keyslot 0") as caught:
        evict_key(device, KEY)
    assert caught.value.errno == errno.EBUSY
    assert rich.engine.slots.slots.index_of(KEY) == 0
    hold.release()
    evict_key(device, KEY)
    assert rich.engine.slots.slots.index_of(KEY) is None


@both
@EVERYWHERE
async def test_evicting_a_key_that_was_never_used_is_done_at_once(strict, name):
    evict_key((await system_of(strict)).device(name), KEY)


# Tables.


@both
@pytest.mark.parametrize(
    ("text", "number", "sentence"),
    [
        ("", errno.EINVAL, "table: is empty"),
        ("0 8", errno.EINVAL, "table line 1: '0 8' is not `start length type arguments`"),
        ("8 8 zero", errno.EINVAL, "table line 1: zero: start 8: the first target must start at 0"),
        ("0 8 zero\n16 8 zero", errno.EINVAL, "table line 2: zero: start 16: leaves a gap"),
        ("0 8 zero\n4 8 zero", errno.EINVAL, "table line 2: zero: start 4: overlaps"),
        ("0 0 zero", errno.EINVAL, "table line 1: zero: length 0"),
        ("0 x zero", errno.EINVAL, "table line 1: zero: length: 'x' is not a number"),
        ("0 8 nothing", errno.EINVAL, "table line 1: target type 'nothing' is unknown"),
        (f"0 {1 << 60} zero", errno.EINVAL, "table line 1: zero: length: 0 + "),
        ("0 8 linear rich 1020", errno.EINVAL, "table line 1: linear: 1020 + 8 sectors ends past"),
        ("0 8 linear rich 12x", errno.EINVAL, "table line 1: linear: argument 2: offset: '12x'"),
        ("0 8 linear nobody 0", errno.ENXIO, "table line 1: linear: argument 1: dev: 'nobody'"),
        ("0 8 linear all 0", errno.EINVAL, "table: all would lie below itself (a cycle)"),
    ],
)
async def test_a_table_that_cannot_be_is_refused_and_nothing_is_loaded(
    strict, text, number, sentence
):
    system = await system_of(strict)
    with pytest.raises(TableError) as caught:
        system.load("all", text)
    assert caught.value.errno == number
    assert str(caught.value).startswith(sentence)
    assert system.device("all").inactive is None
    assert await read(system.device("all"), 0, 512) == bytes(512)
