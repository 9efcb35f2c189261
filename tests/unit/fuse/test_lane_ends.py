"""The lane on what no kernel sends, and at its end."""

import errno

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fusedm.files.handles import OpenDevice
from fusedm.fuse import wire
from fusedm.fuse.lane import MAX_REPLY_SIZE
from fusedm.fuse.wire import Opcode
from tests.helpers.builders import contents
from tests.helpers.lane_kernel import (
    D0,
    NONE,
    SLOW,
    TEXT,
    Kernel,
    done,
    failed,
    request,
    written,
)

GETATTR = 3


# What no kernel sends.


@pytest.mark.parametrize("handle", [NONE, TEXT])
async def test_a_write_to_what_is_no_device_is_refused_here(kernel: Kernel, handle: int) -> None:
    """It would not fit a message to libfuse."""
    kernel.write(handle, 1, 0, b"x" * 4096)
    assert await kernel.reply() == failed(1, errno.EBADF)
    kernel.read(NONE, 2, 0, 512)
    assert await kernel.reply() == failed(2, errno.EBADF)


@pytest.mark.parametrize("size", [8192, 511])
async def test_a_write_of_another_size_than_came_writes_nothing(
    kernel: Kernel, caplog: pytest.LogCaptureFixture, size: int
) -> None:
    kernel.write(D0, 1, 0, b"s" * 8192)
    await kernel.reply()
    kernel.write(D0, 2, 8192, b"n" * 512, size=size)
    assert await kernel.reply() == failed(2, errno.EIO)
    assert contents(kernel.system.disks["d0"].store, 16, 8192) == bytes(8192)
    assert "malformed request of 592 bytes" in caplog.text


@pytest.mark.parametrize(
    "opcode", [Opcode.READ, Opcode.WRITE, Opcode.FSYNC, Opcode.FALLOCATE, Opcode.INIT]
)
async def test_a_request_without_its_arguments_is_eio(
    kernel: Kernel, caplog: pytest.LogCaptureFixture, opcode: int
) -> None:
    kernel.read(D0, 1, 0, 512)
    await kernel.reply()
    kernel.send(opcode, 2, b"1234567")
    assert await kernel.reply() == failed(2, errno.EIO)
    assert "malformed request of 47 bytes" in caplog.text


async def test_a_message_shorter_than_a_header_is_passed_over(
    kernel: Kernel, caplog: pytest.LogCaptureFixture
) -> None:
    kernel.socket.send(b"garbage")
    kernel.read(D0, 1, 0, 512)
    assert await kernel.reply() == done(1, bytes(512))
    assert "malformed request of 7 bytes" in caplog.text


# The end.


async def test_what_is_held_ends_with_the_mount(kernel: Kernel) -> None:
    kernel.system.add_mapped("held")
    kernel.system.load("held", "0 8 linear d0 0")
    await kernel.system.resume("held")
    await kernel.system.mapped["held"].suspend()
    kernel.handles[SLOW] = OpenDevice(kernel.system.view("held"), False)
    kernel.read(SLOW, 1, 0, 512)
    await kernel.says_nothing()


async def test_stop_answers_what_is_in_hand_and_takes_nothing_more(idle: Kernel) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(idle.lane.run)
        idle.slow.hold()
        idle.write(SLOW, 1, 0, b"w" * 512)
        await idle.says_nothing()
        idle.lane.stop()
        await wait_all_tasks_blocked(0.01)
        idle.read(D0, 2, 0, 512)
        assert nursery.child_tasks
        idle.slow.release()
    assert await idle.reply() == written(1, 512)
    await idle.says_nothing()


async def test_others_get_their_turn_while_requests_keep_coming(kernel: Kernel) -> None:
    """The lane is never idle: each reply brings the next request at once."""
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take_turns)
        await trio.to_thread.run_sync(keep_asking, kernel, 2000)
        nursery.cancel_scope.cancel()
    assert turns > 2


def keep_asking(kernel: Kernel, count: int) -> None:
    """Send requests, always some at once, and take the replies."""
    asking = kernel.socket.dup()
    asking.setblocking(True)
    with asking:
        message = request(Opcode.READ, 1, wire.IO_IN.pack(D0, 0, 4096, 0, 0, 0, 0))
        for _ in range(8):
            asking.send(message)
        for _ in range(count):
            asking.recv(MAX_REPLY_SIZE)
            asking.send(message)
        for _ in range(8):
            asking.recv(MAX_REPLY_SIZE)
