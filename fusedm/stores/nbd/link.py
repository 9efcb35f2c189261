"""The way to one export: requests in flight and waiting, over connections that come and go.

Requests wait here while no connection has room for them or none is up. None waits for ever: without
an answer within the timeout everything in flight fails, and so does waiting for a server that is
away for that long. What was in flight on a connection that was lost is sent again: a read, a write
of the same bytes and a flush may all happen twice. What was acknowledged and is not flushed goes
before it (nbd/unflushed.py, decision 71). One connection that is lost takes the others with it:
they may lead to a server that is about to end, and what goes there would be lost or come late.
"""

import errno
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from math import inf

import trio

from fusedm.nbd import Address, Command, Export, ExportFlag, Request, Unflushed, is_change
from fusedm.stores.nbd.connection import Connection
from fusedm.stores.nbd.transport import SocketTransport, Transport, connect
from fusedm.stores.waiting import Lines, MakeLines

log = logging.getLogger(__name__)

#: Connections to a server that lets one client have several: QEMU takes 16 requests on each, and
#: 64 in flight keep a disk busy that answers after 10 ms.
MAX_CONNECTIONS = 4

#: Requests in flight on each of several connections, and on one alone.
MAX_EACH, MAX_ALONE = 16, 64

#: Connections that a request may be lost with: it may be what the server cannot stand.
MAX_TRIES = 5

#: Between attempts to reconnect: the first pause, which doubles, and the longest, which is no more
#: than this part of the timeout, so that who waits is there when the server is back.
FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS, PAUSES_IN_TIMEOUT = 0.05, 5.0, 10


