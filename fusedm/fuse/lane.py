"""The hot lane: READ, WRITE and what else may wait, answered here; all else goes to libfuse.

We hold /dev/fuse; libfuse holds one end of a socket pair and takes it for the device. A task drains
the device: requests on files that can be carried out on the spot are answered before the next one
is read; those that have to wait become tasks of their own; everything else is passed on as it came,
and a second task carries libfuse's replies back.

What is passed on never waits for a device and has a small reply, and no more of it than
MAX_FORWARDED is on the way at once: libfuse runs in this very thread, so a full socket would stop
both of us for ever.
"""

import errno
import logging
import os
import socket
import time
from collections.abc import Coroutine
from typing import Any

import trio

from fusedm.block.errors import BlockIOError, FusedmError, Status, WouldBlock
from fusedm.fuse import device_file, wire
from fusedm.fuse.handles import Handles, OpenDevice
from fusedm.fuse.wire import Opcode
from fusedm.system import System

MAX_PAGES = 256
#: Asynchronous requests the kernel keeps in flight for one mount. Its own 12 would let 12 held
#: requests on one file stall every other file.
MAX_BACKGROUND = 1024
#: A WRITE of MAX_PAGES and its headers fit; the kernel asks for a page more than the payload.
BUFFER_SIZE = (MAX_PAGES + 1) * wire.PAGE_SIZE
#: Requests at libfuse at once. A socket holds some 200 small replies, or 50 of a page.
MAX_FORWARDED = 32
#: Requests answered in a row before other tasks get their turn.
BATCH = 64
#: How long to look for another request before sleeping: about as long as going to sleep and being
#: woken takes.
SPIN_SECONDS = 50e-6


#: The requests answered here, and how their arguments lie; each begins with the handle.
_OURS = {
    Opcode.READ: wire.IO_IN,
    Opcode.WRITE: wire.IO_IN,
    Opcode.FSYNC: wire.FSYNC_IN,
    Opcode.FALLOCATE: wire.FALLOCATE_IN,
}

FALLOC_FL_KEEP_SIZE = 0x01
FALLOC_FL_PUNCH_HOLE = 0x02
FALLOC_FL_ZERO_RANGE = 0x10
_ZEROING = {
    FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
    FALLOC_FL_ZERO_RANGE,
    FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
}

log = logging.getLogger(__name__)


