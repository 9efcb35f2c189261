"""The hot lane: READ, WRITE and what else may wait, answered here; all else goes to libfuse.

We hold /dev/fuse; libfuse holds one end of a socket pair and takes it for the device. A task drains
the device: requests on files that can be carried out on the spot are answered before the next one
is read; those that have to wait become tasks of their own; everything else is passed on as it came,
and a second task carries libfuse's replies back.

What is passed on never waits for a device, fits a message of the socket and has a small reply, and
no more of it than MAX_FORWARDED is on the way at once: libfuse runs in this very thread, so a full
socket would stop both of us for ever.
"""

import errno
import logging
import os
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import trio

from fusedm.block.errors import BlockIOError, FusedmError, Status, WouldBlock
from fusedm.files import (
    Handles,
    OpenDevice,
    Paths,
    flush,
    flush_nowait,
    letting_in,
    read,
    read_nowait,
    seek,
    write,
    write_nowait,
    zero,
)
from fusedm.fuse import wire
from fusedm.fuse.express import NOTHING_CAME, Express
from fusedm.fuse.replies import Replies, log_refused
from fusedm.fuse.wire import Opcode
from fusedm.system import System

MAX_PAGES = 256
#: Bytes the kernel reads or writes in one request.
MAX_DATA_SIZE = MAX_PAGES * wire.PAGE_SIZE
#: Asynchronous requests the kernel keeps in flight for one mount. Its own 12 would let 12 held
#: requests on one file stall every other file.
MAX_BACKGROUND = 1024
#: The longest reply of libfuse: a text file or a directory.
MAX_REPLY_SIZE = (MAX_PAGES + 1) * wire.PAGE_SIZE
#: Requests at libfuse at once. A socket holds some 200 small replies, or 50 of a page.
MAX_FORWARDED = 32
#: Inodes forgotten in one message to libfuse: 64 KiB. The kernel sends as many as fit the buffer.
MAX_FORGETS = 4096
#: How long requests are answered in a row before other tasks get their turn.
TURN_SECONDS = 2e-3
#: How long to look for another request before sleeping: about as long as going to sleep and being
#: woken takes.
SPIN_SECONDS = 50e-6
#: How long is waited for what has been asked, where requests come without a pause.
CATCH_UP_TRIES, CATCH_UP_SECONDS = 50, 0.001
#: How long to wait after the kernel failed to give a request, or a socket to take a message.
AGAIN_SECONDS = 0.01

#: The requests answered here, and how their arguments lie; each begins with the handle.
_OURS = {
    Opcode.READ: wire.IO_IN,
    Opcode.WRITE: wire.IO_IN,
    Opcode.FSYNC: wire.FSYNC_IN,
    Opcode.FALLOCATE: wire.FALLOCATE_IN,
    Opcode.LSEEK: wire.LSEEK_IN,
}

#: Unmounted, or aborted in one of two ways: there will be no more requests.
_OVER = {errno.ENODEV, errno.ECONNABORTED, errno.EBADF}
#: Errors of a socket that are gone the next time.
_SHORT_OF_MEMORY = {errno.ENOMEM, errno.ENOBUFS}

log = logging.getLogger(__name__)


