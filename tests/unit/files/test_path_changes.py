"""When a path serves, how long it holds, and what is seen at once when something changes."""

from time import monotonic

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fusedm.files import paths as paths_module
from fusedm.files.handles import OpenDevice
from fusedm.files.path import KINDS
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

READ = KINDS.index("read")

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


@pytest.mark.parametrize("waits", [False, True])
def test_what_somebody_holds_or_waits_for_is_read_and_not_written(
    loop: RoutedLoop, waits: bool
) -> None:
    disk, handle = loop.system.disks["d0"], loop.open("d0")
    lent = disk.range_locks.lend(((4, 5),)) if waits else None
    hold = disk.range_locks.take(((1, 3), (4, 5)), lambda: None)
    assert hold.granted is not waits
    for offset, length, may in [(0, 512, 1), (512, 512, 0), (0, 1024, 0), (1024, 1024, 0)]:
        assert loop.writes(handle, offset, b"x" * length) == bool(may)
    assert loop.writes(handle, 1536, b"x" * 512)
    assert not loop.writes(handle, 2048, b"x" * 512)
    assert loop.reads(handle, 512, 512) == pattern(SIZE)[512:1024]
    disk.range_locks.release(hold)
    if lent is not None:
        disk.range_locks.release(lent)
    assert loop.writes(handle, 512, b"x" * 512)


def test_with_many_ranges_held_nothing_is_written(loop: RoutedLoop) -> None:
    disk, handle = loop.system.disks["d0"], loop.open("d0")
    holds = [disk.range_locks.take(((10 * at, 10 * at + 1),)) for at in range(1, 10)]
    assert not loop.writes(handle, 512, b"x" * 512)
    disk.range_locks.release(holds.pop())
    assert loop.writes(handle, 512, b"x" * 512)


async def test_what_is_held_on_a_leg_keeps_its_rows_of_chunks_from_being_written(
    loop: RoutedLoop,
) -> None:
    await add_mapped(loop.system, "dm0", "0 64 striped 2 8 d0 0 d1 0")
    handle = loop.open("dm0")
    hold = loop.system.disks["d1"].range_locks.take(((9, 10),))
    for row, may in enumerate([True, False, True, True]):
        assert loop.writes(handle, row * 8192, b"x" * 512) == may
    loop.system.disks["d1"].range_locks.release(hold)
    assert loop.writes(handle, 8192, b"x" * 512)


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


async def test_a_span_is_found_once_for_as_long_as_nothing_changes(loop: RoutedLoop) -> None:
    await add_mapped(loop.system, "dm0", "0 64 linear d0 0")
    handle = loop.open("dm0")
    assert loop.reads(handle, 0, 512) is not None
    (found,) = opened(loop, handle).spans
    for offset in (8192, 0, 512):
        assert loop.reads(handle, offset, 512) is not None
    assert opened(loop, handle).spans == [found]
    await swap(loop.system, "dm0", "0 64 linear d0 0")
    assert loop.reads(handle, 0, 512) is not None
    (other,) = opened(loop, handle).spans
    assert other is not found


def opened(loop: RoutedLoop, handle: int) -> OpenDevice:
    """The open file of a handle."""
    found = loop.handles[handle]
    assert isinstance(found, OpenDevice)
    return found


def test_what_is_used_is_opened_again_with_the_gate_and_what_is_not_for_some_time(
    loop: RoutedLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, used, unused = loop.paths, loop.open("d0"), loop.open("d0")
    assert paths.find(used, READ, 0, 512)
    assert paths.find(unused, READ, 0, 512)
    has_unused = []
    for seconds in (1000.0, 0.0, 0.0):
        # Kept until its worker has come to it, on however busy a machine.
        monkeypatch.setattr(paths_module, "KEEP_SECONDS", 1000.0)
        assert loop.reads(used, 0, 512) is not None
        monkeypatch.setattr(paths_module, "KEEP_SECONDS", seconds)
        paths.open()
        assert paths.gate.serves(used, READ, 0, 512)
        has_unused.append(paths.gate.serves(unused, READ, 0, 512) is not None)
        paths.close()
    assert has_unused[0]
    assert not has_unused[-1]


async def test_what_changed_meanwhile_is_not_opened_again(loop: RoutedLoop) -> None:
    await add_mapped(loop.system, "dm0", "0 64 linear d0 0")
    handle, paths = loop.open("dm0"), loop.paths
    assert loop.reads(handle, 0, 512) is not None
    await swap(loop.system, "dm0", "0 64 linear d1 0")
    paths.open()
    assert paths.gate.serves(handle, READ, 0, 512) is None
    paths.close()


async def test_what_has_lost_its_keyslot_meanwhile_is_not_opened_again(loop: RoutedLoop) -> None:
    await add_view(loop.system, "home", "d0", "k")
    handle, paths = loop.open("home"), loop.paths
    assert loop.reads(handle, 0, 4096) is not None
    loop.system.disks["d0"].engine_slots.evict(loop.system.keys["k"])
    paths.open()
    assert paths.gate.serves(handle, READ, 0, 4096) is None
    paths.close()


def test_what_is_locked_meanwhile_is_opened_again_and_not_written(loop: RoutedLoop) -> None:
    disk, handle = loop.system.disks["d0"], loop.open("d0")
    assert loop.writes(handle, 0, b"x" * 512)
    hold = disk.range_locks.take(((0, 1),), lambda: None)
    assert not loop.writes(handle, 0, b"y" * 512)
    assert loop.reads(handle, 0, 512) == b"x" * 512
    disk.range_locks.release(hold)
    assert loop.writes(handle, 0, b"y" * 512)


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
    assert len(opened(loop, handle).spans) == 1


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


async def test_so_many_spans_are_remembered_and_no_more(
    loop: RoutedLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths_module, "MAX_FILE_SPANS", 3)
    table = "\n".join(f"{sector} 1 linear d{sector % 2} {sector // 2}" for sector in range(8))
    await add_mapped(loop.system, "dm0", table)
    handle = loop.open("dm0")
    for sector in [*range(8), *reversed(range(8))]:
        disk = loop.system.disks[f"d{sector % 2}"]
        assert loop.reads(handle, sector * 512, 512) == medium(disk, sector // 2, 512)
        assert len(opened(loop, handle).spans) <= 3


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


# Spans that end in time.


async def test_a_span_that_ends_in_time_has_a_path_until_then(loop: RoutedLoop) -> None:
    """flakey is up for some seconds from when its table was made live, and then down for others."""
    await add_mapped(loop.system, "dm0", "0 64 flakey d0 0 1000000 1 1 error_writes")
    handle = loop.open("dm0")
    assert loop.writes(handle, 0, b"x" * 512)
    (found,) = opened(loop, handle).spans
    assert found.path is not None
    assert monotonic() < found.span.until < float("inf")
