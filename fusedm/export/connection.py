"""One client: the handshake, then requests, of which each that has to wait is a task of its own."""

import logging
import ssl
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager

import trio

from fusedm.block.errors import WouldBlock
from fusedm.export.carrying_out import CarryingOut, refuse
from fusedm.export.exports import ClientOffer, Exports
from fusedm.export.reading import Readers, ReaderWire
from fusedm.export.room import Room
from fusedm.export.wire import StreamWire
from fusedm.nbd import Agreed, Asked, Command, check_request, welcome

#: How long a client may take to choose an export: it holds one of few connections meanwhile.
HANDSHAKE_SECONDS = 30.0
#: How often it is looked whether a client has gone of whom nothing can be read just now.
LOOK_SECONDS = 0.5
#: How long requests in hand may take once the server ends.
GRACE_SECONDS = 1.0
#: Errors of a stream whose other end has gone.
GONE = (trio.BrokenResourceError, trio.ClosedResourceError)

log = logging.getLogger(__name__)


@contextmanager
def _sent_away() -> Iterator[None]:
    """Leave what has no end but that the client has gone, or says what nobody understands."""
    try:
        yield
    except OSError as error:  # EPROTO, and what sockets say.
        log.info("an NBD client is sent away: %s", error.strerror)
    except GONE:
        pass


class Connection:
    """A client of a server. Owns: its stream, until serve returns."""

    def __init__(
        self,
        stream: trio.SocketStream,
        exports: Exports,
        tls: ssl.SSLContext | None,
        readers: Readers,
    ) -> None:
        self._plain = stream
        self._stream: trio.abc.Stream = stream
        self._exports = exports
        self._tls = tls
        self._offer = ClientOffer(exports)
        self._room = Room()
        self._serving, self._taking = trio.CancelScope(), trio.CancelScope()
        self._over = trio.Event()
        self._handshake = StreamWire(stream, stream.socket)
        self._wire: StreamWire | ReaderWire = self._handshake
        self._readers = readers

    async def serve(self) -> None:
        """Serve the client until it has gone, or says what nobody understands."""
        try:
            with self._serving:
                async with AsyncExitStack() as exits, trio.open_nursery() as in_hand:
                    await self._take(in_hand, exits)
                    in_hand.cancel_scope.cancel()
        finally:
            self._offer.close()
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(self._stream)
            self._over.set()

    async def finish(self) -> None:
        """Take no more requests, and end when those in hand are done, or have had a moment."""
        self._taking.cancel()
        self._serving.deadline = trio.current_time() + GRACE_SECONDS
        await self._over.wait()

    def end_if_hung_up(self) -> bool:
        """Whether the client has gone, which has all that it asked for given up."""
        if not self._wire.has_hung_up():
            return False
        self._serving.cancel()
        return True

    async def _take(self, in_hand: trio.Nursery, exits: AsyncExitStack) -> None:
        """Take what the client asks for, and wait until it is done, unless the client has gone."""
        takes_leave = False
        with self._taking, _sent_away():
            agreed = None
            with trio.move_on_after(HANDSHAKE_SECONDS):
                agreed = await self._negotiate()
            if agreed is not None:
                await self._hand_over(agreed, exits)
                takes_leave = await self._take_requests(in_hand, agreed)
        if takes_leave or self._taking.cancelled_caught:
            while not self._room.is_empty:
                await self._wait_for_room()
            while not await self._has_finished():
                self.end_if_hung_up()

    async def _negotiate(self) -> Agreed | None:
        talk = welcome(self._offer, self._tls is not None)
        step = next(talk)
        while True:
            answer = b""
            if isinstance(step, int):
                answer = await self._handshake.read_exactly(step)
            elif isinstance(step, bytes):
                await self._handshake.send([step])
            else:
                await self._start_tls()
            try:
                step = talk.send(answer)
            except StopIteration as end:
                agreed: Agreed | None = end.value
                return agreed

    async def _hand_over(self, agreed: Agreed, exits: AsyncExitStack) -> None:
        """Have a thread take the requests, if one is to be had, and nothing is encrypted."""
        if self._stream is self._plain:
            plain, handle = self._plain.socket, self._offer.handle
            wire = await exits.enter_async_context(self._readers.wire(plain, handle, agreed))
            self._wire = wire or self._wire

    async def _start_tls(self) -> None:
        assert self._tls is not None, "TLS is begun where it is needed"
        stream = trio.SSLStream(self._plain, self._tls, server_side=True)
        await stream.do_handshake()
        self._stream = stream
        self._wire = self._handshake = StreamWire(stream, self._plain.socket)

    async def _take_requests(self, in_hand: trio.Nursery, agreed: Agreed) -> bool:
        """Answer requests until the client takes its leave; False if it has gone without.

        Raises: those of GONE; OSError(EPROTO).
        """
        work = CarryingOut(self._offer.opened, agreed, self._exports.system)
        while (asked := await self._wire.receive()) is not None:
            if asked.command == Command.DISCONNECT:
                return True
            size = asked.buffer_bytes
            while not self._room.has_room(size):
                await self._wait_for_room()
            payload = await self._wire.payload(asked.payload_bytes)
            refusal = check_request(asked, agreed)
            try:
                if refusal is not None:
                    parts = refuse(asked, agreed, refusal)
                else:
                    parts = work.on_the_spot(asked, payload)
            except WouldBlock:
                self._room.take(size)
                in_hand.start_soon(self._see_to, asked, payload, work)
            else:
                await self._wire.send(parts)
                self._wire.done(asked)
        return False

    async def _see_to(self, asked: Asked, payload: memoryview, work: CarryingOut) -> None:
        """Carry out a request that has to wait, and answer it."""
        try:
            await work.waiting(asked, payload, self._wire.send)
        except GONE:
            self._serving.cancel()
        finally:
            self._wire.done(asked)
            self._room.give_back(asked.buffer_bytes)

    async def _has_finished(self) -> bool:
        """Whether all answers have gone out by now; they are waited for for a moment."""
        with trio.move_on_after(LOOK_SECONDS):
            await self._wire.finish()
            return True
        return False

    async def _wait_for_room(self) -> None:
        """Until something under way is over; nobody reads meanwhile, so a hang-up is looked for."""
        with trio.move_on_after(LOOK_SECONDS) as waiting:
            await self._room.wait()
        if waiting.cancelled_caught:
            self.end_if_hung_up()
            await trio.lowlevel.checkpoint()
