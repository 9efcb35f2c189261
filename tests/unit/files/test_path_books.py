"""What is left when the gate has closed: counters, times of writes, and nothing that is held."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fusedm.block.errors import KeyBusy
from fusedm.files import device_file
from fusedm.files.path import KINDS
from tests.helpers.builders import make_disk, make_key, prime
from tests.helpers.express_loop import (
    SECTORS,
    RoutedLoop,
    add_disk,
    add_mapped,
    add_view,
)
from tests.helpers.lane_kernel import read_request, write_request

READ = KINDS.index("read")


async def test_every_device_on_the_way_counts_what_was_done(loop: RoutedLoop) -> None:
    await add_mapped(loop.system, "lower", "0 64 linear d0 0")
    await add_mapped(loop.system, "top", "0 64 linear lower 0")
    handle = loop.open("top")
    reads = [read_request(handle, unique, 512 * unique, 512) for unique in range(5)]
    writes = [write_request(handle, unique, 4096 * unique, b"x" * 4096) for unique in range(3)]
    replies, handed_out = loop.ask(*reads, *writes)
    assert (len(replies), handed_out) == (8, [])
    for name in ("top", "lower", "d0"):
        stats = loop.system.device(name).stats
        assert stats.ios == [5, 3, 0, 0], name
        assert stats.sectors == [5, 24, 0, 0], name
        assert stats.seconds[0] > 0, name
        assert stats.seconds[1] > 0, name
        assert stats.busy_seconds == pytest.approx(sum(stats.seconds)), name
        assert stats.in_flight == 0, name
    assert loop.system.disks["d1"].stats.ios == [0, 0, 0, 0]


@pytest.mark.parametrize(
    "table",
    [
        "0 64 linear d0 0",
        "0 64 striped 2 8 d0 0 d1 0",
        "0 64 striped 2 8 d0 0 weak 0",
        "0 64 striped 2 8 d0 0 d0 64",
        "0 64 linear weak 0",
        "0 64 linear low 0",
    ],
    ids=["linear", "striped", "half in software", "one disk twice", "software", "stacked"],
)
@pytest.mark.parametrize("size", [4096, 8192, 20480])
@pytest.mark.parametrize("passes_crypto", [True, False])
async def test_the_books_are_those_of_the_same_requests_in_python(
    loop: RoutedLoop,
    monkeypatch: pytest.MonkeyPatch,
    table: str,
    size: int,
    passes_crypto: bool,
) -> None:
    """One request each: what a request counts may not depend on who answered it."""
    system = loop.system
    add_disk(system, make_disk("weak", SECTORS))
    await add_mapped(system, "low", "0 64 striped 2 8 d0 0 d1 0")
    await add_mapped(system, "dm0", table)
    target = type(system.mapped["dm0"].live.entries[0].target)
    if not passes_crypto and "striped" in table and size > 4096:
        return  # Such a target has a path for each chunk.
    if not passes_crypto:
        monkeypatch.setattr(target, "passes_crypto", False)
    for device in system.mapped.values():
        device.refresh()
    view = await add_view(system, "home", "dm0", "k")
    handle = loop.open("home")
    for device in (*system.disks.values(), *system.mapped.values()):
        await prime(device.fallback, system.keys["k"])

    def books() -> list[list[int]]:
        mapped = system.mapped.values()
        counts = [entry.counts for device in mapped for entry in device.live.entries]
        counts += [disk.counts for disk in system.disks.values()]
        stats = [device.stats for device in (*system.disks.values(), *mapped)]
        stats += [disk.engine_stats for disk in system.disks.values() if disk.engine is not None]
        pairs = [[each.native, each.fallback] for each in counts]
        return [*pairs, *(each.ios for each in stats), *(each.sectors for each in stats)]

    def grew(before: list[list[int]]) -> list[list[int]]:
        return [
            [b - a for a, b in zip(*each, strict=True)] for each in zip(before, after, strict=True)
        ]

    before = [list(each) for each in books()]
    device_file.write_nowait(view, 4096, memoryview(b"x" * size))
    device_file.read_nowait(view, 4096, size)
    after = [list(each) for each in books()]
    in_python, before = grew(before), after
    assert loop.writes(handle, 4096, b"x" * size)
    assert loop.reads(handle, 4096, size) == b"x" * size
    after = books()
    assert grew(before) == in_python


async def test_what_carries_no_context_is_counted_nowhere_as_encrypted(loop: RoutedLoop) -> None:
    assert loop.reads(loop.open("d0"), 0, 512) is not None
    assert loop.system.disks["d0"].counts.native == 0


async def test_each_span_counts_for_its_own_devices(loop: RoutedLoop) -> None:
    await add_mapped(loop.system, "dm0", "0 8 linear d0 0\n8 8 linear d1 0")
    await add_view(loop.system, "home", "dm0", "k")
    handle = loop.open("home")
    loop.ask(*(read_request(handle, unique, at, 4096) for unique, at in enumerate([0, 4096, 4096])))
    first, second = loop.system.mapped["dm0"].live.entries
    assert (first.counts.native, second.counts.native) == (1, 2)
    assert [loop.system.disks[name].stats.ios[0] for name in ("d0", "d1")] == [1, 2]


async def test_a_write_moves_the_time_of_the_last_write_of_its_file_and_a_read_does_not(
    loop: RoutedLoop,
) -> None:
    await add_view(loop.system, "home", "d0", "k")
    handle, written = loop.open("home"), loop.system.names.written
    written["home"] = written["d0"] = 0.0
    assert loop.reads(handle, 0, 4096) is not None
    assert written["home"] == 0.0
    assert loop.writes(handle, 0, b"x" * 4096)
    assert written["home"] > 0
    assert written["d0"] == 0.0


# Keyslots.


async def test_a_keyslot_is_held_while_the_gate_is_open_and_given_back_when_it_closes(
    loop: RoutedLoop,
) -> None:
    await add_view(loop.system, "home", "d0", "k")
    slots, key = loop.system.disks["d0"].engine_slots, loop.system.keys["k"]
    assert loop.paths.find(loop.open("home"), READ, 0, 4096)
    for _ in range(2):
        loop.paths.open()
        with pytest.raises(KeyBusy):
            slots.check_evictable(key)
        loop.paths.close()
        slots.check_evictable(key)
        assert loop.reads(1, 0, 4096) is not None


async def test_a_key_used_by_two_spans_is_given_back_by_both(loop: RoutedLoop) -> None:
    await add_mapped(loop.system, "dm0", "0 8 linear d0 0\n8 8 linear d0 16")
    await add_view(loop.system, "home", "dm0", "k")
    handle = loop.open("home")
    replies, _ = loop.ask(read_request(handle, 1, 0, 4096), read_request(handle, 2, 4096, 4096))
    assert len(replies) == 2
    loop.system.disks["d0"].engine_slots.evict(loop.system.keys["k"])


@pytest.mark.parametrize(("offset", "size"), [(100, 4096), (512, 4096), (4096, 1000), (4095, 2)])
async def test_a_request_that_a_path_does_not_serve_holds_no_keyslot(
    loop: RoutedLoop, offset: int, size: int
) -> None:
    await add_view(loop.system, "home", "d0", "k")
    handle = loop.open("home")
    assert loop.reads(handle, offset, size) is None
    assert not loop.writes(handle, offset, b"x" * size)
    loop.system.disks["d0"].engine_slots.evict(loop.system.keys["k"])


async def test_a_request_that_a_path_does_not_serve_fixes_nothing_for_the_next_one(
    loop: RoutedLoop,
) -> None:
    """A part of a block may be patched meanwhile: a write on a path would come in between."""
    disk, handle = loop.system.disks["d0"], loop.open("d0")
    assert loop.reads(handle, 100, 512) is None
    hold = disk.range_locks.take(((0, 1),), lambda: None)
    assert not loop.writes(handle, 0, b"x" * 512)
    disk.range_locks.release(hold)
    assert loop.writes(handle, 0, b"x" * 512)


async def test_a_key_used_on_a_path_is_the_last_to_lose_its_slot(loop: RoutedLoop) -> None:
    disk = make_disk("narrow", SECTORS, slots=2)
    add_disk(loop.system, disk)
    for name in ("first", "second"):
        loop.system.add_key(make_key(name, 4096))
        await add_view(loop.system, f"{name}-view", "narrow", name)
    assert loop.reads(loop.open("first-view"), 0, 4096) is not None
    await prime(disk.engine_slots, make_key("third", 4096))
    assert disk.engine_slots.is_ready(loop.system.keys["first"])
    assert not disk.engine_slots.is_ready(loop.system.keys["second"])


async def test_who_waits_for_a_keyslot_gets_it_when_the_gate_closes(loop: RoutedLoop) -> None:
    disk = make_disk("narrow", SECTORS, slots=1)
    add_disk(loop.system, disk)
    await add_view(loop.system, "home", "narrow", "k")
    assert loop.paths.find(loop.open("home"), READ, 0, 4096)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(prime, disk.engine_slots, make_key("other"))
        await wait_all_tasks_blocked()
        assert nursery.child_tasks
        loop.paths.close()
    assert not disk.engine_slots.is_ready(loop.system.keys["k"])


def test_a_gate_at_which_nothing_was_asked_changes_nothing(loop: RoutedLoop) -> None:
    loop.paths.open()
    loop.paths.close()
    assert loop.system.disks["d0"].stats.ios == [0, 0, 0, 0]


def test_a_file_that_was_closed_meanwhile_is_settled_all_the_same(loop: RoutedLoop) -> None:
    handle = loop.open("d0")
    assert loop.reads(handle, 0, 512) is not None
    del loop.handles[handle]
    loop.paths.open()
    loop.paths.close()
    assert loop.system.disks["d0"].stats.ios == [1, 0, 0, 0]
    assert loop.system.disks["d0"].stats.in_flight == 0
