"""When a path serves, how long it holds, and what is seen at once when something changes."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fusedm.files import routes as routes_module
from fusedm.files.handles import OpenDevice
from fusedm.stores import MemoryStore
from fusedm.system import View
from tests.helpers.builders import make_disk, make_key, medium, pattern, prime
from tests.helpers.devices import RecordingDevice
from tests.helpers.express_loop import (
    SECTORS,
    SIZE,
    RoutedLoop,
    add_disk,
    add_mapped,
    add_view,
    swap,
)

# Reading only.


async def test_a_read_only_disk_is_read_on_a_path_and_not_written(loop: RoutedLoop) -> None:
    loop.system.add_disk(make_disk("ro", store=MemoryStore(SIZE, read_only=True)))
    handle = loop.open("ro")
    assert loop.reads(handle, 0, 512) == bytes(512)
    assert not loop.writes(handle, 0, b"x" * 512)


async def test_a_read_only_table_is_read_on_a_path_and_not_written(loop: RoutedLoop) -> None:
    await add_mapped(loop.system, "dm0", "0 64 linear d0 0")
    handle = loop.open("dm0")
    assert loop.writes(handle, 0, b"x" * 512)
    await swap(loop.system, "dm0", "0 64 linear d0 0", read_only=True)
    assert not loop.writes(handle, 0, b"y" * 512)
    assert loop.reads(handle, 0, 512) == b"x" * 512


def test_while_any_range_of_the_disk_is_held_it_is_read_and_not_written(loop: RoutedLoop) -> None:
    disk, handle = loop.system.disks["d0"], loop.open("d0")
    hold = disk.range_locks.take(((100, 101),), lambda: None)
    assert not loop.writes(handle, 0, b"x" * 512)
    assert loop.reads(handle, 0, 512) == pattern(SIZE)[:512]
    disk.range_locks.release(hold)
    assert loop.writes(handle, 0, b"x" * 512)


# Keyslots.


async def test_a_key_that_is_in_no_keyslot_has_no_path_until_it_is(loop: RoutedLoop) -> None:
    loop.system.add_view("home", "d0", "k")
    handle = loop.open("home")
    assert loop.reads(handle, 0, 4096) is None
    await prime(loop.system.disks["d0"].engine_slots, loop.system.keys["k"])
    assert loop.reads(handle, 0, 4096) is not None


async def test_a_key_that_was_evicted_has_no_path(loop: RoutedLoop) -> None:
    await add_view(loop.system, "home", "d0", "k")
    handle = loop.open("home")
    assert loop.reads(handle, 0, 4096) is not None
    loop.system.disks["d0"].engine_slots.evict(loop.system.keys["k"])
    assert loop.reads(handle, 0, 4096) is None


async def test_while_bios_wait_for_a_keyslot_nobody_is_served_before_them(
    loop: RoutedLoop,
) -> None:
    disk = make_disk("narrow", SECTORS, slots=1)
    add_disk(loop.system, disk)
    await add_view(loop.system, "home", "narrow", "k")
    handle, slots = loop.open("home"), disk.engine_slots
    hold = await slots.take(loop.system.keys["k"])
    assert loop.reads(handle, 0, 4096) is not None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(prime, slots, make_key("other"))
        await wait_all_tasks_blocked()
        assert loop.reads(handle, 0, 4096) is None
        hold.release()


# How long it holds.


async def test_a_path_is_found_once_for_as_long_as_nothing_changes(loop: RoutedLoop) -> None:
    await add_mapped(loop.system, "dm0", "0 64 linear d0 0")
    handle, find = loop.open("dm0"), loop.routes.find
    path = find(handle, 0, 512)
    assert path is not None
    assert find(handle, 8192, 512) is path
    loop.routes.end_batch()
    assert find(handle, 0, 512) is path


@pytest.mark.parametrize("level", ["lowest", "middle", "top"])
async def test_a_suspended_device_has_no_path_at_any_level_until_it_is_resumed(
    loop: RoutedLoop, level: str
) -> None:
    below = "d0"
    for name in ("lowest", "middle", "top"):
        await add_mapped(loop.system, name, f"0 64 linear {below} 0")
        below = name
    handle = loop.open("top")
    assert loop.reads(handle, 0, 512) is not None
    await loop.system.mapped[level].suspend()
    assert loop.reads(handle, 0, 512) is None
    await loop.system.resume(level)
    assert loop.reads(handle, 0, 512) is not None


@pytest.mark.parametrize("level", ["lowest", "middle", "top"])
async def test_another_table_at_any_level_is_seen_at_once(loop: RoutedLoop, level: str) -> None:
    below = "d0"
    for name in ("lowest", "middle", "top"):
        await add_mapped(loop.system, name, f"0 64 linear {below} 0")
        below = name
    handle = loop.open("top")
    assert loop.reads(handle, 0, 512) == medium(loop.system.disks["d0"], 0, 512)
    await swap(loop.system, level, "0 64 linear d1 8")
    assert loop.reads(handle, 0, 512) == medium(loop.system.disks["d1"], 8, 512)


@pytest.mark.parametrize("first", ["0 8 zero\n8 56 linear d0 8", "0 64 delay d0 0 7"])
async def test_where_there_was_no_path_there_is_one_with_the_next_table(
    loop: RoutedLoop, first: str
) -> None:
    await add_mapped(loop.system, "dm0", first)
    handle = loop.open("dm0")
    assert loop.reads(handle, 0, 512) is None
    await swap(loop.system, "dm0", "0 64 linear d0 0")
    for offset in (0, 8192, 512):
        assert loop.reads(handle, offset, 512) == medium(
            loop.system.disks["d0"], offset // 512, 512
        )
    opened = loop.handles[handle]
    assert isinstance(opened, OpenDevice)
    assert len(opened.stretches) == 1


async def test_a_device_that_grew_has_paths_in_what_was_added(loop: RoutedLoop) -> None:
    await add_mapped(loop.system, "dm0", "0 8 linear d0 0")
    handle = loop.open("dm0")
    assert loop.reads(handle, 4096, 512) is None
    await swap(loop.system, "dm0", "0 16 linear d0 0")
    assert loop.reads(handle, 4096, 512) == medium(loop.system.disks["d0"], 8, 512)


async def test_a_device_that_grew_past_the_duns_of_a_key_has_no_path_there(
    loop: RoutedLoop,
) -> None:
    """There bios are refused: the next number would not fit the key's DUN bytes."""
    loop.system.add_key(make_key("byte", 512, 1))
    await add_mapped(loop.system, "dm0", "0 8 linear d0 0")
    await add_view(loop.system, "home", "dm0", "byte", 240)
    await swap(loop.system, "dm0", "0 64 linear d0 0")
    handle = loop.open("home")
    assert loop.writes(handle, 15 * 512, b"x" * 512)
    assert not loop.writes(handle, 16 * 512, b"x" * 512)
    assert not loop.writes(handle, 15 * 512, b"x" * 1024)
    assert not loop.writes(handle, 20 * 512, b"x" * 512)


