"""A client's connection whose requests a thread takes, which does those on paths by itself.

To the tasks it is as StreamWire, requests in and answers out: they see what the thread did not do.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio

from fusedm.export.reader import MAX_READERS, Reader
from fusedm.export.room import MAX_BYTES_IN_HAND, MAX_IN_HAND
from fusedm.export.wire import has_hung_up
from fusedm.files import Handles, Paths, letting_in
from fusedm.nbd import Agreed, Asked, Command, ExportFlag, Parts, parse_request, words
from fusedm.system import System

#: How long a thread that is in a call on a medium is waited for; then it is left behind.
LAST_SECONDS = 0.2

#: Bytes that are on the way to a client: the answer to a request that a thread does, whole, so that
#: it is sent by one call.
SEND_BUFFER_BYTES = 1 << 20
_SO_SNDBUFFORCE = 32

#: What each command is to a path.
_KINDS: dict[int, int] = {Command.READ: 0, Command.WRITE: 1, Command.FLUSH: 2}


class ReaderWire:
    """Requests in, answers out, by the thread of a client."""

    def __init__(
        self, reader: Reader, paths: Paths, handle: int, plain: trio.socket.SocketType
    ) -> None:
        self._reader = reader
        self._paths = paths
        self._handle = handle
        self._plain = plain
        self._payload = memoryview(b"")

    async def receive(self) -> Asked | None:
        """The next request that the thread has not done; None if the client hangs up instead.

        Raises: OSError(EPROTO) for what is none.
        """
        while (message := self._reader.take()) is None:
            if self._reader.has_ended:
                return None
            await self._bell()
        asked = parse_request(memoryview(message)[: words.REQUEST.size])
        self._payload = memoryview(message)[words.REQUEST.size :]
        if asked.command in _KINDS:
            # It is carried out as any other, and those that follow find the path open.
            kind = _KINDS[asked.command]
            self._paths.find(self._handle, kind, asked.offset, asked.length)
        return asked

    async def payload(self, size: int) -> memoryview:
        """The data of a write."""
        payload, self._payload = self._payload, memoryview(b"")
        assert len(payload) == size, "the thread has received all of it"
        return payload

    async def send(self, parts: Parts) -> None:
        """Have an answer sent whole; what is under way is bounded, and so is what waits for that.

        Raises: trio.BrokenResourceError if the client has gone.
        """
        if self._reader.has_ended:
            raise trio.BrokenResourceError
        self._reader.send(parts)
        await trio.lowlevel.checkpoint()

    def done(self, asked: Asked) -> None:
        """A request is under way no more."""
        self._reader.give_back(asked.buffer_bytes)

    def has_hung_up(self) -> bool:
        """Whether the client has closed its end."""
        return self._reader.has_ended or has_hung_up(self._plain)

    async def finish(self) -> None:
        """Take no more requests, and wait until all answers have gone out."""
        self._reader.stop()
        while not self._reader.has_sent_all:
            await self._bell()

    async def close(self) -> None:
        """End the thread; one in a call gets a moment, and is left behind."""
        self._reader.quit()
        # It may wait at the gate, which opens while this task waits.
        with trio.move_on_after(LAST_SECONDS, shield=True):
            while not self._reader.has_ended:
                await self._bell()
        self._reader.let_go()

    @property
    def has_ended(self) -> bool:
        """Whether its thread has."""
        return self._reader.has_ended

    async def _bell(self) -> None:
        await trio.lowlevel.wait_readable(self._reader.bell)
        self._reader.hush()


class Readers:
    """The threads of clients, the paths they take, and the gate that lets them."""

    def __init__(self, handles: Handles, system: System) -> None:
        self._paths = Paths(handles, system)
        self._free = set(range(MAX_READERS))
        self._letting_in: Any = None

    async def listen(self) -> None:
        """Look at the books whenever the bell of the gate rings; until cancelled."""
        gate = self._paths.gate
        try:
            while True:
                await trio.lowlevel.wait_readable(gate.bell)
                gate.hush()
        finally:
            gate.end()
            gate.silence()

    @asynccontextmanager
    async def wire(
        self, plain: trio.socket.SocketType, handle: int, agreed: Agreed
    ) -> AsyncIterator[ReaderWire | None]:
        """A wire over a socket for the time of a with block; None if no thread is to be had."""
        reader = self._reader(plain, handle, agreed)
        if reader is None:
            yield None
            return
        it = ReaderWire(reader, self._paths, handle, plain)
        try:
            yield it
        finally:
            await it.close()
            if it.has_ended:
                self._free.add(reader.index)
            if len(self._free) == MAX_READERS:
                self._let_nobody_in()

    def _reader(self, plain: trio.socket.SocketType, handle: int, agreed: Agreed) -> Reader | None:
        """A thread that has been started; None if there are enough, or the system gives no more."""
        if not self._free:
            return None
        for option in (_SO_SNDBUFFORCE, trio.socket.SO_SNDBUF):
            with suppress(OSError):  # The first one is root's; the other has a limit.
                plain.setsockopt(trio.socket.SOL_SOCKET, option, SEND_BUFFER_BYTES)
                break
        may_write = not agreed.export.flags & ExportFlag.READ_ONLY
        reader = Reader(
            plain.fileno(),
            self._paths.gate,
            min(self._free),
            handle,
            agreed.structured,
            may_write,
            MAX_IN_HAND,
            MAX_BYTES_IN_HAND,
        )
        with suppress(RuntimeError):
            reader.start()
            self._free.discard(reader.index)
            self._let_in()
            return reader
        return None

    def _let_in(self) -> None:
        """Open the gate from now on: without clients it costs nobody anything."""
        if self._letting_in is None:
            self._letting_in = letting_in(self._paths)
            self._letting_in.__enter__()

    def _let_nobody_in(self) -> None:
        if self._letting_in is not None:
            self._letting_in.__exit__(None, None, None)
            self._letting_in = None
