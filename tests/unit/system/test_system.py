"""The system: names, holders, views and keys, and what may not be removed."""

import errno

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fusedm.block import Op
from fusedm.block.errors import BlockIOError, CryptoError, KeyBusy, TableError
from fusedm.crypto import submit_bio
from fusedm.stores import FaultyStore, MemoryStore
from fusedm.system import System, View
from tests.helpers.builders import make_disk, make_key, pattern, read, write
from tests.helpers.small_system import make_system, refusal

TEXT = bytes(pattern(8192))


async def through(system, name, op, offset, data):
    view = system.view(name)
    await submit_bio(view.device, view.bio(op, offset, memoryview(data)))


# Names.


async def test_devices_and_views_are_found_by_name():
    system = await make_system()
    assert system.device("d0") is system.disks["d0"]
    assert system.device("d0") is system.disk("d0")
    assert system.device("dm0") is system.mapped_device("dm0")
    assert system.view("v").dun_base == 5
    assert system.view("d0") == View("d0", system.disks["d0"])


async def test_what_is_not_there_is_enxio():
    system = await make_system()
    assert refusal(errno.ENXIO, system.device, "x") == "'x' is not a device of this stack"
    assert refusal(errno.ENXIO, system.device, "v") == "'v' is a view, not a device of this stack"
    assert "not a mapped device" in refusal(errno.ENXIO, system.mapped_device, "d0")
    assert "not a disk" in refusal(errno.ENXIO, system.disk, "dm0")
    assert "not a disk" in refusal(errno.ENXIO, system.remove_disk, "dm0")
    assert "not a view" in refusal(errno.ENXIO, system.remove_view, "d0")
    assert "not a key" in refusal(errno.ENXIO, system.remove_key, "d0")
    assert "not a key" in refusal(errno.ENXIO, system.add_view, "w", "dm0", "x")


@pytest.mark.parametrize("name", ["d0", "dm0", "v"])
async def test_a_name_is_one_of_disk_mapped_device_and_view(name):
    system = await make_system()
    for call in [
        lambda: system.add_disk(make_disk(name)),
        lambda: system.add_mapped(name),
        lambda: system.add_view(name, "d0", "k"),
    ]:
        assert refusal(errno.EEXIST, call) == f"name {name!r} is taken"


async def test_keys_have_names_of_their_own():
    system = await make_system()
    system.add_key(make_key("d0"))
    text = refusal(errno.EEXIST, system.add_key, make_key("k"))
    assert text == "key 'k' is there already"


async def test_illegal_names_are_refused_and_leave_nothing():
    system = await make_system()
    for call in [
        lambda: system.add_disk(make_disk("a/b")),
        lambda: system.add_mapped(""),
        lambda: system.add_view(".", "dm0", "k"),
        lambda: system.add_key(make_key("..")),
    ]:
        refusal(errno.EINVAL, call)
    assert set(system.names.created) == {"d0", "d1", "dm0", "v"}
    assert set(system.keys) == {"k"}


async def test_a_uuid_is_taken_once():
    system = await make_system()
    assert refusal(errno.EEXIST, system.add_mapped, "x", "uuid-0") == "UUID 'uuid-0' is taken"
    system.add_mapped("x")
    system.add_mapped("y")


# Views.


async def test_a_view_numbers_data_units_from_its_base():
    system = await make_system()
    bio = system.view("v").bio(Op.WRITE, 8192, memoryview(TEXT))
    assert (bio.sector, bio.sector_count, bio.crypt.dun) == (16, 16, 7)
    assert system.view("dm0").bio(Op.READ, 512, memoryview(bytearray(512))).crypt is None


