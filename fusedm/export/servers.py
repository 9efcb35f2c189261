"""The NBD servers of a daemon: any number, each at an address of its own."""

import errno
import logging
import ssl
from dataclasses import dataclass, field
from typing import Any

import trio

from fusedm.block.errors import StackError
from fusedm.export.connection import Connection
from fusedm.export.exports import Exports
from fusedm.export.listening import Address, Listening, TlsFiles, listen, tls_context
from fusedm.export.reading import Readers
from fusedm.files import Handles
from fusedm.system import System

#: Clients of all servers at a time: each may have threads and data in hand. More are sent away.
MAX_CONNECTIONS = 128
#: How long to wait after a connection could not be accepted: descriptors are short.
AGAIN_SECONDS = 0.1
#: How long is waited for what clients have done before now to be seen, where that is soon.
CATCH_UP_TRIES, CATCH_UP_SECONDS = 50, 0.001

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """What a server offers, where, and to whom. Without names it is everything."""

    address: Address
    names: tuple[str, ...] = ()
    read_only: bool = False
    tls: TlsFiles | None = None


@dataclass(slots=True, eq=False)
class _Server:
    spec: ServerSpec
    listening: Listening
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    accepting: trio.CancelScope = field(default_factory=trio.CancelScope)
    over: trio.Event = field(default_factory=trio.Event)
    connections: set[Connection] = field(default_factory=set)

    async def end(self) -> None:
        """End it, whoever is connected; returns when it has."""
        self.scope.cancel()
        await self.over.wait()


class Servers:
    """The servers of one system."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._handles: Handles = {}
        self._readers = Readers(self._handles, system)
        self._servers: dict[str, _Server] = {}
        self._nursery: trio.Nursery | None = None
        self._catch_up_others = system.names.catch_up
        system.names.catch_up = self._catch_up

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Let servers be started, until cancelled; then none is left."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await self._readers.listen()

    async def start(self, spec: ServerSpec) -> str:
        """Start a server; returns when it listens, and where.

        Raises: StackError.
        """
        assert self._nursery is not None, "servers are started while they run"
        for name in spec.names:
            self._system.view(name)
        tls = tls_context(spec.tls) if spec.tls is not None else None
        listening = await listen(spec.address)
        server = _Server(spec, listening)
        address = str(listening.address)
        self._servers[address] = server
        self._nursery.start_soon(self._serve, server, address, tls)
        return address

    async def stop(self, address: str, force: bool = False) -> None:
        """End a server; clients with an open export refuse it, unless forced.

        Raises: StackError.
        """
        server = self._find(address)
        await self._catch_up()
        if server.connections and not force:
            text = f"{address}: {len(server.connections)} clients are connected"
            raise StackError(text, errno.EBUSY)
        await server.end()

    async def close(self) -> None:
        """End all servers; requests in hand get a moment, since suspended devices hold some."""
        async with trio.open_nursery() as nursery:
            for server in self._servers.values():
                server.accepting.cancel()
                for connection in server.connections:
                    nursery.start_soon(connection.finish)
        # Some have ended with their last client meanwhile.
        for server in [*self._servers.values()]:
            await server.end()

    def list(self) -> list[dict[str, Any]]:
        """Every server."""
        return [
            {
                "address": address,
                "exports": list(server.spec.names) or None,
                "ro": server.spec.read_only,
                "tls": server.spec.tls is not None,
                "connections": len(server.connections),
            }
            for address, server in self._servers.items()
        ]

    def warning(self, address: str) -> str | None:
        """What is to be said of a server that others may listen in to; None of all others."""
        server = self._find(address)
        if server.spec.tls is not None or server.listening.is_on_loopback:
            return None
        return f"{address} can be reached from other machines, by anybody and without TLS"

    def _find(self, address: str) -> _Server:
        try:
            return self._servers[address]
        except KeyError:
            raise StackError(f"{address}: no server of this stack", errno.ENOENT) from None

    async def _serve(self, server: _Server, address: str, tls: ssl.SSLContext | None) -> None:
        exports = Exports(self._system, self._handles, server.spec.names, server.spec.read_only)

        async def serve_client(stream: trio.SocketStream) -> None:
            connection = Connection(stream, exports, tls, self._readers)
            server.connections.add(connection)
            try:
                await connection.serve()
            except Exception:
                # A bug in one connection ends neither the others nor the mount.
                log.exception("bug in a connection of %s", address)
            finally:
                server.connections.discard(connection)

        try:
            with server.scope:
                async with trio.open_nursery() as clients:
                    with server.accepting:
                        async with trio.open_nursery() as nursery:
                            for listener in server.listening.listeners:
                                nursery.start_soon(self._accept, listener, serve_client, clients)
        finally:
            server.listening.close()
            del self._servers[address]
            server.over.set()

    async def _accept(
        self, listener: trio.SocketListener, serve_client: Any, clients: trio.Nursery
    ) -> None:
        while True:
            try:
                stream = await listener.accept()
            except OSError as error:
                log.warning("an NBD client cannot be accepted: %s", error.strerror)
                await trio.sleep(AGAIN_SECONDS)
                continue
            if self._connection_count() < MAX_CONNECTIONS:
                clients.start_soon(serve_client, stream)
            else:
                log.warning("an NBD client is sent away: %d are there", MAX_CONNECTIONS)
                await trio.aclose_forcefully(stream)

    def _connection_count(self) -> int:
        return sum(len(server.connections) for server in self._servers.values())

    async def _catch_up(self) -> None:
        """Wait until clients that have gone before now have let go of what they had open."""
        await self._catch_up_others()
        for _ in range(CATCH_UP_TRIES):
            connections = [one for each in self._servers.values() for one in each.connections]
            if not [one for one in connections if one.end_if_hung_up()]:
                return
            await trio.sleep(CATCH_UP_SECONDS)
