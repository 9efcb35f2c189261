"""Paths to media, through fallbacks and the ciphers of targets, and those of flushes."""

import os
from pathlib import Path

import pytest

from fusedm.disk import Disk
from fusedm.stores import FaultyStore, FileStore, MemoryStore
from tests.helpers import reference_xts
from tests.helpers.builders import (
    make_disk,
    medium,
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
    swap,
)
from tests.helpers.lane_kernel import write_request, written

# On a medium, and in software.


@pytest.fixture
def on_a_medium(loop: RoutedLoop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Disk:
    """The disk "file", whose store may keep threads waiting."""
    monkeypatch.setattr("fusedm.stores.file.is_in_memory", lambda fd: False)
    disk = make_disk("file", store=FileStore.open(tmp_path / "file", SIZE, create=True), slots=2)
    loop.system.add_disk(disk)
    return disk


async def test_a_file_on_a_medium_has_a_path(loop: RoutedLoop, on_a_medium: Disk) -> None:
    await add_view(loop.system, "home", "file", "k")
    handle = loop.open("home")
    assert loop.writes(handle, 4096, b"x" * 4096)
    assert in_clear(loop.system, "file", "k", 8, 4096, 1) == b"x" * 4096
    assert loop.reads(handle, 4096, 4096) == b"x" * 4096
    assert loop.flushes(handle)


@pytest.mark.parametrize(
    ("slots", "units"), [(None, [4096]), (2, [512])], ids=["no engine", "other units"]
)
async def test_a_view_that_needs_the_disks_fallback_has_a_path_through_it(
    loop: RoutedLoop, slots: int | None, units: list[int]
) -> None:
    disk = make_disk("weak", SECTORS, slots=slots, units=units)
    add_disk(loop.system, disk)
    loop.system.add_view("home", "weak", "k", 7)
    handle = loop.open("home")
    assert loop.reads(handle, 0, 4096) is None
    await prime(disk.fallback, loop.system.keys["k"])
    assert loop.writes(handle, 4096, b"x" * 8192)
    assert in_clear(loop.system, "weak", "k", 8, 8192, 8) == b"x" * 8192
    assert loop.reads(handle, 8192, 4096) == b"x" * 4096
    assert (disk.counts.native, disk.counts.fallback) == (0, 2)


async def test_a_view_over_what_does_not_pass_contexts_on_has_a_path_through_the_fallback_there(
    loop: RoutedLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_mapped(loop.system, "dm0", "0 64 linear d0 8")
    monkeypatch.setattr(type(loop.system.mapped["dm0"].live.entries[0].target), "passes_crypto", 0)
    loop.system.mapped["dm0"].refresh()
    await add_view(loop.system, "home", "dm0", "k", 7)
    handle = loop.open("home")
    assert loop.reads(handle, 0, 4096) is None
    await prime(loop.system.mapped["dm0"].fallback, loop.system.keys["k"])
    assert loop.writes(handle, 4096, b"x" * 4096)
    assert in_clear(loop.system, "d0", "k", 16, 4096, 8) == b"x" * 4096
    assert loop.reads(handle, 4096, 4096) == b"x" * 4096
    assert loop.system.disks["d0"].counts.native == 0
    assert loop.system.mapped["dm0"].live.entries[0].counts.fallback == 2


async def test_a_view_of_a_striped_device_with_engines_and_without_takes_each_ones_way(
    loop: RoutedLoop,
) -> None:
    """One leg in an engine and one in a fallback, whose ciphers are alike."""
    weak = make_disk("weak", SECTORS)
    add_disk(loop.system, weak)
    await add_mapped(loop.system, "dm0", "0 64 striped 2 8 d0 0 weak 0")
    await add_view(loop.system, "home", "dm0", "k")
    handle = loop.open("home")
    assert loop.reads(handle, 0, 8192) is None
    await prime(weak.fallback, loop.system.keys["k"])
    assert loop.writes(handle, 0, b"x" * 16384)
    for disk, dun in (("d0", 0), ("weak", 1)):
        assert in_clear(loop.system, disk, "k", 0, 4096, dun) == b"x" * 4096
        assert in_clear(loop.system, disk, "k", 8, 4096, dun + 2) == b"x" * 4096
    engine = loop.system.disks["d0"].engine_stats
    assert (engine.ios[1], engine.sectors[1]) == (2, 16)
    assert loop.system.disks["d0"].counts.native == 2
    assert (weak.counts.native, weak.counts.fallback) == (0, 2)


async def test_what_a_target_encrypts_has_a_path(loop: RoutedLoop) -> None:
    key = bytes(range(64)).hex()
    await add_mapped(loop.system, "dm0", f"0 64 crypt aes-xts-plain64 {key} 5 d0 8")
    handle = loop.open("dm0")
    assert loop.writes(handle, 512, b"x" * 1024)
    secret = medium(loop.system.disks["d0"], 9, 1024)
    assert reference_xts.decrypt(bytes(range(64)), 512, 6, secret) == b"x" * 1024
    assert loop.reads(handle, 512, 1024) == b"x" * 1024


async def test_what_would_be_encrypted_twice_has_no_path(loop: RoutedLoop) -> None:
    key = bytes(range(64)).hex()
    await add_mapped(loop.system, "dm0", f"0 64 crypt aes-xts-plain64 {key} 5 d0 8")
    await add_view(loop.system, "home", "dm0", "k")
    await prime(loop.system.mapped["dm0"].fallback, loop.system.keys["k"])
    assert loop.reads(loop.open("home"), 0, 4096) is None


# Flushes.


async def test_a_flush_has_a_path_to_every_descriptor_that_it_reaches(loop: RoutedLoop) -> None:
    await add_mapped(loop.system, "lower", "0 16 linear d0 0\n16 16 linear d1 0")
    await add_mapped(loop.system, "top", "0 32 linear lower 0")
    handle = loop.open("top")
    assert loop.flushes(handle)
    for name in ("top", "lower", "d0", "d1"):
        assert loop.system.device(name).stats.ios == [0, 0, 0, 1], name
    await swap(loop.system, "lower", "0 32 linear d1 0")
    assert loop.flushes(handle)
    assert [loop.system.disks[name].stats.ios[3] for name in ("d0", "d1")] == [1, 2]


def test_a_flush_of_a_store_without_descriptor_is_handed_out(loop: RoutedLoop) -> None:
    loop.system.add_disk(make_disk("other", store=FaultyStore(MemoryStore(SIZE), seed=0)))
    assert not loop.flushes(loop.open("other"))


async def test_a_flush_of_a_suspended_device_is_handed_out(loop: RoutedLoop) -> None:
    await add_mapped(loop.system, "dm0", "0 64 linear d0 0")
    handle = loop.open("dm0")
    await loop.system.mapped["dm0"].suspend()
    assert not loop.flushes(handle)
    await loop.system.resume("dm0")
    assert loop.flushes(handle)


def test_a_durable_write_is_written_and_flushed_on_paths(
    loop: RoutedLoop, on_a_medium: Disk
) -> None:
    handle = loop.open("file")
    replies, handed_out = loop.ask(write_request(handle, 7, 0, b"x" * 512, os.O_DSYNC))
    assert (replies, handed_out) == ([written(7, 512)], [])
    assert on_a_medium.stats.ios == [0, 1, 0, 1]
    assert medium(on_a_medium, 0, 512) == b"x" * 512