class Link:
    """Requests to one export.

    Owns: its connections, and the system tasks that watch and renew them. Lives: until aclose.
    """

    def __init__(self, address: Address, transport: Transport, export: Export) -> None:
        self._unflushed = Unflushed()
        self._address = address
        self._export = export
        self._connections: list[Connection] = []
        self._lines: Lines | None = None
        self._waiting: deque[Request] = deque()
        self._owed_errno = 0
        #: When the last connection went, by the loop's clock and by the wall's, and why.
        self._lost_at: float | None = None
        self._lost_time = self._why = ""
        #: Away for longer than the timeout: requests fail at once.
        self._is_away = False
        self._pause_seconds = 0.0
        self._is_widening = False
        self._is_closed = False
        #: Set when there is something to watch.
        self._has_more = trio.Event()
        self._tasks: dict[trio.CancelScope, trio.Event] = {}
        self._spawn(self._watch)
        self._go_on(self._connection(transport, export))

    @property
    def state(self) -> str:
        """Whether the server is there, in one line."""
        if self._is_closed:
            return "closed"
        if self._lost_at is None:
            return "connected"
        how = "failed" if self._is_away else "reconnecting"
        return f"{how} since {self._lost_time}: {self._why}"

    @property
    def has_lines(self) -> bool:
        """Whether there may be connections for workers."""
        return self._export.can(ExportFlag.CAN_MULTI_CONN) and not self._address.is_tls

    def lines(self, make: MakeLines) -> Lines:
        """The connections for workers, made the first time."""
        if self._lines is None:
            keeps = self._export.can(ExportFlag.SEND_FLUSH)
            self._lines = make(self._address.timeout_seconds, self._export.maximum, keeps)
            if self._connections and not self._is_widening:
                self._spawn(self._widen)
        return self._lines

    def kept(self) -> Unflushed:
        """What is sent again on the next connection, also of what workers have written."""
        for offset, data in self._lines.taken() if self._lines is not None else ():
            write = Request(Command.WRITE, 0, offset, len(data), memoryview(data))
            self._unflushed.add(write)
        return self._unflushed

    @property
    def is_closed(self) -> bool:
        """Whether it has been ended."""
        return self._is_closed

    def raise_owed(self) -> None:
        """Say once that acknowledged writes were lost, if the server would not take them again.

        Raises: OSError with the server's errno.
        """
        if self._owed_errno:
            number, self._owed_errno = self._owed_errno, 0
            raise OSError(number, "acknowledged writes were lost with the server")

    def begin(self, request: Request) -> None:
        """Send a request, or have it wait for a connection; it ends, whatever happens."""
        if self._is_closed:
            _fail([request], errno.ESHUTDOWN)
        elif self._is_away:
            _fail([request], errno.ETIMEDOUT)
        elif not self._waiting and (connection := self._with_room()):
            connection.begin(request)
        else:
            self._waiting.append(request)
        self._has_more.set()

    async def aclose(self) -> None:
        """End it and its tasks at once; what is in flight or waits fails."""
        self._is_closed = True
        _fail(self._take_waiting() + self._drop_connections(), errno.ESHUTDOWN)
        for scope, ended in list(self._tasks.items()):
            scope.cancel()
            with trio.CancelScope(shield=True):
                await ended.wait()

    # Ends of requests.

    def _with_room(self) -> Connection | None:
        most = MAX_ALONE if len(self._connections) == 1 else MAX_EACH
        with_room = [c for c in self._connections if c.has_room(most)]
        return min(with_room, key=lambda c: len(c.transmission.in_flight), default=None)

    def _ended(self, requests: list[Request]) -> None:
        """The server has answered these."""
        self._pause_seconds = 0.0
        keeps = self._export.can(ExportFlag.SEND_FLUSH)
        for request in requests:
            if not request.error and is_change(request.command) and keeps and not request.is_kept:
                self.kept().add(request)
            _done(request)
        self._send_waiting()

    def _send_waiting(self) -> None:
        while self._waiting and (connection := self._with_room()):
            connection.begin(self._waiting.popleft())
        self._has_more.set()

    def _take_waiting(self) -> list[Request]:
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting

    def _drop_connections(self) -> list[Request]:
        """End all connections; what was in flight on them, in the order in which it was sent."""
        if self._lines is not None:
            self._lines.drop()
        connections, self._connections = self._connections, []
        in_flight: list[Request] = []
        for connection in connections:
            in_flight += connection.close()
        return sorted(in_flight, key=lambda request: request.sent_at)

    # Connections that come and go.

    def _connection(self, transport: Transport, export: Export) -> Connection:
        return Connection(transport, export, self._ended, self._lost)

    def _go_on(self, connection: Connection) -> None:
        """Use a connection, the first one."""
        self._lost_at, self._is_away = None, False
        self._connections = [connection]
        self._send_waiting()
        if self._export.can(ExportFlag.CAN_MULTI_CONN):
            self._spawn(self._widen)

    async def _widen(self) -> None:
        """Open the other connections; a server that does not let us has fewer."""
        self._is_widening = True
        try:
            await self._widen_to_all(self._connections)
        finally:
            self._is_widening = False

    async def _widen_to_all(self, first: list[Connection]) -> None:
        while True:
            is_line = len(first) >= MAX_CONNECTIONS
            if is_line and (self._lines is None or not self._lines.missing):
                return
            try:
                transport, export = await self._connected(with_structure=not is_line)
            except OSError as error:
                log.info("%s: with %d connections: %s", self._address, len(first), text_of(error))
                return
            if self._connections is not first or self._is_closed:
                transport.close()
                return
            if is_line and self._lines is not None and isinstance(transport, SocketTransport):
                self._lines.add(transport.detach())
            else:
                first.append(self._connection(transport, export))
                self._send_waiting()

    async def _connected(self, with_structure: bool = True) -> tuple[Transport, Export]:
        """A connection to what the export was when it was opened.

        Raises: OSError.
        """
        with trio.move_on_after(self._address.timeout_seconds):
            transport, export = await connect(self._address, with_structure)
            is_it = export.is_like if with_structure else export.is_also
            if not is_it(self._export):
                transport.close()
                raise OSError(errno.ESTALE, f"the export is not what it was: {export}")
            return transport, export
        raise OSError(errno.ETIMEDOUT, "no answer while connecting")

    def _lost(self, connection: Connection, why: OSError) -> None:
        """A connection has ended by itself."""
        lost = connection.take_in_flight()
        if connection not in self._connections:
            _fail(lost, errno.ECONNRESET)  # Writes sent again, which the next one gets as well.
            return
        lost += self._drop_connections()
        for request in lost:
            request.tries += 1
        _fail([r for r in lost if r.tries >= MAX_TRIES], errno.EIO)
        self._waiting.extendleft(r for r in reversed(lost) if r.tries < MAX_TRIES)
        self._reconnect_from(why)

    def _reconnect_from(self, why: OSError) -> None:
        self._lost_at, self._lost_time = trio.current_time(), time.strftime("%H:%M:%S")
        self._why = text_of(why)
        log.warning("%s: %s", self._address, self._why)
        self._has_more.set()
        self._spawn(self._reconnect)

    async def _reconnect(self) -> None:
        while True:
            await trio.sleep(self._pause_seconds)
            longer = max(FIRST_PAUSE_SECONDS, 2 * self._pause_seconds)
            longest = min(MAX_PAUSE_SECONDS, self._address.timeout_seconds / PAUSES_IN_TIMEOUT)
            self._pause_seconds = min(longer, longest)
            try:
                connection = self._connection(*await self._connected())
                await self._send_again(connection)
            except OSError as error:
                self._why = text_of(error)
            else:
                log.warning("%s: connected again", self._address)
                self._go_on(connection)
                return

    async def _send_again(self, connection: Connection) -> None:
        """Send what was not flushed; a server that refuses some of it makes the next flush fail.

        Raises: OSError if the connection is lost meanwhile, or does not answer.
        """
        try:
            for batch in self.kept().batches():
                with trio.move_on_after(self._address.timeout_seconds) as scope:
                    for request in batch:
                        connection.begin(request)
                    for request in batch:
                        await wait_for(request)
                if scope.cancelled_caught:
                    raise OSError(errno.ETIMEDOUT, "no answer to writes sent again")
                if connection.is_lost:
                    raise OSError(errno.ECONNRESET, "lost again while writes were sent again")
                refused = next((request.error for request in batch if request.error), 0)
                self._owed_errno = self._owed_errno or refused
            if connection.is_lost:
                raise OSError(errno.ECONNRESET, "lost again")
        except BaseException:
            connection.close()
            raise

    # Time.

    async def _watch(self) -> None:
        """End what takes longer than the timeout."""
        while True:
            deadline = self._deadline()
            if deadline == inf:
                self._has_more = trio.Event()
                await self._has_more.wait()
            elif trio.current_time() < deadline:
                await trio.sleep_until(deadline)
            elif self._lost_at is not None:
                self._is_away = True
                _fail(self._take_waiting(), errno.ETIMEDOUT)
            else:
                _fail(self._drop_connections(), errno.ETIMEDOUT)
                seconds = f"{self._address.timeout_seconds:g} s"
                self._reconnect_from(OSError(errno.ETIMEDOUT, f"no answer for {seconds}"))

    def _deadline(self) -> float:
        if self._lost_at is not None:
            return inf if self._is_away else self._lost_at + self._address.timeout_seconds
        sent = [c.transmission.oldest() for c in self._connections]
        return min((at for at in sent if at is not None), default=inf) + (
            self._address.timeout_seconds
        )

    def _spawn(self, work: Callable[[], Awaitable[None]]) -> None:
        scope = trio.CancelScope()
        self._tasks[scope] = ended = trio.Event()

        async def guarded() -> None:
            try:
                with scope:
                    await work()
            except Exception:
                # A system task that raises ends the whole program.
                log.exception("%s: a mistake of ours", self._address)
            finally:
                del self._tasks[scope]
                ended.set()

        trio.lowlevel.spawn_system_task(guarded)


async def wait_for(request: Request) -> None:
    """Wait for the end of a request. While a buffer is lent to it, cancelling does not end that."""

    def leave(_: object) -> trio.lowlevel.Abort:
        if request.data and not request.is_kept:
            return trio.lowlevel.Abort.FAILED
        request.owner = None
        return trio.lowlevel.Abort.SUCCEEDED

    if not request.is_done:
        request.owner = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(leave)


def _fail(requests: list[Request], number: int) -> None:
    for request in requests:
        request.error = number
        _done(request)


def _done(request: Request) -> None:
    request.is_done = True
    if request.owner is not None:
        trio.lowlevel.reschedule(request.owner)
        request.owner = None


def text_of(error: BaseException) -> str:
    """Why a server cannot be had, as a part of one line."""
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return "no answer while connecting"
