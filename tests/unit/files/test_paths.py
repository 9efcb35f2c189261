"""Which requests have a path in the compiled loop, and where it leads."""

from collections.abc import Callable

import pytest

from fusedm.block import MODES, Capabilities
from fusedm.crypto import EngineFaults, InlineEngine, KeyslotProfile
from fusedm.crypto.engine_faults import FaultyHardware
from fusedm.disk import Disk
from fusedm.files.handles import OpenDevice
from fusedm.stores import FaultyStore, MemoryStore, Store, VolatileCacheStore
from tests.helpers import reference_xts
from tests.helpers.builders import (
    contents,
    make_disk,
    make_key,
    medium,
    memory_file,
    pattern,
    prime,
)
from tests.helpers.express_loop import (
    SECTORS,
    SIZE,
    RoutedLoop,
    add_disk,
    add_mapped,
    add_view,
    in_clear,
)
from tests.helpers.references import REFERENCES


def opened(loop: RoutedLoop, handle: int) -> OpenDevice:
    """The open file of a handle."""
    found = loop.handles[handle]
    assert isinstance(found, OpenDevice)
    return found


# Which have one.


def test_whole_blocks_of_a_disk_in_memory_are_read_and_written_on_a_path(loop: RoutedLoop) -> None:
    handle = loop.open("d0")
    assert loop.reads(handle, 512, 4096) == pattern(SIZE)[512:4608]
    assert loop.writes(handle, SIZE - 512, b"x" * 512)
    assert medium(loop.system.disks["d0"], SECTORS - 1) == b"x" * 512


def test_a_file_in_memory_has_a_path(loop: RoutedLoop) -> None:
    add_disk(loop.system, make_disk("file", store=memory_file(SIZE)))
    handle = loop.open("file")
    assert loop.writes(handle, 4096, b"x" * 4096)
    assert loop.reads(handle, 4096, 4096) == b"x" * 4096


async def test_a_linear_device_leads_to_its_place_on_the_disk(loop: RoutedLoop) -> None:
    await add_mapped(loop.system, "dm0", "0 16 linear d0 24\n16 8 linear d1 0")
    handle = loop.open("dm0")
    assert loop.reads(handle, 0, 8192) == medium(loop.system.disks["d0"], 24, 8192)
    assert loop.writes(handle, 8192, b"x" * 4096)
    assert medium(loop.system.disks["d1"], 0, 4096) == b"x" * 4096


async def test_what_lies_in_two_stretches_has_no_path(loop: RoutedLoop) -> None:
    await add_mapped(loop.system, "dm0", "0 16 linear d0 24\n16 8 linear d1 0")
    handle = loop.open("dm0")
    assert loop.reads(handle, 8192 - 512, 1024) is None
    assert loop.reads(handle, 8192 - 512, 512) is not None


async def test_a_striped_device_has_one_path_over_all_its_chunks(loop: RoutedLoop) -> None:
    await add_mapped(loop.system, "dm0", "0 64 striped 2 8 d0 8 d1 16")
    handle = loop.open("dm0")
    d0, d1 = (loop.system.disks[name] for name in ("d0", "d1"))
    assert loop.reads(handle, 0, 4096) == medium(d0, 8, 4096)
    assert loop.reads(handle, 4096, 4096) == medium(d1, 16, 4096)
    assert loop.reads(handle, 3 * 4096 + 512, 512) == medium(d1, 25, 512)
    assert loop.reads(handle, 4096 - 512, 1024) == medium(d0, 15, 512) + medium(d1, 16, 512)
    text = bytes(pattern(3 * 4096, 3))
    assert loop.writes(handle, 4096 + 512, text)
    assert medium(d1, 17, 3584) == text[:3584]
    assert medium(d0, 16, 4096) == text[3584:7680]
    assert medium(d1, 24, 4096) == text[7680:11776]
    assert medium(d0, 24, 512) == text[11776:]
    assert len(opened(loop, handle).spans) == 1


async def test_a_view_of_a_striped_device_numbers_its_units_across_the_chunks(
    loop: RoutedLoop,
) -> None:
    await add_mapped(loop.system, "dm0", "0 64 striped 2 8 d0 8 d1 16")
    await add_view(loop.system, "home", "dm0", "k", 100)
    handle, text = loop.open("home"), bytes(pattern(3 * 4096, 3))
    assert loop.writes(handle, 4096, text)
    assert in_clear(loop.system, "d1", "k", 16, 4096, 101) == text[:4096]
    assert in_clear(loop.system, "d0", "k", 16, 4096, 102) == text[4096:8192]
    assert in_clear(loop.system, "d1", "k", 24, 4096, 103) == text[8192:]
    assert loop.reads(handle, 8192, 8192) == text[4096:]


