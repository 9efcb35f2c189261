"""What crypt, inlinecrypt and default-key leave on media, and how they live with contexts."""

import errno

import pytest
import trio

from fusedm.block import Bio, Op
from fusedm.block.crypt_ctx import KeyType
from fusedm.block.errors import BlockIOError, CryptoError, StackError
from fusedm.crypto import start_using_key, submit, submit_bio, submit_bio_nowait
from fusedm.dm import MappedDevice
from fusedm.files.device_file import read as read_file
from fusedm.files.device_file import write as write_file
from fusedm.files.device_file import zero
from fusedm.stores import FailOp, FaultyStore, MemoryStore
from fusedm.system import System
from tests.helpers import reference_adiantum, reference_dm_crypt, reference_xts
from tests.helpers.builders import (
    assert_nothing_is_held,
    load,
    make_disk,
    make_key,
    make_mapped,
    medium,
    patch,
    pattern,
    read,
    write,
    write_bio,
)

XTS = "aes-xts-plain64"
RAW = bytes(range(1, 65))
KEY = RAW.hex()
LARGE = "2 sector_size:4096 iv_large_sectors"
TEXT = bytes(pattern(64 << 10))
SLOW = "aes-cbc-essiv:sha256"


def line(target: str, options: str = "", cipher: str = XTS, key: str = KEY, dev: str = "d0") -> str:
    return f"0 512 {target} {cipher} {key} 80 {dev} 16 {options}"


CASES = [
    ("crypt", XTS, "", 512, False),
    ("crypt", XTS, "1 sector_size:4096", 4096, False),
    ("crypt", XTS, LARGE, 4096, True),
    ("inlinecrypt", XTS, "", 512, False),
    ("inlinecrypt", XTS, LARGE, 4096, True),
    ("default-key", XTS, "", 512, False),
    ("default-key", XTS, LARGE, 4096, True),
]


@pytest.mark.parametrize(("target", "cipher", "options", "size", "large"), CASES)
@pytest.mark.parametrize("slots", [None, 2], ids=["software", "engine"])
async def test_what_is_on_the_medium_is_that_of_dm_crypt(
    target, cipher, options, size, large, slots
):
    disk = make_disk(slots=slots)
    mapped = await make_mapped(line(target, options, cipher), disk)
    await write(mapped, 24, TEXT)
    wanted = reference_dm_crypt.encrypt(cipher, RAW, 80 + 24, TEXT, size, large)
    assert medium(disk, 40, len(TEXT)) == wanted
    assert medium(disk, 0, 40 * 512) == bytes(40 * 512)
    assert await read(mapped, 24, len(TEXT)) == TEXT
    assert_nothing_is_held(disk, mapped)


@pytest.mark.parametrize("cipher", [SLOW, "aes-ecb", "aes:2-cbc-benbi", "capi:cbc(aes)-eboiv"])
async def test_other_ciphers_are_done_in_a_worker_thread(cipher):
    disk, key = make_disk(), KEY[:64]
    mapped = await make_mapped(line("crypt", cipher=cipher, key=key), disk)
    await write(mapped, 0, TEXT)
    old = cipher.replace("capi:cbc(aes)", "aes-cbc")
    assert medium(disk, 16, len(TEXT)) == reference_dm_crypt.encrypt(old, RAW[:32], 80, TEXT)
    assert await read(mapped, 0, len(TEXT)) == TEXT


async def test_adiantum_of_default_key_is_that_of_blk_crypto():
    disk, key = make_disk(), KEY[:64]
    words = f"xchacha12,aes-adiantum-plain64 {key} 80 d0 0 {LARGE}"
    mapped = await make_mapped(f"0 512 default-key {words}", disk)
    await write(mapped, 0, TEXT[:8192])
    wanted = reference_adiantum.encrypt(RAW[:32], 4096, 10, TEXT[:8192])
    assert medium(disk, 0, 8192) == wanted


async def test_a_write_leaves_the_callers_buffer_alone():
    mapped = await make_mapped(line("crypt"), make_disk())
    data = bytearray(TEXT)
    await submit_bio(mapped, Bio.write(0, memoryview(data)))
    assert data == TEXT


