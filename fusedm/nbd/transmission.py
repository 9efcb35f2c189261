"""A client's side of the transmission on one connection: bytes in, ended requests out.

What comes goes where it belongs at once: headers and small things into a buffer of the
transmission's own, the rest of large data straight into the buffer of who asked. A reply that is
not exactly what was asked for is an error of the connection, after which nothing of it is touched.
"""

from bisect import bisect
from typing import Any

from fusedm.nbd.handshake import Export, broken
from fusedm.nbd.words import (
    CHUNK_ERROR,
    CHUNK_HOLE,
    CHUNK_IS_ERROR,
    CHUNK_OFFSET,
    COUNT,
    EXTENT,
    MAX_STRING_BYTES,
    REQUEST,
    REQUEST_MAGIC,
    SIMPLE_REPLY,
    SIMPLE_REPLY_MAGIC,
    STRUCTURED_REPLY,
    STRUCTURED_REPLY_MAGIC,
    Chunk,
    ChunkFlag,
    Command,
    errno_of_wire,
)

#: Bytes received at once where none of them is known to belong elsewhere.
_BUFFER_SIZE = 64 << 10

#: Bytes of data still to come from which they go straight to their place: below, one call that
#: brings the next replies as well is cheaper than the copy it saves.
_STRAIGHT = 8 << 10

#: Bytes of a chunk that is no data: an error with its text and offset.
_MAX_CHUNK = CHUNK_ERROR.size + MAX_STRING_BYTES + CHUNK_OFFSET.size

_ZEROS = bytes(64 << 10)
_NOTHING = memoryview(b"")

_DONE = int(ChunkFlag.DONE)
_READ = int(Command.READ)
_OFFSET_DATA, _OFFSET_HOLE = int(Chunk.OFFSET_DATA), int(Chunk.OFFSET_HOLE)


class Request:
    """One command on its way.

    Units: bytes. data: what a WRITE sends, or where a READ's data go. error: an errno, 0 while
    there is none. extent: what a BLOCK_STATUS told first, its length and flags.
    Lives: until it has ended; sent on another connection, it begins anew.
    """

    __slots__ = (
        "chunks",
        "command",
        "cookie",
        "data",
        "error",
        "extent",
        "filled",
        "flags",
        "is_done",
        "is_kept",
        "length",
        "offset",
        "owner",
        "sent_at",
        "tries",
    )

    def __init__(
        self, command: int, flags: int, offset: int, length: int, data: memoryview = _NOTHING
    ) -> None:
        self.command = command
        self.flags = flags
        self.offset = offset
        self.length = length
        self.data = data
        self.cookie = 0
        self.error = 0
        self.extent: tuple[int, int] | None = None
        self.filled = 0
        self.chunks: list[tuple[int, int]] | None = None
        #: A change that was acknowledged before, and is sent again.
        self.is_kept = False
        #: For the shell: who waits, whether there is nothing to wait for any more, when it was
        #: sent, and how many connections were lost with it.
        self.owner: Any = None
        self.is_done = False
        self.sent_at = 0.0
        self.tries = 0


