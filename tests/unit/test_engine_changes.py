"""An engine lost or gained while bios flow: where each is transformed, and what is told of it."""

import errno

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fusedm.block import NO_CAPABILITIES, Capabilities
from fusedm.block.errors import CryptoError, KeyBusy, StackError
from fusedm.crypto import Fallback, InlineEngine, evict_key, start_using_key, submit
from fusedm.fuse.sysfs import block_directory
from fusedm.stack import EngineSpec, Stack, format_spec, parse_spec
from fusedm.stores import FaultyStore, MemoryStore
from fusedm.system import System
from tests.helpers import reference_xts
from tests.helpers.builders import (
    MODE,
    assert_nothing_is_held,
    make_disk,
    make_key,
    medium,
    patch,
    pattern,
    read,
    write,
)
from tests.helpers.commands import TOML
from tests.helpers.lane_kernel import D0, HOME, Kernel, done, running, written

KEY = make_key("k", 4096)
TEXT = bytes(pattern(16384))


def make_engine(slots: int = 2) -> InlineEngine:
    return InlineEngine(Capabilities.of({MODE: [512, 4096]}, 8), slots)


def held_disk(slots: int = 2):
    """A disk whose store holds I/O back when told to."""
    store = FaultyStore(MemoryStore(1 << 20), seed=0)
    disk = make_disk("d0", slots=slots, store=store)
    start_using_key(disk, KEY)
    return disk, store


async def make_system() -> System:
    """top over dm0 over d0 (an engine) and d1 (none); v on top under KEY."""
    system = System()
    system.add_disk(make_disk("d0", slots=2))
    system.add_disk(make_disk("d1"))
    for name, table in (("dm0", "0 64 linear d0 0"), ("top", "0 64 linear dm0 0")):
        system.add_mapped(name)
        system.load(name, table)
        await system.resume(name)
    system.add_key(KEY)
    system.add_view("v", "top", "k", 3)
    return system


def counts(disk):
    return disk.counts.native, disk.counts.fallback


def in_cipher(text: bytes, dun: int = 0) -> bytes:
    return reference_xts.encrypt(bytes(KEY.raw), 4096, dun, text)


# Where bios go.


@pytest.mark.parametrize("slots", [0, 2])
async def test_bios_in_flight_finish_on_the_engine_and_later_ones_in_software(slots):
    disk, store = held_disk(slots)
    old = disk.engine
    store.hold()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write, disk, 0, TEXT[:8192], KEY)
        await wait_all_tasks_blocked()
        disk.swap_engine(None)
        nursery.start_soon(write, disk, 16, TEXT[8192:], KEY, 2)
        await wait_all_tasks_blocked()
        assert old.slots.is_ready(KEY)
        assert counts(disk) == (1, 1)
        store.release()
    assert medium(disk, 0, 16384) == in_cipher(TEXT)
    assert await read(disk, 0, 16384, KEY) == TEXT
    assert_nothing_is_held(disk)


async def test_the_engine_keeps_its_keys_until_its_last_bio_has_ended_and_not_longer(nursery):
    disk, store = held_disk()
    await write(disk, 0, TEXT, KEY)
    slots = disk.engine.slots
    store.hold()
    nursery.start_soon(read, disk, 0, 4096, KEY)
    await wait_all_tasks_blocked()
    wait_ended = disk.swap_engine(None)
    assert slots.slots.index_of(KEY) is not None
    store.release()
    await wait_ended()
    assert slots.slots.index_of(KEY) is None
    assert slots not in list(disk.key_users(KEY))


@pytest.mark.parametrize("slots", [0, 2])
async def test_an_idle_engine_is_emptied_at_once(slots):
    disk, _ = held_disk(slots)
    await write(disk, 0, TEXT, KEY)
    old = disk.engine.slots
    disk.swap_engine(None)
    assert list(disk.key_users(KEY)) == [disk.fallback]
    assert not (old.slots.index_of(KEY) is not None if slots else old._keys)


