"""The daemon's end of the control socket: lines in, verbs carried out, lines back."""

import errno
import logging
import os
import select
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import trio

from fusedm.block.errors import ControlError, FusedmError
from fusedm.control.protocol import (
    LineReader,
    Request,
    decode_request,
    encode_error,
    encode_result,
)

log = logging.getLogger(__name__)

#: Carries out a request and gives its result.
Dispatch = Callable[[Request], Awaitable[object]]

#: Connections that may wait to be accepted; one more fails, unless its client blocks.
BACKLOG = 128

#: How long what a client goes on sending after a refusal is read and thrown away.
DRAIN_SECONDS = 1.0


def listen(path: Path) -> trio.SocketListener:
    """A listening socket of mode 0600; one that a killed daemon left is replaced.

    The caller holds the lock on the stack, so nobody can be listening there.
    """
    path.unlink(missing_ok=True)
    plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        plain.bind(os.fspath(path))
    finally:
        os.umask(before)
    plain.listen(BACKLOG)
    return trio.SocketListener(trio.socket.from_stdlib_socket(plain))


async def serve_control(listener: trio.SocketListener, dispatch: Dispatch) -> None:
    """Serve connections until cancelled."""

    async def converse(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):  # The client has gone.
            try:
                _check_peer(stream)
            except ControlError as error:
                await stream.send_all(encode_error(0, error))
            else:
                await _converse(stream, dispatch)

    await trio.serve_listeners(converse, [listener])


async def _converse(stream: trio.SocketStream, dispatch: Dispatch) -> None:
    """Answer line after line; a client that hangs up takes back what it is waiting for."""
    sender, receiver = trio.open_memory_channel[bytes | ControlError](0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_receive, stream, sender, nursery.cancel_scope)
        with suppress(trio.BrokenResourceError):  # The client has gone.
            async for line in receiver:
                is_request = await _answer(stream, line, dispatch)
                # It may hold a key, and the next one may be long in coming.
                del line
                if not is_request:
                    await stream.send_eof()
                    with trio.move_on_after(DRAIN_SECONDS):
                        async for _ in receiver:
                            pass
                    break
        nursery.cancel_scope.cancel()


async def _receive(
    stream: trio.SocketStream,
    lines: "trio.MemorySendChannel[bytes | ControlError]",
    conversation: trio.CancelScope,
) -> None:
    """Pass lines on; after one that is too long the rest is read and thrown away.

    If it were left unread, the client would see a reset before it sees the refusal.
    """
    reader: LineReader | None = LineReader()
    async with lines:
        with suppress(trio.BrokenResourceError):  # The client has gone.
            async for data in stream:
                try:
                    received = reader.feed(data) if reader is not None else []
                    del data
                    while received:
                        await lines.send(received.pop(0))
                except ControlError as error:
                    reader = None
                    await lines.send(error)
        if _has_hung_up(stream):
            conversation.cancel()


async def _answer(
    stream: trio.SocketStream, line: bytes | ControlError, dispatch: Dispatch
) -> bool:
    """Reply to a line; False if it was no request, after which nothing more is to be expected."""
    try:
        if isinstance(line, ControlError):
            raise line
        request = decode_request(line)
    except ControlError as error:
        await stream.send_all(encode_error(0, error))
        return False
    try:
        reply = encode_result(request.id, await dispatch(request))
    except FusedmError as error:
        reply = encode_error(request.id, error)
    except Exception:
        # A bug in a verb ends neither the daemon nor the mounts that people work on.
        log.exception("bug in verb %s", request.verb)
        bug = ControlError(f"{request.verb}: a bug, see the daemon's log", errno.EIO)
        reply = encode_error(request.id, bug)
    await stream.send_all(reply)
    return True


def _has_hung_up(stream: trio.SocketStream) -> bool:
    """Whether the client has closed both ways; one that only has no more to ask still listens."""
    poll = select.poll()
    poll.register(stream.socket.fileno(), 0)
    return any(event & select.POLLHUP for _, event in poll.poll(0))


def _check_peer(stream: trio.SocketStream) -> None:
    """Only the daemon's own user and root may ask for anything.

    Raises: ControlError(EACCES).
    """
    credentials = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    _, user, _ = struct.unpack("3i", credentials)
    if user not in (0, os.geteuid()):
        text = f"user {user} may not control a stack of user {os.geteuid()}"
        raise ControlError(text, errno.EACCES)
