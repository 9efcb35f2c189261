"""An NBD server over a stack in this process, and a client that says whatever a test wants."""

import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from fusedm.export import Address, Servers, ServerSpec
from fusedm.nbd import words
from fusedm.nbd.words import Chunk, ChunkFlag, Command, CommandFlag, Option, OptionReply
from fusedm.stack import Stack, parse_spec

FAIL_AFTER_SECONDS = 20
MIB = 1 << 20

TOML = """\
version = 1
[disks.d0]
size = "8MiB"
store = "memory:"
[disks.d1]
size = "8MiB"
store = "memory:"
[disks.d2]
size = "8MiB"
store = "volatile:memory:"
[disks.fixed]
size = "1MiB"
store = "memory:"
read_only = true
[mapper.m]
table = "0 8192 linear d0 0"
[mapper.bad]
table = "0 8192 error"
[keys.k]
mode = "AES-256-XTS"
data_unit_size = 4096
dun_bytes = 8
source = "random"
[views.v]
device = "d1"
key = "k"
"""


@dataclass(frozen=True)
class Reply:
    """An answer whole: its error, and what its chunks say, holes as zeros."""

    cookie: int
    error: int = 0
    data: bytes = b""
    text: str = ""
    extents: tuple[tuple[int, int], ...] = ()
    chunks: int = 0
    holes: int = 0