async def test_later_bios_do_not_prolong_the_end_of_the_engine(nursery):
    disk, store = held_disk()
    store.hold()
    nursery.start_soon(write, disk, 0, TEXT, KEY)
    await wait_all_tasks_blocked()
    wait_ended = disk.swap_engine(None)
    nursery.start_soon(write, disk, 64, TEXT, KEY)
    await wait_all_tasks_blocked()
    store.release()
    await wait_ended()


async def test_a_bio_that_waits_for_a_slot_of_a_lost_engine_gets_it(nursery):
    disk, _ = held_disk(slots=1)
    hold = await disk.engine.slots.take(make_key("other", 4096))
    nursery.start_soon(write, disk, 0, TEXT, KEY)
    await wait_all_tasks_blocked()
    wait_ended = disk.swap_engine(None)
    hold.release()
    await wait_ended()
    assert counts(disk) == (1, 0)
    assert await read(disk, 0, 16384, KEY) == TEXT


async def test_a_patch_half_done_when_the_engine_goes_is_done_there(nursery):
    disk, store = held_disk()
    await write(disk, 0, TEXT, KEY)
    store.hold()
    nursery.start_soon(submit, disk, [patch(0, 4096, 10, b"new", KEY)])
    await wait_all_tasks_blocked()
    wait_ended = disk.swap_engine(None)
    store.release()
    await wait_ended()
    assert await read(disk, 0, 16384, KEY) == TEXT[:10] + b"new" + TEXT[13:]


async def test_a_gained_engine_takes_the_next_bio():
    disk = make_disk("d0")
    start_using_key(disk, KEY)
    await write(disk, 0, TEXT[:8192], KEY)
    disk.swap_engine(make_engine())
    await write(disk, 16, TEXT[8192:], KEY, 2)
    assert counts(disk) == (1, 1)
    assert medium(disk, 0, 16384) == in_cipher(TEXT)
    evict_key(disk, KEY)
    assert disk.engine.slots.slots.index_of(KEY) is None
    assert not disk.fallback.is_ready(KEY)


# Keys.


async def test_eviction_reaches_an_engine_on_its_way_out(nursery):
    disk, store = held_disk()
    store.hold()
    nursery.start_soon(write, disk, 0, TEXT, KEY)
    await wait_all_tasks_blocked()
    wait_ended = disk.swap_engine(None)
    with pytest.raises(KeyBusy, match="key 'k' is in use"):
        evict_key(disk, KEY)
    store.release()
    await wait_ended()
    evict_key(disk, KEY)


async def test_a_slot_held_without_a_bio_keeps_its_key_until_it_is_given_back():
    disk, _ = held_disk()
    slots = disk.engine.slots
    hold = await slots.take(KEY)
    disk.swap_engine(None)
    assert slots.slots.index_of(KEY) is not None
    hold.release()


# The devices above.


async def test_every_device_above_tells_at_once_what_it_can_now():
    system = await make_system()
    names = ("d0", "dm0", "top")
    system.swap_engine("d0", None)
    assert [system.device(name).capabilities for name in names] == [NO_CAPABILITIES] * 3
    queues = [block_directory(system, name).child("queue") for name in names]
    assert all("crypto" not in queue.names() for queue in queues)
    system.swap_engine("d0", make_engine(5))
    assert all(system.device(name).capabilities.modes == {MODE: 0x1200} for name in names)
    told = block_directory(system, "d0").child("queue").child("crypto").child("num_keyslots")
    assert told.text() == "5\n"


async def test_what_a_view_wrote_before_it_reads_after():
    system = await make_system()
    view = system.view("v")
    await write(view.device, 0, TEXT, KEY, 3)
    system.swap_engine("d0", None)
    assert await read(view.device, 0, 16384, KEY, 3) == TEXT
    assert counts(system.disks["d0"]) == (1, 1)


class NoSoftware(Fallback):
    """A fallback on a machine that has no software for any mode."""

    def start(self, mode: str) -> None:
        raise CryptoError(f"no software for {mode}", errno.ENOPKG)


