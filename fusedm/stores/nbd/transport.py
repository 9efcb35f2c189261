"""Connections to NBD servers: sockets, and streams where TLS is spoken.

Both give and take what goes at once, and wait for more. Nobody's buffer is held while waiting: a
transport that has been closed touches none.
"""

import errno
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

import trio

from fusedm.nbd import Address, Export, Receive, Send, StartTls, broken, negotiate

Part: TypeAlias = bytes | memoryview

#: Bytes that TLS encrypts at once.
_TLS_BYTES = 64 << 10


class Transport(Protocol):
    """A connection. Every failure is an OSError; ClosedResourceError once it has been closed."""

    def receive_now(self, space: memoryview) -> int | None:
        """Receive what is there, up to the space; 0 at the end, None if there is nothing yet."""

    async def wait_receivable(self) -> None:
        """Wait until there may be something."""

    def send_now(self, parts: Sequence[Part]) -> int:
        """Send what can be sent without waiting; how many bytes went."""

    async def send_some(self, parts: Sequence[Part]) -> int:
        """Wait until something of the parts has been sent; how many bytes went."""

    def close(self) -> None:
        """End it; whoever waits for it is told."""


class SocketTransport:
    """A socket that is used without a copy."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected

    def receive_now(self, space: memoryview) -> int | None:
        """Receive what is there."""
        try:
            return self._socket.recv_into(space)
        except BlockingIOError:
            return None

    async def wait_receivable(self) -> None:
        """Wait for the socket."""
        await trio.lowlevel.wait_readable(self._socket)

    def send_now(self, parts: Sequence[Part]) -> int:
        """Send what the socket takes."""
        try:
            return self._socket.sendmsg(parts)
        except BlockingIOError:
            return 0

    async def send_some(self, parts: Sequence[Part]) -> int:
        """Wait for room in the socket."""
        await trio.lowlevel.wait_writable(self._socket)
        return self.send_now(parts)

    def close(self) -> None:
        """Close the socket."""
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()

    def detach(self) -> int:
        """The descriptor, which is the caller's now."""
        return self._socket.detach()

    async def with_tls(self, context: ssl.SSLContext, hostname: str | None) -> "TlsTransport":
        """Go on over TLS; this transport is that one's now.

        Raises: OSError if the other side does not satisfy the context.
        """
        raw = trio.SocketStream(trio.socket.from_stdlib_socket(self._socket))
        stream = trio.SSLStream(raw, context, server_hostname=hostname, https_compatible=True)
        try:
            await stream.do_handshake()
        except trio.BrokenResourceError as error:
            raise OSError(*_cause(error)) from None
        return TlsTransport(stream, self)


class TlsTransport:
    """A stream that encrypts; what it received is copied."""

    def __init__(self, stream: trio.SSLStream[trio.SocketStream], below: SocketTransport) -> None:
        self._stream = stream
        self._below = below
        self._got = memoryview(b"")
        self._has_ended = False

    def receive_now(self, space: memoryview) -> int | None:
        """Take what has been decrypted."""
        if not self._got:
            return 0 if self._has_ended else None
        count = min(len(space), len(self._got))
        space[:count] = self._got[:count]
        self._got = self._got[count:]
        return count

    async def wait_receivable(self) -> None:
        """Receive and decrypt."""
        if self._got:
            return
        try:
            self._got = memoryview(bytes(await self._stream.receive_some(_TLS_BYTES)))
        except trio.BrokenResourceError as error:
            raise OSError(*_cause(error)) from None
        self._has_ended = not self._got

    def send_now(self, parts: Sequence[Part]) -> int:
        """Nothing: whether encrypted bytes go at once is not known before."""
        return 0

    async def send_some(self, parts: Sequence[Part]) -> int:
        """Encrypt and send."""
        # Encrypted before the first wait, so nothing of the caller's is held while waiting.
        data = b"".join(parts) if sum(map(len, parts)) <= _TLS_BYTES else parts[0][:_TLS_BYTES]
        try:
            await self._stream.send_all(data)
        except trio.BrokenResourceError as error:
            raise OSError(*_cause(error)) from None
        return len(data)

    def close(self) -> None:
        """Close the socket below, without a word to the other side."""
        self._below.close()


def _cause(error: Exception) -> tuple[int, str]:
    cause = error.__cause__
    number = getattr(cause, "errno", None) or errno.ECONNRESET
    return number, getattr(cause, "reason", None) or getattr(cause, "strerror", None) or str(cause)


async def connect(address: Address, with_structure: bool = True) -> tuple[Transport, Export]:
    """Connect and have the export opened.

    Raises: OSError that says why not.
    """
    transport: Transport = SocketTransport(await _connected(address))
    try:
        script = negotiate(address.export, address.is_tls, with_structure)
        step = next(script)
        while True:
            answer = b""
            match step:
                case Send(data):
                    await _send(transport, data)
                case Receive(count):
                    answer = await _receive(transport, count)
                case StartTls():
                    assert isinstance(transport, SocketTransport), "TLS is begun once"
                    transport = await transport.with_tls(_context(address), address.hostname)
            step = script.send(answer)
    except StopIteration as negotiated:
        export: Export = negotiated.value
        return transport, export
    except BaseException:
        transport.close()
        raise


async def _connected(address: Address) -> socket.socket:
    if address.socket is not None:
        stream = await trio.open_unix_socket(address.socket)
    else:
        try:
            stream = await trio.open_tcp_stream(address.host, address.port)
        except UnicodeError:
            raise OSError(errno.EINVAL, f"{address.host!r} is no name of a host") from None
        except OSError as error:
            # Behind the error that says that all addresses failed are their reasons.
            cause = error.__cause__
            first = cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else cause
            raise first if isinstance(first, OSError) else error from None
    connected = socket.socket(fileno=stream.socket.detach())
    connected.setblocking(False)
    return connected


async def _send(transport: Transport, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[await transport.send_some([rest]) :]


async def _receive(transport: Transport, count: int) -> bytes:
    buffer = bytearray(count)
    rest = memoryview(buffer)
    while rest:
        received = transport.receive_now(rest)
        if received is None:
            await transport.wait_receivable()
        elif not received:
            raise broken("the server hangs up while the export is being opened")
        else:
            rest = rest[received:]
    return bytes(buffer)


def _context(address: Address) -> ssl.SSLContext:
    """Whom to trust, and who we are, by the files that other NBD programs use as well.

    Raises: OSError that names the folder; never what is in it.
    """
    if address.certificates is None:
        context = ssl.create_default_context()
    else:
        folder = Path(address.certificates)
        try:
            context = ssl.create_default_context(cafile=folder / "ca-cert.pem")
            if (folder / "client-cert.pem").exists():
                context.load_cert_chain(folder / "client-cert.pem", folder / "client-key.pem")
        except OSError as error:
            text = f"certificates in {folder} cannot be used: {error.strerror or error}"
            raise OSError(error.errno, text) from None
    if address.hostname is None:
        context.check_hostname = False
    return context
