"""What is done for one request, and what is answered. Where the answer goes is the caller's."""

import errno
import logging
from collections.abc import Awaitable, Callable

import trio

from fusedm.block.errors import BlockIOError, FusedmError, Status, WouldBlock
from fusedm.files import (
    OpenDevice,
    flush,
    flush_nowait,
    read,
    read_nowait,
    seek,
    write,
    write_nowait,
    zero,
)
from fusedm.nbd import (
    Agreed,
    Asked,
    Command,
    CommandFlag,
    Parts,
    Refusal,
    replies,
    wire_of_errno,
)
from fusedm.system import System, View

#: Bytes of a read that are answered in one piece. Of a longer one holes are told, and pieces are
#: sent as they are read, where the client takes that: all of it need not be kept.
PIECE_BYTES = 1 << 20
#: Extents told in one answer; the client asks again for what follows.
MAX_EXTENTS = 1024

log = logging.getLogger(__name__)

Send = Callable[[Parts], Awaitable[None]]


def refuse(asked: Asked, agreed: Agreed, refusal: Refusal) -> Parts:
    """The answer to a request that failed."""
    error = wire_of_errno(refusal.errno)
    if agreed.structured:
        return replies.error_chunk(asked.cookie, error, refusal.text)
    return replies.simple(asked.cookie, error)


class CarryingOut:
    """Carries out what the client of an open device asks for."""

    def __init__(self, opened: OpenDevice, agreed: Agreed, system: System) -> None:
        self._opened = opened
        self._agreed = agreed
        self._names = system.names

    @property
    def _view(self) -> View:
        return self._opened.view

    def on_the_spot(self, asked: Asked, payload: memoryview) -> Parts:
        """Carry out a request that has nothing to wait for.

        Raises: WouldBlock before any effect.
        """
        try:
            if asked.command == Command.READ and asked.length <= PIECE_BYTES:
                return self._data(asked, read_nowait(self._view, asked.offset, asked.length))
            if asked.command == Command.WRITE and not asked.flags & CommandFlag.FUA:
                write_nowait(self._view, asked.offset, payload)
                self._names.note_write(self._view.name)
                return replies.simple(asked.cookie)
            if asked.command == Command.FLUSH:
                flush_nowait(self._view)
                return replies.simple(asked.cookie)
        except FusedmError as error:
            return self._failed(asked, error)
        except WouldBlock:
            raise
        except Exception:
            return self._bug(asked)
        raise WouldBlock

    async def waiting(self, asked: Asked, payload: memoryview, send: Send) -> None:
        """Carry out a request and send the answer, whatever it is.

        Raises: what send does.
        """
        try:
            parts = await self._carry_out(asked, payload, send)
        except FusedmError as error:
            parts = self._failed(asked, error)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise
        except Exception:
            parts = self._bug(asked)
        await send(parts)

    def _failed(self, asked: Asked, error: FusedmError) -> Parts:
        return refuse(asked, self._agreed, Refusal(error.errno, str(error)))

    def _bug(self, asked: Asked) -> Parts:
        """Only while the exception is being handled: it is logged."""
        log.exception("bug in a request for an export")
        return refuse(asked, self._agreed, Refusal(errno.EIO, "a bug, see the daemon's log"))

    async def _carry_out(self, asked: Asked, payload: memoryview, send: Send) -> Parts:
        view, offset, length = self._view, asked.offset, asked.length
        durable = bool(asked.flags & CommandFlag.FUA)
        match asked.command:
            case Command.READ:
                return await self._read(asked, send)
            case Command.BLOCK_STATUS:
                most = 1 if asked.flags & CommandFlag.REQ_ONE else MAX_EXTENTS
                found = await extents(view, offset, offset + length, most)
                return replies.status_chunk(asked.cookie, found)
            case Command.CACHE:
                for begin in range(offset, offset + length, PIECE_BYTES):
                    await read(view, begin, min(PIECE_BYTES, offset + length - begin))
                    await trio.lowlevel.checkpoint()
                return replies.simple(asked.cookie)
            case Command.FLUSH:
                await flush(view)
                return replies.simple(asked.cookie)
            case Command.WRITE:
                await write(view, offset, payload, durable)
            case Command.TRIM:
                await zero(view, offset, length, punch=True)
            case Command.WRITE_ZEROES:
                keeps = bool(asked.flags & CommandFlag.NO_HOLE) or not view.takes_discards
                await zero(view, offset, length, punch=not keeps)
        if durable and asked.command != Command.WRITE:
            await flush(view)
        self._names.note_write(view.name)
        return replies.simple(asked.cookie)

    def _data(self, asked: Asked, data: memoryview) -> Parts:
        """All of the data as one answer.

        Raises: BlockIOError if there are fewer: the device has become smaller.
        """
        if len(data) != asked.length:
            raise _past_the_end(self._view, asked.offset + asked.length)
        if self._agreed.structured:
            return replies.data_chunk(asked.cookie, asked.offset, data, done=True)
        return replies.simple_data(asked.cookie, data)

    async def _read(self, asked: Asked, send: Send) -> Parts:
        """Read, and send all but the last piece."""
        in_one = not self._agreed.structured or asked.flags & CommandFlag.DF
        if in_one or asked.length <= PIECE_BYTES:
            return self._data(asked, await read(self._view, asked.offset, asked.length))
        at, end = asked.offset, asked.offset + asked.length
        parts: Parts = []
        while at < end:
            if parts:
                await send(parts)
            ((length, is_hole),) = await extents(self._view, at, end, 1)
            if is_hole:
                parts = replies.hole_chunk(asked.cookie, at, length, at + length == end)
            else:
                length = min(length, PIECE_BYTES - at % PIECE_BYTES)
                data = await read(self._view, at, length)
                if len(data) != length:
                    raise _past_the_end(self._view, end)
                parts = replies.data_chunk(asked.cookie, at, data, at + length == end)
            at += length
        return parts


async def extents(view: View, begin: int, end: int, most: int) -> list[tuple[int, bool]]:
    """What of a range is data and what holes, as (length, whether it is one); at most so many.

    Raises: BlockIOError.
    """
    found: list[tuple[int, bool]] = []
    at = begin
    while at < end and len(found) < most:
        upto = min(await _data_from(view, at), end)
        is_hole = upto > at
        if not is_hole:
            # If it has become a hole just now, it is called data still: that is always allowed.
            upto = min(max(await seek(view, at, for_data=False), at + view.block_size), end)
        found.append((upto - at, is_hole))
        at = upto
        await trio.lowlevel.checkpoint()
    return found


async def _data_from(view: View, at: int) -> int:
    try:
        return await seek(view, at, for_data=True)
    except BlockIOError as error:
        if error.errno != errno.ENXIO:
            raise
        if at >= view.size:
            raise _past_the_end(view, at) from None
        return view.size


def _past_the_end(view: View, end: int) -> BlockIOError:
    return BlockIOError(Status.INVAL, view.name, f"{end} is past the end at {view.size}")