async def test_a_view_is_whole_blocks_of_the_larger_size():
    system = await make_system()
    view = system.view("v")
    assert (view.block_size, view.size) == (4096, 100 * 512 // 4096 * 4096)
    raw = system.view("dm0")
    assert (raw.block_size, raw.size, raw.read_only) == (512, 51200, False)
    large = System()
    large.add_disk(make_disk("d0", block=4096))
    large.add_key(make_key("small", 512))
    assert large.add_view("v", "d0", "small").block_size == 4096


async def test_what_a_view_writes_only_its_like_reads():
    system = await make_system()
    system.add_key(make_key("other", 4096))
    system.add_view("same", "dm0", "k", 5)
    system.add_view("base", "dm0", "k", 6)
    system.add_view("key", "dm0", "other", 5)
    await through(system, "v", Op.WRITE, 0, TEXT)
    got = {name: bytearray(8192) for name in ("v", "same", "base", "key", "dm0", "d0")}
    for name, data in got.items():
        await through(system, name, Op.READ, 0, data)
    assert got["v"] == got["same"] == TEXT
    assert got["dm0"] == got["d0"]
    assert all(got[name] != TEXT for name in ("base", "key", "dm0"))


@pytest.mark.parametrize(("base", "last"), [(-1, 10), (245, 256)])
async def test_a_dun_base_that_does_not_fit_is_refused_with_the_numbers(base, last):
    system = await make_system()
    system.add_key(make_key("short", 4096, dun_bytes=1))
    text = f"'w': data unit numbers {base}..{last} do not fit the 1 DUN bytes of key 'short'"
    with pytest.raises(CryptoError, match=text):
        system.add_view("w", "dm0", "short", base)
    assert "w" not in system.names.created
    system.add_view("w", "dm0", "short", 244)


async def test_a_dun_base_may_have_32_bytes_where_the_mode_has():
    system = await make_system()
    system.add_key(make_key("long", 4096, dun_bytes=32, mode="Adiantum"))
    last = (1 << 256) - 1
    with pytest.raises(CryptoError, match=f"numbers {last - 10}..{last + 1} do not fit the 32 DUN"):
        system.add_view("w", "dm0", "long", last - 10)
    system.add_view("w", "dm0", "long", last - 11)
    assert system.view("w").dun_base == last - 11


async def test_a_refused_view_name_starts_no_key():
    system = System()
    system.add_disk(make_disk("d0"))
    system.add_key(make_key("k"))
    refusal(errno.EEXIST, system.add_view, "d0", "d0", "k")
    assert not system.disks["d0"].fallback._started


# Removing.


async def test_what_is_in_use_says_by_whom():
    system = await make_system()
    system.open("v")
    assert refusal(errno.EBUSY, system.remove_disk, "d0") == "'d0' is in use by dm0"
    assert refusal(errno.EBUSY, system.remove_mapped, "dm0") == "'dm0' is in use by v"
    assert refusal(errno.EBUSY, system.remove_key, "k") == "'k' is in use by v"
    assert refusal(errno.EBUSY, system.remove_view, "v") == "'v' is in use by 1 open files"
    assert system.holders("d0") == ["dm0"]


async def test_an_inactive_table_holds_its_devices():
    system = await make_system()
    system.load("dm0", "0 8 linear d1 0")
    refusal(errno.EBUSY, system.remove_disk, "d1")
    system.mapped["dm0"].clear()
    system.remove_disk("d1")


async def test_a_table_loaded_during_a_suspend_holds_its_devices(nursery):
    system = await make_system()
    hold = await system.disks["d0"].engine.slots.take(make_key("other"))
    second = await system.disks["d0"].engine.slots.take(make_key("another"))
    nursery.start_soon(through, system, "v", Op.WRITE, 0, TEXT)
    await wait_all_tasks_blocked()
    nursery.start_soon(system.mapped["dm0"].suspend)
    await wait_all_tasks_blocked()
    system.load("dm0", "0 8 linear d1 0")
    assert refusal(errno.EBUSY, system.remove_disk, "d1") == "'d1' is in use by dm0"
    hold.release()
    second.release()


async def test_everything_is_removed_from_the_top_down():
    system = await make_system()
    system.remove_view("v")
    system.remove_key("k")
    system.remove_mapped("dm0")
    system.remove_disk("d0")
    system.remove_disk("d1")
    left = [
        system.names.created,
        system.names.written,
        system.keys,
        system.mapped,
        system.disks,
        system.views,
    ]
    assert not any(left)
    system.add_disk(make_disk("v"))


@pytest.mark.parametrize("name", ["d0", "dm0"])
async def test_a_device_with_bios_in_flight_is_not_removed(name):
    system = System()
    store = FaultyStore(MemoryStore(1 << 16), seed=0)
    system.add_disk(make_disk("d0", store=store))
    if name == "dm0":
        system.add_mapped("dm0")
        system.load("dm0", "0 8 linear d0 0")
        await system.mapped["dm0"].resume()
    store.hold()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write, system.device(name), 0, TEXT[:512])
        await wait_all_tasks_blocked()
        remove = system.remove_disk if name == "d0" else system.remove_mapped
        text = refusal(errno.EBUSY, remove, name)
        assert text == f"{name!r} has 1 bios in flight"
        store.release()
    remove(name)