class NbdClient:
    """A connection on which anything can be sent."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._buffer = b""
        self.structured = False
        self.size = self.flags = 0
        self._cookie = 0

    async def send(self, data: bytes) -> None:
        """Send bytes."""
        await self.stream.send_all(data)

    async def exactly(self, size: int) -> bytes:
        """So many bytes.

        Raises: EOFError if the server hangs up.
        """
        while len(self._buffer) < size:
            some = await self.stream.receive_some(1 << 16)
            if not some:
                raise EOFError
            self._buffer += some
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    async def is_hung_up_on(self) -> bool:
        """Whether the server hangs up, whatever it says before."""
        try:
            while await self.stream.receive_some(1 << 16):
                pass
        except trio.BrokenResourceError:
            pass
        return True

    async def greet(self) -> None:
        """Begin the handshake."""
        await self.exactly(words.GREETING.size)
        await self.send(words.CLIENT_FLAGS.pack(3))

    async def option(self, option: int, data: bytes = b"") -> list[tuple[int, bytes]]:
        """Ask for an option; what is answered."""
        await self.send(words.OPTION.pack(words.OPTION_MAGIC, option, len(data)) + data)
        told = []
        while True:
            _, of, kind, size = words.OPTION_REPLY.unpack(await self.exactly(20))
            assert of == option
            told.append((kind, await self.exactly(size)))
            if kind == OptionReply.ACK or kind & words.OPTION_ERROR:
                return told

    async def go(self, name: str, structured: bool = True, holes: bool = True) -> None:
        """Choose an export, after the greeting."""
        self.structured = structured
        text = struct.pack(">I", len(name)) + name.encode()
        if structured:
            await self.option(Option.STRUCTURED_REPLY)
            if holes:
                query = words.BASE_ALLOCATION.encode()
                asked = text + struct.pack(">II", 1, len(query)) + query
                await self.option(Option.SET_META_CONTEXT, asked)
        told = await self.option(Option.GO, text + b"\0\0")
        assert told[-1][0] == OptionReply.ACK, told
        _, self.size, self.flags = words.INFO_EXPORT.unpack(told[0][1])

    async def ask(
        self, command: int, offset: int = 0, length: int = 0, flags: int = 0, data: bytes = b""
    ) -> int:
        """Ask for something without waiting for it; its cookie."""
        self._cookie += 1
        header = (words.REQUEST_MAGIC, flags, command, self._cookie, offset, length or len(data))
        await self.send(words.REQUEST.pack(*header) + data)
        return self._cookie

    async def reply(self, read: int = 0) -> Reply:
        """The next answer; read is how many bytes a simple one carries, unless it is an error."""
        magic = struct.unpack(">I", await self.exactly(4))[0]
        if magic == words.SIMPLE_REPLY_MAGIC:
            error, cookie = struct.unpack(">IQ", await self.exactly(12))
            return Reply(cookie, error, await self.exactly(0 if error else read))
        assert magic == words.STRUCTURED_REPLY_MAGIC
        return await self._chunks()

    async def _chunks(self) -> Reply:
        """Chunks of one answer that come one after the other."""
        data, error, text, count, holes = b"", 0, "", 0, 0
        extents: tuple[tuple[int, int], ...] = ()
        while True:
            if count:
                await self.exactly(4)
            count += 1
            flags, kind, cookie, size = struct.unpack(">HHQI", await self.exactly(16))
            payload = await self.exactly(size)
            if kind == Chunk.OFFSET_DATA:
                data += payload[8:]
            elif kind == Chunk.OFFSET_HOLE:
                data += bytes(struct.unpack(">QI", payload)[1])
                holes += 1
            elif kind == Chunk.BLOCK_STATUS:
                extents = tuple(struct.iter_unpack(">II", payload[4:]))
            else:
                error, text = struct.unpack(">I", payload[:4])[0], payload[6:].decode()
            if flags & ChunkFlag.DONE:
                return Reply(cookie, error, data, text, extents, count, holes)

    async def do(self, command: int, *where: int, flags: int = 0, data: bytes = b"") -> Reply:
        """Ask for something and wait for the answer."""
        cookie = await self.ask(command, *where, flags=flags, data=data)
        reply = await self.reply(where[1] if command == Command.READ else 0)
        assert reply.cookie == cookie
        return reply

    async def read(self, offset: int, length: int, flags: int = 0) -> bytes:
        """Bytes of the export."""
        reply = await self.do(Command.READ, offset, length, flags=flags)
        assert reply.error == 0, reply
        return reply.data

    async def write(self, offset: int, data: bytes, fua: bool = False) -> None:
        """Write bytes."""
        flags = CommandFlag.FUA if fua else 0
        assert not (await self.do(Command.WRITE, offset, flags=flags, data=data)).error

    async def close(self) -> None:
        """Hang up at once, as a process does that is killed."""
        await trio.aclose_forcefully(self.stream)


async def until(what: Callable[[], object]) -> None:
    """Wait for something that other tasks are about to do."""
    while not what():  # noqa: ASYNC110  # nobody says when
        await trio.sleep(0.01)


@dataclass
class Served:
    """A stack, its servers and the socket of one of them."""

    stack: Stack
    servers: Servers
    path: Path
    clients: list[NbdClient] = field(default_factory=list)

    async def connect(self) -> NbdClient:
        """A connection on which nothing has been said."""
        self.clients.append(NbdClient(await trio.open_unix_socket(self.path)))
        return self.clients[-1]

    async def client(self, name: str, **how: bool) -> NbdClient:
        """A client of an export."""
        client = await self.connect()
        await client.greet()
        await client.go(name, **how)
        return client

    def open_count(self, name: str) -> int:
        """How often a name is open."""
        return self.stack.system.names.open_count(name)

    async def until_closed(self, name: str) -> None:
        """Wait until nobody has a name open."""
        await until(lambda: not self.open_count(name))


@asynccontextmanager
async def served(folder: Path, toml: str = TOML, **spec: Any) -> AsyncIterator[Served]:
    """A stack served at a socket in a folder."""
    path = folder / "nbd.sock"
    with trio.fail_after(FAIL_AFTER_SECONDS):
        async with (
            Stack(parse_spec(toml, "stack.toml"), folder) as stack,
            trio.open_nursery() as nursery,
        ):
            servers = Servers(stack.system)
            await nursery.start(servers.run)
            await servers.start(ServerSpec(Address(path=str(path)), **spec))
            all_of_it = Served(stack, servers, path)
            yield all_of_it
            await servers.close()
            for client in all_of_it.clients:
                await client.close()
            nursery.cancel_scope.cancel()
