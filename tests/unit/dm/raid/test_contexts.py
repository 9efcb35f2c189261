"""Contexts through arrays: each leg natively or in software, and disks that are hot-added."""

import errno

import pytest
import trio

from fusedm.block import NO_CAPABILITIES, CryptoKey
from fusedm.block.errors import CryptoError, TableError
from fusedm.crypto import evict_key, start_using_key
from fusedm.disk import Disk
from fusedm.dm import MappedDevice
from tests.helpers.arrays import (
    EVERYTHING,
    FailingStore,
    health,
    load,
    make_raid,
    store_of,
    until_idle,
)
from tests.helpers.builders import MODE, make_disk, make_key, medium, pattern, read, write
from tests.unit.crypto.test_wrapped_keys import manager, prepared, wrapping_disk

SECTORS = 256
TEXT = bytes(pattern(16384, 5))


def member(name: str, native: bool, units: tuple[int, ...] = (512, 4096)) -> Disk:
    """A disk with an engine, or without."""
    return make_disk(name, slots=2 if native else None, units=units,
                     store=FailingStore(SECTORS * 512))  # fmt: skip


class Array:
    """A raid1, and how its members are exchanged."""

    def __init__(self, *natives: bool) -> None:
        self.datas = [member(f"d{n}", native) for n, native in enumerate(natives)]
        self.metas = [make_disk(f"m{n}", 64) for n in range(len(natives))]
        self.device = MappedDevice("array")

    async def start(self, kind: str = "raid1", chunk: int = 0) -> "Array":
        self.kind, self.chunk = kind, chunk
        size = SECTORS * len(self.datas) // 2 if kind == "raid10" else SECTORS
        self.size = size * len(self.datas) if kind == "raid0" else size
        await load(self.device, self.target(nosync=kind != "raid0"))
        return self

    def target(self, **options: object):
        return make_raid(self.kind, self.size, self.metas, self.datas, self.chunk, **options)

    async def exchange(self, index: int, disk: Disk) -> None:
        """Have another disk in the place of a member, by a new table, and have it rebuilt."""
        before = list(self.datas)
        self.datas[index] = disk
        try:
            await load(self.device, self.target(rebuild=frozenset({index})))
        except BaseException:
            self.datas = before
            raise

    def images(self) -> set[bytes]:
        return {medium(disk) for disk in self.datas}


def key_for(array: Array, name: str = "alice") -> CryptoKey:
    key = make_key(name)
    start_using_key(array.device, key)
    return key


def as_one_disk(size: int, key: CryptoKey) -> Disk:
    disk = make_disk("one", size)
    start_using_key(disk, key)
    return disk


# Through the legs.


@pytest.mark.parametrize("natives", [(True, True), (True, False), (False, False)])
async def test_the_legs_of_a_mirror_are_alike_whoever_encrypts(natives):
    array = await Array(*natives).start()
    key = key_for(array)
    one = as_one_disk(SECTORS, key)
    for device in (array.device, one):
        await write(device, 8, TEXT, key, 77)
    assert array.images() == {medium(one)}
    assert await read(array.device, 8, len(TEXT), key, 77) == TEXT
    for disk, native in zip(array.datas, natives, strict=True):
        assert (disk.counts.native, disk.counts.fallback) >= ((1, 0) if native else (0, 1))


@pytest.mark.parametrize(("kind", "chunk"), [("raid0", 8), ("raid10", 8), ("raid10", 16)])
async def test_stripes_hold_what_a_single_disk_would(kind, chunk):
    array = await Array(True, False, False, True).start(kind, chunk)
    key = key_for(array)
    one = as_one_disk(array.size, key)
    for device in (array.device, one):
        await write(device, 4, TEXT, key, 1)
    assert await read(array.device, 0, len(TEXT) + 4096) == medium(one, 0, len(TEXT) + 4096)
    assert await read(array.device, 4, len(TEXT), key, 1) == TEXT


async def test_an_array_offers_what_all_its_members_can_do():
    array = await Array(True, True).start()
    assert array.device.capabilities == array.datas[0].capabilities
    array = await Array(True, False).start()
    assert array.device.capabilities == NO_CAPABILITIES


async def test_data_units_larger_than_a_chunk_are_not_offered():
    array = await Array(True, True, True, True).start("raid10", 1 << 3)
    assert array.device.capabilities.modes[MODE] == 512 | 4096
    disks = [make_disk(f"d{n}", slots=2, units=(512, 8192)) for n in range(2)]
    device = MappedDevice("stripes")
    await load(device, make_raid("raid0", 512, [None, None], disks, 8))
    assert device.capabilities.modes[MODE] == 512


async def test_in_strict_mode_an_array_passes_no_contexts():
    array = Array(True, True)
    for disk in array.datas:
        disk.become_strict()
    await array.start()
    assert array.device.capabilities == NO_CAPABILITIES
    key = key_for(array)
    await write(array.device, 0, TEXT, key, 1)
    assert [disk.counts.native for disk in array.datas] == [0, 0]


async def test_what_is_read_again_and_put_right_is_ciphertext(autojump_clock):
    array = await Array(True, False).start()
    key = key_for(array)
    await write(array.device, 0, TEXT, key, 9)
    good = medium(array.datas[1])
    array.datas[0].store.pwrite(0, memoryview(bytes(512)))
    await trio.sleep(10)
    await array.device.message(0, ["repair"])
    await until_idle(array.device, 0.1)
    assert array.images() in ({good}, {medium(array.datas[0])})
    assert len(array.images()) == 1


