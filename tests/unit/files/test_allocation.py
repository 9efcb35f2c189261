"""How many blocks a file of the mount takes: enough for its data, and fewer if there are holes."""

import os
from collections.abc import Mapping

import pytest

from fusedm.files.allocation import allocated_bytes
from fusedm.stores import FaultyStore, FileStore, MemoryStore
from fusedm.system import System
from tests.helpers.builders import make_disk, make_key

KIB = 1024
MIB = 1024 * KIB
SIZE = 16 * MIB
SECTORS = SIZE // 512
KEY = "0123" * 32


async def system_with(tables: Mapping[str, str], strict: bool = False) -> System:
    """Two disks of 16 MiB, d0 with 1 MiB of data at its beginning; and mapped devices."""
    system = System(strict=strict)
    for name in ("d0", "d1"):
        system.add_disk(make_disk(name, store=MemoryStore(SIZE)))
    system.disks["d0"].store.pwrite(0, memoryview(os.urandom(MIB)))
    for name, table in tables.items():
        system.add_mapped(name)
        system.load(name, table)
        await system.resume(name)
    return system


@pytest.mark.parametrize(
    ("table", "allocated"),
    [
        (f"0 {SECTORS} linear d0 0", MIB),
        (f"0 {SECTORS} linear d1 0", 0),
        # Part of a disk: perhaps all of its data, perhaps none. A block less, so that holes are
        # looked for.
        ("0 1024 linear d0 0", 512 * KIB - 4096),
        ("0 8 linear d0 0", 4096),
        ("0 8 linear d1 0", 0),
        (f"0 {SECTORS} linear d0 0\n{SECTORS} {SECTORS} linear d1 0", MIB),
        (f"0 {SECTORS} linear d0 0\n{SECTORS} {SECTORS} linear d0 0", MIB),
        (f"0 {2 * SECTORS} striped 2 128 d0 0 d1 0", MIB),
        (f"0 {SECTORS} delay d0 0 1", MIB),
        (f"0 {SECTORS} crypt aes-xts-plain64 {KEY} 0 d0 0", SIZE),
        (f"0 {SECTORS} crypt aes-xts-plain64 {KEY} 0 d0 0 1 allow_discards", MIB),
        (f"0 {SECTORS} snapshot-origin d0", SIZE),
        (f"0 {SECTORS} error", SIZE),
        (f"0 {SECTORS} linear d0 0\n{SECTORS} 2048 error", 2 * MIB),
    ],
)
async def test_a_mapped_device_takes_what_lies_below(table: str, allocated: int):
    system = await system_with({"m": table})
    assert allocated_bytes(system.view("m")) == allocated


async def test_devices_over_devices_are_followed_down():
    tables = {f"m{number}": f"0 {SECTORS} linear m{number - 1} 0" for number in range(1, 20)}
    system = await system_with({"m0": f"0 {SECTORS} linear d0 0", **tables})
    assert allocated_bytes(system.view("m19")) == MIB


async def test_a_full_disk_is_full_in_all_its_parts():
    system = await system_with({"m": "0 1024 linear d0 0"})
    system.disks["d0"].store.pwrite(0, memoryview(os.urandom(SIZE)))
    assert allocated_bytes(system.view("m")) == 512 * KIB
    assert allocated_bytes(system.view("d0")) == SIZE


async def test_a_device_without_a_table_takes_nothing():
    system = await system_with({})
    system.add_mapped("none")
    assert allocated_bytes(system.view("none")) == 0


@pytest.mark.parametrize(("strict", "allocated"), [(False, MIB), (True, SIZE)])
async def test_a_view_has_holes_unless_it_decrypts_them(strict: bool, allocated: int):
    system = await system_with({}, strict)
    system.add_key(make_key("k", 4096))
    assert allocated_bytes(system.add_view("v", "d0", "k")) == allocated


async def test_a_store_that_hangs_is_told_of_without_waiting():
    system = await system_with({})
    store = FaultyStore(MemoryStore(SIZE), seed=0)
    system.add_disk(make_disk("slow", store=store))
    store.hold()
    assert allocated_bytes(system.view("slow")) == 0
    store.release()


async def test_a_disk_over_a_part_of_a_file_takes_no_more_than_its_size(tmp_path):
    (tmp_path / "f").write_bytes(os.urandom(64 * KIB))
    system = await system_with({})
    system.add_disk(make_disk("f", store=FileStore.open(tmp_path / "f", 8 * KIB)))
    assert allocated_bytes(system.view("f")) == 8 * KIB
    await system.close()
