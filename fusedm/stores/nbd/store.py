"""A store that is an export of an NBD server."""

import errno
import os
from pathlib import Path

import trio

from fusedm.block.errors import StoreError
from fusedm.block.units import SECTOR_SIZE
from fusedm.nbd import (
    Address,
    Command,
    CommandFlag,
    Export,
    ExportFlag,
    ExtentFlag,
    Request,
    parse_uri,
    with_folder,
)
from fusedm.stores.geometry import check_size, check_writable
from fusedm.stores.nbd.link import Link, text_of, wait_for
from fusedm.stores.nbd.transport import connect
from fusedm.stores.waiting import Lines, MakeLines, WaitingKind

#: Bytes of acknowledged writes kept until a flush: what is more makes the writer flush.
MAX_UNFLUSHED_BYTES = 64 << 20

#: Bytes zeroed by one request: a server that writes them itself does it within the timeout.
MAX_ZERO_BYTES = 32 << 20

#: Bytes whose extent is asked for at once, and questions in one search. What a search has not come
#: to counts as data.
MAX_STATUS_BYTES, MAX_STATUS_REQUESTS = 2 << 30, 4096

_NOTHING = memoryview(b"")
_ZEROS = memoryview(bytes(1 << 20))


class NbdStore:
    """The export at an address.

    Owns: its link. Lives: from open_nbd until aclose. A buffer lent to a call is touched by no one
    once the call has returned.
    """

    def __init__(
        self, link: Link, export: Export, size: int, read_only: bool, timeout_seconds: float
    ) -> None:
        self.size = size
        self.logical_block_size = _block_size(export)
        self.read_only = read_only
        self._link = link
        self._export = export
        self._timeout_seconds = timeout_seconds
        self._shedding = trio.Lock()

    @property
    def allocated_bytes(self) -> int:
        """All of it: the server is not asked."""
        return self.size

    @property
    def state(self) -> str:
        """Whether the server is there, in one line."""
        return self._link.state

    @property
    def has_lines(self) -> bool:
        """Whether the server takes several connections, and they are plain sockets."""
        return self._link.has_lines

    def lines(self, make: MakeLines) -> Lines:
        """Connections for workers, beside those of the link."""
        return self._link.lines(make)

    async def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill the whole buffer."""
        await self._move(Command.READ, 0, offset, buffer)

    async def write(self, offset: int, data: memoryview, durably: bool = False) -> None:
        """Write all of data; durably: as if it were flushed, too."""
        check_writable(self.read_only)
        has_fua = self._export.can(ExportFlag.SEND_FUA)
        flags = CommandFlag.FUA if durably and has_fua else 0
        await self._move(Command.WRITE, flags, offset, data)
        if durably and not has_fua:
            await self.flush()
        elif self._link.kept().size > MAX_UNFLUSHED_BYTES:
            await self._shed()

    async def flush(self) -> None:
        """Make durable what had been acknowledged; fails once if some of that has been lost."""
        await self._flush_server()
        self._link.raise_owed()

    async def discard(self, offset: int, length: int) -> None:
        """Have the range read as zeros; the server may give its space up."""
        await self._zero(0, offset, length)

    async def write_zeroes(self, offset: int, length: int) -> None:
        """Have the range read as zeros; the server keeps its space."""
        await self._zero(CommandFlag.NO_HOLE, offset, length)

    async def seek_data(self, offset: int) -> int:
        """Where the server has something that does not read as zeros for sure."""
        return await self._seek(offset, for_zeros=False)

    async def seek_hole(self, offset: int) -> int:
        """Where the server has something that reads as zeros for sure."""
        return await self._seek(offset, for_zeros=True)

    async def aclose(self) -> None:
        """Flush what was not, within the timeout, and end the link; what is in flight fails.

        Raises: OSError if what was acknowledged may not be durable.
        """
        if self._link.is_closed:
            return
        try:
            with trio.move_on_after(self._timeout_seconds, shield=True) as scope:
                if self._link.kept().size:
                    await self.flush()
                self._link.raise_owed()
        finally:
            await self._link.aclose()
        if scope.cancelled_caught:
            raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))

    async def _move(self, command: int, flags: int, offset: int, buffer: memoryview) -> None:
        """A READ or WRITE, in as many pieces as the server wants, all at once."""
        most = self._export.maximum
        if len(buffer) <= most:
            await self._carry_out(command, flags, offset, len(buffer), buffer)
            return
        pieces = []
        for start in range(0, len(buffer), most):
            piece = buffer[start : start + most]
            pieces.append(Request(command, flags, offset + start, len(piece), piece))
            self._link.begin(pieces[-1])
        for request in pieces:
            await wait_for(request)
        for request in pieces:
            _raise_error(request)

    async def _carry_out(
        self, command: int, flags: int, offset: int, length: int, data: memoryview = _NOTHING
    ) -> Request:
        request = Request(command, flags, offset, length, data)
        self._link.begin(request)
        await wait_for(request)
        _raise_error(request)
        return request

    async def _flush_server(self) -> None:
        if not self.read_only and self._export.can(ExportFlag.SEND_FLUSH):
            mark = self._link.kept().mark()
            await self._carry_out(Command.FLUSH, 0, 0, 0)
            self._link.kept().flushed(mark)

    async def _shed(self) -> None:
        """Flush, so that less is kept: one does it for all who come meanwhile."""
        async with self._shedding:
            if self._link.kept().size > MAX_UNFLUSHED_BYTES:
                await self._flush_server()

    async def _zero(self, flags: int, offset: int, length: int) -> None:
        check_writable(self.read_only)
        end = offset + length
        if self._export.can(ExportFlag.SEND_WRITE_ZEROES):
            for start in range(offset, end, MAX_ZERO_BYTES):
                count = min(MAX_ZERO_BYTES, end - start)
                await self._carry_out(Command.WRITE_ZEROES, flags, start, count)
        else:
            for start in range(offset, end, len(_ZEROS)):
                await self.write(start, _ZEROS[: end - start])

    async def _seek(self, offset: int, for_zeros: bool) -> int:
        at = offset - offset % self.logical_block_size
        if self._export.allocation is None:
            return self.size if for_zeros else min(offset, self.size)
        for _ in range(MAX_STATUS_REQUESTS):
            if at >= self.size:
                return self.size
            count = min(self.size - at, MAX_STATUS_BYTES)
            request = await self._carry_out(Command.BLOCK_STATUS, CommandFlag.REQ_ONE, at, count)
            assert request.extent is not None, "the transmission has seen to that"
            length, found = request.extent
            if bool(found & ExtentFlag.ZERO) == for_zeros:
                return max(offset, at)
            at += length
        return self.size if for_zeros else min(at, self.size)


async def open_nbd(text: str, size: int | None, read_only: bool) -> NbdStore:
    """Open the export that an NBD URI names, its first size bytes or all of it.

    A read-only export is a read-only store.

    Raises: StoreError with one line.
    """
    address = _address(text)
    try:
        with trio.fail_after(address.timeout_seconds):
            transport, export = await connect(address)
    except (OSError, trio.TooSlowError) as error:
        number = getattr(error, "errno", None) or errno.ETIMEDOUT
        raise StoreError(f"{address}: {text_of(error)}", abs(number)) from None
    try:
        usable = _usable_size(address, export, size)
    except StoreError:
        transport.close()
        raise
    is_read_only = read_only or export.can(ExportFlag.READ_ONLY)
    link = Link(address, transport, export)
    return NbdStore(link, export, usable, is_read_only, address.timeout_seconds)


def _address(text: str) -> Address:
    try:
        return parse_uri(text)
    except ValueError as error:
        raise StoreError(str(error)) from None


def _prefixed(text: str, folder: Path) -> str:
    longer = with_folder(text, str(folder))
    _address(longer)
    return longer


KIND = WaitingKind(open_nbd, _prefixed)


def _usable_size(address: Address, export: Export, size: int | None) -> int:
    if size is not None and size > export.size:
        raise StoreError(f"{address}: size {size} is above its {export.size} bytes")
    usable = export.size if size is None else size
    check_size(str(address), usable, _block_size(export))
    return usable


def _block_size(export: Export) -> int:
    return max(export.minimum, SECTOR_SIZE)


def _raise_error(request: Request) -> None:
    if request.error:
        raise OSError(request.error, os.strerror(request.error))
