"""Reading and writing bytes of a view over bios of whole blocks."""

import errno

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fusedm.block import Bio
from fusedm.block.errors import BlockIOError
from fusedm.crypto import PatchBlock, start_using_key
from fusedm.files import device_file
from fusedm.stores import FaultyStore, MemoryStore, VolatileCacheStore
from fusedm.system import View
from tests.helpers import reference_xts
from tests.helpers.builders import (
    assert_nothing_is_held,
    contents,
    make_disk,
    make_key,
    make_mapped,
    medium,
    pattern,
)

KEY = make_key("k", 4096)


def make_view(size_sectors: int = 64, dun_base: int = 7) -> View:
    """A view in units of 4096 bytes of a disk with an engine."""
    disk = make_disk(sectors=size_sectors, slots=2)
    start_using_key(disk, KEY)
    return View("v", disk, KEY, dun_base)


def in_clear(view: View, offset: int = 0, length: int | None = None) -> bytes:
    """What the medium of a view holds, decrypted by the reference."""
    raw = medium(view.device)[: view.size]
    plain = reference_xts.decrypt(bytes(KEY.raw), 4096, view.dun_base, raw)
    return plain[offset : offset + (view.size if length is None else length)]


async def test_an_unaligned_write_changes_its_bytes_only() -> None:
    view = make_view()
    old = pattern(view.size, seed=1)
    await device_file.write(view, 0, memoryview(old))
    await device_file.write(view, 4000, memoryview(pattern(9000, seed=2)))
    expected = old[:4000] + pattern(9000, seed=2) + old[13000:]
    assert in_clear(view) == expected


@pytest.mark.parametrize(("offset", "length"), [(0, 4096), (1, 1), (4095, 2), (100, 20000)])
async def test_a_read_gives_just_the_bytes_asked_for(offset: int, length: int) -> None:
    view = make_view()
    data = pattern(view.size)
    await device_file.write(view, 0, memoryview(data))
    assert await device_file.read(view, offset, length) == data[offset : offset + length]


async def test_a_read_is_short_at_the_end_and_empty_beyond() -> None:
    view = make_view()
    assert len(await device_file.read(view, view.size - 10, 4096)) == 10
    assert len(await device_file.read(view, view.size, 1)) == 0
    assert len(await device_file.read(view, view.size + 4096, 1)) == 0


async def test_what_does_not_fill_a_data_unit_at_the_end_is_not_in_a_view() -> None:
    assert make_view(size_sectors=63).size == 7 * 4096


@pytest.mark.parametrize("offset_from_end", [-1, 0, 4096])
async def test_a_write_past_the_end_writes_nothing(offset_from_end: int) -> None:
    view = make_view()
    with pytest.raises(BlockIOError, match=f"ends past the end at {view.size}") as caught:
        await device_file.write(view, view.size + offset_from_end, memoryview(b"xy"))
    assert caught.value.errno == errno.ENOSPC
    assert medium(view.device) == bytes(view.size)


async def test_an_empty_write_does_nothing() -> None:
    view = make_view()
    await device_file.write(view, 5, memoryview(b""))
    assert view.device.stats.ios == [0, 0, 0, 0]


async def test_a_durable_write_has_reached_the_medium() -> None:
    inner = MemoryStore(8192)
    view = View("d", make_disk(store=VolatileCacheStore(inner)))
    await device_file.write(view, 0, memoryview(b"a" * 512))
    assert contents(inner, 0, 512) == bytes(512)
    await device_file.write(view, 512, memoryview(b"b" * 512), durable=True)
    assert contents(inner, 0, 1024) == b"a" * 512 + b"b" * 512


async def test_flush_reaches_every_store() -> None:
    inner = [MemoryStore(8192), MemoryStore(8192)]
    disks = [make_disk(f"d{i}", store=VolatileCacheStore(store)) for i, store in enumerate(inner)]
    mapped = await make_mapped("0 16 linear d0 0\n16 16 linear d1 0", *disks)
    view = View("dm0", mapped)
    await device_file.write(view, 0, memoryview(b"x" * 16384))
    await device_file.flush(view)
    assert [contents(store) for store in inner] == [b"x" * 8192] * 2


def test_an_unaligned_write_is_two_patches_and_one_bio() -> None:
    requests = device_file.write_requests(make_view(), 4000, memoryview(bytes(9000)))
    assert [type(request) for request in requests] == [PatchBlock, Bio, PatchBlock]


def test_the_contexts_of_a_write_count_on_from_the_dun_base() -> None:
    requests = device_file.write_requests(make_view(), 8192, memoryview(bytes(8192)))
    assert [request.crypt.dun for request in requests] == [7 + 2]


def test_whole_blocks_go_down_without_a_copy() -> None:
    data = memoryview(bytearray(8192))
    (bio,) = device_file.write_requests(make_view(), 0, data)
    assert bio.data.obj is data.obj


async def test_two_patches_of_one_block_at_once_lose_nothing() -> None:
    store = FaultyStore(MemoryStore(4096, 4096), seed=0)
    view = View("d", make_disk(store=store))
    store.hold()
    async with trio.open_nursery() as nursery:
        for index in range(8):
            nursery.start_soon(device_file.write, view, index, memoryview(bytes([index + 1])))
        await wait_all_tasks_blocked()
        store.release()
    assert contents(store, 0, 8) == bytes(range(1, 9))
    assert_nothing_is_held(view.device)
