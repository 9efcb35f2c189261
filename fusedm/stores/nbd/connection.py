"""One connection in transmission: what sends and what receives, at the same time.

A client that only sends while the server only sends hangs, so two tasks do it: sending goes on
while a server has stopped reading, and does not keep what it says from being received.
"""

import errno
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import islice

import trio

from fusedm.nbd import Export, Request, Transmission, words
from fusedm.stores.nbd.transport import Part, Transport

log = logging.getLogger(__name__)

#: Bytes of requests in flight on a connection, above which it takes no more: a slow line carries
#: them within the timeout.
MAX_CONNECTION_BYTES = 8 << 20

#: Receives without letting other tasks run; each is at most a socket's buffer.
_MAX_IN_A_ROW = 8

#: Headers and data sent by one call; the kernel takes 1024.
_MAX_PARTS = 64

_WRITE = int(words.Command.WRITE)


class Connection:
    """Requests on their way over one transport.

    on_ended is told of what has ended, on_lost, once, of the end of the connection: what is in
    flight then is whoever's who was told. No buffer of it is touched any more.
    Owns: the transport. Lives: until it is lost, or close.
    """

    def __init__(
        self,
        transport: Transport,
        export: Export,
        on_ended: Callable[[list[Request]], None],
        on_lost: Callable[["Connection", OSError], None],
    ) -> None:
        self.transmission = Transmission(export)
        self.is_lost = False
        self._transport = transport
        self._on_ended = on_ended
        self._on_lost = on_lost
        self._bytes = 0
        self._outgoing: deque[Part] = deque()
        self._has_outgoing = trio.Event()
        for work in (self._receive, self._send):
            trio.lowlevel.spawn_system_task(self._guard, work)

    def has_room(self, max_requests: int) -> bool:
        """Whether it takes one more request."""
        count = len(self.transmission.in_flight)
        return count < max_requests and (not count or self._bytes < MAX_CONNECTION_BYTES)

    def begin(self, request: Request) -> None:
        """Send a request, at once where the transport takes it."""
        request.sent_at = trio.current_time()
        header = self.transmission.begin(request)
        self._bytes += len(request.data)
        parts: list[Part] = [header, request.data] if request.command == _WRITE else [header]
        self._send_soon(parts)

    def close(self) -> list[Request]:
        """Say goodbye where that goes at once, and end; what was in flight. on_lost is not told."""
        in_flight = self.take_in_flight()
        if not self.is_lost:
            header = self.transmission.begin(Request(words.Command.DISCONNECT, 0, 0, 0))
            self._send_soon([header])
            self._end()
        return in_flight

    def take_in_flight(self) -> list[Request]:
        """What is in flight, which is not this connection's any more."""
        in_flight = list(self.transmission.in_flight.values())
        self.transmission.in_flight.clear()
        return in_flight

    def _lose(self, why: OSError) -> None:
        if not self.is_lost:
            self._end()
            self._on_lost(self, why)

    def _end(self) -> None:
        self.is_lost = True
        self._outgoing.clear()
        self._has_outgoing.set()
        self._transport.close()

    def _send_soon(self, parts: list[Part]) -> None:
        sent = 0
        if not self._outgoing:
            # An error is found again by the task that sends, which ends the connection.
            with suppress(OSError):
                sent = self._transport.send_now(parts)
        for part in parts:
            if sent < len(part):
                self._outgoing.append(part if not sent else memoryview(part)[sent:])
            sent = max(0, sent - len(part))
        if self._outgoing:
            self._has_outgoing.set()

    async def _guard(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except trio.ClosedResourceError:
            pass  # By us.
        except OSError as error:
            self._lose(error)
        except Exception as bug:
            # A system task that raises ends the whole program: other devices go on without it.
            log.exception("an NBD connection ends by a mistake of ours")
            self._lose(OSError(errno.EIO, f"a mistake of ours: {type(bug).__name__}"))
        finally:
            self._transport.close()

    async def _send(self) -> None:
        while True:
            if not self._outgoing:
                self._has_outgoing = trio.Event()
                await self._has_outgoing.wait()
            if self.is_lost:
                return
            # The parts are held by the deque: what ends the connection takes them away.
            sent = await self._transport.send_some(list(islice(self._outgoing, _MAX_PARTS)))
            while sent and self._outgoing:
                part = self._outgoing.popleft()
                if sent < len(part):
                    self._outgoing.appendleft(memoryview(part)[sent:])
                sent = max(0, sent - len(part))

    async def _receive(self) -> None:
        in_a_row = 0
        while not self.is_lost:
            space = self.transmission.space()
            count = self._transport.receive_now(space)
            if count == 0:
                raise OSError(errno.ECONNRESET, "the server has hung up")
            if count is not None:
                is_full = count == len(space)
                del space  # Nobody's buffer is held while waiting.
                ended: list[Request] = []
                try:
                    self.transmission.received(count, ended)
                finally:
                    self._end_of(ended)
                in_a_row += 1
                if is_full and in_a_row < _MAX_IN_A_ROW:
                    continue
            in_a_row = 0
            await self._transport.wait_receivable()

    def _end_of(self, ended: list[Request]) -> None:
        refused = [request for request in ended if request.error == errno.ESHUTDOWN]
        for request in refused:
            # A server that is about to end has not done them: they are for the next one.
            self.transmission.in_flight[request.cookie] = request
            ended.remove(request)
        if ended:
            self._bytes -= sum(len(request.data) for request in ended)
            self._on_ended(ended)
        if refused:
            raise OSError(errno.ESHUTDOWN, "the server is about to end")