async def test_the_compiled_cipher_works_on_the_spot():
    disk = make_disk()
    mapped = await make_mapped(line("crypt"), disk)
    submit_bio_nowait(mapped, write_bio(0, TEXT))
    data = bytearray(len(TEXT))
    submit_bio_nowait(mapped, Bio.read(0, memoryview(data)))
    assert data == TEXT


async def test_a_few_sectors_of_another_cipher_are_done_on_the_spot():
    mapped = await make_mapped(line("crypt", cipher=SLOW, key=KEY[:64]), make_disk())
    submit_bio_nowait(mapped, write_bio(0, TEXT[:4096]))
    data = bytearray(4096)
    submit_bio_nowait(mapped, Bio.read(0, memoryview(data)))
    assert data == TEXT[:4096]


async def test_less_than_a_block_is_patched_in_clear():
    mapped = await make_mapped(line("crypt", LARGE), make_disk())
    await write(mapped, 0, TEXT)
    await submit(mapped, (patch(8, 4096, 100, b"new"),))
    wanted = TEXT[: 4096 + 100] + b"new" + TEXT[4096 + 103 :]
    assert await read(mapped, 0, len(TEXT)) == wanted


@pytest.mark.parametrize("op", [Op.READ, Op.WRITE])
async def test_an_error_below_is_the_error_above(op):
    store = FaultyStore(MemoryStore(1024 * 512), 1, [FailOp(op=op)])
    mapped = await make_mapped(line("crypt"), make_disk(store=store))
    with pytest.raises(BlockIOError):
        await submit_bio(mapped, Bio(op, 0, 8, memoryview(bytearray(4096))))


@pytest.mark.parametrize("target", ["crypt", "inlinecrypt"])
async def test_a_context_from_above_is_encrypted_on_top(target):
    disk, own = make_disk(slots=2), make_key("own", 4096)
    mapped = await make_mapped(line(target), disk, keys=[own])
    await write(mapped, 0, TEXT, own, 7)
    once = reference_xts.encrypt(bytes(own.raw), 4096, 7, TEXT)
    assert medium(disk, 16, len(TEXT)) == reference_dm_crypt.encrypt(XTS, RAW, 80, once)
    assert await read(mapped, 0, len(TEXT), own, 7) == TEXT


@pytest.mark.parametrize("slots", [None, 2], ids=["software", "engine"])
async def test_a_context_from_above_takes_the_place_of_the_default_key(slots):
    disk, own = make_disk(slots=slots), make_key("own", 4096)
    mapped = await make_mapped(line("default-key"), disk, keys=[own])
    await write(mapped, 0, TEXT, own, 7)
    assert medium(disk, 16, len(TEXT)) == reference_xts.encrypt(bytes(own.raw), 4096, 7, TEXT)
    assert await read(mapped, 0, len(TEXT), own, 7) == TEXT


async def test_data_units_that_a_split_cuts_are_not_encrypted_with_the_default_key_as_well():
    disk, own = make_disk(slots=2), make_key("own", 4096)
    text = f"0 12 default-key {XTS} {KEY} 0 d0 0\n12 52 default-key {XTS} {KEY} 12 d0 12"
    mapped = await make_mapped(text, disk, keys=[own])
    await write(mapped, 0, TEXT[:16384], own, 7)
    wanted = reference_xts.encrypt(bytes(own.raw), 4096, 7, TEXT[:16384])
    assert medium(disk, 0, 16384) == wanted
    assert await read(mapped, 0, 16384, own, 7) == TEXT[:16384]


async def test_default_key_offers_what_lies_below_and_the_others_nothing():
    for target, modes in (
        ("default-key", {"AES-256-XTS"}),
        ("crypt", set()),
        ("inlinecrypt", set()),
    ):
        mapped = await make_mapped(line(target), make_disk(slots=2))
        assert set(mapped.capabilities.modes) == modes


async def test_inlinecrypt_uses_the_engine_below():
    disk = make_disk(slots=2)
    mapped = await make_mapped(line("inlinecrypt"), disk)
    await write(mapped, 0, TEXT)
    assert (disk.counts.native, disk.counts.fallback) == (1, 0)