@pytest.mark.parametrize("legs", [16, 17])
async def test_so_many_legs_have_a_path_and_more_have_none(loop: RoutedLoop, legs: int) -> None:
    places = " ".join(f"d{index % 2} {index * 4}" for index in range(legs))
    await add_mapped(loop.system, "dm0", f"0 {legs * 4} striped {legs} 1 {places}")
    handle = loop.open("dm0")
    assert (loop.reads(handle, 0, legs * 2048) is not None) == (legs == 16)


@pytest.mark.parametrize("dun_base", [0, 1000, (1 << 32) - 2])
async def test_a_view_reads_and_writes_under_its_key_and_dun_base(
    loop: RoutedLoop, dun_base: int
) -> None:
    await add_mapped(loop.system, "dm0", "0 64 linear d0 24")
    await add_view(loop.system, "home", "dm0", "k", dun_base)
    handle = loop.open("home")
    assert loop.reads(handle, 4096, 8192) == in_clear(
        loop.system, "d0", "k", 32, 8192, dun_base + 1
    )
    assert loop.writes(handle, 8192, b"x" * 4096)
    assert in_clear(loop.system, "d0", "k", 40, 4096, dun_base + 2) == b"x" * 4096


async def test_duns_beyond_64_bits_are_carried(loop: RoutedLoop) -> None:
    store = MemoryStore(SIZE)
    disk = make_disk("wide", store=store, slots=1, dun_bytes=16)
    add_disk(loop.system, disk)
    key = make_key("wide-key", 4096, 16)
    loop.system.add_key(key)
    base = (1 << 64) - 2
    loop.system.add_view("home", "wide", "wide-key", base)
    await prime(disk.engine_slots, key)
    handle = loop.open("home")
    data = bytes(pattern(4 * 4096, 5))
    assert loop.writes(handle, 0, data)
    assert contents(store, 0, len(data)) == reference_xts.encrypt(bytes(key.raw), 4096, base, data)
    assert loop.reads(handle, 8192, 8192) == data[8192:]


async def test_zeros_on_the_medium_are_holes_on_a_path(loop: RoutedLoop) -> None:
    await add_view(loop.system, "home", "d0", "k")
    loop.system.disks["d0"].store.discard(4096, 8192)
    handle = loop.open("home")
    read = loop.reads(handle, 0, 16384)
    assert read is not None
    assert read[4096:12288] == bytes(8192)
    assert read[:4096] == in_clear(loop.system, "d0", "k", 0, 4096, 0)
    assert read[12288:] == in_clear(loop.system, "d0", "k", 24, 4096, 3)


async def test_the_units_that_a_border_cuts_have_no_path_and_their_neighbours_do(
    loop: RoutedLoop,
) -> None:
    await add_mapped(loop.system, "dm0", "0 20 linear d0 0\n20 44 linear d1 0")
    await add_view(loop.system, "home", "dm0", "k")
    handle = loop.open("home")
    assert loop.reads(handle, 0, 8192) == in_clear(loop.system, "d0", "k", 0, 8192, 0)
    assert loop.reads(handle, 8192, 4096) is None
    assert loop.reads(handle, 4096, 8192) is None
    assert loop.reads(handle, 12288, 4096) == in_clear(loop.system, "d1", "k", 4, 4096, 3)


async def test_a_unit_that_a_border_cuts_is_not_remembered_each_time(loop: RoutedLoop) -> None:
    await add_mapped(loop.system, "dm0", "0 20 linear d0 0\n20 44 linear d1 0")
    await add_view(loop.system, "home", "dm0", "k")
    handle = loop.open("home")
    for _ in range(3):
        assert loop.reads(handle, 8192, 4096) is None
        assert loop.reads(handle, 0, 4096) is not None
    assert len(opened(loop, handle).spans) == 1


async def test_a_chunk_smaller_than_a_data_unit_has_no_path(loop: RoutedLoop) -> None:
    await add_mapped(loop.system, "dm0", "0 64 striped 2 4 d0 0 d1 0")
    await add_view(loop.system, "home", "dm0", "k")
    await add_view(loop.system, "fine", "dm0", "small")
    home, fine = loop.open("home"), loop.open("fine")
    for offset in range(0, 4 * 4096, 4096):
        assert loop.reads(home, offset, 4096) is None
    assert loop.reads(fine, 4 * 512, 4 * 512) == in_clear(loop.system, "d1", "small", 0, 2048, 4)


async def test_an_engine_without_keyslots_takes_the_key_along(loop: RoutedLoop) -> None:
    add_disk(loop.system, make_disk("bare", SECTORS, slots=0))
    loop.system.add_view("home", "bare", "k")
    handle = loop.open("home")
    assert loop.reads(handle, 0, 4096) == in_clear(loop.system, "bare", "k", 0, 4096, 0)


