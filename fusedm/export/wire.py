"""A client's connection as requests and answers, over a stream of trio's: a socket or TLS."""

import select
from contextlib import suppress

import trio

from fusedm.nbd import Asked, Parts, parse_request, words

#: Bytes read at a time: some requests, or a part of the data of one.
RECEIVE_BYTES = 1 << 16
#: Answers up to so many bytes are put together, to be sent by one call.
JOIN_BYTES = 1 << 16


class StreamWire:
    """Requests in, answers out, over a stream; plain is the socket below it.

    One task may receive, and any may send: answers go out whole, one after the other.
    """

    def __init__(self, stream: trio.abc.Stream, plain: trio.socket.SocketType) -> None:
        self._stream = stream
        self._plain = plain
        self._buffer = bytearray()
        self._sending = trio.Lock()
        self._is_torn = False

    async def read_exactly(self, size: int) -> bytes:
        """So many bytes and none beyond them: what follows may be TLS.

        Raises: trio.BrokenResourceError.
        """
        data = bytearray()
        while len(data) < size:
            data += await self._receive_some(size - len(data))
        return bytes(data)

    async def receive(self) -> Asked | None:
        """The next request; None if the client hangs up instead. Its payload is to be taken next.

        Raises: trio.BrokenResourceError in the midst of one; OSError(EPROTO) for what is none.
        """
        try:
            await self._fill(1)
        except trio.BrokenResourceError:
            return None
        await self._fill(words.REQUEST.size)
        return parse_request(self._take(words.REQUEST.size))

    async def payload(self, size: int) -> memoryview:
        """The data of a write.

        Raises: trio.BrokenResourceError.
        """
        data = memoryview(bytearray(size))
        got = min(size, len(self._buffer))
        data[:got] = self._take(got)
        while got < size:
            some = await self._receive_some(min(size - got, RECEIVE_BYTES))
            data[got : got + len(some)] = some
            got += len(some)
        return data

    async def send(self, parts: Parts) -> None:
        """Send an answer whole.

        Raises: trio.BrokenResourceError, ClosedResourceError if the client has gone.
        """
        async with self._sending:
            if self._is_torn:
                raise trio.ClosedResourceError
            # Who is cancelled may have sent a part of an answer: nothing can follow that.
            self._is_torn = True
            if sum(map(len, parts)) <= JOIN_BYTES:
                await self._stream.send_all(b"".join(parts))
            else:
                for part in parts:
                    await self._stream.send_all(part)
            self._is_torn = False

    def done(self, asked: Asked) -> None:
        """A request is under way no more, which nobody here counts."""

    def has_hung_up(self) -> bool:
        """Whether the client has closed its end, also while nothing is being received."""
        return has_hung_up(self._plain)

    async def finish(self) -> None:
        """All answers have gone out when they have been sent."""

    async def _fill(self, size: int) -> None:
        while len(self._buffer) < size:
            self._buffer += await self._receive_some(RECEIVE_BYTES)

    def _take(self, size: int) -> bytearray:
        taken = self._buffer[:size]
        del self._buffer[:size]
        return taken

    async def _receive_some(self, most: int) -> bytes | bytearray:
        some = await self._stream.receive_some(most)
        if not some:
            raise trio.BrokenResourceError
        return some


def has_hung_up(plain: trio.socket.SocketType) -> bool:
    """Whether the other end of a socket has been closed; nothing is read."""
    poll = select.poll()
    with suppress(OSError, ValueError):
        poll.register(plain.fileno(), select.POLLRDHUP)
        return bool(poll.poll(0))
    return True
