"""Keys and contexts through mapped devices: what is readied, what is reached, what is refused."""

import errno

import pytest
from trio.testing import wait_all_tasks_blocked

from fusedm.block import NO_CAPABILITIES
from fusedm.block.errors import CryptoError, KeyBusy
from fusedm.crypto import Fallback, evict_key, start_using_key, submit_bio_nowait
from fusedm.dm import target_class, target_names
from fusedm.stores import FaultyStore, MemoryStore
from tests.helpers import reference_xts
from tests.helpers.builders import (
    MODE,
    load,
    make_disk,
    make_key,
    make_mapped,
    medium,
    pattern,
    prime,
    read,
    write,
    write_bio,
)

KEY = make_key("k", 4096)
TEXT = bytes(pattern(8 * 4096))


class NoSoftware(Fallback):
    """A fallback on a machine that has no software for any mode."""

    def start(self, mode: str) -> None:
        raise CryptoError(f"no software for {mode}", errno.ENOPKG)


def disks(*names, slots=2):
    return [make_disk(name, slots=slots) for name in names]


def holds_key(disk, key=KEY):
    """Whether the engine or the fallback of a disk has the key in a keyslot."""
    return disk.engine.slots.slots.index_of(key) is not None or disk.fallback.is_ready(key)


# Starting a key.


async def test_starting_a_key_readies_every_fallback_before_it_returns():
    d0, d1, d2 = disks("d0", "d1", "d2")
    lower = await make_mapped("0 64 linear d0 0", d0, name="lower")
    await load(lower, "0 64 linear d1 0", d1)
    top = await make_mapped("0 64 linear lower 0\n64 64 linear d2 0", lower, d2, name="top")
    start_using_key(top, KEY)
    for device in (top, lower, d0, d1, d2):
        assert device.fallback._started == {MODE}


async def test_a_native_path_has_its_software_readied_too():
    (disk,) = disks("d0")
    mapped = await make_mapped("0 64 linear d0 0", disk, keys=[KEY])
    disk.swap_engine(None)
    await write(mapped, 0, TEXT, KEY)
    assert disk.counts.fallback == 1


async def test_a_key_that_one_leg_cannot_ready_is_not_started_on_the_mapped_device():
    d0, d1 = disks("d0", "d1")
    mapped = await make_mapped("0 64 linear d0 0\n64 64 linear d1 0", d0, d1)
    d1.fallback = NoSoftware("d1")
    with pytest.raises(CryptoError, match="no software") as caught:
        start_using_key(mapped, KEY)
    assert caught.value.errno == errno.ENOPKG
    await load(mapped, "0 64 linear d0 0", d0)
    assert list(mapped._keys) == []


async def test_a_table_for_which_a_key_cannot_be_readied_is_not_loaded():
    d0, d1 = disks("d0", "d1")
    mapped = await make_mapped("0 64 linear d0 0", d0, keys=[KEY])
    await load(mapped, "0 32 linear d0 0", d0)
    inactive = mapped.inactive
    d1.fallback = NoSoftware("d1")
    with pytest.raises(CryptoError, match="no software"):
        await load(mapped, "0 64 linear d0 0\n64 64 linear d1 0", d0, d1)
    assert mapped.inactive is inactive
    assert d1.fallback not in list(mapped.key_users(KEY))
    assert list(d1.holders) == []


# Evicting a key.


async def test_eviction_reaches_every_device_of_every_table_there_has_been(nursery):
    store = FaultyStore(MemoryStore(1 << 20), seed=0)
    replaced = make_disk("replaced", slots=2, store=store)
    live, inactive, cleared, deep = disks("live", "inactive", "cleared", "deep")
    lower = await make_mapped("0 64 linear replaced 0", replaced, name="lower")
    top = await make_mapped("0 64 linear lower 0", lower, name="top", keys=[KEY])
    hold = await replaced.engine.slots.take(KEY)
    await load(lower, "0 64 linear deep 0", deep)
    await lower.resume()
    for device, text in ((cleared, "cleared"), (inactive, "inactive")):
        await load(top, f"0 64 linear {text} 0", device)
    await prime(cleared.engine.slots, KEY)
    await prime(inactive.fallback, KEY)
    await load(lower, "0 64 linear live 0", live)
    await prime(live.engine.slots, KEY)
    await write(top, 0, TEXT, KEY)
    with pytest.raises(KeyBusy):
        evict_key(top, KEY)
    hold.release()
    assert holds_key(replaced)
    evict_key(top, KEY)
    assert not any(holds_key(disk) for disk in (replaced, live, inactive, cleared, deep))


async def test_a_device_reached_twice_is_asked_once():
    (disk,) = disks("d0")
    lower = await make_mapped("0 64 linear d0 0\n64 64 linear d0 64", disk, name="lower")
    top = await make_mapped("0 64 linear lower 0\n64 64 linear d0 512", lower, disk, keys=[KEY])
    asked = []

    class Counting(Fallback):
        def evict(self, key):
            asked.append(key)
            super().evict(key)

    disk.fallback = Counting("d0")
    start_using_key(top, KEY)
    evict_key(top, KEY)
    assert asked == [KEY]