# Which have none.


@pytest.mark.parametrize(
    ("offset", "size"),
    [(1, 512), (512, 100), (511, 512), (0, 513), (100, 0), (0, 0), (SIZE, 0), (SIZE - 512, 1024),
     (SIZE, 512), ((1 << 61) + 512, 512)],
)  # fmt: skip
async def test_what_is_not_whole_blocks_within_the_file_has_no_path(
    loop: RoutedLoop, caplog: pytest.LogCaptureFixture, offset: int, size: int
) -> None:
    await add_mapped(loop.system, "dm0", f"0 {SECTORS} linear d0 0")
    for name in ("d0", "dm0"):
        assert loop.reads(loop.open(name), offset, size) is None
    assert caplog.text == ""


@pytest.mark.parametrize("offset", [512, 4096 - 512])
async def test_less_than_a_data_unit_has_no_path_through_a_view(
    loop: RoutedLoop, offset: int
) -> None:
    await add_view(loop.system, "home", "d0", "k")
    assert loop.reads(loop.open("home"), offset, 4096) is None


def test_text_files_and_unknown_handles_have_no_path(loop: RoutedLoop) -> None:
    loop.handles[5] = memoryview(b"text" * 1000)
    assert loop.reads(5, 0, 512) is None
    assert loop.reads(6, 0, 512) is None


@pytest.mark.parametrize(
    "wrap",
    [lambda store: FaultyStore(store, seed=0), VolatileCacheStore],
    ids=["faulty", "volatile"],
)
def test_a_store_that_does_more_than_keep_bytes_has_no_path(
    loop: RoutedLoop, caplog: pytest.LogCaptureFixture, wrap: Callable[[Store], Store]
) -> None:
    loop.system.add_disk(make_disk("other", store=wrap(MemoryStore(SIZE))))
    handle = loop.open("other")
    assert loop.reads(handle, 0, 512) is None
    assert not loop.writes(handle, 0, b"x" * 512)
    assert caplog.text == ""


def add_disk_of(loop: RoutedLoop, mode: str) -> Disk:
    """The disk "other", whose engine has another mode, and its key "other"."""
    iv_size = MODES[mode].iv_size
    engine = InlineEngine(Capabilities.of({mode: [4096]}, iv_size), 2)
    disk = Disk("other", MemoryStore(SIZE), engine)
    add_disk(loop.system, disk)
    loop.system.add_key(make_key("other", 4096, iv_size, mode))
    return disk


@pytest.mark.parametrize("mode", MODES)
async def test_a_view_of_any_mode_has_a_path(loop: RoutedLoop, mode: str) -> None:
    disk, text = add_disk_of(loop, mode), bytes(pattern(8192))
    await add_view(loop.system, "home", "other", "other", 5)
    handle, raw = loop.open("home"), bytes(loop.system.keys["other"].raw)
    assert loop.writes(handle, 4096, text)
    assert medium(disk, 8, 8192) == REFERENCES[mode].encrypt(raw, 4096, 6, text)
    assert loop.reads(handle, 4096, 8192) == text


async def test_units_with_numbers_beyond_those_of_compiled_code_have_no_path(
    loop: RoutedLoop,
) -> None:
    add_disk_of(loop, "Adiantum")
    await add_view(loop.system, "home", "other", "other", (1 << 128) - 1)
    handle = loop.open("home")
    assert loop.reads(handle, 0, 4096) is not None
    assert loop.reads(handle, 4096, 4096) is None


async def test_an_engine_whose_ciphers_are_not_compiled_has_no_path(loop: RoutedLoop) -> None:
    disk = make_disk("slow", SECTORS, slots=2)
    assert disk.engine is not None
    disk.engine.slots = KeyslotProfile(2, faults=FaultyHardware(EngineFaults()))
    add_disk(loop.system, disk)
    await add_view(loop.system, "home", "slow", "k")
    assert loop.reads(loop.open("home"), 0, 4096) is None
    disk.engine.slots.check_evictable(loop.system.keys["k"])


@pytest.mark.parametrize("target", ["zero", "error", "delay d0 0 7", "flakey d0 0 0 1"])
async def test_a_target_that_looks_at_each_bio_has_no_path_and_its_neighbours_do(
    loop: RoutedLoop, target: str
) -> None:
    await add_mapped(loop.system, "dm0", f"0 8 linear d0 0\n8 8 {target}\n16 8 linear d0 16")
    handle = loop.open("dm0")
    assert [loop.reads(handle, at, 4096) is not None for at in (0, 4096, 8192)] == [
        True, False, True,
    ]  # fmt: skip