async def test_the_key_of_inlinecrypt_leaves_the_engine_with_its_table():
    disk = make_disk(slots=2)
    mapped = await make_mapped(line("inlinecrypt"), disk)
    await write(mapped, 0, TEXT)
    key = mapped.live.entries[0].target.crypto_key
    assert disk.engine.slots.slot_of(key) is not None
    await load(mapped, "0 8 linear d0 0", disk)
    await mapped.resume()
    assert disk.engine.slots.slot_of(key) is None
    assert not any(key.raw)


@pytest.mark.parametrize(
    ("target", "option"),
    [("inlinecrypt", "1 keytype:hw-wrapped"), ("default-key", "1 wrappedkey_v0")],
)
async def test_a_wrapped_key_without_an_engine_for_it_is_refused_at_load(target, option):
    mapped = MappedDevice("dm0")
    with pytest.raises(CryptoError, match="hardware-wrapped") as caught:
        await load(mapped, line(target, option), make_disk(slots=2))
    assert caught.value.errno == errno.EOPNOTSUPP
    assert mapped.inactive is None


@pytest.mark.parametrize(
    "target", ["inlinecrypt 1 keytype:hw-wrapped", "default-key 1 wrappedkey_v0"]
)
async def test_an_engine_that_a_targets_wrapped_key_needs_is_not_taken_away(target):
    name, _, options = target.partition(" ")
    system, disk = System(), make_disk(slots=2, key_types=[KeyType.HW_WRAPPED])
    manager = disk.engine.key_manager
    system.add_disk(disk)
    system.add_mapped("dm0")
    blob = manager.prepare_key(manager.import_key(RAW[:32]))
    await load_in(system, line(name, options, key=bytes(blob).hex()))
    mapped = system.mapped_device("dm0")
    await write(mapped, 0, TEXT)
    assert await read(mapped, 0, len(TEXT)) == TEXT
    with pytest.raises(CryptoError) as caught:
        system.swap_engine("d0", None)
    assert caught.value.errno == errno.EOPNOTSUPP
    await write(mapped, 0, TEXT)


async def test_a_key_of_equal_halves_is_refused_at_load():
    mapped = MappedDevice("dm0")
    with pytest.raises(CryptoError, match="the two halves of an XTS key are equal"):
        await load(mapped, line("inlinecrypt", key=KEY[:64] * 2), make_disk())


@pytest.mark.parametrize("sector", [4, 1])
async def test_a_part_of_a_large_sector_is_refused(sector):
    mapped = await make_mapped(line("crypt", LARGE), make_disk())
    with pytest.raises(BlockIOError):
        await read(mapped, sector, 512)


@pytest.mark.parametrize("target", ["crypt", "inlinecrypt", "default-key"])
@pytest.mark.parametrize("options", ["1 allow_discards", "3 allow_discards" + LARGE[1:]])
async def test_what_was_discarded_reads_as_zeros(target, options):
    mapped = await make_mapped(line(target, options), make_disk())
    await write(mapped, 0, TEXT)
    await submit_bio(mapped, Bio(Op.DISCARD, 8, 16))
    assert await read(mapped, 0, len(TEXT)) == TEXT[:4096] + bytes(8192) + TEXT[12288:]


@pytest.mark.parametrize("target", ["crypt", "inlinecrypt", "default-key"])
async def test_without_allow_discards_zeros_on_the_medium_read_as_noise(target):
    mapped = await make_mapped(line(target), make_disk())
    assert await read(mapped, 0, 512) != bytes(512)
    with pytest.raises(BlockIOError) as caught:
        await submit_bio(mapped, Bio(Op.DISCARD, 8, 16))
    assert caught.value.errno == errno.EOPNOTSUPP


@pytest.mark.parametrize("target", ["crypt", "inlinecrypt", "default-key"])
async def test_a_hole_punched_through_a_view_of_a_key_reads_as_zeros(target):
    system = System()
    system.add_disk(make_disk("d0", slots=2))
    system.add_mapped("dm0")
    await load_in(system, line(target, "1 allow_discards"))
    system.add_key(make_key("own", 4096))
    view = system.add_view("v", "dm0", "own", 5)
    await write_file(view, 0, memoryview(TEXT))
    await zero(view, 4096, 8192, punch=True)
    data = await read_file(view, 0, len(TEXT))
    assert data == TEXT[:4096] + bytes(8192) + TEXT[12288:]