class Lane:
    """The lane of one mount.

    Owns: device, the non-blocking descriptor of /dev/fuse, and both ends of the socket pair but for
    the one libfuse is given.
    """

    def __init__(self, device: int, handles: Handles, system: System) -> None:
        self._device = device
        self._libfuse, self._libfuse_side = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._libfuse.setblocking(False)
        self._handles = handles
        self._system = system
        self._buffer = bytearray(BUFFER_SIZE)
        self._view = memoryview(self._buffer)
        self._forwarded = 0
        self._room = trio.Event()
        self._kernel_minor: int | None = None
        self._init_unique = 0

    def libfuse_end(self) -> int:
        """The descriptor libfuse takes for the device; it is libfuse's to close."""
        return self._libfuse_side.detach()

    def close(self) -> None:
        """Close what is ours."""
        self._libfuse.close()
        self._libfuse_side.close()
        os.close(self._device)

    async def run(self) -> None:
        """Answer until the mount is gone."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._bring_replies_back)
            await self._drain_device(nursery)
            nursery.cancel_scope.cancel()

    async def _drain_device(self, nursery: trio.Nursery) -> None:
        """Read requests until there is no mount to read them from."""
        in_a_row = 0
        idle_since = 0.0
        while True:
            try:
                length = os.readv(self._device, [self._buffer])
            except BlockingIOError:
                now = time.monotonic()
                if not idle_since:
                    idle_since = now
                if now - idle_since > SPIN_SECONDS:
                    await trio.lowlevel.wait_readable(self._device)
                    idle_since = 0.0
                    in_a_row = 0
                continue
            except OSError as error:
                if error.errno in (errno.EINTR, errno.ENOENT):
                    continue  # The request was taken back before we had it.
                return  # ENODEV: unmounted or aborted.
            idle_since = 0.0
            if not self._answer(nursery):
                await self._forward(length)
            in_a_row += 1
            if in_a_row >= BATCH:
                in_a_row = 0
                await trio.lowlevel.checkpoint()

    def _answer(self, nursery: trio.Nursery) -> bool:
        """Answer the request in the buffer, now or in a task; False if it is libfuse's."""
        _, opcode, unique, *_ = wire.IN_HEADER.unpack_from(self._buffer)
        layout = _OURS.get(opcode)
        if layout is None:
            return False
        words = layout.unpack_from(self._buffer, wire.IN_HEADER.size)
        opened = self._handles.get(words[0])
        if not isinstance(opened, OpenDevice):
            return False
        try:
            if opcode == Opcode.READ:
                self._reply(unique, device_file.read_nowait(opened.view, words[1], words[2]))
            elif opcode == Opcode.WRITE and not words[5] & os.O_DSYNC:
                data = self._view[wire.DATA_OFFSET : wire.DATA_OFFSET + words[2]]
                device_file.write_nowait(opened.view, words[1], data)
                self._reply_written(unique, opened, words[2])
            else:
                raise WouldBlock
        except WouldBlock:
            nursery.start_soon(self._wait_for, unique, self._work(opcode, unique, opened, words))
        except FusedmError as error:
            self._reply_error(unique, error.errno)
        except Exception:
            self._reply_bug(unique)
        return True

    async def _wait_for(self, unique: int, work: Coroutine[Any, Any, None]) -> None:
        """Do work that has to wait and ends with a reply; an error is one too."""
        try:
            await work
        except FusedmError as error:
            self._reply_error(unique, error.errno)
        except Exception:
            self._reply_bug(unique)

    def _work(
        self, opcode: int, unique: int, opened: OpenDevice, words: tuple[int, ...]
    ) -> Coroutine[Any, Any, None]:
        """What a request of ours asks for; the buffer may be used again when this returns."""
        match opcode:
            case Opcode.READ:
                return self._read(unique, opened, words[1], words[2])
            case Opcode.WRITE:
                data = bytearray(self._view[wire.DATA_OFFSET : wire.DATA_OFFSET + words[2]])
                return self._write(unique, opened, words[1], memoryview(data), words[5])
            case Opcode.FALLOCATE:
                return self._allocate(unique, opened, *words[1:4])
            case _:
                return self._fsync(unique, opened)

    async def _read(self, unique: int, opened: OpenDevice, offset: int, size: int) -> None:
        self._reply(unique, await device_file.read(opened.view, offset, size))

    async def _write(
        self, unique: int, opened: OpenDevice, offset: int, data: memoryview, flags: int
    ) -> None:
        await device_file.write(opened.view, offset, data, durable=bool(flags & os.O_DSYNC))
        self._reply_written(unique, opened, len(data))

    async def _fsync(self, unique: int, opened: OpenDevice) -> None:
        await device_file.flush(opened.view)
        self._reply(unique)

    async def _allocate(
        self, unique: int, opened: OpenDevice, offset: int, length: int, mode: int
    ) -> None:
        if mode not in _ZEROING:
            text = f"fallocate of mode {mode:#x}"
            raise BlockIOError(Status.NOTSUPP, opened.view.name, text)
        punch = mode == FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
        await device_file.zero(opened.view, offset, length, punch)
        self._system.note_write(opened.view.name)
        self._reply(unique)

    def _reply_written(self, unique: int, opened: OpenDevice, size: int) -> None:
        self._system.note_write(opened.view.name)
        self._reply(unique, wire.WRITE_OUT.pack(size, 0))

    def _reply(self, unique: int, data: memoryview | bytes = b"") -> None:
        header = wire.OUT_HEADER.pack(wire.OUT_HEADER.size + len(data), 0, unique)
        self._send([header, data] if data else [header])

    def _reply_error(self, unique: int, number: int) -> None:
        self._send([wire.OUT_HEADER.pack(wire.OUT_HEADER.size, -number, unique)])

    def _reply_bug(self, unique: int) -> None:
        """A bug in one request must not end the mount."""
        log.exception("bug in a request")
        self._reply_error(unique, errno.EIO)

    def _send(self, parts: list[memoryview | bytes]) -> None:
        try:
            os.writev(self._device, parts)
        except OSError as error:
            # ENOENT: nobody waits for it any more. ENODEV: unmounted.
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                raise

    async def _forward(self, length: int) -> None:
        """Pass a request on to libfuse, when it has room for the reply."""
        _, opcode, unique, *_ = wire.IN_HEADER.unpack_from(self._buffer)
        message = self._buffer[:length]
        if opcode == Opcode.INIT:
            self._kernel_minor = wire.show_old_minor(message)
            self._init_unique = unique
        if opcode == Opcode.INTERRUPT:
            return  # Nothing libfuse has ever waits, and what waits here goes on.
        if opcode not in wire.UNANSWERED:
            while self._forwarded >= MAX_FORWARDED:
                self._room = trio.Event()
                await self._room.wait()
            self._forwarded += 1
        while True:
            try:
                self._libfuse.send(message)
                return
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._libfuse)

    async def _bring_replies_back(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._libfuse)
            try:
                reply = self._libfuse.recv(BUFFER_SIZE)
            except BlockingIOError:
                continue
            if not reply:
                return
            self._forwarded -= 1
            self._room.set()
            _, _, unique = wire.OUT_HEADER.unpack_from(reply)
            if self._kernel_minor is not None and unique == self._init_unique:
                reply = wire.widen_init_reply(reply, self._kernel_minor, MAX_PAGES, MAX_BACKGROUND)
                self._kernel_minor = None
            self._send([reply])