class Transmission:
    """Requests in flight on one connection, and what comes for them."""

    def __init__(self, export: Export) -> None:
        self.export = export
        #: In the order in which they began.
        self.in_flight: dict[int, Request] = {}
        self._cookie = 0
        self._buffer = bytearray(_BUFFER_SIZE)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        #: Where the data of the chunk under way go, whose they are, and whether it is the last.
        self._target = _NOTHING
        self._reader: Request | None = None
        self._is_last = False

    def begin(self, request: Request) -> bytes:
        """Count a request as in flight; what is to be sent before its data."""
        self._cookie = request.cookie = cookie = self._cookie + 1
        request.error = request.filled = 0
        request.extent = request.chunks = None
        self.in_flight[cookie] = request
        return REQUEST.pack(
            REQUEST_MAGIC, request.flags, request.command, cookie, request.offset, request.length
        )

    def space(self) -> memoryview:
        """Where the next bytes that come are to be received; never empty."""
        if len(self._target) >= _STRAIGHT and self._start == self._end:
            return self._target
        if self._start == self._end:
            self._start = self._end = 0
        elif self._start and len(self._buffer) - self._end < _MAX_CHUNK:
            rest = self._end - self._start
            self._view[:rest] = self._view[self._start : self._end]
            self._start, self._end = 0, rest
        return self._view[self._end :]

    def oldest(self) -> float | None:
        """When what is in flight for longest was sent; None if nothing is."""
        for request in self.in_flight.values():
            return request.sent_at
        return None

    def received(self, count: int, ended: list[Request]) -> None:
        """So many bytes have come into the space; requests that end by them go into the list.

        Raises: OSError(EPROTO) if they are not what may come; the transmission is over then.
        """
        if len(self._target) >= _STRAIGHT and self._start == self._end:
            self._target = self._target[count:]
            if not self._target:
                self._data_is_there(ended)
            return
        self._end += count
        while self._take(ended):
            pass

    def _take(self, ended: list[Request]) -> bool:
        """Take the next thing out of the buffer; False if it is not there whole."""
        there = self._end - self._start
        if self._target:
            count = min(there, len(self._target))
            self._target[:count] = self._view[self._start : self._start + count]
            self._target = self._target[count:]
            self._start += count
            if self._target:
                return False
            self._data_is_there(ended)
            return True
        if there < SIMPLE_REPLY.size:
            return False
        magic, error, cookie = SIMPLE_REPLY.unpack_from(self._buffer, self._start)
        if magic == STRUCTURED_REPLY_MAGIC and self.export.is_structured:
            return self._take_chunk(there, ended)
        if magic != SIMPLE_REPLY_MAGIC:
            raise broken(f"a reply begins with {magic:#x}")
        request = self._known(cookie)
        if self.export.is_structured and request.command in (_READ, Command.BLOCK_STATUS):
            raise broken(f"a simple reply to {Command(request.command).name}")
        self._start += SIMPLE_REPLY.size
        if error:
            request.error = errno_of_wire(error)
        elif request.command == _READ:
            self._expect(request, request.offset, request.length, is_last=True)
            return True
        self._end_of(request, ended)
        return True

    def _take_chunk(self, there: int, ended: list[Request]) -> bool:
        """Take a chunk of a structured reply, its data apart."""
        if there < STRUCTURED_REPLY.size:
            return False
        _, flags, kind, cookie, length = STRUCTURED_REPLY.unpack_from(self._buffer, self._start)
        request = self._known(cookie)
        start = self._start + STRUCTURED_REPLY.size
        is_last = bool(flags & _DONE)
        if kind == _OFFSET_DATA:
            if there < STRUCTURED_REPLY.size + CHUNK_OFFSET.size:
                return False
            (offset,) = CHUNK_OFFSET.unpack_from(self._buffer, start)
            self._start = start + CHUNK_OFFSET.size
            self._expect(request, offset, length - CHUNK_OFFSET.size, is_last)
            return True
        if length > _MAX_CHUNK:
            raise broken(f"a chunk of kind {kind} has {length} bytes, over {_MAX_CHUNK}")
        if there < STRUCTURED_REPLY.size + length:
            return False
        self._start = start + length
        payload = self._view[start : self._start]
        if kind == _OFFSET_HOLE and length == CHUNK_HOLE.size:
            offset, length = CHUNK_HOLE.unpack(payload)
            self._zero(self._claim(request, offset, length))
        elif kind == Chunk.BLOCK_STATUS:
            self._tell_extent(request, payload)
        elif kind & CHUNK_IS_ERROR:
            request.error = request.error or _error_in(kind, payload)
        elif kind != Chunk.NONE or length or not is_last:
            raise broken(f"a chunk of kind {kind} and {length} bytes, last: {is_last}")
        if is_last:
            self._end_of(request, ended)
        return True

    def _known(self, cookie: int) -> Request:
        request = self.in_flight.get(cookie)
        if request is None:
            raise broken(f"a reply to request {cookie}, which is not in flight")
        return request

    def _expect(self, request: Request, offset: int, length: int, is_last: bool) -> None:
        self._target = self._claim(request, offset, length)
        self._reader, self._is_last = request, is_last

    def _claim(self, request: Request, offset: int, length: int) -> memoryview:
        """The part of the request's buffer for data at offset, which have not come before."""
        start = offset - request.offset
        end = start + length
        if request.command != _READ or length <= 0 or start < 0 or end > request.length:
            raise broken(
                f"{length} bytes at {offset} for {Command(request.command).name} "
                f"of {request.length} bytes at {request.offset}"
            )
        if request.chunks is None:
            request.chunks = [(start, end)]
        else:
            place = bisect(request.chunks, (start, end))
            before = request.chunks[place - 1][1] if place else 0
            after = request.chunks[place][0] if place < len(request.chunks) else end
            if before > start or after < end:
                raise broken(f"{length} bytes at {offset} come a second time")
            request.chunks.insert(place, (start, end))
        request.filled += length
        return request.data[start:end]

    @staticmethod
    def _zero(target: memoryview) -> None:
        for start in range(0, len(target), len(_ZEROS)):
            part = target[start : start + len(_ZEROS)]
            part[:] = _ZEROS[: len(part)]

    def _tell_extent(self, request: Request, payload: memoryview) -> None:
        if request.command != Command.BLOCK_STATUS or request.extent is not None:
            raise broken(f"extents for {Command(request.command).name}")
        if len(payload) != COUNT.size + EXTENT.size:
            raise broken(f"extents of {len(payload)} bytes, where one was asked for")
        (context,) = COUNT.unpack_from(payload)
        length, flags = EXTENT.unpack_from(payload, COUNT.size)
        if context != self.export.allocation or not length:
            raise broken(f"an extent of {length} bytes in context {context}")
        request.extent = length, flags

    def _data_is_there(self, ended: list[Request]) -> None:
        request, self._reader = self._reader, None
        assert request is not None, "data come for somebody"
        if self._is_last:
            self._end_of(request, ended)

    def _end_of(self, request: Request, ended: list[Request]) -> None:
        if not request.error:
            if request.command == _READ and request.filled != request.length:
                raise broken(f"{request.filled} bytes for a READ of {request.length}")
            if request.command == Command.BLOCK_STATUS and request.extent is None:
                raise broken("no extent for BLOCK_STATUS")
        del self.in_flight[request.cookie]
        ended.append(request)


def _error_in(kind: int, payload: memoryview) -> int:
    """The errno in a chunk that is an error; its text is the server's, and for nobody here."""
    if len(payload) < CHUNK_ERROR.size:
        raise broken(f"an error of {len(payload)} bytes")
    error, text_length = CHUNK_ERROR.unpack_from(payload)
    length = CHUNK_ERROR.size + text_length
    if kind == Chunk.ERROR_OFFSET:
        length += CHUNK_OFFSET.size
    is_known = kind in (Chunk.ERROR, Chunk.ERROR_OFFSET)
    if not error or length > len(payload) or (is_known and length != len(payload)):
        raise broken(f"error {error} in {len(payload)} bytes with a text of {text_length}")
    return errno_of_wire(error)
