"""The books of what is under way on a path when the gate closes: it is in flight like any bio."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fusedm.block.errors import KeyBusy
from fusedm.files import Handles, OpenDevice, Paths, device_file
from fusedm.stores import FileStore
from fusedm.system import System
from tests.helpers.builders import assert_nothing_is_held, make_disk, make_key, medium, prime
from tests.helpers.express_loop import HeldLoop, add_mapped, swap
from tests.helpers.held_calls import HeldCalls
from tests.helpers.lane_kernel import (
    done,
    failed,
    flush_request,
    read_request,
    write_request,
    written,
)

SIZE = 1 << 16
#: Handles of d0, of dm0 over it, of a view of dm0, and of a second one of d0.
RAW, MAPPED, HOME, OTHER = 1, 2, 3, 4


class Rig:
    """A loop over dm0 over the disk d0, whose calls are held, and a view home of dm0."""

    def __init__(self, store: FileStore, held: HeldCalls) -> None:
        self.held, self.system = held, System()
        self.disk = make_disk("d0", slots=2, store=store)
        self.system.add_disk(self.disk)
        self.key = make_key("k", 4096)
        self.system.add_key(self.key)
        self.handles: Handles = {}
        self.paths = Paths(self.handles, self.system)
        self.loop = HeldLoop(self.paths, held, steps_here=True)

    async def build(self) -> None:
        """What takes a while to make."""
        await add_mapped(self.system, "dm0", "0 64 linear d0 8")
        self.system.add_view("home", "dm0", "k")
        await prime(self.disk.engine_slots, self.key)
        for handle, name in ((RAW, "d0"), (MAPPED, "dm0"), (HOME, "home"), (OTHER, "d0")):
            self.handles[handle] = OpenDevice(self.system.view(name), False)

    def begin(self, message: bytes, *calls: str) -> None:
        """Have a request under way."""
        self.loop.send(message)
        self.loop.until(lambda: self.held.waiting() == list(calls))

    def end(self, *replies: bytes) -> None:
        """Let it be done, and see it entered in the books."""
        self.held.let_go()
        self.loop.until_got(list(replies), [])
        self.loop.until(lambda: not self.disk.stats.in_flight)

    def in_flight(self, op: int) -> list[int]:
        """How many bios of an op are in flight on d0 and dm0."""
        devices = self.disk, self.system.mapped["dm0"]
        assert all(each.stats.in_flight == sum(each.stats.in_flight_by_op) for each in devices)
        return [each.stats.in_flight_by_op[op] for each in devices]


@pytest.fixture
async def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setattr("fusedm.stores.file.is_in_memory", lambda fd: False)
    fd = os.memfd_create("medium", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, SIZE)
    store = FileStore(fd, Path("medium"), SIZE, False)
    held = HeldCalls(fd, "read", "write", "flush")
    rig = Rig(store, held)
    await rig.build()
    yield rig
    rig.loop.close()
    held.close()
    store.close()


@pytest.mark.parametrize(
    ("message", "call", "op", "reply"),
    [
        (read_request(MAPPED, 7, 0, 1024), "read", 0, done(7, bytes(1024))),
        (write_request(MAPPED, 7, 0, b"x" * 1024), "write", 1, written(7, 1024)),
        (flush_request(MAPPED, 7), "flush", 3, done(7)),
    ],
    ids=["read", "write", "flush"],
)
async def test_it_is_in_flight_on_every_device_of_the_way_and_counts_when_it_ends(
    rig: Rig, message: bytes, call: str, op: int, reply: bytes
) -> None:
    rig.begin(message, call)
    assert rig.in_flight(op) == [1, 1]
    assert rig.disk.stats.ios == [0, 0, 0, 0]
    rig.end(reply)
    assert rig.in_flight(op) == [0, 0]
    for stats in (rig.disk.stats, rig.system.mapped["dm0"].stats):
        assert stats.ios[op] == sum(stats.ios) == 1
        assert stats.sectors[op] == (0 if op == 3 else 2)
        assert stats.seconds[op] > 0
        assert stats.busy_seconds > 0


async def test_two_at_once_are_two_in_flight(rig: Rig) -> None:
    rig.begin(write_request(RAW, 7, 0, b"x" * 512), "write")
    rig.begin(read_request(MAPPED, 8, 0, 512), "write", "read")
    assert (rig.in_flight(0), rig.in_flight(1)) == ([1, 1], [1, 0])
    rig.end(written(7, 512), done(8, bytes(512)))


async def test_what_fails_afterwards_is_in_flight_no_more_and_not_counted(rig: Rig) -> None:
    message = write_request(MAPPED, 7, 0, b"x" * 1024)
    rig.begin(message, "write")
    rig.held.let_go(5)
    rig.loop.until_got([], [message])
    rig.loop.until(lambda: not rig.disk.stats.in_flight)
    assert rig.in_flight(1) == [0, 0]
    assert rig.disk.stats.ios == [0, 0, 0, 0]


async def test_a_flush_that_fails_is_counted_and_fails(rig: Rig) -> None:
    rig.begin(flush_request(MAPPED, 7), "flush")
    rig.held.let_go(5)
    rig.loop.until_got([failed(7, 5)], [])
    rig.loop.until(lambda: not rig.disk.stats.in_flight)
    assert rig.disk.stats.ios == [0, 0, 0, 1]


async def test_a_suspend_waits_for_it(rig: Rig) -> None:
    rig.begin(read_request(MAPPED, 7, 0, 512), "read")
    dm0 = rig.system.mapped["dm0"]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(dm0.suspend)
        await wait_all_tasks_blocked()
        assert nursery.child_tasks
        assert dm0.stats.in_flight == 1
        message = read_request(MAPPED, 8, 0, 512)
        rig.loop.send(message)
        rig.loop.until_got([], [message])
        rig.end(done(7, bytes(512)))
    await rig.system.resume("dm0")
    rig.begin(message, "read")
    rig.end(done(8, bytes(512)))


async def test_another_table_waits_for_it_and_it_ends_on_the_old_one(rig: Rig) -> None:
    rig.begin(write_request(MAPPED, 7, 0, b"x" * 512), "write")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(swap, rig.system, "dm0", "0 64 linear d0 16")
        await wait_all_tasks_blocked()
        assert nursery.child_tasks
        rig.end(written(7, 512))
    assert medium(rig.disk, 8, 512) == b"x" * 512
    assert medium(rig.disk, 16, 512) == bytes(512)


# Range locks.


async def test_the_sectors_of_writes_are_locked_and_those_of_reads_are_not(rig: Rig) -> None:
    locks = rig.disk.range_locks
    rig.begin(read_request(MAPPED, 7, 8192, 512), "read")
    assert locks.is_free(0, 128)
    rig.begin(write_request(MAPPED, 8, 1024, b"x" * 1024), "read", "write")
    assert not locks.is_free(10, 11)
    assert not locks.is_free(11, 12)
    assert locks.is_free(12, 128)
    assert locks.is_free(0, 8)
    rig.end(done(7, bytes(512)), written(8, 1024))
    rig.loop.until(lambda: locks.is_free(0, 128))


async def test_writes_on_paths_do_not_wait_for_each_other(rig: Rig) -> None:
    """As two of the kernel's: who writes twice at once gets either."""
    rig.begin(write_request(RAW, 7, 4096, b"x" * 512), "write")
    assert rig.disk.range_locks.claimed == []
    rig.begin(write_request(MAPPED, 8, 0, b"y" * 512), "write", "write")
    rig.end(written(7, 512), written(8, 512))
    rig.loop.until(lambda: rig.disk.range_locks.is_free(0, 128))