async def test_after_eviction_no_device_remembers_the_key():
    (disk,) = disks("d0")
    lower = await make_mapped("0 64 linear d0 0", disk, name="lower")
    top = await make_mapped("0 64 linear lower 0", lower, name="top", keys=[KEY])
    evict_key(top, KEY)
    assert [list(top._keys), list(lower._keys)] == [[], []]


# Where contexts end.


@pytest.mark.parametrize("name", target_names())
async def test_a_target_passes_contexts_only_if_it_says_so(name):
    opted_in = {"linear", "striped", "flakey", "default-key", "thin", "thin-pool"}
    passes = target_class(name).passes_crypto
    if name == "raid":
        assert isinstance(passes, property), "each of its levels decides"
    else:
        assert passes == (name in opted_in)


async def test_one_target_that_does_not_pass_takes_native_from_the_whole_and_no_extent_else():
    (disk,) = disks("d0")
    text = "0 32 linear d0 0\n32 32 delay d0 32 0"
    mapped = await make_mapped(text, disk, keys=[KEY])
    assert mapped.capabilities == NO_CAPABILITIES
    await write(mapped, 0, TEXT, KEY)
    first, second = mapped.live.entries
    assert (first.counts.native, first.counts.fallback) == (1, 0)
    assert (second.counts.native, second.counts.fallback) == (0, 1)
    assert medium(disk, 0, len(TEXT)) == reference_xts.encrypt(bytes(KEY.raw), 4096, 0, TEXT)


@pytest.mark.parametrize(
    ("text", "mask"),
    [
        ("0 64 linear d0 0", 0x1200),
        ("0 20 linear d0 0\n20 44 linear d0 64", 0x200),
        ("0 64 striped 2 4 d0 0 d0 64", 0x200),
        ("0 64 striped 2 8 d0 0 d0 64", 0x1200),
        ("0 20 linear d0 0\n20 44 zero", 0),
    ],
)
async def test_unit_sizes_that_a_split_may_cut_are_not_told_as_native(text, mask):
    (disk,) = disks("d0")
    mapped = await make_mapped(text, disk)
    assert mapped.capabilities.modes.get(MODE, 0) == mask


async def test_units_of_a_size_not_told_as_native_are_whole_wherever_they_lie():
    d0, d1 = disks("d0", "d1")
    mapped = await make_mapped("0 20 linear d0 0\n20 108 linear d1 0", d0, d1, keys=[KEY])
    for sector in range(16, 24):
        await write(mapped, sector, TEXT, KEY, sector)
        assert await read(mapped, sector, len(TEXT), KEY, sector) == TEXT
        raw = (medium(d0, 0, 20 * 512) + medium(d1, 0, 108 * 512))[sector * 512 :][: len(TEXT)]
        assert raw == reference_xts.encrypt(bytes(KEY.raw), 4096, sector, TEXT)


# Tables that can do less.


async def test_a_table_of_errors_takes_the_place_of_an_encrypting_one(nursery):
    (disk,) = disks("d0")
    mapped = await make_mapped("0 64 linear d0 0", disk, keys=[KEY])
    await write(mapped, 0, TEXT, KEY)
    await load(mapped, "0 64 error")
    await mapped.resume()
    assert mapped.capabilities == NO_CAPABILITIES
    assert not holds_key(disk)
    await wait_all_tasks_blocked()


async def test_a_bio_in_flight_on_a_richer_table_is_native_and_the_next_is_not(nursery):
    store = FaultyStore(MemoryStore(1 << 20), seed=0)
    rich, poor = make_disk("rich", slots=2, store=store), make_disk("poor")
    mapped = await make_mapped("0 64 linear rich 0", rich, keys=[KEY])
    store.hold()
    nursery.start_soon(write, mapped, 0, TEXT, KEY)
    await wait_all_tasks_blocked()
    await load(mapped, "0 64 linear poor 0", poor)
    nursery.start_soon(mapped.resume)
    await wait_all_tasks_blocked()
    store.release()
    await write(mapped, 0, TEXT, KEY)
    assert medium(rich, 0, len(TEXT)) == medium(poor, 0, len(TEXT))
    assert (rich.counts.native, poor.counts.fallback) == (1, 1)
    assert not holds_key(rich)


async def test_a_richer_table_is_native_from_its_first_bio_on():
    poor, rich = make_disk("poor"), make_disk("rich", slots=2)
    mapped = await make_mapped("0 64 linear poor 0", poor, keys=[KEY])
    await load(mapped, "0 64 linear rich 0", rich)
    await mapped.resume()
    await prime(rich.engine.slots, KEY)
    submit_bio_nowait(mapped, write_bio(0, TEXT, KEY))
    assert rich.counts.native == 1