async def test_so_many_stretches_are_remembered_and_no_more(
    loop: RoutedLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes_module, "MAX_STRETCHES", 3)
    await add_mapped(loop.system, "dm0", "0 64 striped 2 1 d0 0 d1 0")
    handle = loop.open("dm0")
    opened = loop.handles[handle]
    assert isinstance(opened, OpenDevice)
    for sector in [*range(8), *reversed(range(8))]:
        disk = loop.system.disks[f"d{sector % 2}"]
        assert loop.reads(handle, sector * 512, 512) == medium(disk, sector // 2, 512)
        assert len(opened.stretches) <= 3


async def test_a_bug_in_finding_a_path_is_logged_and_no_more(
    loop: RoutedLoop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.handles[9] = OpenDevice(View("odd", RecordingDevice("odd", 64)), False)
    assert loop.reads(9, 0, 512) is None
    assert "bug in finding a path" in caplog.text
    assert loop.reads(loop.open("d0"), 0, 512) is not None


async def test_a_device_over_one_that_lost_its_table_has_no_path(
    loop: RoutedLoop, caplog: pytest.LogCaptureFixture
) -> None:
    await add_mapped(loop.system, "lower", "0 64 linear d0 0")
    await add_mapped(loop.system, "top", "0 64 linear lower 0")
    handle = loop.open("top")
    loop.system.mapped["lower"].close()
    assert loop.reads(handle, 0, 512) is None
    assert caplog.text == ""