# Keys of crypt while the device lives.


async def message(mapped: MappedDevice, text: str) -> str:
    return await mapped.message(0, text.split())


async def test_a_key_may_be_changed_while_the_device_is_suspended():
    disk = make_disk()
    mapped = await make_mapped(line("crypt"), disk)
    with pytest.raises(StackError, match="must be suspended") as caught:
        await message(mapped, f"key set {KEY[::-1]}")
    assert caught.value.errno == errno.EINVAL
    await mapped.suspend()
    await message(mapped, f"key set {KEY[::-1]}")
    await mapped.resume()
    await write(mapped, 0, TEXT)
    wanted = reference_dm_crypt.encrypt(XTS, bytes.fromhex(KEY[::-1]), 80, TEXT)
    assert medium(disk, 16, len(TEXT)) == wanted


async def test_a_wiped_key_keeps_the_device_suspended_until_there_is_another():
    mapped = await make_mapped(line("crypt"), make_disk())
    await write(mapped, 0, TEXT)
    await mapped.suspend()
    await message(mapped, "key wipe")
    with pytest.raises(StackError) as caught:
        await mapped.resume()
    assert caught.value.errno == errno.EAGAIN
    assert mapped.suspended
    await message(mapped, f"key set {KEY}")
    await mapped.resume()
    assert await read(mapped, 0, len(TEXT)) == TEXT


async def test_a_table_with_another_key_may_replace_one_whose_key_is_wiped():
    disk = make_disk()
    mapped = await make_mapped(line("crypt"), disk)
    await write(mapped, 0, TEXT)
    await mapped.suspend()
    await message(mapped, "key wipe")
    await load(mapped, line("crypt"), disk)
    await mapped.resume()
    assert await read(mapped, 0, len(TEXT)) == TEXT


async def test_many_writes_at_once_through_a_worker_thread_keep_apart():
    disk = make_disk()
    mapped = await make_mapped(line("crypt", cipher=SLOW, key=KEY[:64]), disk)
    parts = [bytes(pattern(32 << 10, seed)) for seed in range(8)]
    async with trio.open_nursery() as nursery:
        for index, part in enumerate(parts):
            nursery.start_soon(write, mapped, index * 64, part)
    assert await read(mapped, 0, 8 * (32 << 10)) == b"".join(parts)
    assert_nothing_is_held(disk, mapped)


# Strict mode.


async def strict_system() -> System:
    system = System(strict=True)
    for name, slots in (("d0", 2), ("d1", None)):
        system.add_disk(make_disk(name, slots=slots))
    return system


@pytest.mark.parametrize("dev", ["d0", "d1"])
async def test_in_strict_mode_the_fallback_of_the_device_below_serves_inlinecrypt(dev):
    system = await strict_system()
    system.add_mapped("dm0")
    mapped = system.mapped_device("dm0")
    await load_in(system, line("inlinecrypt", dev=dev))
    await write(mapped, 0, TEXT)
    wanted = reference_dm_crypt.encrypt(XTS, RAW, 80, TEXT)
    assert medium(system.disk(dev), 16, len(TEXT)) == wanted
    assert await read(mapped, 0, len(TEXT)) == TEXT


async def test_in_strict_mode_what_the_fallback_of_default_key_encrypts_is_left_alone():
    system = await strict_system()
    system.add_mapped("dm0")
    await load_in(system, line("default-key", dev="d1"))
    mapped, own = system.mapped_device("dm0"), make_key("own", 4096)
    start_using_key(mapped, own)
    await write(mapped, 0, TEXT, own, 7)
    wanted = reference_xts.encrypt(bytes(own.raw), 4096, 7, TEXT)
    assert medium(system.disk("d1"), 16, len(TEXT)) == wanted


async def load_in(system: System, text: str) -> None:
    system.load("dm0", text)
    await system.resume("dm0")