async def test_removing_a_view_evicts_its_key_where_no_other_view_uses_it():
    system = await make_system()
    key, slots = system.keys["k"], system.disks["d0"].engine.slots
    system.add_view("w", "d0", "k")
    await through(system, "v", Op.WRITE, 0, TEXT)
    system.remove_view("v")
    assert slots.is_ready(key)
    system.remove_view("w")
    assert not slots.is_ready(key)


async def test_a_view_whose_key_is_busy_stays():
    system = await make_system()
    key, slots = system.keys["k"], system.disks["d0"].engine.slots
    hold = await slots.take(key)
    with pytest.raises(KeyBusy):
        system.remove_view("v")
    assert "v" in system.views
    assert "v" in system.names.created
    hold.release()
    system.remove_view("v")


async def test_another_view_still_works_on_later_tables_after_a_view_was_removed():
    system = await make_system()
    system.add_view("w", "dm0", "k")
    system.remove_view("v")
    system.load("dm0", "0 64 linear d1 0")
    await system.mapped["dm0"].resume()
    await through(system, "w", Op.WRITE, 0, TEXT)


async def test_a_removed_key_is_wiped():
    system = await make_system()
    key = system.keys["k"]
    system.remove_view("v")
    system.remove_key("k")
    assert bytes(key.raw) == bytes(64)


# Opening, loading, closing.


async def test_open_names_are_counted():
    system = await make_system()
    assert system.open("d1").device is system.disks["d1"]
    system.open("d1")
    assert system.names.open_count("d1") == 2
    system.closed("d1")
    refusal(errno.EBUSY, system.remove_disk, "d1")
    system.closed("d1")
    system.remove_disk("d1")
    with pytest.raises(AssertionError, match="d1 is not open"):
        system.closed("d1")


async def test_a_write_is_remembered():
    system = await make_system()
    before = system.names.written["d0"]
    system.names.note_write("d0")
    assert system.names.written["d0"] >= before


@pytest.mark.parametrize(
    ("text", "number"),
    [("0 8 linear nowhere 0", errno.ENXIO), ("0 8 linear v 0", errno.ENXIO), ("", errno.EINVAL)],
)
async def test_a_table_that_cannot_be_is_not_loaded(text, number):
    system = await make_system()
    with pytest.raises(TableError) as caught:
        system.load("dm0", text)
    assert caught.value.errno == number
    assert system.mapped["dm0"].inactive is None


async def test_closing_goes_on_whatever_fails():
    class Stuck(MemoryStore):
        def close(self):
            raise OSError(errno.ENOSPC, "full")

    system = System()
    for name, store in [("d0", Stuck(4096)), ("d1", MemoryStore(4096)), ("d2", Stuck(4096))]:
        system.add_disk(make_disk(name, store=store))
    key = make_key()
    system.add_key(key)
    await write(system.disks["d1"], 0, TEXT[:4096])
    assert await read(system.disks["d1"], 0, 4096) == TEXT[:4096]
    with pytest.raises(OSError, match="full"):
        await system.close()
    assert system.disks["d1"].store.allocated_bytes == 0
    assert bytes(key.raw) == bytes(64)


async def test_a_bio_that_waits_for_a_removed_device_fails() -> None:
    system = await make_system()
    system.remove_view("v")
    device = system.mapped["dm0"]
    await device.suspend()

    async def read_and_fail():
        with pytest.raises(BlockIOError) as caught:
            await read(device, 0, 512)
        assert caught.value.errno == errno.EIO

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_and_fail)
        await wait_all_tasks_blocked()
        system.remove_mapped("dm0")


async def test_those_above_see_a_changed_block_size_at_once():
    system = System()
    system.add_disk(make_disk("d0"))
    system.add_disk(make_disk("d1", block=4096))
    for name, below in (("low", "d0"), ("middle", "low"), ("top", "middle")):
        system.add_mapped(name)
        system.load(name, f"0 800 linear {below} 0")
        await system.resume(name)
    assert system.view("top").block_size == 512
    system.load("low", "0 800 linear d1 0")
    await system.resume("low")
    assert system.view("top").block_size == 4096


async def test_every_suspended_device_with_a_table_can_be_resumed_at_once():
    system = await make_system()
    system.add_mapped("empty")
    for name in ("dm0", "empty"):
        await system.mapped[name].suspend()
    await system.resume_all()
    assert [mapped.suspended for mapped in system.mapped.values()] == [False, True]