@pytest.mark.parametrize("name", ["d0", "dm0", "top"])
async def test_a_change_that_one_device_cannot_prepare_for_changes_nothing(name):
    system = await make_system()
    disk, device = system.disks["d0"], system.device(name)
    engine, span = disk.engine, system.device("top").span(0)
    device.fallback = NoSoftware(name)
    with pytest.raises(CryptoError, match="no software") as caught:
        system.swap_engine("d0", None)
    assert caught.value.errno == errno.ENOPKG
    assert disk.engine is engine
    assert span.is_current()
    await write(system.device("top"), 0, TEXT, KEY)
    assert counts(disk) == (1, 0)


async def test_what_was_found_out_about_a_device_is_out_of_date_after_a_change():
    system = await make_system()
    spans = [system.device(name).span(0) for name in ("d0", "dm0", "top")]
    system.swap_engine("d0", None)
    assert not any(span.is_current() for span in spans)


async def test_the_compiled_loop_leaves_the_path_of_a_lost_engine():
    kernel = Kernel()
    disk, key = kernel.system.disks["d0"], kernel.system.keys["k"]
    try:
        async with running(kernel):
            for unique in (1, 2):
                kernel.write(HOME, unique, 0, TEXT[:4096])
                assert await kernel.reply() == written(unique, 4096)
            assert kernel.handles[HOME].spans[0].path is not None
            kernel.system.swap_engine("d0", None)
            kernel.write(HOME, 3, 4096, TEXT[4096:8192])
            assert await kernel.reply() == written(3, 4096)
            assert counts(disk) == (2, 1)
            want = reference_xts.encrypt(bytes(key.raw), 4096, 0, TEXT[:8192])
            kernel.read(D0, 4, 0, 8192)
            assert await kernel.reply() == done(4, want)
            kernel.system.swap_engine("d0", make_engine())
            kernel.read(HOME, 5, 0, 8192)
            assert await kernel.reply() == done(5, TEXT[:8192])
            assert counts(disk) == (3, 1)
    finally:
        kernel.close()


# The verbs.


async def test_a_stack_is_saved_with_the_engine_it_has_now(tmp_path):
    async with Stack(parse_spec(TOML, "s.toml"), tmp_path) as stack:
        await stack.lose_engine("d0")
        assert "engine" not in format_spec(stack.spec())
        await stack.gain_engine("d1", EngineSpec(4, 8, {MODE: [512]}))
        assert stack.spec().disks["d1"].engine == EngineSpec(4, 8, {MODE: [512]})


async def test_an_engine_that_is_not_there_or_there_already_is_refused(tmp_path):
    async with Stack(parse_spec(TOML, "s.toml"), tmp_path) as stack:
        with pytest.raises(StackError, match="'d1' has no engine to lose") as caught:
            await stack.lose_engine("d1")
        assert caught.value.errno == errno.EOPNOTSUPP
        with pytest.raises(StackError, match="'d0' has an engine: lose it first") as caught:
            await stack.gain_engine("d0", EngineSpec(4, 8, {MODE: [512]}))
        assert caught.value.errno == errno.EEXIST
        with pytest.raises(CryptoError, match="mode 'ROT-13' is unknown"):
            await stack.gain_engine("d1", EngineSpec(4, 8, {"ROT-13": [512]}))
        assert stack.system.disks["d1"].engine is None


async def test_whoever_stops_waiting_has_changed_the_engine_all_the_same(tmp_path):
    async with Stack(parse_spec(TOML, "s.toml"), tmp_path) as stack:
        disk = stack.system.disks["d0"]
        slots = disk.engine.slots
        store = disk.store = FaultyStore(MemoryStore(1 << 20), seed=0)
        store.hold()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write, disk, 0, TEXT, stack.system.keys["k"])
            await wait_all_tasks_blocked()
            with trio.move_on_after(0.01) as scope:
                await stack.lose_engine("d0")
            assert scope.cancelled_caught
            assert stack.spec().disks["d0"].engine is None
            store.release()
        assert disk.engine is None
        assert not slots.is_ready(stack.system.keys["k"])
