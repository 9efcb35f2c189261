"""Opening with O_TRUNC: what a file holds is given up before libfuse opens it."""

import errno
import os

import pytest

from fusedm.block.errors import BlockIOError, StackError
from fusedm.fuse import device_file
from fusedm.fuse.emptying import empty
from fusedm.fuse.handles import OpenDevice
from fusedm.fuse.lane import MAX_FORWARDED
from fusedm.stores import FailOp, FaultyStore, MemoryStore
from fusedm.system import System
from tests.helpers.builders import make_disk, make_key, medium, pattern
from tests.helpers.lane_kernel import (
    D0,
    HOME,
    SIZE,
    SLOW,
    TEXT,
    Kernel,
    done,
    failed,
    open_request,
    running,
)

GETATTR = 3
EMPTYING = os.O_WRONLY | os.O_TRUNC


@pytest.mark.parametrize("handle", [D0, HOME])
async def test_a_file_is_emptied_and_then_opened_without_o_trunc(kernel: Kernel, handle: int):
    kernel.write(handle, 1, 4096, b"x" * 4096)
    await kernel.reply()
    kernel.socket.send(open_request(handle, 2, EMPTYING))
    assert await kernel.passed_on() == open_request(handle, 2, os.O_WRONLY)
    assert medium(kernel.system.disks["d0"]) == bytes(SIZE)


async def test_what_is_not_truncated_is_opened_as_it_is(kernel: Kernel):
    kernel.write(D0, 1, 0, b"x" * 4096)
    await kernel.reply()
    for inode, flags in ((D0, os.O_RDWR), (TEXT, EMPTYING)):
        kernel.socket.send(open_request(inode, 2, flags))
        assert await kernel.passed_on() == open_request(inode, 2, flags & ~os.O_TRUNC)
    assert medium(kernel.system.disks["d0"])[:4096] == b"x" * 4096


async def test_a_hung_store_holds_up_no_other_file(idle: Kernel):
    async with running(idle):
        idle.slow.hold()
        for unique in range(MAX_FORWARDED + 1):
            idle.socket.send(open_request(SLOW, unique, EMPTYING))
        idle.send(GETATTR, 1000)
        assert len(await idle.all_passed_on()) == 1
        idle.slow.release()
        assert len(await idle.all_passed_on()) == MAX_FORWARDED - 1
        idle.libfuse.send(done(1000))
        idle.libfuse.send(done(0))
        assert len(await idle.all_passed_on()) == 2


async def test_what_cannot_be_emptied_is_not_opened(idle: Kernel):
    store = FaultyStore(MemoryStore(SIZE), 0, [FailOp(errno=errno.ENODATA)])
    idle.system.add_disk(make_disk("failing", store=store))
    idle.handles[D0] = OpenDevice(idle.system.view("failing"), False)
    async with running(idle):
        idle.socket.send(open_request(D0, 1, EMPTYING))
        assert await idle.reply() == failed(1, errno.ENODATA)
        assert await idle.all_passed_on() == []


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
