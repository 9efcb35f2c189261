"""Views of a part of a device: where bytes lie, how data units count, and what cannot be."""

import errno

import pytest

from fusedm.block import Op
from fusedm.block.errors import BlockIOError, CryptoError, StackError
from fusedm.crypto import submit_bio
from fusedm.files import device_file
from fusedm.files.holes import seek
from fusedm.system import System
from tests.helpers import reference_xts
from tests.helpers.builders import make_disk, make_key, medium, pattern

KIB = 1024
SIZE = 256 * KIB


async def make_system(block: int = 512) -> System:
    """d0 of 256 KiB with an engine, dm0 over all of it, keys of two unit sizes."""
    system = System()
    system.add_disk(make_disk("d0", SIZE // 512, slots=2, block=block))
    system.add_mapped("dm0")
    system.load("dm0", f"0 {SIZE // 512} linear d0 0")
    await system.resume("dm0")
    system.add_key(make_key("k", 4096))
    system.add_key(make_key("other", 4096))
    system.add_key(make_key("small", 512))
    return system


async def test_a_view_begins_at_its_start_and_has_its_length() -> None:
    system = await make_system()
    view = system.add_view("v", "d0", "k", 7, start=16 * KIB, length=32 * KIB)
    bio = view.bio(Op.READ, 8192, memoryview(bytearray(4096)))
    assert (view.size, view.sector(0), bio.sector) == (32 * KIB, 32, 48)


async def test_data_units_count_from_the_start_of_the_view() -> None:
    system = await make_system()
    view = system.add_view("v", "dm0", "k", 7, start=16 * KIB, length=32 * KIB)
    text = bytes(pattern(32 * KIB))
    await device_file.write(view, 0, memoryview(text))
    key = bytes(system.keys["k"].raw)
    assert medium(system.disks["d0"], 32, 32 * KIB) == reference_xts.encrypt(key, 4096, 7, text)
    assert medium(system.disks["d0"], 0, 16 * KIB) == bytes(16 * KIB)


async def test_without_a_length_a_view_is_all_that_follows() -> None:
    system = await make_system()
    assert system.add_view("v", "d0", "k", start=16 * KIB).size == SIZE - 16 * KIB


async def test_a_view_becomes_smaller_with_its_device() -> None:
    system = await make_system()
    view = system.add_view("v", "dm0", "k", start=16 * KIB, length=64 * KIB)
    system.load("dm0", "0 72 linear d0 0")
    await system.resume("dm0")
    assert view.size == 20 * KIB
    with pytest.raises(BlockIOError, match="past the end at 20480"):
        await device_file.write(view, 20 * KIB, memoryview(b"x"))
    system.load("dm0", "0 24 linear d0 0")
    await system.resume("dm0")
    assert view.size == 0


async def test_views_under_several_keys_share_a_device_without_meeting() -> None:
    system = await make_system()
    texts = {name: bytes(pattern(64 * KIB, seed)) for seed, name in enumerate("abc")}
    views = [
        system.add_view("a", "d0", "k", start=0, length=64 * KIB),
        system.add_view("b", "dm0", "other", 9, start=64 * KIB, length=64 * KIB),
        system.add_view("c", "dm0", "small", start=128 * KIB, length=64 * KIB),
    ]
    for view in views:
        await device_file.write(view, 0, memoryview(texts[view.name]))
    for view in views:
        assert await device_file.read(view, 0, 64 * KIB) == texts[view.name]
    raw = medium(system.disks["d0"])
    assert raw[192 * KIB :] == bytes(64 * KIB)


async def test_a_view_neither_reads_nor_writes_past_its_own_end() -> None:
    system = await make_system()
    view = system.add_view("v", "d0", "k", start=0, length=8192)
    with pytest.raises(BlockIOError, match="ends past the end at 8192") as caught:
        await device_file.write(view, 8191, memoryview(b"xy"))
    assert caught.value.errno == errno.ENOSPC
    assert len(await device_file.read(view, 8000, 4096)) == 192


@pytest.mark.parametrize("punch", [False, True])
async def test_zeroing_stays_within_the_view(punch: bool) -> None:
    system = await make_system()
    before = system.add_view("before", "d0", "small", length=16 * KIB)
    after = system.add_view("after", "d0", "small", start=48 * KIB)
    view = system.add_view("v", "d0", "k", start=16 * KIB, length=32 * KIB)
    for each in (before, view, after):
        await device_file.write(each, 0, memoryview(b"x" * each.size))
    await device_file.zero(view, 100, SIZE, punch)
    assert await device_file.read(view, 0, SIZE) == b"x" * 100 + bytes(32 * KIB - 100)
    for each in (before, after):
        assert await device_file.read(each, 0, SIZE) == b"x" * each.size


async def test_data_and_holes_are_found_at_offsets_of_the_view() -> None:
    system = await make_system()
    view = system.add_view("v", "dm0", "k", start=16 * KIB, length=64 * KIB)
    raw = system.view("d0")
    for offset in (0, 80 * KIB):
        await device_file.write(raw, offset, memoryview(b"x" * 4096))
    await device_file.write(view, 20 * KIB, memoryview(b"x" * 4096))
    assert await seek(view, 0, for_data=True) == 20 * KIB
    assert await seek(view, 21 * KIB, for_data=False) == 24 * KIB
    assert await seek(view, 0, for_data=False) == 0
    with pytest.raises(BlockIOError, match="no data from 24576 on") as caught:
        await seek(view, 24 * KIB, for_data=True)
    assert caught.value.errno == errno.ENXIO


@pytest.mark.parametrize(
    ("start", "length", "text"),
    [
        (512, None, "view 'v': start 512 is not a multiple of 4096 bytes, its block size"),
        (4096, 512, "view 'v': size 512 is not a multiple of 4096 bytes, its block size"),
        (SIZE, None, f"view 'v': {SIZE} \\+ 4096 bytes ends past d0 \\({SIZE} bytes\\)"),
        (4096, SIZE, f"view 'v': 4096 \\+ {SIZE} bytes ends past d0 \\({SIZE} bytes\\)"),
        (-4096, None, "view 'v': 4096 bytes from -4096 on are no range"),
        (0, 0, "view 'v': 0 bytes from 0 on are no range"),
    ],
)
async def test_a_range_that_cannot_be_is_refused_and_leaves_nothing(start, length, text) -> None:
    system = await make_system()
    with pytest.raises(StackError, match=text) as caught:
        system.add_view("v", "d0", "k", start=start, length=length)
    assert caught.value.errno == errno.EINVAL
    assert "v" not in system.names.created


async def test_a_start_is_aligned_to_the_larger_of_data_unit_and_logical_block() -> None:
    system = await make_system(block=4096)
    with pytest.raises(StackError, match="start 512 is not a multiple of 4096 bytes"):
        system.add_view("v", "d0", "small", start=512)
    assert system.add_view("v", "d0", "small", start=4096).block_size == 4096


async def test_the_last_data_unit_number_is_that_of_the_range() -> None:
    system = await make_system()
    system.add_key(make_key("short", 4096, dun_bytes=1))
    with pytest.raises(CryptoError, match="data unit numbers 250..257 do not fit"):
        system.add_view("v", "d0", "short", 250, start=0, length=32 * KIB)
    assert system.add_view("v", "d0", "short", 248, start=0, length=32 * KIB).dun_base == 248


async def test_a_view_whose_blocks_have_grown_out_of_line_is_refused_bio_by_bio() -> None:
    system = await make_system()
    system.add_disk(make_disk("coarse", SIZE // 512, block=4096))
    view = system.add_view("v", "dm0", "small", start=512)
    system.load("dm0", f"0 {SIZE // 512} linear coarse 0")
    await system.resume("dm0")
    with pytest.raises(BlockIOError, match="not aligned to 4096-byte logical blocks") as caught:
        await submit_bio(view.device, view.bio(Op.READ, 0, memoryview(bytearray(4096))))
    assert caught.value.errno == errno.EINVAL


async def test_a_dun_base_of_more_bits_than_any_mode_has_is_refused_without_its_digits() -> None:
    system = await make_system()
    with pytest.raises(CryptoError, match="view 'v': dun_base has more than 256 bits"):
        system.add_view("v", "d0", "k", 1 << 256)