async def test_a_write_in_python_waits_for_what_it_overlaps(rig: Rig) -> None:
    """A part of a block is read, changed and written: a write that came between would be undone."""
    rig.begin(write_request(RAW, 7, 0, b"x" * 512), "write")
    async with trio.open_nursery() as nursery:
        view = rig.system.view("d0")
        nursery.start_soon(device_file.write, view, 100, memoryview(b"y" * 100))
        await wait_all_tasks_blocked()
        assert nursery.child_tasks
        assert medium(rig.disk, 0, 512) == bytes(512)
        message = write_request(OTHER, 8, 0, b"z" * 512)
        for _ in range(3):  # The gate has been open meanwhile, and it is under way as before.
            rig.loop.send(message)
            rig.loop.until_got([], [message])
            await wait_all_tasks_blocked(0.01)
            assert rig.disk.stats.ios == [0, 0, 0, 0]
        rig.held.let_go()
        rig.loop.until_got([written(7, 512)], [])
        rig.loop.until(lambda: rig.disk.stats.ios[1] == 1)
    assert medium(rig.disk, 0, 512) == b"x" * 100 + b"y" * 100 + b"x" * 312


async def test_a_write_in_python_beside_it_does_not_wait(rig: Rig) -> None:
    rig.begin(write_request(RAW, 7, 0, b"x" * 512), "write")
    with trio.fail_after(10):
        await device_file.write(rig.system.view("d0"), 512, memoryview(b"y" * 100))
    assert medium(rig.disk, 0, 612) == bytes(512) + b"y" * 100
    rig.end(written(7, 512))


# Keyslots and engines.


async def test_its_keyslot_is_kept_until_it_ends(rig: Rig) -> None:
    rig.begin(read_request(HOME, 7, 0, 4096), "read")
    with pytest.raises(KeyBusy):
        rig.disk.engine_slots.check_evictable(rig.key)
    assert rig.disk.engine_stats.in_flight == 1
    rig.end(done(7, bytes(4096)))
    rig.disk.engine_slots.check_evictable(rig.key)
    assert rig.disk.engine_stats.in_flight == 0
    assert rig.disk.counts.native == 1


async def test_an_engine_that_is_lost_meanwhile_ends_with_the_last_one(rig: Rig) -> None:
    rig.begin(write_request(HOME, 7, 0, b"x" * 4096), "write")
    slots, stats = rig.disk.engine_slots, rig.disk.engine_stats
    ended = rig.system.swap_engine("d0", None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ended)
        await wait_all_tasks_blocked()
        assert nursery.child_tasks
        with pytest.raises(KeyBusy):
            slots.check_evictable(rig.key)
        rig.end(written(7, 4096))
    assert (stats.ios[1], stats.in_flight, rig.disk.counts.native) == (1, 0, 1)
    assert not slots.is_ready(rig.key)
    assert_nothing_is_held(rig.disk)
