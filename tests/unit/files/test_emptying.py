"""What a file holds is given up, as when it is opened with O_TRUNC."""

import errno

import pytest

from fusedm.block.errors import BlockIOError, StackError
from fusedm.files import device_file
from fusedm.files.emptying import empty
from fusedm.stores import MemoryStore
from fusedm.system import System
from tests.helpers.builders import make_disk, make_key, medium, pattern


async def filled(*tables: str, strict: bool = False, read_only: bool = False) -> System:
    """A disk `d` full of data, and a mapped device m0, m1... for each table."""
    medium_of_d = MemoryStore(64 * 512)
    medium_of_d.pwrite(0, memoryview(pattern(64 * 512)))
    medium_of_d.read_only = read_only
    system = System(strict=strict)
    system.add_disk(make_disk("d", 64, store=medium_of_d))
    for number, table in enumerate(tables):
        system.add_mapped(f"m{number}")
        system.load(f"m{number}", table)
        await system.resume(f"m{number}")
    return system


async def test_zeros_are_written_where_a_target_cannot_give_space_up():
    system = await filled(f"0 64 crypt aes-xts-plain64 {'0123' * 32} 0 d 0")
    await empty(system, system.view("m0"))
    assert bytes(await device_file.read(system.view("m0"), 0, 64 * 512)) == bytes(64 * 512)
    assert medium(system.disks["d"]).count(0) < 1024


async def test_what_is_zeros_already_is_not_written():
    system = await filled("0 64 snapshot-origin d")
    await device_file.write(system.view("d"), 0, memoryview(bytes(60 * 512)))
    before = system.disks["d"].stats.sectors[1]
    await empty(system, system.view("m0"))
    assert system.disks["d"].stats.sectors[1] - before == 4
    assert medium(system.disks["d"]) == bytes(64 * 512)


async def test_a_part_of_a_device_is_emptied_alone():
    system = await filled("0 16 linear d 8")
    await empty(system, system.view("m0"))
    kept = pattern(64 * 512)
    assert medium(system.disks["d"]) == kept[:4096] + bytes(8192) + kept[4096 + 8192 :]


async def test_a_device_of_a_strict_stack_is_left_alone():
    system = await filled(strict=True)
    await empty(system, system.view("d"))
    assert medium(system.disks["d"]) == pattern(64 * 512)


async def test_a_device_without_a_table_has_nothing_to_empty():
    system = await filled()
    system.add_mapped("none")
    await empty(system, system.view("none"))


async def test_a_read_only_device_keeps_what_it_holds():
    system = await filled(read_only=True)
    with pytest.raises(BlockIOError) as caught:
        await empty(system, system.view("d"))
    assert caught.value.errno == errno.EROFS


@pytest.mark.parametrize("is_open", ["d", "m0", "m1", "left"])
async def test_what_is_open_or_lies_below_something_open_is_not_emptied(is_open: str):
    system = await filled("0 64 linear d 0", "0 64 linear m0 0")
    system.add_key(make_key("k", 4096))
    system.add_view("left", "d", "k", length=4096)
    system.open(is_open)
    with pytest.raises(StackError, match=f"'d' is open, as {is_open}") as caught:
        await empty(system, system.view("d"))
    assert caught.value.errno == errno.EBUSY
    assert medium(system.disks["d"]) == pattern(64 * 512)
    system.closed(is_open)
    await empty(system, system.view("d"))


async def test_a_view_beside_an_open_one_is_emptied():
    system = await filled()
    system.add_key(make_key("k", 4096))
    system.add_view("left", "d", "k", length=4096)
    system.add_view("right", "d", "k", start=4096, length=8192)
    system.open("left")
    await empty(system, system.view("right"))
    kept = pattern(64 * 512)
    assert medium(system.disks["d"]) == kept[:4096] + bytes(8192) + kept[4096 + 8192 :]