class Lane:
    """The lane of one mount.

    Owns: device, the non-blocking descriptor of /dev/fuse, and both ends of the socket pair but for
    the one libfuse is given. empty is done to the inode of a file before it is opened truncated;
    takes_discards tells of an inode whether space can be given up in its file.
    """

    def __init__(
        self,
        device: int,
        handles: Handles,
        system: System,
        empty: Callable[[int], Awaitable[None]],
        takes_discards: Callable[[int], bool],
    ) -> None:
        self._device = device
        self._libfuse, self._libfuse_side = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._libfuse.setblocking(False)
        self._replies = Replies(device)
        self._handles = handles
        self._system = system
        self._empty = empty
        self._takes_discards = takes_discards
        self._paths = paths = Paths(handles, system)
        system.names.catch_up = self.catch_up
        self._gate = paths.gate
        self._express = Express(
            device, MAX_DATA_SIZE, paths.gate, paths.find, paths.open, paths.close, log_refused
        )
        self._forwarded = 0
        self._room = trio.Event()
        self._kernel_minor: int | None = None
        self._init_unique = 0

    def libfuse_end(self) -> int:
        """The descriptor libfuse takes for the device; it is libfuse's to close."""
        return self._libfuse_side.detach()

    def close(self) -> None:
        """Close what is ours."""
        self._express.close()
        self._libfuse.close()
        self._libfuse_side.close()
        os.close(self._device)

    async def catch_up(self) -> None:
        """Wait until what the kernel has asked before now has been seen to, if that is soon.

        A file is closed for who closed it before we are told of it.
        """
        for _ in range(CATCH_UP_TRIES):
            if not self._forwarded and self._express.is_quiet():
                return
            await trio.sleep(CATCH_UP_SECONDS)

    def stop(self) -> None:
        """Take no more requests; run ends when those in hand are answered."""
        self._express.stop()

    async def run(self) -> None:
        """Answer until the mount is gone or stop is called."""
        self._express.start()
        with letting_in(self._paths):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._bring_replies_back)
                async with trio.open_nursery() as in_hand:
                    if not await self._see_to_requests(in_hand):
                        in_hand.cancel_scope.cancel()  # Nobody is left to be answered.
                nursery.cancel_scope.cancel()

    async def _see_to_requests(self, in_hand: trio.Nursery) -> bool:
        """Answer what workers do not, until told to stop; False if the mount is gone before."""
        turn_began = time.monotonic()
        while True:
            # What libfuse has in hand it answers in a few turns; it should not wait long for them.
            if self._forwarded or time.monotonic() >= turn_began + TURN_SECONDS:
                await trio.lowlevel.checkpoint()
                turn_began = time.monotonic()
            try:
                came = self._express.next(0.0 if self._forwarded else SPIN_SECONDS)
            except OSError as error:
                if error.errno in _OVER:
                    return False
                log.error("taking a request: %s", error.strerror)
                await trio.sleep(AGAIN_SECONDS)
                continue
            if isinstance(came, memoryview):
                await self._take(came, in_hand)
            elif came == NOTHING_CAME:
                await trio.lowlevel.wait_readable(self._gate.bell)
                self._gate.hush()
                turn_began = time.monotonic()
            else:
                return True

    async def _take(self, request: memoryview, in_hand: trio.Nursery) -> None:
        """Answer a request or pass it on, whatever it is."""
        try:
            if wire.IN_HEADER.unpack_from(request)[0] != len(request):
                self._replies.refuse_malformed(request)
            elif not (self._answer(request, in_hand) or self._truncates(request, in_hand)):
                await self._forward(request)
        except struct.error:
            self._replies.refuse_malformed(request)

    def _answer(self, request: memoryview, in_hand: trio.Nursery) -> bool:
        """Answer a request, now or in a task; False if it is libfuse's.

        Raises: struct.error if it is shorter than such a request is.
        """
        _, opcode, unique, inode, *_ = wire.IN_HEADER.unpack_from(request)
        if opcode == Opcode.STATFS and not self._takes_discards(inode):
            # A loop device that is being attached asks, and has no discards where this fails.
            self._replies.error(unique, errno.EOPNOTSUPP)
            return True
        layout = _OURS.get(opcode)
        if layout is None:
            return False
        words = layout.unpack_from(request, wire.IN_HEADER.size)
        opened = self._handles.get(words[0])
        if not isinstance(opened, OpenDevice):
            return self._answer_for_text(opcode, unique, opened, words)
        data = request[wire.DATA_OFFSET :]
        try:
            if opcode == Opcode.READ:
                self._replies.done(unique, read_nowait(opened.view, words[1], words[2]))
            elif opcode == Opcode.WRITE and len(data) != words[2]:
                self._replies.refuse_malformed(request)
            elif opcode == Opcode.WRITE and not words[5] & os.O_DSYNC:
                write_nowait(opened.view, words[1], data)
                self._reply_written(unique, opened, len(data))
            elif opcode == Opcode.FSYNC:
                flush_nowait(opened.view)
                self._replies.done(unique)
            else:
                raise WouldBlock
        except WouldBlock:
            work = self._work(opcode, unique, opened, words, data)
            in_hand.start_soon(self._wait_for, unique, work)
        except FusedmError as error:
            self._replies.error(unique, error.errno)
        except Exception:
            self._replies.bug(unique)
        return True

    def _truncates(self, request: memoryview, in_hand: trio.Nursery) -> bool:
        """Have an open with O_TRUNC empty the file first, which may wait for a device.

        Raises: struct.error if it is shorter than such a request is.
        """
        _, opcode, unique, inode, *_ = wire.IN_HEADER.unpack_from(request)
        if opcode != Opcode.OPEN:
            return False
        flags, more = wire.OPEN_IN.unpack_from(request, wire.IN_HEADER.size)
        if not flags & os.O_TRUNC:
            return False
        message = bytearray(request)
        wire.OPEN_IN.pack_into(message, wire.IN_HEADER.size, flags & ~os.O_TRUNC, more)
        in_hand.start_soon(self._wait_for, unique, self._empty_and_open(inode, message))
        return True

    async def _empty_and_open(self, inode: int, request: bytearray) -> None:
        await self._empty(inode)
        await self._forward(memoryview(request))

    def _answer_for_text(
        self, opcode: int, unique: int, text: memoryview | None, words: tuple[int, ...]
    ) -> bool:
        """Read a text file; its length has no limit, so libfuse's reply might not fit the socket.

        A handle that is none is refused, and so is what cannot be asked of a text file.
        """
        if text is not None and opcode == Opcode.FSYNC:
            return False
        if text is not None and opcode == Opcode.READ:
            self._replies.done(unique, text[words[1] : words[1] + words[2]])
        elif text is not None and opcode == Opcode.LSEEK:
            # All is data; ENOSYS would have the kernel never ask again, for any file.
            self._replies.error(unique, errno.EOPNOTSUPP)
        else:
            self._replies.error(unique, errno.EBADF)
        return True

    async def _wait_for(self, unique: int, work: Coroutine[Any, Any, None]) -> None:
        """Do work that has to wait and ends with a reply; an error is one too."""
        try:
            await work
        except FusedmError as error:
            self._replies.error(unique, error.errno)
        except Exception:
            self._replies.bug(unique)

    def _work(
        self,
        opcode: int,
        unique: int,
        opened: OpenDevice,
        words: tuple[int, ...],
        data: memoryview,
    ) -> Coroutine[Any, Any, None]:
        """What a request of ours asks for; the buffer may be used again when this returns."""
        match opcode:
            case Opcode.READ:
                return self._read(unique, opened, words[1], words[2])
            case Opcode.WRITE:
                return self._write(unique, opened, words[1], memoryview(bytearray(data)), words[5])
            case Opcode.FALLOCATE:
                return self._allocate(unique, opened, *words[1:4])
            case Opcode.LSEEK:
                return self._seek(unique, opened, words[1], words[2])
            case _:
                return self._fsync(unique, opened)

    async def _read(self, unique: int, opened: OpenDevice, offset: int, size: int) -> None:
        self._replies.done(unique, await read(opened.view, offset, size))

    async def _write(
        self, unique: int, opened: OpenDevice, offset: int, data: memoryview, flags: int
    ) -> None:
        await write(opened.view, offset, data, durable=bool(flags & os.O_DSYNC))
        self._reply_written(unique, opened, len(data))

    async def _fsync(self, unique: int, opened: OpenDevice) -> None:
        await flush(opened.view)
        self._replies.done(unique)

    async def _seek(self, unique: int, opened: OpenDevice, offset: int, whence: int) -> None:
        if whence not in (os.SEEK_DATA, os.SEEK_HOLE):
            raise BlockIOError(Status.INVAL, opened.view.name, f"lseek with whence {whence}")
        found = await seek(opened.view, offset, for_data=whence == os.SEEK_DATA)
        self._replies.done(unique, wire.LSEEK_OUT.pack(found))

    async def _allocate(
        self, unique: int, opened: OpenDevice, offset: int, length: int, mode: int
    ) -> None:
        if mode not in wire.ZEROING:
            text = f"fallocate of mode {mode:#x}"
            raise BlockIOError(Status.NOTSUPP, opened.view.name, text)
        if not mode & wire.FALLOC_FL_KEEP_SIZE and offset + length > opened.view.size:
            # As blkdev_fallocate: a block device does not grow.
            text = f"zeroing {length} bytes at {offset} ends past the end at {opened.view.size}"
            raise BlockIOError(errno.EINVAL, opened.view.name, text)
        punch = mode == wire.FALLOC_FL_PUNCH_HOLE | wire.FALLOC_FL_KEEP_SIZE
        await zero(opened.view, offset, length, punch)
        self._system.names.note_write(opened.view.name)
        self._replies.done(unique)

    def _reply_written(self, unique: int, opened: OpenDevice, size: int) -> None:
        self._system.names.note_write(opened.view.name)
        self._replies.done(unique, wire.WRITE_OUT.pack(size, 0))

    async def _forward(self, request: memoryview) -> None:
        """Pass a request on to libfuse, when it has room for the reply.

        Raises: struct.error if it is shorter than such a request is.
        """
        _, opcode, unique, *_ = wire.IN_HEADER.unpack_from(request)
        message = bytearray(request)
        match opcode:
            case Opcode.INTERRUPT:
                return  # Nothing libfuse has ever waits, and what waits here goes on.
            case Opcode.FORGET:
                await self._send_to_libfuse(message)
                return
            case Opcode.BATCH_FORGET:
                for part in wire.split_forgets(message, MAX_FORGETS):
                    await self._send_to_libfuse(part)
                return
            case Opcode.INIT:
                self._kernel_minor = wire.show_old_minor(message)
                self._init_unique = unique
            case Opcode.READDIR | Opcode.READDIRPLUS:
                wire.limit_reply(message, wire.PAGE_SIZE)
        while self._forwarded >= MAX_FORWARDED:
            if self._room.is_set():
                self._room = trio.Event()
            await self._room.wait()
        self._forwarded += 1
        await self._send_to_libfuse(message)

    async def _send_to_libfuse(self, message: bytearray) -> None:
        while True:
            try:
                self._libfuse.send(message)
                return
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._libfuse)
            except OSError as error:
                if error.errno not in _SHORT_OF_MEMORY:
                    raise
                await trio.sleep(AGAIN_SECONDS)

    async def _bring_replies_back(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._libfuse)
            try:
                reply = self._libfuse.recv(MAX_REPLY_SIZE)
            except BlockingIOError:
                continue
            except OSError as error:
                if error.errno not in _SHORT_OF_MEMORY:
                    raise
                await trio.sleep(AGAIN_SECONDS)
                continue
            if not reply:
                return
            self._forwarded -= 1
            self._room.set()
            _, _, unique = wire.OUT_HEADER.unpack_from(reply)
            if self._kernel_minor is not None and unique == self._init_unique:
                reply = wire.widen_init_reply(reply, self._kernel_minor, MAX_PAGES, MAX_BACKGROUND)
                self._kernel_minor = None
            self._replies.send([reply])
