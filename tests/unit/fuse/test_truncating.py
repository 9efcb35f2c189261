"""Opening with O_TRUNC: what a file holds is given up before libfuse opens it."""

import errno
import os

import pytest

from fusedm.files import OpenDevice
from fusedm.fuse.lane import MAX_FORWARDED
from fusedm.stores import FailOp, FaultyStore, MemoryStore
from tests.helpers.builders import make_disk, medium
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