async def test_a_leg_that_cannot_be_read_is_put_right_with_ciphertext(autojump_clock):
    array = await Array(True, True).start()
    key = key_for(array)
    await write(array.device, 0, TEXT, key, 9)
    good = medium(array.datas[1])
    store = store_of(array.datas[0])
    array.datas[0].store.pwrite(0, memoryview(bytes(4096)))
    reads = []

    def fails_once(op, offset, length) -> bool:
        reads.append(offset)
        return op.value == "read" and len(reads) == 1

    store.fails = fails_once
    assert await read(array.device, 0, 4096, key, 9) == TEXT[:4096]
    await trio.sleep(10)
    assert medium(array.datas[0]) == good


# Disks that are hot-added.


@pytest.mark.parametrize("native", [False, True])
async def test_a_disk_is_rebuilt_without_the_key(native, autojump_clock):
    array = await Array(True, True).start()
    key = key_for(array)
    await write(array.device, 8, TEXT, key, 77)
    evict_key(array.device, key)
    key.wipe()
    await array.exchange(1, member("new", native))
    await until_idle(array.device, 0.1)
    assert health(array.device) == "AA"
    assert len(array.images()) == 1
    assert array.datas[1].counts.native == array.datas[1].counts.fallback == 0


async def test_a_weaker_disk_makes_the_array_offer_less_until_it_is_gone(autojump_clock):
    array = await Array(True, True).start()
    key, all_of_it = key_for(array), array.device.capabilities
    await write(array.device, 0, TEXT, key, 1)
    await array.exchange(1, member("weak", native=False))
    assert array.device.capabilities == NO_CAPABILITIES
    await write(array.device, 32, TEXT, key, 5)
    await until_idle(array.device, 0.1)
    assert len(array.images()) == 1
    weak = array.datas[1]
    assert weak.counts.fallback > 0
    await array.exchange(1, member("strong", native=True))
    assert array.device.capabilities == all_of_it
    await until_idle(array.device, 0.1)
    assert await read(array.device, 0, len(TEXT), key, 1) == TEXT
    assert await read(array.device, 32, len(TEXT), key, 5) == TEXT
    assert len(array.images()) == 1


async def test_keys_are_evicted_from_a_disk_that_is_taken_out(autojump_clock):
    array = await Array(True, True).start()
    key = key_for(array)
    await write(array.device, 0, TEXT, key, 1)
    gone = array.datas[1]
    assert gone.engine.slots.slot_of(key) is not None
    await array.exchange(1, member("new", native=True))
    assert gone.engine.slots.slot_of(key) is None
    assert array.datas[0].engine.slots.slot_of(key) is not None


async def test_a_disk_without_software_for_a_key_in_use_is_refused(monkeypatch):
    array = await Array(True, True).start()
    key_for(array)
    new, live = member("new", native=False), array.device.live

    def start(mode: str) -> None:
        raise CryptoError(f"no software for {mode}", errno.ENOPKG)

    monkeypatch.setattr(new.fallback, "start", start)
    with pytest.raises(CryptoError, match=f"no software for {MODE}") as caught:
        await array.exchange(1, new)
    assert caught.value.errno == errno.ENOPKG
    assert (array.device.live, array.device.inactive) == (live, None)
    await write(array.device, 0, TEXT)


async def test_a_disk_that_cannot_use_a_wrapped_key_in_use_is_refused(autojump_clock):
    by = manager()
    array = Array(True, True)
    array.datas = [wrapping_disk(f"d{n}", by) for n in range(2)]
    await array.start()
    key = prepared(by)
    start_using_key(array.device, key)
    live = array.device.live
    with pytest.raises(TableError) as caught:
        await array.exchange(1, member("new", native=True))
    assert caught.value.errno == errno.EINVAL
    assert f"not all of it can do {key.config} with such a key natively" in str(caught.value)
    assert (array.device.live, array.device.inactive) == (live, None)
    await array.exchange(1, wrapping_disk("new", by))
    await write(array.device, 0, TEXT, key, 3)
    await until_idle(array.device, 0.1)
    assert len({medium(disk, 0, SECTORS * 512) for disk in array.datas}) == 1


async def test_where_only_a_superset_is_taken_a_weaker_disk_leaves_the_array_as_it_was():
    array = Array(True, True)
    array.device = MappedDevice("array", takes_weaker=False)
    await array.start()
    live = array.device.live
    coarse = member("coarse", native=True, units=(4096,))
    with pytest.raises(TableError, match="coarse lacks AES-256-XTS of 512 bytes, which what stays"):
        await array.exchange(1, coarse)
    assert (array.device.live, array.device.inactive) == (live, None)
    await array.exchange(1, member("same", native=True))


async def test_writes_go_on_under_the_key_while_a_disk_is_pulled_and_another_is_rebuilt(
    autojump_clock,
):
    array = await Array(True, False, True).start()
    key = key_for(array)
    store_of(array.datas[2]).fails = EVERYTHING
    await write(array.device, 0, TEXT, key, 1)
    assert health(array.device) == "AAD"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(array.exchange, 2, member("new", native=False))
        for n in range(4):
            nursery.start_soon(write, array.device, 64 + 32 * n, TEXT, key, 100 + 32 * n)
    await until_idle(array.device, 0.1)
    assert health(array.device) == "AAA"
    assert len(array.images()) == 1
    for n in range(4):
        assert await read(array.device, 64 + 32 * n, len(TEXT), key, 100 + 32 * n) == TEXT
