"""A lane without a kernel: a socket pair stands for /dev/fuse, and tests say what a kernel says.

libfuse's end is the test's too, so what is passed on to it is seen as it comes.
"""

import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fusedm.files.emptying import empty
from fusedm.files.handles import Handles, OpenDevice
from fusedm.fuse import wire
from fusedm.fuse.lane import MAX_REPLY_SIZE, Lane
from fusedm.fuse.wire import Opcode
from fusedm.stores import FaultyStore, MemoryStore, VolatileCacheStore
from fusedm.system import System
from tests.helpers.builders import make_disk, make_key

SIZE = 1 << 20
D0, SLOW, CACHED, HOME, TEXT, NONE = 1, 2, 3, 4, 5, 99


class BuggyStore(MemoryStore):
    """A store with a bug."""

    def pread_into(self, offset: int, buffer: memoryview) -> None:
        """Fail as only a bug does."""
        raise ZeroDivisionError


class Ends:
    """Both ends of a lane: the kernel's and libfuse's."""

    def __init__(self, system: System, names: Mapping[int, str]) -> None:
        self.system = system
        self.socket, device = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self.socket, device):
            end.setblocking(False)
            make_room(end)
        self.handles: Handles = {
            handle: OpenDevice(system.view(name), False) for handle, name in names.items()
        }
        self.handles[TEXT] = memoryview(b"0123456789\n")
        self.lane = Lane(device.detach(), self.handles, system, self.empty, self.takes_discards)
        self.libfuse = socket.socket(fileno=self.lane.libfuse_end())
        self.libfuse.setblocking(False)

    async def empty(self, inode: int) -> None:
        """Empty a file, whose inode is its handle here."""
        opened = self.handles[inode]
        if isinstance(opened, OpenDevice):
            await empty(self.system, opened.view)

    def takes_discards(self, inode: int) -> bool:
        """Whether space can be given up in a file, whose inode is its handle here."""
        opened = self.handles.get(inode)
        return not isinstance(opened, OpenDevice) or opened.view.takes_discards

    def let_go(self) -> None:
        """End what is held on purpose."""

    def close(self) -> None:
        """Close what is open."""
        self.lane.close()
        self.socket.close()
        self.libfuse.close()

    def send(self, opcode: int, unique: int, body: bytes = b"") -> bytes:
        """Send a request; what was sent."""
        message = request(opcode, unique, body)
        self.socket.send(message)
        return message

    def read(self, handle: int, unique: int, offset: int, size: int) -> None:
        """Send a READ."""
        self.socket.send(read_request(handle, unique, offset, size))

    def write(
        self, handle: int, unique: int, offset: int, data: bytes, flags: int = 0, size: int = -1
    ) -> None:
        """Send a WRITE; a size other than the data's is a lie."""
        self.socket.send(write_request(handle, unique, offset, data, flags, size))

    def allocate(self, handle: int, unique: int, mode: int, offset: int, length: int) -> None:
        """Send a FALLOCATE."""
        body = wire.FALLOCATE_IN.pack(handle, offset, length, mode, 0)
        self.send(Opcode.FALLOCATE, unique, body)

    async def reply(self) -> bytes:
        """The next reply."""
        with trio.fail_after(5):
            await trio.lowlevel.wait_readable(self.socket)
        return self.socket.recv(MAX_REPLY_SIZE)

    async def passed_on(self) -> bytes:
        """The next request that libfuse gets."""
        with trio.fail_after(5):
            await trio.lowlevel.wait_readable(self.libfuse)
        return self.libfuse.recv(MAX_REPLY_SIZE)

    async def all_passed_on(self) -> list[bytes]:
        """Every request that libfuse gets by the time nothing moves any more."""
        await wait_all_tasks_blocked(0.01)
        messages = []
        while True:
            try:
                messages.append(self.libfuse.recv(MAX_REPLY_SIZE))
            except BlockingIOError:
                return messages

    async def says_nothing(self) -> None:
        """There is no reply, and there will be none as things are."""
        await wait_all_tasks_blocked(0.01)
        with pytest.raises(BlockingIOError):
            self.socket.recv(MAX_REPLY_SIZE)


class Kernel(Ends):
    """The ends of a lane over three disks: of memory, one that can hang, one with a cache."""

    def __init__(self) -> None:
        system = System()
        self.slow = FaultyStore(MemoryStore(SIZE), seed=0)
        self.medium = MemoryStore(SIZE)
        system.add_disk(make_disk("d0", SIZE // 512, slots=2))
        system.add_disk(make_disk("slow", store=self.slow))
        system.add_disk(make_disk("cached", store=VolatileCacheStore(self.medium)))
        system.add_key(make_key("k", 4096))
        system.add_view("home", "d0", "k")
        super().__init__(system, {D0: "d0", SLOW: "slow", CACHED: "cached", HOME: "home"})

    def let_go(self) -> None:
        """Let the calls that hang go on."""
        self.slow.release()


def make_room(end: socket.socket) -> None:
    """Let as much as the machine allows be on the way."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)


def request(opcode: int, unique: int, body: bytes = b"", inode: int = 1) -> bytes:
    return wire.IN_HEADER.pack(40 + len(body), opcode, unique, inode, 0, 0, 0, 0, 0) + body


def open_request(inode: int, unique: int, flags: int) -> bytes:
    return request(Opcode.OPEN, unique, wire.OPEN_IN.pack(flags, 0), inode)


def read_request(handle: int, unique: int, offset: int, size: int) -> bytes:
    return request(Opcode.READ, unique, wire.IO_IN.pack(handle, offset, size, 0, 0, 0, 0))


def write_request(
    handle: int, unique: int, offset: int, data: bytes, flags: int = 0, size: int = -1
) -> bytes:
    """A WRITE; a size other than the data's is a lie."""
    size = len(data) if size < 0 else size
    head = wire.IO_IN.pack(handle, offset, size, 0, 0, flags, 0)
    return request(Opcode.WRITE, unique, head + data)


def flush_request(handle: int, unique: int) -> bytes:
    return request(Opcode.FSYNC, unique, wire.FSYNC_IN.pack(handle, 0, 0))


def done(unique: int, data: bytes = b"") -> bytes:
    return struct.pack("=IiQ", 16 + len(data), 0, unique) + data


def written(unique: int, size: int) -> bytes:
    return done(unique, struct.pack("=II", size, 0))


def failed(unique: int, number: int) -> bytes:
    return struct.pack("=IiQ", 16, -number, unique)


@asynccontextmanager
async def running(kernel: Ends) -> AsyncIterator[None]:
    """The lane at work; it must end when the mount is gone."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(kernel.lane.run)
        try:
            yield
        finally:
            kernel.let_go()
            kernel.socket.close()
        with trio.fail_after(5):
            while nursery.child_tasks:
                await trio.lowlevel.checkpoint()
