"""An NBD server that does what a test says: in this process, over a unix socket."""

import os
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from fusedm.nbd import words
from fusedm.nbd.words import Command, CommandFlag, ExportFlag, HandshakeFlag, Info, Option
from fusedm.nbd.words import OptionReply as Reply
from tests.helpers import nbd_replies as replies

ALL = (
    ExportFlag.HAS_FLAGS
    | ExportFlag.SEND_FLUSH
    | ExportFlag.SEND_FUA
    | ExportFlag.SEND_WRITE_ZEROES
    | ExportFlag.SEND_TRIM
)

SIZE = 1 << 20


@dataclass
class Got:
    """A request as it came."""

    command: int
    flags: int
    cookie: int
    offset: int
    length: int
    data: bytes = b""


#: Told of a request before the server sees it; whether the server has nothing to do with it then.
Hook = Callable[["Conversation", Got], Awaitable[bool]]


async def no_hook(conversation: "Conversation", got: Got) -> bool:
    return False


@dataclass
class FakeServer:
    """A memory of size bytes; durable is what a flush has made so, and all that a crash leaves."""

    path: str
    nursery: trio.Nursery
    size: int = SIZE
    flags: ExportFlag = ALL
    is_structured: bool = True
    has_allocation: bool = True
    has_go: bool = True
    block_sizes: tuple[int, int, int] | None = None
    greeting: bytes | None = None
    #: Hangs up once it has said so many bytes of the handshake.
    handshake_bytes: int | None = None
    hook: Hook = no_hook
    got: list[Got] = field(default_factory=list)
    conversations: list["Conversation"] = field(default_factory=list)
    connected_count: int = 0
    memory: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    _scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    def __post_init__(self) -> None:
        self.memory, self.durable = bytearray(self.size), bytearray(self.size)

    @property
    def uri(self) -> str:
        return f"nbd+unix:///disk?socket={self.path}"

    async def start(self) -> None:
        """Listen."""
        # Not trio's own: it binds in a thread, and meanwhile a clock that jumps would jump.
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(self.path)
        listening.listen(16)
        self._scope = trio.CancelScope()
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening))
        self.nursery.start_soon(self._listen, listener, self._scope)

    async def _listen(self, listener: trio.SocketListener, scope: trio.CancelScope) -> None:
        with scope:
            async with listener:
                while True:
                    stream = await listener.accept()
                    self.connected_count += 1
                    self.nursery.start_soon(Conversation(self, stream).run)

    def cut(self) -> None:
        """End every connection where it is."""
        for conversation in list(self.conversations):
            conversation.scope.cancel()

    async def stop(self, with_loss: bool = False) -> None:
        """End as if killed; with_loss, with what was not flushed."""
        self._scope.cancel()
        self.cut()
        os.unlink(self.path)
        if with_loss:
            self.memory[:] = self.durable

    def of(self, command: Command) -> list[Got]:
        return [got for got in self.got if got.command == command]


class Conversation:
    """One connection."""

    def __init__(self, server: FakeServer, stream: trio.SocketStream) -> None:
        self.server = server
        self.stream = stream
        self.scope = trio.CancelScope()
        self._left = server.handshake_bytes
        self._is_structured = False

    async def run(self) -> None:
        self.server.conversations.append(self)
        try:
            with self.scope:
                async with self.stream:
                    if await self._handshake():
                        while True:
                            await self._serve()
        except (EOFError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self.server.conversations.remove(self)

    async def receive(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = await self.stream.receive_some(count - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def _say(self, data: bytes) -> None:
        if self._left is not None:
            await self.send(data[: self._left])
            self._left -= len(data)
            if self._left < 0:
                raise EOFError
        else:
            await self.send(data)

    async def _handshake(self) -> bool:
        server = self.server
        flags = HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES
        magics = (words.GREETING_MAGIC, words.OPTION_MAGIC, flags)
        await self._say(server.greeting or words.GREETING.pack(*magics))
        await self.receive(words.CLIENT_FLAGS.size)
        while True:
            _, option, length = words.OPTION.unpack(await self.receive(words.OPTION.size))
            await self.receive(length)
            if option == Option.EXPORT_NAME:
                await self._say(words.EXPORT.pack(server.size, server.flags))
                return True
            if option == Option.GO and server.has_go:
                info = words.INFO_EXPORT.pack(Info.EXPORT, server.size, server.flags)
                await self._reply(option, Reply.INFO, info)
                if server.block_sizes:
                    sizes = words.INFO_BLOCK_SIZE.pack(Info.BLOCK_SIZE, *server.block_sizes)
                    await self._reply(option, Reply.INFO, sizes)
                await self._reply(option, Reply.ACK)
                return True
            if option == Option.SET_META_CONTEXT and server.has_allocation:
                context = words.COUNT.pack(7) + b"base:allocation"
                await self._reply(option, Reply.META_CONTEXT, context)
                await self._reply(option, Reply.ACK)
            elif option == Option.STRUCTURED_REPLY and server.is_structured:
                self._is_structured = True
                await self._reply(option, Reply.ACK)
            else:
                await self._reply(option, Reply.ERR_UNSUP)

    async def _reply(self, option: int, kind: int, data: bytes = b"") -> None:
        magic = words.OPTION_REPLY_MAGIC
        await self._say(words.OPTION_REPLY.pack(magic, option, kind, len(data)) + data)

    async def _serve(self) -> None:
        header = words.REQUEST.unpack(await self.receive(words.REQUEST.size))
        got = Got(header[2], header[1], *header[3:])
        if got.command == Command.WRITE:
            got.data = await self.receive(got.length)
        self.server.got.append(got)
        if got.command == Command.DISCONNECT:
            raise EOFError
        if not await self.server.hook(self, got):
            await self.send(self.answer(got))

    def answer(self, got: Got) -> bytes:
        """Do what was asked for; what is to be said."""
        server, end = self.server, got.offset + got.length
        match got.command:
            case Command.READ:
                content = bytes(server.memory[got.offset : end])
                if self._is_structured:
                    return replies.data(got.cookie, got.offset, content)
                return replies.simple(got.cookie, data=content)
            case Command.WRITE:
                server.memory[got.offset : end] = got.data
            case Command.WRITE_ZEROES:
                server.memory[got.offset : end] = bytes(got.length)
            case Command.FLUSH:
                server.durable[:] = server.memory
            case Command.BLOCK_STATUS:
                # Data and zeros in turns of 64 KiB.
                turn = got.offset >> 16
                length = min(((turn + 1) << 16) - got.offset, got.length)
                return replies.extent(got.cookie, length, 3 if turn % 2 else 0)
        if got.flags & CommandFlag.FUA:
            server.durable[got.offset : end] = server.memory[got.offset : end]
        return replies.simple(got.cookie)


@asynccontextmanager
async def fake_server(**settings: object) -> AsyncIterator[FakeServer]:
    """A server that listens, until the end of the block."""
    folder = tempfile.mkdtemp(prefix="fusedm-nbd-")
    try:
        async with trio.open_nursery() as nursery:
            server = FakeServer(f"{folder}/socket", nursery, **settings)  # type: ignore[arg-type]  # as given
            await server.start()
            yield server
            nursery.cancel_scope.cancel()
    finally:
        shutil.rmtree(folder)
